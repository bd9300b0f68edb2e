"""The sections of the benchmark, the cases of each, and the settings that its ablations compare, one option at a time.

Sections share cases: what two of them need is run once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, get_args

import infinipot
from infinipot.embedded.facts import BACKGROUNDS
from infinipot.errors import InfinipotError
from infinipot.evaluate.core.plugins import code_of_policy
from infinipot.evaluate.needle.case import CELLS, GAPS, Case, Holder, Scene, usual_block

DEFAULT = "infinipot-v"
TWO_STAGE = "infinipot-v:combine=two-stage"
OWN = "unusual"  # this project's own
RESEARCH = "infinipot-v-ablations"  # what was tried beside the published forms; no policy to compare with
SECTIONS = (
    *("caps", "delay", "kinds", "length", "after", "dozens", "overlapping", "lookalikes", "night"),
    *("hard", "told", "ablations", "turns", "cost"),
)
SECONDS, FPS = 64.0, 2.0  # of a stream of the length that the model was trained on
FULL = round(SECONDS * FPS) // 2 * CELLS  # its video tokens
SHARES = (2, 4, 8, 16, 32)
CLIPS, MOMENTS = 18, 4  # of each background, and at which each is asked
# Who appears, and how many events; clips take them in turn.
MIX = (("varied", 3), ("odd", 6), ("varied", 6), ("regulars", 16), ("regulars", 8), ("odd", 12))
LENGTHS = (60.0, 600.0, 3600.0, 36_000.0)
LONG_FPS, LONG_EVENTS, LONG_KEPT = 0.5, 6, 256
LONGEST_FULL = 3600.0
HARD_EVENTS, HARD_CROWD = 24, 3
AFTER_SECONDS, AFTER_EVENTS = 128.0, 5  # of the clip ahead of hours in which nothing comes
DOZENS_SECONDS, DOZENS_EVENTS = 128.0, 48
STAGED_EVENTS = 8  # of clips whose events overlap or look alike
DUSKS = (0.7, 0.25)  # brightness of the second half
DIALOGUE = 192  # tokens for remembered turns, in the section on turns


def every_policy() -> tuple[str, ...]:
    """Every policy that evicts, by its defaults, and the default one in all of its forms; none that is for research."""
    names = [kind.name for kind in infinipot.policies.available() if kind.evicts and kind.name != RESEARCH]
    forms = get_args(infinipot.policies.options.hints(type(infinipot.policies.make(DEFAULT)))["combine"])
    specs = [f"{DEFAULT}:combine={form}" for form in forms]
    return tuple(dict.fromkeys(infinipot.policies.make(spec).spec for spec in (DEFAULT, *specs, *names)))


@dataclass(frozen=True, slots=True)
class Variant:
    """One setting of an option that the ablations compare with the default of all options.

    Attributes:
        option, value: as a table names them.
        policy: its spec.
        keep: |C| as a share of the video's room, where that is what varies; the room stays.
        block: temporal patches, where that is what varies; |C| stays, and the room has a block more than that.
    """

    option: str
    value: str
    policy: str = DEFAULT
    keep: float | None = None
    block: int | None = None

    def holder(self, kept: int) -> Holder:
        """The memory that is compared with the default that keeps `kept` tokens."""
        usual = Holder(self.policy, kept, self.block or usual_block(kept))
        if self.keep is None:
            return usual
        block = max(1, min(usual.block, int((1 - self.keep) * usual.room / CELLS)))
        kept = min(round(self.keep * usual.room), usual.room - block * CELLS)
        return Holder(self.policy, kept, block, usual.room - kept - block * CELLS)


ABLATIONS = (
    Variant("infinipot-v", "union, α=0.5 (default)"),
    Variant("infinipot-v", "union, scored again", f"{RESEARCH}:combine=union,scored=again"),
    Variant("infinipot-v", "two-stage, r1=0.125", TWO_STAGE),
    Variant("infinipot-v", "two-stage, scored again", f"{RESEARCH}:combine=two-stage,scored=again"),
    Variant("infinipot-v", "TaR alone", "tar"),
    Variant("infinipot-v", "VaN alone", "van"),
    *(Variant("α (union)", f"{alpha}", f"{DEFAULT}:alpha={alpha}") for alpha in (0.25, 0.75, 0.9)),
    *(Variant("recent patches (union)", f"{share}", f"{DEFAULT}:recent={share}") for share in (0.0, 0.125, 0.5)),
    *(Variant("r1 (two-stage)", f"{r1}", f"{TWO_STAGE},r1={r1}") for r1 in (0.05, 0.25, 0.5)),
    Variant("reference", "recent", f"{DEFAULT}:reference=recent"),
    Variant("reference", "recent, two-stage", f"{TWO_STAGE},reference=recent"),
    Variant("keys", "rotated", f"{RESEARCH}:combine=union,keys=rotated"),
    Variant("keys", "rotated, TaR alone", "tar:keys=rotated"),
    Variant("coordinates", "guessed", f"{RESEARCH}:combine=union,coordinates=guessed"),
    Variant("pooling", "layerwise", f"{DEFAULT}:pooling=layerwise"),
    Variant("pooling", "layerwise, VaN alone", "van:pooling=layerwise"),
    Variant("novelty", "power=4, newest=0.25", "novelty"),
    Variant("novelty", "scored again", f"{RESEARCH}:scored=again"),
    *(Variant("novelty", f"power={power}", f"novelty:power={power}") for power in (0, 1, 2, 8)),
    *(Variant("novelty", f"newest={share}", f"novelty:newest={share}") for share in (0.0, 0.125, 0.5)),
    Variant("coverage", "0.25, novelty", "novelty:coverage=0.25"),
    Variant("coverage", "0, deviation", "deviation"),
    Variant("coverage", "0.25, deviation", "deviation:coverage=0.25"),
    *(Variant("|C| of the room", f"{keep}", keep=keep) for keep in (0.25, 0.5, 0.9)),
    *(Variant("block behind |C|", f"{block} patches", block=block) for block in (1, 2, 4, 8)),
)


@dataclass(frozen=True, slots=True)
class Extent:
    """The size of a run of the benchmark.

    Attributes:
        clips: of each background, in the sections at the trained length.
        few: of each background, in the sections that compare many settings or run long.
        shares: of the full cache: 2 for one half.
        ablated: shares at which options are compared, and hard: those of the hardest setting.
        lengths: seconds of video, and how many clips of each.
        staged: shares at which clips are watched that are unlike the usual; staged_on: their backgrounds, beside
            footage; after: tokens kept before quiet hours.
        quiet: seconds in which nothing comes.
        policies: those that are compared; long: those of the long streams. The full cache is none of them: it stands
            beside them in each section in which it can.
        variants: of the ablations.
        native: seconds of the streams that compare native with re-based positions.
        moments: at which each clip is asked.
    """

    clips: int = CLIPS
    few: int = 9
    shares: tuple[int, ...] = SHARES
    ablated: tuple[int, ...] = (8, 16)
    hard: tuple[int, ...] = (8, 16, 32)
    lengths: tuple[tuple[float, int], ...] = tuple(zip(LENGTHS, (18, 18, 9, 4), strict=True))
    staged: tuple[int, ...] = (8, 32)
    staged_on: tuple[str, ...] = BACKGROUNDS
    after: tuple[int, ...] = (64, LONG_KEPT)
    quiet: float = GAPS[-1]
    policies: tuple[str, ...] = field(default_factory=every_policy)
    long: tuple[str, ...] = (DEFAULT, "novelty", "deviation", "uniform", "sliding-window")
    variants: tuple[Variant, ...] = ABLATIONS
    native: float = 3600.0
    moments: int = MOMENTS

    def __post_init__(self) -> None:
        for name in ("policies", "long"):
            object.__setattr__(self, name, tuple(spec for spec in getattr(self, name) if spec != "full"))


QUICK = Extent(
    clips=1,
    few=1,
    shares=(8, 32),
    ablated=(8,),
    hard=(8,),
    staged=(8,),
    staged_on=("moving",),
    after=(64,),
    quiet=GAPS[2],
    lengths=((60.0, 1), (600.0, 1)),
    policies=(DEFAULT, TWO_STAGE, "novelty", "deviation", "uniform", "sliding-window"),
    long=(DEFAULT, "sliding-window"),
    variants=ABLATIONS[:4],
    native=600.0,
    moments=3,
)


def full_size(clips: int) -> Extent:
    """The whole benchmark on `clips` clips of each background."""
    few = max(1, clips // 2)
    counts = (clips, clips, few, max(1, clips // 4))
    return replace(Extent(), clips=clips, few=few, lengths=tuple(zip(LENGTHS, counts, strict=True)))


def code_of(size: Extent) -> dict[str, str]:
    """The digests of the code of policies of `size` that other packages bring, by spec.

    Raises:
        PolicyError: a policy is unknown.
    """
    found = {spec: code_of_policy(infinipot.policies.make(spec)) for spec in (*size.policies, *size.long)}
    return {spec: code for spec, code in found.items() if code}


def make_plan(
    size: Extent,
    first_seed: int,
    footage: str | None = None,
    sections: Sequence[str] = SECTIONS,
    code: Mapping[str, str] | None = None,
) -> dict[str, list[Case]]:
    """The cases of each of the sections, in the order of clips; "cost" has none, and "delay" and "kinds" those of caps.

    Args:
        footage: the background that a video file makes, if there is one.
        code: of the policies that other packages bring, see `code_of`; by default what is there now.

    Raises:
        PolicyError: a policy of `size` is unknown.
        InfinipotError: a section is.
    """
    if unknown := [section for section in sections if section not in SECTIONS]:
        raise InfinipotError(f"no section is called {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    code = code_of(size) if code is None else code
    backgrounds = (*BACKGROUNDS, *([footage] if footage else []))
    scenes = list(_trained_length(size, first_seed, backgrounds))
    usually = [Case(scene, holder) for scene in scenes for holder in _by_share(size.policies, size.shares)]
    few = [scene for scene in scenes if (scene.seed - first_seed) % 1000 < size.few]
    usual: dict[str, Any] = {"seconds": SECONDS, "fps": FPS, "moments": size.moments}
    staged = partial(_grid, size, first_seed + 500, backgrounds, _by_share(size.policies, size.staged))
    alike: dict[str, Any] = {**usual, "events": STAGED_EVENTS, "cast": "varied"}
    made = {
        **dict.fromkeys(("caps", "delay", "kinds"), usually),
        "length": list(_length(size, first_seed + 6000)),
        "after": _grid(  # a full cache is not among the memories: it would hold all of the quiet
            *(size, first_seed + 700, backgrounds),
            [Holder(spec, kept, usual_block(kept)) for kept in size.after for spec in size.policies],
            seconds=AFTER_SECONDS,
            fps=LONG_FPS,
            events=AFTER_EVENTS,
            cast="varied",
            quiet=size.quiet,
        ),
        "dozens": _grid(
            *(size, first_seed + 600, backgrounds, _by_share(size.policies, size.staged)),
            **usual | {"seconds": DOZENS_SECONDS, "events": DOZENS_EVENTS, "cast": "regulars"},
        ),
        "overlapping": staged(**alike, staging="overlapping"),
        "lookalikes": staged(**alike, staging="lookalikes"),
        "night": [case for light in (1.0, *DUSKS) for case in staged(**alike, light=light)],
        "hard": _grid(
            *(size, first_seed + 4000, ("moving", "cuts"), _by_share(size.policies, size.hard)),
            **usual | {"events": HARD_EVENTS, "cast": "regulars", "crowd": HARD_CROWD},
        ),
        "told": list(_told(size, few)),
        "ablations": [*_ablations(size, few), *_native(size, first_seed + 6000)],
        "turns": list(_turns(size, few)),
        "cost": [],
    }
    chosen = {section: made[section] for section in SECTIONS if section in sections}
    return {section: [case.with_code(code) for case in cases] for section, cases in chosen.items()}


def _grid(
    size: Extent, first_seed: int, backgrounds: Sequence[str], holders: Sequence[Holder], **shown: Any
) -> list[Case]:
    """A few clips of each of the backgrounds that are staged on, all of which every memory watches."""
    scenes = [
        Scene(first_seed + 1000 * kind + number, background=background, **shown)
        for number in range(size.few)
        for kind, background in enumerate(backgrounds)
        if background in size.staged_on or background not in BACKGROUNDS
    ]
    return [Case(scene, holder) for scene in scenes for holder in holders]


def holders_at(specs: Sequence[str], share: int) -> list[Holder]:
    """Memories that keep 1/share of the trained length's video tokens, one a policy."""
    kept = FULL // share
    return [Holder(spec, kept, usual_block(kept)) for spec in specs]


def _by_share(specs: Sequence[str], shares: Sequence[int]) -> list[Holder]:
    """The full cache, and every policy at every share of it."""
    return [Holder("full"), *(holder for share in shares for holder in holders_at(specs, share))]


def _trained_length(size: Extent, first_seed: int, backgrounds: Sequence[str]) -> Iterator[Scene]:
    for number in range(size.clips):
        cast, events = MIX[number % len(MIX)]
        for kind, background in enumerate(backgrounds):
            seed = first_seed + 1000 * kind + number
            yield Scene(seed, SECONDS, FPS, events, background, cast, moments=size.moments)


def _length(size: Extent, first_seed: int) -> Iterator[Case]:
    for seconds, clips in size.lengths:
        for number in range(clips):
            scene = _long_scene(first_seed + number, seconds)
            if seconds <= LONGEST_FULL:
                yield Case(scene, Holder("full"))
            yield from (Case(scene, _long_holder(spec)) for spec in size.long)


def _long_scene(seed: int, seconds: float) -> Scene:
    cast = ("varied", "odd")[seed % 2]
    return Scene(seed, seconds, LONG_FPS, LONG_EVENTS, "still", cast, moments=6, samples=100)


def _long_holder(spec: str, positions: str = "rebase") -> Holder:
    return Holder(spec, LONG_KEPT, usual_block(LONG_KEPT), positions=positions)


def _ablations(size: Extent, scenes: Sequence[Scene]) -> Iterator[Case]:
    for scene in scenes:
        for share in size.ablated:
            yield from (Case(scene, variant.holder(FULL // share)) for variant in size.variants)


def _native(size: Extent, first_seed: int) -> Iterator[Case]:
    for number in range(size.few):
        scene = _long_scene(first_seed + number, size.native)
        yield from (Case(scene, _long_holder(DEFAULT, positions)) for positions in ("rebase", "native"))


def _told(size: Extent, scenes: Sequence[Scene]) -> Iterator[Case]:
    """Policies that know the question, told and not, beside the full cache, the default and this project's own."""
    knowing = [spec for spec in size.policies if knows_question(spec)]
    for scene in scenes if knowing else ():
        yield Case(scene, Holder("full"))
        for share in size.hard:
            yield from (Case(scene, holder) for holder in holders_at((DEFAULT, OWN, *knowing), share))
            yield from (Case(scene, replace(holder, turns="told")) for holder in holders_at(knowing, share))


def knows_question(spec: str) -> bool:
    """Whether a policy ranks tokens by a question that it is told."""
    return isinstance(infinipot.policies.make(spec), infinipot.policies.KnowsQuestion)


def _turns(size: Extent, scenes: Sequence[Scene]) -> Iterator[Case]:
    kept = FULL // 4
    holder = Holder(DEFAULT, kept, usual_block(kept), dialogue=DIALOGUE)
    for scene in scenes:
        asked = replace(scene, moments=10, single=True)
        yield Case(asked, holder)
        yield Case(asked, replace(holder, turns="alone"))
        yield Case(asked, replace(holder, turns="remembered"))
