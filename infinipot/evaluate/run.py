"""A run: a benchmark's videos through an engine, and what comes of them into the run's file. Knows no model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path

from infinipot.config import LoadConfig
from infinipot.errors import ResultsError
from infinipot.evaluate.core.journal import Header
from infinipot.evaluate.engines.base import Engine, EvalAnswer, Event, RunConfig, WatchTime, made_by, origin_settings
from infinipot.evaluate.plan import RunPlan
from infinipot.evaluate.protocols import find_protocol
from infinipot.evaluate.reading import read_run
from infinipot.evaluate.records import Item, Problem, Question, counted
from infinipot.evaluate.results import Answered, Results, check_output, forget_problems


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
    return evaluate_together(plan, {output: (setup, engine)}, seed=seed, retry=retry, on_progress=on_progress)


def evaluate_together(
    plan: RunPlan,
    runs: Mapping[Path, tuple[RunConfig, Engine]],
    *,
    seed: int = 0,
    retry: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Runs that ask the same of the same frames, as `evaluate` does each: engines that can watch side by side do.

    Args:
        runs: how and where, by the run's file.

    Returns:
        The progress of all runs together, which `on_progress` is called with, too.

    Raises:
        ResultsError, CapError: see `evaluate`.
    """
    with ExitStack() as opened:
        writers = [
            opened.enter_context(_Writer(plan, setup, engine, output, seed, retry))
            for output, (setup, engine) in runs.items()
        ]

        def tell(trouble: str | None = None) -> Progress:
            progress = _sum([writer.progress() for writer in writers], trouble)
            on_progress(progress)
            return progress

        done = tell()
        for trouble in dict.fromkeys(chain.from_iterable(writer.begin() for writer in writers)):  # each told once
            done = tell(trouble)
        first, *others = (engine for _, engine in runs.values())
        for number, event in first.run_with(others, [writer.left() for writer in writers]):
            done = tell(writers[number].take(event))
        return done


class _Writer(AbstractContextManager["_Writer"]):
    """A run's file, and what comes into it."""

    def __init__(self, plan: RunPlan, setup: RunConfig, engine: Engine, output: Path, seed: int, retry: bool) -> None:
        origin = engine.origin()
        settings = _settings(plan, setup, seed) | origin.settings
        if retry and output.is_file():
            _require_same_questions(plan, output)
            forget_problems(output, settings)
        self._plan, self._setup, self._seed = plan, setup, seed
        self._asked, self._digests = plan.asked, plan.digests
        self._results = Results(output, settings, origin.device, made_by())
        self._before = _over(plan, self._results)

    def __exit__(self, *error: object) -> None:
        self._results.__exit__(*error)

    def progress(self) -> Progress:
        results, over = self._results, _over(self._plan, self._results)
        videos, questions = len(self._plan.items), len(self._asked)
        return Progress(over, videos, len(results.known), questions, over - self._before, results.problems)

    def begin(self) -> Iterator[str]:
        """Writes what cannot be used of the annotations; yields a line about each that was not written before."""
        return (str(problem) for problem in self._plan.problems if self._results.problem(problem))

    def left(self) -> list[Item]:
        """The videos that have questions without an answer, with those alone."""
        left = (_left(item, self._results) for item in self._plan.items)
        return [item for item in left if item.questions]

    def take(self, event: Event) -> str | None:
        """Writes what came of a video; returns a line about it if it was trouble."""
        if isinstance(event, EvalAnswer):
            line = _answered(self._plan, self._setup, self._seed, self._asked[event.question], event)
            self._results.answer(replace(line, digest=self._digests[line.question]), event.seconds)
        return _write(self._results, event)


def _sum(runs: Sequence[Progress], trouble: str | None) -> Progress:
    """The progress of several runs together."""

    def total(name: str) -> int:
        return sum(getattr(run, name) for run in runs)

    videos, questions = (total("videos"), total("of_videos")), (total("questions"), total("of_questions"))
    return Progress(*videos, *questions, total("now"), total("problems"), trouble)


def _left(item: Item, results: Results) -> Item:
    """A video with those of its questions that have no answer yet."""
    return replace(item, questions=tuple(one for one in item.questions if one.id not in results.known))


def _over(plan: RunPlan, results: Results) -> int:
    """Videos whose questions are all answered, or given up."""
    return sum(all(question.id in results.known for question in item.questions) for item in plan.items)


def _write(results: Results, event: Event) -> str | None:
    """Writes what came of a video beside answers; returns a line about it if it was trouble."""
    match event:
        case WatchTime():
            results.watched(event)
            if event.incomplete:
                return f"{event.item}: the video is cut short or damaged; asked about what can be read"
        case Problem():
            results.problem(event)
            return f"{event} ({counted(len(event.questions), 'question')} not asked)"
    return None


def _answered(plan: RunPlan, setup: RunConfig, seed: int, question: Question, event: EvalAnswer) -> Answered:
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
    """The part of a header that the engine does not know."""
    return {
        **setup.header(),
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
