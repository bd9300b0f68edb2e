"""The model as lmms-eval calls it, in one process."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from lmms_eval.api.instance import Instance
from lmms_eval.models import get_model
from PIL import Image

import infinipot
from infinipot import (
    CapError,
    InfinipotError,
    PolicyError,
    QuestionError,
    SettingError,
    VideoError,
    lmms_eval,
    load,
    open_video,
)
from infinipot.config import StreamConfig
from infinipot.evaluate import FrameSampling
from infinipot.evaluate.engines.base import RunConfig
from infinipot.lmms_eval import model as module
from infinipot.lmms_eval.model import Infinipot
from support import clips

Content = list[dict[str, Any]]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    return clips.write(tmp_path_factory.mktemp("data"))


def make(arguments: str = "") -> Infinipot:
    return Infinipot.create_from_arg_string(
        f"pretrained=embedded,memory=320,{arguments}", {"batch_size": 1, "max_batch_size": None, "device": None}
    )


@pytest.fixture(scope="module")
def shared() -> Infinipot:
    return make()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The videos opened, in order."""
    names: list[str] = []

    def counting(source: str, *args: Any, **options: Any) -> Any:
        names.append(source)
        return open_video(source, *args, **options)

    monkeypatch.setattr(infinipot, "open_video", counting)
    return names


def video(path: object, **more: Any) -> dict[str, Any]:
    return {"type": "video", "url": path, **more}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def ask(model: Infinipot, *conversations: Content | list[dict], **settings: Any) -> list[str]:
    """Asks as lmms-eval does; a conversation is one user turn's content, or its messages."""
    documents = [each if "role" in each[0] else [{"role": "user", "content": each}] for each in conversations]
    model.task_dict["task"] = {"test": documents}
    instances = [
        Instance(
            request_type="generate_until",
            arguments=("", lambda messages: messages, {"max_new_tokens": 8, **settings}, number, "task", "test"),
            idx=0,
            metadata={"task": "task", "doc_id": number, "repeats": 1},
        )
        for number in range(len(documents))
    ]
    return model.generate_until(instances)


def questions(rows: list[dict[str, str]]) -> list[Content]:
    return [[video(row["video"]), text(row["question"])] for row in rows]


def alone(row: dict[str, str]) -> str:
    """The library's answer to one question, on a stream of its own."""
    with load("embedded").stream(memory=320) as stream:
        for frame in open_video(row["video"]):
            stream.watch(frame)
        return stream.ask(row["question"], max_new_tokens=8)


# Finding it


def test_the_entry_point_names_a_chat_model() -> None:
    (found,) = entry_points(group="lmms_eval.models", name="infinipot")
    assert found.load() is lmms_eval.manifest
    assert get_model("infinipot") is Infinipot


# Watching once


def test_a_video_is_watched_once_whatever_the_order_and_answers_stand_in_the_order_asked(
    shared: Infinipot, rows: list[dict[str, str]], opened: list[str]
) -> None:
    answers = ask(shared, *questions(rows))
    assert len(opened) == len(set(opened)) == len(clips.SEEDS)
    assert answers == [alone(row) for row in rows]


def test_another_part_of_a_video_or_another_system_message_is_watched_anew(
    shared: Infinipot, rows: list[dict[str, str]], opened: list[str]
) -> None:
    path, count = rows[0]["video"], "How many shapes have appeared so far?"
    system = {"role": "system", "content": [text("Answer in a word.")]}
    ask(
        shared,
        [video(path, end_time=1.0), text(count)],
        [video({"path": path, "video_start": 3.0, "video_end": 9.0}), text(count)],
        [video(path), text(count)],
        [system, {"role": "user", "content": [video(path), text(count)]}],
    )
    assert opened == [path] * 4


def test_a_system_prompt_takes_the_place_of_the_tasks(rows: list[dict[str, str]], opened: list[str]) -> None:
    said = [{"role": "system", "content": [text("One.")]}, {"role": "user", "content": questions(rows)[0]}]
    model = make('system_prompt="Answer, in a word."')
    ask(model, said, questions(rows)[0])
    assert len(opened) == 1
    assert model._system == "Answer, in a word."


# What cannot be asked


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([text("Why?")], "task, document 0: infinipot watches one video .* given: 1 text"),
        ([video("a.mp4"), video("b.mp4"), text("Why?")], "given: 2 video, 1 text"),
        ([{"type": "image", "url": Image.new("RGB", (8, 8))}, text("Why?")], "given: 1 image, 1 text"),
        ([video("a.mp4"), {"type": "audio", "url": "a.wav"}, text("Why?")], "given: 1 video, 1 audio, 1 text"),
        ([text("Look:"), video("a.mp4"), text("Why?")], "text before the video"),
        ([video([Image.new("RGB", (8, 8))]), text("Why?")], "a path or an address here, not a list"),
        ([video("a.mp4"), text(" ")], "task, document 0: the question is empty"),
        (
            [{"role": role, "content": [text("Why?")]} for role in ("user", "assistant", "user")],
            "one question at a time; these turns were given: user, assistant, user",
        ),
    ],
)
def test_what_a_stream_cannot_be_asked_is_an_error_before_any_video(
    shared: Infinipot, rows: list[dict[str, str]], opened: list[str], content: Content, words: str
) -> None:
    with pytest.raises(QuestionError, match=words):
        ask(shared, content, questions(rows)[0])
    assert not opened


@pytest.mark.parametrize("settings", [{"do_sample": True}, {"temperature": 0.7}, {"num_beams": 4}])
def test_other_ways_to_decode_are_refused(
    shared: Infinipot, rows: list[dict[str, str]], settings: dict[str, Any]
) -> None:
    (name,) = settings
    with pytest.raises(QuestionError, match=f"{name}=.*, but infinipot decodes greedily"):
        ask(shared, questions(rows)[0], **settings)
    plain = {"do_sample": False, "temperature": 0.0, "num_beams": 1, "top_p": 1.0}
    assert ask(shared, questions(rows)[0], **plain) == [rows[0]["answer"]]


@pytest.mark.parametrize("limit", ["16", 0, -1, 2.5, [8]])
def test_a_longest_answer_that_is_no_number_of_tokens_is_an_error_before_any_video(
    shared: Infinipot, rows: list[dict[str, str]], opened: list[str], limit: Any
) -> None:
    with pytest.raises(QuestionError, match=r"task, document 0: max_new_tokens=.*: give a whole number of tokens"):
        ask(shared, questions(rows)[0], max_new_tokens=limit)
    assert not opened


def test_a_question_without_room_is_an_error_before_any_video_and_names_what_would_do(
    shared: Infinipot, rows: list[dict[str, str]], opened: list[str]
) -> None:
    long = [text("How many shapes have appeared so far? " * times) for times in (9, 12, 10)]
    asked = [*questions(rows), *([video(rows[0]["video"]), words] for words in long)]
    with pytest.raises(CapError, match=rf"task, document {len(rows) + 1}: .*reserve=(\d+) or more") as caught:
        ask(shared, *asked)
    assert not opened
    reserve = str(caught.value).partition("reserve=")[2].partition(" ")[0]
    assert len(ask(make(f"reserve={reserve}"), *asked)) == len(asked)


@pytest.mark.parametrize("call", ["loglikelihood", "generate_until_multi_round"])
def test_other_kinds_of_tasks_are_refused(shared: Infinipot, call: str) -> None:
    with pytest.raises(InfinipotError, match="infinipot a"):
        getattr(shared, call)([])


# Answers


def test_an_answer_ends_at_the_first_of_the_tasks_stops(shared: Infinipot, rows: list[dict[str, str]]) -> None:
    row = next(row for row in rows if len(row["answer"]) > 2)
    whole, asked = row["answer"], questions([row])[0]
    for until in (None, [], ["", "\n\n"]):  # lmms-eval fills an empty line in
        assert ask(shared, asked, until=until) == [whole]
    assert ask(shared, asked, until=whole[2]) == [whole[: whole.index(whole[2])]]
    assert ask(shared, asked, until=[whole[-1], whole[1]]) == [whole[: min(map(whole.index, (whole[-1], whole[1])))]]


def test_the_longest_answer_and_the_stops_are_the_tasks(
    shared: Infinipot, rows: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(infinipot.Stream, "answer_limit", lambda *_, **how: 1)
    monkeypatch.setattr(infinipot.Stream, "ask", lambda self, question, **how: given.append(how) or "")
    ask(shared, questions(rows)[0], max_new_tokens=5, until="\n")
    ask(shared, questions(rows)[0], max_new_tokens=None, until=["is", "\n\n"])
    assert [(how["max_new_tokens"], how["stop"]) for how in given] == [(5, ("\n",)), (128, ("is",))]
    assert {how["temperature"] for how in given} == {0}


def test_a_video_that_fills_the_memory_of_a_policy_that_never_evicts_is_named(rows: list[dict[str, str]]) -> None:
    with pytest.raises(CapError, match=rf"task, document 0, {rows[0]['video']}: the memory of 320 tokens is full at "):
        ask(make("policy=full"), *questions(rows[:1]))


def test_a_broken_video_is_left_out_and_the_rest_goes_on(
    shared: Infinipot, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    broken, missing = tmp_path / "broken.mp4", tmp_path / "missing.mp4"
    broken.write_bytes(Path(rows[0]["video"]).read_bytes()[:2000])
    unseen = [[video(str(path)), text("Is there a shape now?")] for path in (broken, missing)]
    assert ask(shared, unseen[0], questions(rows)[0], unseen[1]) == ["", rows[0]["answer"], ""]
    with pytest.raises(VideoError, match=r"no video could be read, of 2; the first: .*broken"):
        ask(make(), *unseen)


# Settings


@pytest.mark.parametrize(
    "arguments",
    ["policy=infinipot-v:combine=two-stage,r1=0.4", "policy='infinipot-v:combine=two-stage,r1=0.4'"],
)
def test_options_of_a_policy_survive_lmms_evals_commas(arguments: str) -> None:
    assert make(arguments)._streaming["policy"].spec == "infinipot-v:combine=two-stage,r1=0.4"


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ("memmory=4096", PolicyError, 'unknown option of infinipot-v: "memmory".* pretrained, batch_size.* memory'),
        ("policy=tar,alpha=0.5", PolicyError, 'unknown option of tar: "alpha"'),
        ("policy=nothing", PolicyError, 'unknown policy: "nothing"'),
        ("min_pixels=784", SettingError, "give both min_pixels and max_pixels"),
        ("fps=0", SettingError, "fps=0"),
        ("max_num_frames=2.5", SettingError, "2.5 frames of a video"),
        ("memory=12XB", SettingError, "memory='12XB': give tokens"),
        ("memory=0", SettingError, "at least one token"),
        ("keep=1.5", SettingError, "keep=1.5"),
        ("reserve=abc", SettingError, "reserve='abc'"),
        ("positions=other", SettingError, "give 'rebase' or 'native'"),
        ("min_pixels=9,max_pixels=8", SettingError, "the least and the most pixels"),
    ],
)
def test_settings_that_cannot_be_are_errors_before_the_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, arguments: str, error: type, words: str
) -> None:
    monkeypatch.setattr(module, "load", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(error, match=words):
        make(arguments)


def test_a_memory_that_is_too_small_for_the_models_prompt_is_an_error() -> None:
    with pytest.raises(CapError, match="too small for this prompt"):
        make("memory=20")


def test_more_than_one_video_at_a_time_is_refused() -> None:
    with pytest.raises(SettingError, match=r"batch_size=8: .* so it is 1"):
        Infinipot(pretrained="embedded", batch_size="8")


def test_settings_reach_the_model_and_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def recording(source: str, **options: Any) -> Any:
        given.update(options, source=source)
        loaded = load(source)
        stream = loaded.stream
        monkeypatch.setattr(loaded, "stream", lambda **options: given.update(options) or stream(**options))
        return loaded

    load = vars(module)["load"]
    monkeypatch.setattr(module, "load", recording)
    loading = {"dtype": "bfloat16", "device": "cpu", "attn_implementation": "eager", "revision": "12345678"}
    streaming = {"memory": "1MiB", "keep": 0.5, "block": 2, "reserve": 99, "positions": "native"}
    asked = ",".join(f"{name}={value}" for name, value in {**loading, **streaming}.items())
    model = Infinipot.create_from_arg_string(f"pretrained=embedded,policy=tar,min_pixels=784,max_pixels=3136,{asked}")
    assert given.pop("policy").spec == "tar"
    expected = {**loading, **streaming, "pixels": (784, 3136), "source": "embedded", "device_map": None, "system": None}
    expected["dialogue"] = 0
    assert given == expected
    assert model._sampling == FrameSampling.of(fps=2.0)
    with model._stream() as stream:
        assert stream.stats().bytes <= 2**20


def test_a_stream_is_that_of_infinipot_eval(shared: Infinipot) -> None:
    arguments = "memory=700,reserve=100"
    sampling, config = FrameSampling.of(fps=2.0), StreamConfig(memory=700, reserve=100)
    setup = RunConfig("mlvu", "infinipot", sampling, config=config)
    with make(arguments)._stream() as ours, setup.stream(shared._loaded) as theirs:
        assert ours._setup.budget == theirs._setup.budget
        assert ours._setup.pixels == theirs._setup.pixels


def test_each_of_several_processes_has_the_model_on_its_own_device(shared: Infinipot) -> None:
    several = object.__new__(Infinipot)
    several.accelerator, several._world_size = shared.accelerator, 2
    assert several._own_device(None, None) == shared.accelerator.device
    with pytest.raises(InfinipotError, match="device_map=auto spreads one model over devices; 2 processes"):
        several._own_device(None, "auto")


def test_a_stream_ends_with_its_video_and_cleaning_up_frees_the_model(
    rows: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, opened = make(), []
    stream = model._loaded.stream

    def noting(**how: Any) -> infinipot.Stream:
        opened.append(stream(**how))
        return opened[-1]

    monkeypatch.setattr(model._loaded, "stream", noting)
    ask(model, [video(str(tmp_path / "missing.mp4")), text("Is there a shape now?")], questions(rows)[0])
    assert len(opened) == 3  # a stream tells beforehand whether the questions fit
    for one in opened:
        with pytest.raises(InfinipotError, match="closed"):
            one.stats()
    model.clean()
    assert not hasattr(model, "_loaded")
