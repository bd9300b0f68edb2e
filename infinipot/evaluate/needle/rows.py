"""Answers put together into the rows of each section: plain values and estimates, for tables, pictures and JSON."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Any

from infinipot.evaluate.core.estimates import Difference
from infinipot.evaluate.core.statistics import clustered, difference, estimate, over_questions
from infinipot.evaluate.needle.case import CELLS, Case, Holder
from infinipot.evaluate.needle.cost import Cost, large_bytes
from infinipot.evaluate.needle.memories import GivenAnswer, Outcome
from infinipot.evaluate.needle.plan import DEFAULT, FULL, Extent

Row = dict[str, Any]
Axis = Callable[[Outcome, GivenAnswer], Any]
"""What an answer has that tells rows apart; None: the answer counts in no row."""
Maker = Callable[[Sequence[Outcome], Extent], Iterable[Row]]

DRAWS = 4000  # of the bootstrap
DELAYS = (0, 8, 16, 32, 64)  # seconds, bounds
LONG_DELAYS = (0, 60, 600, 3600, 36_000)
EVERYWHERE = "all"  # backgrounds that the world makes, together
FULL_CACHE = Holder("full")


class Answers:
    """Answers of some outcomes, counted by memory."""

    def __init__(self, outcomes: Iterable[Outcome] = ()) -> None:
        self.of: dict[Holder, list[tuple[int, bool]]] = defaultdict(list)
        self._rights: dict[str, list[str]] = defaultdict(list)  # by kind, as the chances
        self._chances: dict[str, list[float]] = defaultdict(list)
        self._last: dict[Holder, Outcome] = {}
        for outcome in outcomes:
            for answer in outcome.answers:
                self.add(outcome, answer)

    def add(self, outcome: Outcome, answer: GivenAnswer) -> None:
        """Counts an answer."""
        self.of[outcome.case.holder].append((outcome.case.scene.seed, answer.correct))
        self._rights[answer.kind].append(answer.right)
        self._chances[answer.kind].append(answer.chance)
        self._last[outcome.case.holder] = outcome

    def row(self, holder: Holder, **place: Any) -> Row | None:
        """How a memory did, and how it compares with the default policy in as many tokens and with the full cache."""
        right = estimate(clustered(self.of.get(holder, ())), over_questions, DRAWS).get("overall")
        if right is None:
            return None
        last, asked = self._last[holder], sum(map(len, self._rights.values()))
        return {
            **place,
            "policy": holder.policy,
            "kept": (holder.kept or last.case.scene.patches * CELLS) * last.cells // CELLS,
            "cap": last.cap,
            "bytes": last.stats.get("bytes"),
            "right": right,
            "chance": sum(map(sum, self._chances.values())) / asked,
            "blind": sum(best_guess(self._rights[kind], self._chances[kind]) for kind in self._rights) / asked,
            "against_default": self.against(holder, Holder(DEFAULT, holder.kept, holder.block)),
            "against_full": self.against(holder, FULL_CACHE),
        }

    def against(self, holder: Holder, other: Holder) -> Difference | None:
        """The paired difference of two memories; None if they are one and the same."""
        theirs, ours = (clustered(self.of.get(each, ())) for each in (other, holder))
        return None if holder == other else difference(theirs, ours, over_questions, DRAWS)


def best_guess(rights: Sequence[str], chances: Sequence[float]) -> float:
    """How many questions of one kind are answered right without the video, by the better of two ways to guess.

    Args:
        rights: the right answers; one may always say the commonest of them.
        chances: the share of each question's choices that is right; one may say any choice.
    """
    return max(*Counter(rights).values(), sum(chances))


def put_together(
    plan: Mapping[str, Sequence[Case]], size: Extent, outcomes: Mapping[Case, Outcome], costs: Mapping[str, Cost]
) -> dict[str, list[Row]]:
    """The rows of each section of the plan, from what is finished of it."""
    rows: dict[str, list[Row]] = {}
    for section, cases in plan.items():
        found = [outcome for case in dict.fromkeys(cases) if (outcome := outcomes.get(case))]
        for name, make in MAKERS.get(section, {}).items():
            rows[name] = list(make(found, size))
    if "cost" in plan:
        rows["cost"] = list(map(_cost, costs.values()))
    return {section: made for section, made in rows.items() if made}


def as_json(rows: Any) -> Any:
    """Rows with their estimates as objects."""
    if isinstance(rows, dict):
        return {name: as_json(value) for name, value in rows.items()}
    if isinstance(rows, list):
        return [as_json(value) for value in rows]
    return asdict(rows) if is_dataclass(rows) and not isinstance(rows, type) else rows


def tell(
    axes: Mapping[str, Axis],
    *,
    of: Callable[[Holder], bool] = lambda holder: True,
    more: Callable[[Holder, Sequence[Outcome]], Row] = lambda holder, outcomes: {},
    apart: bool = True,
) -> Maker:
    """What makes a row for each combination of what the axes find and each memory.

    Args:
        of: which memories have rows.
        more: what else a row says of its memory.
        apart: whether each background has rows of its own.
    """

    def make(outcomes: Sequence[Outcome], size: Extent) -> Iterator[Row]:
        for place, there in by_background(outcomes) if apart else [({}, outcomes)]:
            groups: dict[tuple[Any, ...], Answers] = defaultdict(Answers)
            for outcome in there:
                for answer in outcome.answers:
                    key = tuple(axis(outcome, answer) for axis in axes.values())
                    if None not in key:
                        groups[key].add(outcome, answer)
            for key, answers in sorted(groups.items(), key=itemgetter(0)):
                for holder in filter(of, list(answers.of)):
                    if row := answers.row(holder, **place, **dict(zip(axes, key, strict=True))):
                        yield row | more(holder, there)

    return make


def by_background(outcomes: Sequence[Outcome]) -> Iterator[tuple[Row, list[Outcome]]]:
    """What a row says of each kind of background, and of all that the world makes together, with the outcomes there."""
    kinds = dict.fromkeys(outcome.case.scene.kind for outcome in outcomes)
    for kind in kinds:
        yield {"background": kind}, [outcome for outcome in outcomes if outcome.case.scene.kind == kind]
    if len(made := [kind for kind in kinds if kind != "footage"]) > 1:
        yield {"background": EVERYWHERE}, [outcome for outcome in outcomes if outcome.case.scene.kind in made]


def _share(holder: Holder, _: object) -> Row:
    """The full cache's tokens per token kept."""
    return {"share": FULL // holder.kept if holder.kept else 1}


def _named(holder: Holder, outcomes: Sequence[Outcome]) -> Row:
    """Its share, and the policy's name with whether it was told the question."""
    told = {"policy": f"{holder.policy}, question told"} if holder.turns == "told" else {}
    return _share(holder, outcomes) | told


def _delay(bounds: Sequence[int]) -> Axis:
    """Between which bounds the time since what is asked about lies, in seconds."""

    def between(_: Outcome, answer: GivenAnswer) -> tuple[int, int] | None:
        delay = -1.0 if answer.delay is None else answer.delay
        return next((pair for pair in pairwise(bounds) if pair[0] <= delay < pair[1]), None)

    return between


def _gap(outcome: Outcome, answer: GivenAnswer) -> float:
    """Which of a scene's gaps an answer was given after, in seconds: the one that ends nearest."""
    behind = answer.at - outcome.case.scene.seconds
    return min(outcome.case.scene.gaps, key=lambda gap: abs(gap - behind))


def _spent(holder: Holder, outcomes: Sequence[Outcome]) -> Row:
    """Mean seconds a patch and an answer, of streams that watched side by side: they compare with each other only."""
    its = [outcome for outcome in outcomes if outcome.case.holder == holder and not outcome.error]
    seconds = [outcome.stats["seconds"] for outcome in its]
    watching = sum(spent[phase] for spent in seconds for phase in ("vision", "prefill", "compress"))
    return {
        "patch_seconds": watching / max(1, sum(one.stats["patches"] for one in its)),
        "answer_seconds": sum(one["answer"] for one in seconds) / max(1, sum(len(one.answers) for one in its)),
    }


def _part(outcome: Outcome, answer: GivenAnswer) -> str | None:
    """Whether the earliest event that is asked about began by day or by night; None where it is about no event."""
    began = None if answer.delay is None else answer.at - answer.delay
    return None if began is None else ("day", "night")[began >= outcome.case.scene.seconds / 2]


_SECONDS: dict[str, Axis] = {"seconds": lambda outcome, _: outcome.case.scene.seconds}
_KIND: dict[str, Axis] = {"kind": lambda _, answer: answer.kind}
_LIGHT: dict[str, Axis] = {"light": lambda outcome, _: outcome.case.scene.light}

caps = tell({}, more=_share)
told = tell({}, more=_named)
delay = tell({"delay": _delay(DELAYS)}, more=_share)
kinds = tell(_KIND, more=_share)
after = tell({"gap": _gap}, more=_spent)
night = tell(_LIGHT | {"part": _part}, more=_share)
length = tell(_SECONDS, apart=False)
long_delays = tell({"delay": _delay(LONG_DELAYS)}, of=lambda holder: holder.kept > 0, apart=False)
long_kinds = tell(_SECONDS | _KIND, of=lambda holder: holder.policy == DEFAULT, apart=False)


def process_memory(outcomes: Sequence[Outcome], size: Extent) -> Iterator[Row]:
    """The last tenth's peak against the second tenth's, of long streams that only memories with a cap watched.

    A row a policy and length: the largest of all clips.
    """
    crowded = {outcome.case.scene for outcome in outcomes if not outcome.case.holder.kept}
    found: dict[tuple[float, str], list[Row]] = defaultdict(list)
    for outcome in outcomes:
        history, tenth = outcome.history, len(outcome.history) // 10
        if outcome.case.scene in crowded or tenth < 2:
            continue
        second, last = (max(sample[3] for sample in part) for part in (history[tenth : 2 * tenth], history[-tenth:]))
        stats = {"tokens": outcome.stats["peak_tokens"], "rebases": outcome.stats["rebases"]}
        row = {**stats, "cap": outcome.cap, "full_tokens": history[-1][2], "growth": last / second}
        found[outcome.case.scene.seconds, outcome.case.holder.policy].append(row)
    for (seconds, policy), rows in found.items():
        most = {name: max(row[name] for row in rows) for name in rows[0]}
        yield {"seconds": seconds, "policy": policy, "clips": len(rows), **most}


def ablations(outcomes: Sequence[Outcome], size: Extent) -> Iterator[Row]:
    """Each option against the default of all options, and positions in long streams."""
    usual = Answers(outcome for outcome in outcomes if not outcome.case.scene.samples)
    for part in size.ablated:
        default = size.variants[0].holder(FULL // part)
        for variant in size.variants:
            holder = variant.holder(FULL // part)
            if row := usual.row(holder, share=part, option=variant.option, value=variant.value):
                yield row | {"room": holder.room, "against_default": usual.against(holder, default)}
    long = Answers(outcome for outcome in outcomes if outcome.case.scene.samples)
    for holder in long.of:
        if row := long.row(holder, share=None, option=f"positions, {size.native / 60:g} min", value=holder.positions):
            yield row


def turns(outcomes: Sequence[Outcome], size: Extent) -> Iterator[Row]:
    """Turns that are remembered or forgotten, against each question alone."""
    answers = Answers(outcomes)
    alone = next((holder for holder in answers.of if holder.turns == "alone"), None)
    given = {(outcome.case.scene, outcome.case.holder): outcome.answers for outcome in outcomes}
    for holder in answers.of:
        if alone and (row := answers.row(holder, turns=holder.turns)):
            same = [
                ours.given == theirs.given
                for (scene, one), all_ours in given.items()
                if one == holder
                for ours, theirs in zip(all_ours, given.get((scene, alone), ()), strict=False)
            ]
            against = answers.against(holder, alone)
            yield row | {"against_alone": against, "same_as_alone": sum(same) / max(1, len(same))}


MAKERS: dict[str, dict[str, Maker]] = {
    **{name: {name: caps} for name in ("caps", "dozens", "overlapping", "lookalikes", "hard")},
    **{name: {name: make} for name, make in (("delay", delay), ("kinds", kinds), ("after", after), ("night", night))},
    "told": {"told": told},
    "length": {
        "length": length,
        "long delays": long_delays,
        "long kinds": long_kinds,
        "process memory": process_memory,
    },
    "ablations": {"ablations": ablations},
    "turns": {"turns": turns},
}
"""By section: the names of its groups of rows, and the function that makes each group."""


def _cost(cost: Cost) -> Row:
    stats = cost.stats
    return {
        **{name: getattr(cost, name) for name in ("name", "patch_seconds", "first_token_seconds", "history")},
        **{name: stats[name] for name in ("tokens", "cap", "frames", "bytes", "compressions")},
        "process": cost.peak_bytes - cost.idle_bytes,
        "peak": cost.peak_bytes,
        "compress": stats["seconds"]["compress"] / sum(stats["seconds"].values()),
        "large_bytes": large_bytes(cost.name),
    }
