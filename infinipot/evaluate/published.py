"""Numbers that others published, with where they stand: for comparison, never measured here.

All are of InfiniPot-V, arXiv 2506.15745v2, read in the paper's own text. They count in per cent. A budget is the memory
|M| as the paper writes it: tokens of video, 6K and 50K, beside which prompt and question stand. The paper has no
offline numbers for Qwen2.5-VL-7B, nor any for the sliding window alone. Its tables 5 and A5 disagree about uniform
selection on MLVU (61.5 and 57.0); both are here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

PAPER = "arXiv 2506.15745v2"


@dataclass(frozen=True, slots=True)
class Published:
    """A row of a published table.

    Attributes:
        where: the table.
        benchmark, variant: by our names.
        model: the checkpoint's name, without its owner.
        method: by its published name.
        budget: as published, such as "6K".
        frames: the most that were watched.
        values: per cent, by task; "overall" is the average.
    """

    where: str
    benchmark: str
    variant: str
    model: str
    method: str
    budget: str
    frames: int | None
    values: dict[str, float]

    @property
    def name(self) -> str:
        return f"{self.method} {self.budget} (published)"


_QWEN2, _QWEN2_5_3B, _QWEN2_5_7B = "Qwen2-VL-7B-Instruct", "Qwen2.5-VL-3B-Instruct", "Qwen2.5-VL-7B-Instruct"

_TABLE_1 = (  # EgoSchema, MLVU, Video-MME, LongVideoBench
    (_QWEN2, "FullKV", "50K", (65.2, 65.8, 63.9, 58.8)),
    (_QWEN2, "InfiniPot-V", "6K", (65.6, 65.8, 62.8, 58.4)),
    (_QWEN2_5_3B, "FullKV", "50K", (64.4, 63.3, 60.3, 59.9)),
    (_QWEN2_5_3B, "InfiniPot-V", "6K", (61.8, 62.1, 59.3, 56.5)),
)
_OFFLINE = (("egoschema", "subset"), ("mlvu", "dev"), ("video-mme", "no-subtitles"), ("longvideobench", "val"))

_MLVU = ("topic_reasoning", "anomaly_reco", "plotQA", "needle", "ego", "order", "count")
_TABLE_5 = (
    ("FullKV", "50K", (85.2, 67.5, 72.7, 83.9, 65.1, 54.1, 32.5, 65.9)),
    ("Uniform Select", "6K", (83.7, 66.5, 67.9, 76.1, 58.5, 51.0, 27.2, 61.5)),
    ("TaR", "6K", (85.9, 66.5, 71.8, 78.0, 62.2, 51.7, 35.4, 64.5)),
    ("VaN", "6K", (84.4, 68.0, 68.6, 76.6, 61.9, 52.5, 29.1, 63.0)),
    ("VaN + Pool", "6K", (85.2, 68.0, 71.4, 77.5, 63.1, 52.1, 31.5, 64.1)),
    ("TaR + VaN + Pool", "6K", (86.3, 68.0, 72.7, 80.3, 63.9, 54.1, 35.4, 65.8)),
)

_TABLE_4 = (  # OVO-Bench backward, real-time, forward; StreamingBench
    ("Uniform Select", (44.5, 61.1, 47.8, 51.7), 75.2),
    ("InfiniPot-V", (47.6, 65.9, 47.9, 53.6), 76.4),
)

MEMORY = {"full": 58.55, "infinipot-v": 22.16}
"""GB at the most on an A100-80GB with 50K tokens of context, about 768 frames: table A4, which names no model."""

_TABLE_A5 = (  # table A5, case 3, Qwen-2-VL-7B, 6K: Video-MME, MLVU, LongVideoBench
    ("video-mme", "no-subtitles", 58.11),
    ("mlvu", "dev", 57.00),
    ("longvideobench", "val", 55.82),
)


def published(benchmark: str, variant: str, model: str, frames: int | None = None) -> list[Published]:
    """What was published for a benchmark and a checkpoint, in the order of the paper.

    Args:
        model: its id or folder; its last part counts.
        frames: the most that were watched; None: whatever that was.
    """
    name = PurePosixPath(model).name
    return [
        row
        for row in _rows()
        if (row.benchmark, row.variant, row.model) == (benchmark, variant, name)
        and (frames is None or row.frames is None or row.frames == frames)
    ]


def published_models(benchmark: str, variant: str) -> list[str]:
    """The checkpoints that there are numbers for."""
    return sorted({row.model for row in _rows() if (row.benchmark, row.variant) == (benchmark, variant)})


def _rows() -> Iterator[Published]:
    for model, method, budget, values in _TABLE_1:
        for (benchmark, variant), value in zip(_OFFLINE, values, strict=True):
            yield Published(f"{PAPER}, table 1", benchmark, variant, model, method, budget, 768, {"overall": value})
    for method, budget, row in _TABLE_5:
        shares = dict(zip((*_MLVU, "overall"), row, strict=True))
        yield Published(f"{PAPER}, table 5", "mlvu", "dev", _QWEN2, method, budget, 768, shares)
    for method, ovo, streaming in _TABLE_4:
        shares = dict(zip(("backward", "real-time", "forward", "overall"), ovo, strict=True))
        yield Published(f"{PAPER}, table 4", "ovo-bench", "all", _QWEN2_5_7B, method, "4K", None, shares)
        yield Published(
            f"{PAPER}, table 4", "streaming-bench", "real-time", _QWEN2_5_7B, method, "4K", None, {"overall": streaming}
        )
    for benchmark, variant, value in _TABLE_A5:
        yield Published(
            f"{PAPER}, table A5", benchmark, variant, _QWEN2, "Uniform Select, case 3", "6K", 768, {"overall": value}
        )
