"""A run: a benchmark's videos through an engine, and what comes of them into the run's file. Knows no model."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from infinipot.config import LoadConfig
from infinipot.errors import ResultsError
from infinipot.evaluate.benchmarks import Benchmark
from infinipot.evaluate.core.journal import Header
from infinipot.evaluate.engines.base import Answer, Engine, Event, RunConfig, Watched, made_by, origin_settings
from infinipot.evaluate.protocols import find_protocol
from infinipot.evaluate.reading import read_run
from infinipot.evaluate.records import Item, Problem, Question, counted
from infinipot.evaluate.results import Answered, Results, check_output, forget_problems


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run is to ask.

    Attributes:
        benchmark, variant: what was read.
        items: of this shard, in the order of the annotations.
        problems: annotations that cannot be used; of several shards the first has them all.
        shard: this one and how many there are, from 1.
        limit: how many videos are taken, from the first on; None: all.
        fingerprint: of all that was read: two runs of the same one ask the same.
    """

    benchmark: Benchmark
    variant: str
    items: tuple[Item, ...]
    problems: tuple[Problem, ...]
    shard: tuple[int, int]
    limit: int | None
    fingerprint: str

    @property
    def asked(self) -> dict[str, Question]:
        """The questions by their ids."""
        return {question.id: question for item in self.items for question in item.questions}

    @property
    def digests(self) -> dict[str, str]:
        """Twelve digits for each question, by its id, that stand for all it is asked with: its video, options, moment
        and subtitles too."""
        digests = {}
        for item in self.items:
            shown = f"{item.id!r} {item.subtitles!r}"
            for one in item.questions:
                digests[one.id] = hashlib.sha256(f"{one!r} {shown}".encode()).hexdigest()[:12]
        return digests

    @property
    def questions(self) -> int:
        return sum(len(item.questions) for item in self.items)

    @property
    def left_out(self) -> int:
        """How many annotations the run lacks, because they cannot be used; none under a limit, which asks for a part
        alone and whose run may go on whatever changes behind it."""
        return len(self.problems) if self.limit is None else 0

    @property
    def parts(self) -> dict[str, int]:
        """How many questions each task, group and further part has, by the names that a table gives them."""
        asked = self.asked.values()
        groups = Counter(question.group for question in asked if question.group is not None)
        parts = Counter(part for question in asked for part in question.parts)
        return {**Counter(question.task for question in asked), **groups, **parts}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is; the counts include what an earlier process did.

    Attributes:
        videos, questions: done, of `of_videos` and `of_questions`.
        now: videos that this process did.
        problems: lines of problems written.
        trouble: the problem that came just now, if one did.
    """

    videos: int
    of_videos: int
    questions: int
    of_questions: int
    now: int
    problems: int
    trouble: str | None = None


def read_plan(
    benchmark: Benchmark,
    data: Path,
    variant: str | None = None,
    shard: tuple[int, int] = (1, 1),
    limit: int | None = None,
) -> RunPlan:
    """Reads a benchmark's annotations.

    A shard takes every n-th video, so that shards are alike in length, and the same ones every time. An annotation that
    cannot be used has no video, so the first shard tells of it, and no other.

    Raises:
        BenchmarkError: the data do not lie as the benchmark lays them out.
    """
    variant = benchmark.variants[0] if variant is None else variant
    read = list(benchmark.read(data, variant))
    items = [one for one in read if isinstance(one, Item)][:limit]
    number, count = shard
    problems = tuple(one for one in read if isinstance(one, Problem) and number == 1)
    mine = tuple(items[number - 1 :: count])
    return RunPlan(benchmark, variant, mine, problems, shard, limit, _fingerprint(items))


def evaluate(
    plan: RunPlan,
    setup: RunConfig,
    engine: Engine,
    output: Path,
    *,
    seed: int = 0,
    retry: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Asks what the file does not answer yet; a file that is not there is begun.

    Args:
        plan: what to ask.
        setup: how.
        engine: where.
        output: the run's file.
        seed: of answers that a protocol draws by lot.
        retry: try again what could not be used before, and what was not there.
        on_progress: called at the beginning and after each event.

    Returns:
        The progress at the end.

    Raises:
        ResultsError: the file is of another run, or cannot be written.
        CapError: the memory cannot be opened.
    """
    origin = engine.origin()
    settings = _settings(plan, setup, seed) | origin.settings
    if retry and output.is_file():
        _require_same_questions(plan, output)
        forget_problems(output, settings)
    with Results(output, settings, origin.device, made_by()) as results:
        before, asked, digests = _over(plan, results), plan.asked, plan.digests

        def tell(trouble: str | None = None) -> Progress:
            over = _over(plan, results)
            known = len(results.known)
            progress = Progress(over, len(plan.items), known, len(asked), over - before, results.problems, trouble)
            on_progress(progress)
            return progress

        left = [_left(item, results) for item in plan.items]
        done = tell()
        for problem in plan.problems:
            if results.problem(problem):
                done = tell(str(problem))
        for event in engine.run([item for item in left if item.questions]):
            if isinstance(event, Answer):
                line = _answered(plan, setup, seed, asked[event.question], event)
                results.answer(replace(line, digest=digests[line.question]), event.seconds)
            done = tell(_write(results, event))
        return done


def _left(item: Item, results: Results) -> Item:
    """A video with those of its questions that have no answer yet."""
    return replace(item, questions=tuple(one for one in item.questions if one.id not in results.known))


def _over(plan: RunPlan, results: Results) -> int:
    """Videos whose questions are all answered, or given up."""
    return sum(all(question.id in results.known for question in item.questions) for item in plan.items)


def _write(results: Results, event: Event) -> str | None:
    """Writes what came of a video beside answers; returns a line about it if it was trouble."""
    match event:
        case Watched():
            results.watched(event)
            if event.incomplete:
                return f"{event.item}: the video is cut short or damaged; asked about what can be read"
        case Problem():
            results.problem(event)
            return f"{event} ({counted(len(event.questions), 'question')} not asked)"
    return None


def _answered(plan: RunPlan, setup: RunConfig, seed: int, question: Question, event: Answer) -> Answered:
    protocol = find_protocol(setup.protocol)
    read = protocol.read_answer(plan.benchmark, question, event.text)
    drawn = protocol.draw(plan.benchmark, question, seed) if read is None else None
    came = {name: value for name, value in asdict(event).items() if name != "seconds"}
    return Answered(
        video=event.item,
        task=question.task,
        group=question.group,
        at=question.at,
        answer=read,
        drawn=drawn,
        reference=question.reference,
        judged=question.judged,
        correct=protocol.score(plan.benchmark, question, drawn if read is None else read),
        asked=question.text,
        parts=list(question.parts),
        unit=None if question.unit is None else asdict(question.unit),
        **came,
    )


def check_before_loading(
    plan: RunPlan, setup: RunConfig, loading: LoadConfig, output: Path, *, seed: int = 0, retry: bool = False
) -> None:
    """Refuses an output file of another run, as `evaluate` does, as far as can be told before loading a model."""
    check_output(output, _settings(plan, setup, seed) | origin_settings(loading, setup), made_by(), retry)
    if retry and output.is_file():
        _require_same_questions(plan, output)


def _settings(plan: RunPlan, setup: RunConfig, seed: int) -> Header:
    """What a header says beside what the engine knows."""
    return {
        **asdict(setup),
        "variant": plan.variant,
        "annotations": plan.fingerprint,
        "shard": list(plan.shard),
        "limit": plan.limit,
        "videos": len(plan.items),
        "questions": plan.questions,
        "left_out": plan.left_out,
        "parts": plan.parts,
        "seed": seed,
    }


def _require_same_questions(plan: RunPlan, output: Path) -> None:
    """Makes sure, before a run is retried, that each question it answered is still asked, unchanged."""
    asked, digests = plan.asked, plan.digests
    for line in read_run(output).answers:
        question = asked.get(line.question)
        if (
            question is None
            or (question.text, question.reference) != (line.asked, line.reference)
            or line.digest not in ("", digests[line.question])
        ):
            raise ResultsError(
                f"{output}: it answers the question {line.question}, which this run does not ask, or not in this form, "
                "because the annotations, or the videos of this shard or limit, have changed: give another --output"
            )


def _fingerprint(items: Sequence[Item]) -> str:
    """A hash of all that a run asks, wherever the data lie. Runs that were begun go on only while it stays the same."""
    digest = hashlib.sha256()
    for item in items:
        shown: Any = (item.id, item.id, item.questions, item.subtitles)
        digest.update(repr(shown).encode())
    return digest.hexdigest()
