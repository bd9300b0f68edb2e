"""The settings that the benchmark's ablations compare, one option at a time."""

from dataclasses import dataclass

from infinipot.bench.case import CELLS, Holder, usual_block

DEFAULT = "infinipot-v"
TWO_STAGE = "infinipot-v:combine=two-stage"
UNION = "infinipot-v:combine=union"


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
    Variant("TaR and VaN", "product (default)"),
    Variant("TaR and VaN", "product, scored again", f"{DEFAULT}:scored=again"),
    Variant("TaR and VaN", "two-stage, r1=0.125", TWO_STAGE),
    Variant("TaR and VaN", "union, α=0.5", UNION),
    Variant("TaR and VaN", "TaR alone", "tar"),
    Variant("TaR and VaN", "VaN alone", "van"),
    *(Variant("α (union)", f"{alpha}", f"{UNION},alpha={alpha}") for alpha in (0.25, 0.75, 0.9)),
    *(Variant("power", f"{power}", f"{DEFAULT}:power={power}") for power in (0, 1, 2, 8)),
    *(Variant("newest patch, share of |C|", f"{share}", f"{DEFAULT}:newest={share}") for share in (0.0, 0.125, 0.5)),
    *(Variant("r1 (two-stage)", f"{r1}", f"{TWO_STAGE},r1={r1}") for r1 in (0.05, 0.25, 0.5)),
    Variant("reference", "recent", f"{DEFAULT}:reference=recent"),
    Variant("reference", "recent, two-stage", f"{TWO_STAGE},reference=recent"),
    Variant("reference", "recent, union", f"{UNION},reference=recent"),
    *(Variant("recent patches (union)", f"{share}", f"{UNION},recent={share}") for share in (0.0, 0.125, 0.5)),
    Variant("keys", "rotated", f"{DEFAULT}:keys=rotated"),
    Variant("keys", "rotated, TaR alone", "tar:keys=rotated"),
    Variant("coordinates", "guessed", f"{DEFAULT}:coordinates=guessed"),
    Variant("pooling", "layerwise", f"{DEFAULT}:pooling=layerwise"),
    Variant("pooling", "layerwise, VaN alone", "van:pooling=layerwise"),
    *(Variant("|C| of the room", f"{keep}", keep=keep) for keep in (0.25, 0.5, 0.9)),
    *(Variant("block behind |C|", f"{block} patches", block=block) for block in (1, 2, 4, 8)),
)
