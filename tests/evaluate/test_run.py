"""Runs: watched once, asked at the moment, killed and resumed, in parts, with broken videos among the whole ones."""

import errno
import fcntl
import json
import os
import resource
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinipot import Frame, ResultsError, Stream, open_video, versions
from infinipot.config import StreamConfig
from infinipot.engine import runner
from infinipot.evaluate import FrameSampling, Problem, Question, find_benchmark, find_protocol
from infinipot.evaluate.core.journal import Journal, rewrite
from infinipot.evaluate.engines import base
from infinipot.evaluate.engines.base import EvalAnswer, Event, RunConfig, WatchTime
from infinipot.evaluate.engines.local import LocalEngine
from infinipot.evaluate.plan import read_plan
from infinipot.evaluate.protocols import Protocol
from infinipot.evaluate.reading import read_run, read_runs
from infinipot.evaluate.report import report, tables
from infinipot.evaluate.results import Answered, Results, beside
from infinipot.evaluate.run import evaluate, evaluate_together
from infinipot.playing import play
from infinipot.video import Video
from support import runs
from support.benchmark_layouts import egoschema
from support.runs import SETUPS, Canned, local, plan, run_and_die


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def watcher() -> LocalEngine:
    return LocalEngine(runs.model(), SETUPS["rvs"])


# Watching


def test_every_answer_is_that_of_a_stream_that_saw_the_frames_until_its_moment_and_nothing_else(
    folder: Path, watcher: LocalEngine
) -> None:
    asked = plan(folder, "rvs")
    for item in asked.items:
        answers = [event for event in watcher.watch(item) if isinstance(event, EvalAnswer)]
        assert [answer.question for answer in answers] == [question.id for question in item.questions]
        for question, answer in zip(item.questions, answers, strict=True):
            with watcher.setup.stream(watcher.model) as alone:
                assert question.at is not None
                times = [frame.time for frame in open_video(item.video, fps=2.0) if frame.time <= question.at]
                for frame in open_video(item.video, fps=2.0, end=times[-1] + 0.4):
                    alone.watch(frame)
                assert alone.stats().time == times[-1] <= question.at
                assert answer.text == alone.ask(answer.prompt, max_new_tokens=256)
                assert (answer.seen_until, answer.frames) == (times[-1], len(times))
                assert answer.tokens == alone.stats().asked_tokens
                assert answer.full_tokens >= answer.patches * alone._state.pending.grid.cells


def test_a_video_is_watched_once_whatever_is_asked(
    folder: Path, watcher: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = []
    feed = Stream.feed
    monkeypatch.setattr(Stream, "feed", lambda self, frame: frames.append(frame.time) or feed(self, frame))
    (item, *_) = plan(folder, "rvs").items
    events = list(watcher.watch(item))
    assert frames == sorted(set(frames))
    assert isinstance(events[-1], WatchTime)
    assert isinstance(events[-2], EvalAnswer)
    assert events[-2].patches == -(-len(frames) // 2)
    frames.clear()
    list(watcher.watch(replace(item, questions=item.questions[:2])))
    assert max(frames) <= item.questions[1].at  # what comes behind the last moment is not watched for nothing


def test_a_question_before_the_first_frame_or_too_long_for_the_reserve_is_trouble_of_its_own(
    folder: Path, watcher: LocalEngine
) -> None:
    (item, *_) = plan(folder, "rvs").items
    good = item.questions[0]
    early = Question("early", "What?", (), "x", "t", at=-1.0, judged=True)
    long = Question("long", "word " * 800, (), "x", "t", at=good.at, judged=True)
    events: list[Any] = list(watcher.watch(replace(item, questions=(good, early, long))))
    assert [(type(event).__name__, getattr(event, "questions", None)) for event in events] == [
        ("Problem", ("early",)),
        ("EvalAnswer", None),
        ("Problem", ("long",)),
        ("WatchTime", None),
    ]
    assert "no frame has come by -1 s" in events[0].what
    assert events[2].what == f"long and its answer need --reserve {events[2].reserve}"


def test_a_video_that_takes_longer_than_its_limit_is_given_up_with_what_is_left(
    folder: Path, watcher: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (item, *_) = plan(folder, "rvs").items
    in_time = LocalEngine(watcher.model, watcher.setup, time_limit=600.0)
    assert isinstance(list(in_time.watch(item))[-1], WatchTime)
    ask, later = Stream.ask, [0.0]
    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() + later[0])
    monkeypatch.setattr("infinipot.evaluate.engines.local.time", clock)

    def slowly(*args: Any, **more: Any) -> str:
        later[0] += 1000.0
        return ask(*args, **more)

    monkeypatch.setattr(Stream, "ask", slowly)
    slow = LocalEngine(watcher.model, watcher.setup, time_limit=900.0)
    first, trouble = slow.watch(item)
    assert isinstance(first, EvalAnswer)
    assert isinstance(trouble, Problem)
    assert first.question == item.questions[0].id
    assert trouble.questions == tuple(question.id for question in item.questions[1:])
    assert "longer than the 900 s of --time-limit" in trouble.what
    both = slow.run_with([LocalEngine(watcher.model, watcher.setup, time_limit=900.0)], [[item], [item]])
    answered = [number for number, event in both if isinstance(event, EvalAnswer)]
    assert answered == [0, 1]  # two runs have twice the time, which is over with the second answer


def test_a_memory_that_is_full_gives_up_the_rest_of_the_video_only(folder: Path, watcher: LocalEngine) -> None:
    (item, *_) = plan(folder, "rvs").items
    small = LocalEngine(
        watcher.model,
        RunConfig("rvs", "official", SETUPS["rvs"].sampling, "full", StreamConfig(memory=464, reserve=400)),
    )
    *answers, trouble = small.watch(item)
    assert isinstance(trouble, Problem)
    assert "never evicts" in trouble.what
    said = [answer.question for answer in answers if isinstance(answer, EvalAnswer)]
    assert said + list(trouble.questions) == [one.id for one in item.questions]


# Several runs side by side


def test_runs_side_by_side_leave_the_bytes_that_each_leaves_alone_and_decode_a_video_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = plan(folder, limit=2)
    engines = [LocalEngine(runs.model(), replace(SETUPS["mlvu"], policy=spec)) for spec in ("uniform", "infinipot-v")]
    alone = [folder / f"alone-{engine.setup.policy}.jsonl" for engine in engines]
    for engine, path in zip(engines, alone, strict=True):
        evaluate(asked, engine.setup, engine, path)
    together = [folder / f"together-{engine.setup.policy}.jsonl" for engine in engines]
    together[1].write_bytes(b"".join(alone[1].read_bytes().splitlines(keepends=True)[:2]))  # a question is answered
    opened, open_ = [], FrameSampling.open
    monkeypatch.setattr(FrameSampling, "open", lambda self, video: opened.append(video) or open_(self, video))
    pairs = [(engine.setup, engine) for engine in engines]
    done = evaluate_together(asked, dict(zip(together, pairs, strict=True)))
    assert [path.read_bytes() for path in together] == [path.read_bytes() for path in alone]
    assert opened == [item.video for item in asked.items]
    assert (done.videos, done.of_videos, done.questions) == (4, 4, 2 * asked.questions)
    assert {line.beside for line in read_run(together[0]).times if isinstance(line, WatchTime)} == {1}
    assert "side by side with 1 other run" in "".join(tables(report(read_runs(together), draws=10)[0])[1].notes)


def test_a_line_of_the_annotations_that_cannot_be_used_is_told_once_whatever_the_number_of_runs(tmp_path: Path) -> None:
    plan(tmp_path)
    (tmp_path / "mlvu" / "video" / "2_needle" / "needle_1.mp4").unlink()
    told: list[str] = []
    asked = plan(tmp_path, limit=2)
    pairs = {tmp_path / f"{name}.jsonl": (SETUPS["mlvu"], Canned()) for name in ("a", "b", "c")}
    done = evaluate_together(
        asked, pairs, on_progress=lambda progress: told.append(progress.trouble) if progress.trouble else None
    )
    assert [*map(str, asked.problems)] == told
    assert len(told) == 1
    assert done.problems == 3  # one in each file


def test_a_stream_whose_packed_step_fails_tries_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stub:
        """A stream that a frame fails in a packed step, and in as many calls of its own."""

        def __init__(self, packed: bool, alone: bool) -> None:
            self.fails, self.took = (packed, alone), 0

        def begin_feed(self, frame: Frame) -> SimpleNamespace:
            return SimpleNamespace(result=lambda: self.take(self.fails[0]))

        def feed(self, frame: Frame) -> None:
            self.take(self.fails[1])

        def take(self, fails: bool) -> None:
            if fails:
                raise MemoryError
            self.took += 1

    monkeypatch.setattr(runner, "finish", lambda *tasks: None)
    well, late, never = (Stub(*fails) for fails in ((False, True), (True, False), (True, True)))
    streams: list[Any] = [well, late, never]
    frames = [Frame(np.zeros((2, 2, 3), np.uint8), time) for time in (0.0, 1.0)]
    (moment,) = play(frames, streams, on_failure=lambda stream, error: streams.remove(stream))
    assert (moment.over, streams) == (True, [well, late])
    assert (well.took, late.took, never.took) == (2, 2, 0)
    with pytest.raises(MemoryError):
        list(play(frames, cast(Any, [well, never])))


def test_a_stream_that_fails_is_given_up_and_those_beside_it_go_on(folder: Path, watcher: LocalEngine) -> None:
    (item, *_) = plan(folder, "rvs").items
    item, config = replace(item, questions=item.questions[:2]), watcher.setup.config
    small = LocalEngine(watcher.model, replace(watcher.setup, policy="full", config=replace(config, memory=464)))
    none = LocalEngine(watcher.model, replace(watcher.setup, config=replace(config, memory=8)))

    def told(events: Iterator[Event]) -> list[Event]:
        return [replace(event, seconds=0.0) if isinstance(event, EvalAnswer) else event for event in events]

    came: list[list[Event]] = [[], [], []]
    for number, event in small.run_with([watcher, none], [[item]] * 3):
        came[number].append(event)
    assert told(iter(came[0])) == told(small.watch(item))
    assert "never evicts" in getattr(came[0][-1], "what", "")
    assert told(iter(came[1]))[:-1] == told(watcher.watch(item))[:-1]
    assert isinstance(came[1][-1], WatchTime)
    assert came[2] == list(none.watch(item))
    assert isinstance(came[2][0], Problem)


# Files that a kill cannot harm


def undisturbed(folder: Path) -> bytes:
    output = folder / "undisturbed.jsonl"
    if not output.is_file():
        evaluate(plan(folder), SETUPS["mlvu"], Canned(), output)
    return output.read_bytes()


@given(share=st.floats(0, 1), torn=st.sampled_from([b"", b'{"type": "ans', b"\x00\x00"]))
@settings(max_examples=15, deadline=None)
def test_a_file_cut_at_any_byte_is_gone_on_with_to_the_same_bytes(folder: Path, share: float, torn: bytes) -> None:
    whole = undisturbed(folder)
    output = folder / "cut.jsonl"
    kept = whole[: int(share * len(whole))]
    output.write_bytes(kept + (torn if kept.endswith(b"\n") else b""))
    engine = Canned()
    evaluate(plan(folder), SETUPS["mlvu"], engine, output)
    assert output.read_bytes() == whole
    answered = [json.loads(line)["question"] for line in kept[: kept.rfind(b"\n") + 1].splitlines()[1:]]
    assert sorted(answered + engine.asked) == sorted(one.id for item in plan(folder).items for one in item.questions)


@pytest.mark.slow
def test_a_process_killed_in_the_middle_of_a_video_is_gone_on_with_to_the_same_bytes(folder: Path) -> None:
    name = "rvs"
    engine, whole, killed = local(name), folder / f"{name}-whole.jsonl", folder / f"{name}-killed.jsonl"
    asked = plan(folder, name)
    evaluate(asked, SETUPS[name], engine, whole)
    child = os.fork()
    if not child:
        run_and_die(folder, name, killed, at=1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    left = len(killed.read_bytes().splitlines())
    assert left == 2  # the header and one answer, of a video with more questions
    evaluate(asked, SETUPS[name], engine, killed)
    assert killed.read_bytes() == whole.read_bytes()
    assert {line.type for line in read_run(killed).times} == {"answer", "watched"}


def test_times_are_beside_the_answers_and_not_in_them(folder: Path) -> None:
    text = undisturbed(folder).decode()
    assert "seconds" not in text
    times = [json.loads(line) for line in beside(folder / "undisturbed.jsonl", "times").read_text().splitlines()]
    assert [line["type"] for line in times].count("watched") == len(plan(folder).items)


def test_the_header_says_what_answers_depend_on(folder: Path) -> None:
    undisturbed(folder)
    run = read_run(folder / "undisturbed.jsonl")
    assert {"model", "cap", "variant", "seed", "annotations"} <= set(run.settings)
    # Runs that were begun before are only gone on with if these names and their values stay as they are.
    setup = {name: run.settings[name] for name in list(run.settings)[:11]}
    assert setup == {
        "benchmark": "mlvu",
        "protocol": "paper",
        "sampling": {"kind": "uniform", "frames": 6, "fps": None, "pixels": [4096, 4096]},
        "policy": "none",  # the engine's word for it
        "memory": 768,
        "keep": 0.75,
        "block": None,
        "reserve": 500,
        "positions": "rebase",
        "gate": None,
        "look_again": 0,
    }
    assert {"infinipot", "torch", "transformers", "python", "code"} == set(run.made_by)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 7}, "seed: 0 there, 7 now"),
        (
            {"setup": RunConfig("mlvu", "paper", SETUPS["mlvu"].sampling, config=StreamConfig(memory=700))},
            "memory: 768 there, 700 now",
        ),
        (
            {"setup": RunConfig("mlvu", "paper", FrameSampling("uniform", 8), config=SETUPS["mlvu"].config)},
            "sampling.frames: 6",
        ),
        ({"plan": {"limit": 3}}, "limit: null there, 3 now"),
    ],
)
def test_a_file_of_another_run_is_refused_with_what_differs(folder: Path, changed: dict, named: str) -> None:
    whole = undisturbed(folder)
    output = folder / "other.jsonl"
    output.write_bytes(whole)
    asked = plan(folder, **changed.pop("plan", {}))
    with pytest.raises(ResultsError, match=named):
        evaluate(asked, changed.pop("setup", SETUPS["mlvu"]), Canned(), output, **changed)
    assert output.read_bytes() == whole


def test_a_run_does_not_go_on_with_other_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = folder / "of-other-code.jsonl"
    output.write_bytes(undisturbed(folder))
    monkeypatch.setattr(base, "digest_of_code", lambda *aside: "0" * 12)
    with pytest.raises(ResultsError, match=r"made_by\.code: .* there"):
        evaluate(plan(folder), SETUPS["mlvu"], Canned(), output)


def test_what_asks_and_reads_answers_counts_as_code() -> None:
    counted = {name for name, _ in versions._files_of_code(versions.OF_EVAL)}
    wanted = ["run.py", "records.py", "protocols/rules.toml", "protocols/readers.py", "benchmarks/mlvu.py"]
    assert {"memory/eviction.py", *(f"evaluate/{name}" for name in (*wanted, "engines/local.py"))} <= counted
    assert not counted & {"evaluate/report.py", "evaluate/published.toml", "evaluate/needle/plan.py", "cli/eval.py"}


def test_the_weights_of_a_folder_are_in_the_header(watcher: LocalEngine) -> None:
    settings = watcher.origin().settings
    assert settings["commit"] is None
    assert settings["weights"] == versions.digest_of_model("embedded") != "embedded"


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_with_other_settings_is_another_model_and_what_did_not_change_is_read_once(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    digest = versions.digest
    monkeypatch.setattr(versions, "digest", lambda path: read.append(path.name) or digest(path))
    assert versions.digest_of_model(str(tmp_path)) == str(tmp_path)
    others = ["generation_config.json", "chat_template.jinja", "spiece.model", "merges.txt"]
    for name in (weights, *others):
        (tmp_path / name).write_text("as it was")
    known = [versions.digest_of_model(str(tmp_path))]
    for name in (weights, *others):
        (tmp_path / name).write_text("another one")
        known.append(versions.digest_of_model(str(tmp_path)))
    assert len(set(known)) == len(known)
    assert sorted(read) == sorted(2 * [weights, *others])


def test_annotations_that_change_what_a_run_asks_are_noticed_and_those_behind_its_limit_change_nothing(
    tmp_path: Path,
) -> None:
    output = tmp_path / "out.jsonl"
    evaluate(plan(tmp_path, limit=2), SETUPS["mlvu"], Canned(), output)
    before = output.read_bytes()

    def change(task: str) -> None:
        file = tmp_path / "mlvu" / "json" / f"{task}.json"
        file.write_text(file.read_text().replace("?", "!"))

    change("3_ego")
    evaluate(plan(tmp_path, limit=2), SETUPS["mlvu"], Canned(), output)
    assert output.read_bytes() == before
    change("2_needle")
    with pytest.raises(ResultsError, match=r"\(annotations: .* there, .* now\).*--retry"):
        evaluate(plan(tmp_path, limit=2), SETUPS["mlvu"], Canned(), output)


def test_a_run_is_written_to_a_file_and_to_nothing_else(tmp_path: Path) -> None:
    """Of some devices one could read without end what they hold of the run."""
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        with pytest.raises(ResultsError, match="not a file; give another --output"):
            Journal(place)


def test_a_file_that_another_process_writes_to_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.jsonl"), pytest.raises(ResultsError, match="another run is writing"):
        Journal(tmp_path / "a.jsonl")


def test_a_file_that_another_process_replaces_while_it_is_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock = tmp_path / "a.jsonl", fcntl.flock

    def late(*given: Any) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        rewrite(path, {"type": "run"}, [])
        lock(*given)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(ResultsError, match="another run is writing"):
        Journal(path)
    with Journal(path) as journal:
        assert journal.header == {"type": "run"}


@pytest.mark.parametrize("content", ["notes, and no end of a line", '[{"question": "Why?"}]', '{"a": 1}\n{"b"'])
def test_a_file_that_holds_something_else_is_left_as_it_is(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(ResultsError, match=r"something other|line 1 is not a record"):
        Journal(tmp_path / "a.jsonl")
    assert (tmp_path / "a.jsonl").read_text() == content


def test_a_disk_that_is_full_is_one_error_and_the_run_goes_on_from_there(
    folder: Path,
) -> None:
    whole, output, left = undisturbed(folder), folder / "full.jsonl", 1500
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, before[1]))
    try:
        with pytest.raises(ResultsError, match="a line cannot be written"):
            evaluate(plan(folder), SETUPS["mlvu"], Canned(), output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert output.read_bytes() == whole[:left]
    evaluate(plan(folder), SETUPS["mlvu"], Canned(), output)
    assert output.read_bytes() == whole


def test_a_file_system_without_locks_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_here(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none_here)
    with Journal(tmp_path / "a.jsonl") as journal:
        journal.begin({"type": "run"})
    assert (tmp_path / "a.jsonl").read_bytes() == b'{"type": "run"}\n'


@pytest.mark.parametrize("failure", [errno.EINVAL, errno.EIO])
def test_a_file_system_that_syncs_no_folders_is_written_to_and_one_that_fails_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: int
) -> None:
    def of_files_alone(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(failure, os.strerror(failure))

    monkeypatch.setattr(os, "fsync", of_files_alone)
    if failure == errno.EINVAL:
        with Journal(tmp_path / "a.jsonl") as journal:
            journal.begin({"type": "run"})
    else:
        with pytest.raises(ResultsError, match="the results cannot be written here: Input/output error"):
            Journal(tmp_path / "a.jsonl")


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"type": "run"}\nnonsense\n{"type": "answer"}\n')
    with pytest.raises(ResultsError, match="line 2"):
        Journal(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    "line", ['{"type": "answer", "question": "q"}', '{"type": "problem", "where": "v", "why": ""}']
)
def test_a_line_with_other_fields_than_this_version_knows_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"type": "run", "format": 1}\n' + line + "\n")
    with pytest.raises(ResultsError, match="line 2 is not a record that this version can read; give another --output"):
        read_run(tmp_path / "a.jsonl")


def test_an_answer_is_on_disk_when_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "a.jsonl", []
    results = Results(path, {"seed": 0}, "cpu", {})
    facts = ("i", "v", "q", "t", None, None, "p", "A", "A", "A", False, 1.0, "?", 1.0, 4, 2, 10, 20)
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    results.answer(Answered(*facts), 1.0)
    assert synced == [path.stat().st_size, beside(path, "times").stat().st_size]
    assert [line.question for line in read_run(path).answers] == ["q"]
    results.close()


def test_an_answer_that_was_drawn_by_lot_is_told_from_one_that_was_read(tmp_path: Path) -> None:
    benchmark = find_benchmark("egoschema")
    asked = read_plan(benchmark, egoschema(tmp_path / "data"))
    setup = RunConfig("egoschema", "lmms-eval", FrameSampling("uniform", 6), config=StreamConfig(memory=768))
    mute = asked.items[0].questions[0]
    evaluate(asked, setup, Canned({mute.id: "no idea"}), tmp_path / "run.jsonl", seed=3)
    first, second = read_run(tmp_path / "run.jsonl").answers
    assert (second.answer, second.drawn) == ("A", None)
    assert (first.answer, first.drawn) == (None, find_protocol("lmms-eval").draw(benchmark, mute, 3))
    assert first.correct == float(first.drawn == mute.answer)
    rows = {row[0]: row[1] for row in tables(*report(read_runs([tmp_path / "run.jsonl"])))[1].rows}
    assert rows["unparsed"] == "1"


# Parts, and what is broken


def test_shards_share_out_the_videos(folder: Path) -> None:
    whole = [item.id for item in plan(folder).items]
    parts = [[item.id for item in plan(folder, shard=(number, 3)).items] for number in (1, 2, 3)]
    assert sorted(one for part in parts for one in part) == sorted(whole)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert plan(folder, shard=(1, 3)).fingerprint == plan(folder).fingerprint


def test_what_a_run_asks_has_the_hash_that_it_always_had_so_that_runs_go_on_with_a_newer_version(folder: Path) -> None:
    known = {"mlvu": "c13adc4107e8758ab7ffd16271d7c2b9", "rvs": "5f48b1a40f328f055065395ef5dd2394"}
    assert {name: plan(folder, name).fingerprint[:32] for name in known} == known


def test_a_broken_video_is_recorded_once_and_the_rest_goes_on(tmp_path: Path) -> None:
    plan(tmp_path)
    broken = tmp_path / "mlvu" / "video" / "2_needle" / "needle_1.mp4"
    whole = broken.read_bytes()
    broken.write_bytes(b"no video at all" * 50)
    output, engine, asked = tmp_path / "out.jsonl", local(), plan(tmp_path, limit=3)
    done = evaluate(asked, SETUPS["mlvu"], engine, output)
    assert (done.questions, done.problems, done.videos) == (4, 1, 3)
    (problem,) = read_run(output).problems
    assert problem.questions == ["needle-0"]
    assert "needle_1.mp4" in problem.what
    before = output.read_bytes()
    evaluate(asked, SETUPS["mlvu"], engine, output)
    assert output.read_bytes() == before
    broken.write_bytes(whole)
    assert evaluate(asked, SETUPS["mlvu"], engine, output, retry=True).problems == 0
    assert len(read_run(output).answers) == 4


def test_a_video_that_was_missing_is_asked_about_when_it_is_there(tmp_path: Path) -> None:
    plan(tmp_path)
    there = tmp_path / "mlvu" / "video" / "2_needle" / "needle_1.mp4"
    elsewhere = there.rename(tmp_path / "needle_1.mp4")
    output, engine = tmp_path / "out.jsonl", Canned()
    done = evaluate(plan(tmp_path), SETUPS["mlvu"], engine, output)
    assert (done.questions, done.problems) == (7, 1)
    elsewhere.rename(there)
    with pytest.raises(ResultsError, match="--retry takes up videos that were missing"):
        evaluate(plan(tmp_path), SETUPS["mlvu"], engine, output)
    before = output.read_bytes()
    with pytest.raises(ResultsError, match="other settings"):
        evaluate(plan(tmp_path), SETUPS["mlvu"], engine, output, seed=7, retry=True)
    assert output.read_bytes() == before
    with pytest.raises(ResultsError, match="which this run does not ask"):
        evaluate(plan(tmp_path, limit=3), SETUPS["mlvu"], engine, output, retry=True)
    assert output.read_bytes() == before
    done = evaluate(plan(tmp_path), SETUPS["mlvu"], engine, output, retry=True)
    assert (done.questions, done.problems) == (8, 0)
    assert engine.asked.count("needle-0") == 1
    assert sorted(engine.asked) == sorted(set(engine.asked))


def test_a_run_whose_answered_questions_have_other_options_or_another_video_is_not_retried(tmp_path: Path) -> None:
    """Text and label may be what they were, and the question another one all the same."""
    output = tmp_path / "out.jsonl"
    evaluate(plan(tmp_path), SETUPS["mlvu"], Canned(), output)
    before, file = output.read_bytes(), tmp_path / "mlvu" / "json" / "2_needle.json"
    videos, said = tmp_path / "mlvu" / "video" / "2_needle", file.read_text()
    (videos / "needle_2.mp4").write_bytes((videos / "needle_1.mp4").read_bytes())
    for old, new in (("A door.", "A gate."), ("needle_1.mp4", "needle_2.mp4")):
        assert old in said
        file.write_text(said.replace(old, new))
        with pytest.raises(ResultsError, match="needle-0, which this run does not ask, or not in this form"):
            evaluate(plan(tmp_path), SETUPS["mlvu"], Canned(), output, retry=True)
        assert output.read_bytes() == before
    file.write_text(said)
    assert evaluate(plan(tmp_path), SETUPS["mlvu"], Canned(), output, retry=True).questions == 8


def test_a_question_that_exhausts_the_memory_is_trouble_of_its_own(
    folder: Path, watcher: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object, **__: object) -> str:
        raise MemoryError

    (item, *_) = plan(folder, "rvs").items
    monkeypatch.setattr(Stream, "ask", exhausted)
    *troubles, last = watcher.watch(item)
    assert isinstance(last, WatchTime)
    assert [isinstance(each, Problem) and each.questions for each in troubles] == [
        (question.id,) for question in item.questions
    ]


FAILURES = ValueError("31 is no Type"), KeyError("data"), RuntimeError("a\nb"), RecursionError()
OWNERS = "Video.__next__", "Stream.feed", "Stream.ask", "Protocol.prompt"


# Where it comes from and how it reads have nothing to do with each other: two of each with each.
@pytest.mark.parametrize(
    ("owner", "failure"),
    [(owner, FAILURES[(place + shift) % 4]) for place, owner in enumerate(OWNERS) for shift in (0, 1)],
)
def test_whatever_a_video_makes_of_a_library_is_a_line_and_the_run_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, owner: str
) -> None:
    kind, name = owner.split(".")
    holder = {"Video": Video, "Stream": Stream, "Protocol": Protocol}[kind]
    method, calls = getattr(holder, name), iter(range(1000))

    def fails_once(*args: object, **options: object) -> object:
        if next(calls) == 0:
            raise failure
        return method(*args, **options)

    monkeypatch.setattr(holder, name, fails_once)
    output, asked = tmp_path / "out.jsonl", plan(folder, limit=3)
    done = evaluate(asked, SETUPS["mlvu"], local(), output)
    assert done.questions == asked.questions
    assert done.problems == 1
    (problem,) = read_run(output).problems
    assert problem.what.startswith(type(failure).__name__)
    assert "\n" not in problem.what
    assert len(read_run(output).answers) == asked.questions - len(problem.questions) >= 2
