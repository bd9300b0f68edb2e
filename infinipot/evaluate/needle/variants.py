"""The settings that the benchmark's ablations compare, one option at a time."""

from dataclasses import dataclass

from infinipot.evaluate.needle.case import CELLS, Holder, usual_block

DEFAULT = "infinipot-v"
TWO_STAGE = "infinipot-v:combine=two-stage"
RESEARCH = "infinipot-v-ablations"  # what was tried beside the published forms; no policy to compare with


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
