"""Numbers that others published, with where they stand, as `published.toml` has them; never measured here."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

PAPER = "arXiv 2506.15745v2"
MEMORY = {"FullKV": 58.55, "InfiniPot-V": 22.16}
"""GB at the most on an A100-80GB with 50K tokens of context, about 768 frames: table A4, which names no model."""


@dataclass(frozen=True, slots=True)
class Published:
    """A row of a published table.

    Attributes:
        where: the table.
        benchmark, variant: by our names.
        model: the checkpoint's name, without its owner.
        method: by its published name.
        budget: as published, such as "6K".
        frames: the most that were watched; None where that is not stated.
        unstated: what the table does not state of how the benchmark was run; "" where all that compares is there.
        values: per cent, by task; "overall" is the average.
    """

    where: str
    benchmark: str
    variant: str
    model: str
    method: str
    budget: str
    frames: int | None
    unstated: str
    values: dict[str, float]

    @property
    def name(self) -> str:
        return f"{self.method} {self.budget} (published)"

    @property
    def source(self) -> str:
        """The source of a number: where it stands, of which checkpoint, and what is not stated there."""
        unstated = f", {self.unstated} not stated" if self.unstated else ""
        return f"{self.where}, {self.model}{unstated}"

    def may_be_of(self, frames: int | None) -> bool:
        """Whether it may be of runs that watch at most so many frames, None for as many as come: it is, or does not
        state of how many it is."""
        return self.frames is None or self.frames == frames


def published(benchmark: str, variant: str, model: str) -> list[Published]:
    """The published numbers for a benchmark and a checkpoint, in the order of the paper.

    Args:
        model: its id or folder; its last part counts.
    """
    name = PurePosixPath(model).name
    return [row for row in _rows() if (row.benchmark, row.variant, row.model) == (benchmark, variant, name)]


def published_models(benchmark: str, variant: str) -> list[str]:
    """The checkpoints that there are numbers for."""
    return sorted({row.model for row in _rows() if (row.benchmark, row.variant) == (benchmark, variant)})


@cache
def _rows() -> tuple[Published, ...]:
    return tuple(_read())


def _read() -> Iterator[Published]:
    tables = tomllib.loads((Path(__file__).parent / "published.toml").read_text(encoding="utf-8"))["table"]
    for table in tables:
        where, model, frames = f"{PAPER}, {table['where']}", table["model"], table.get("frames")
        for method, budget, *values in table["rows"]:
            of_benchmark: dict[tuple[str, str], dict[str, float]] = {}
            for (benchmark, variant, task), value in zip(table["columns"], values, strict=True):
                of_benchmark.setdefault((benchmark, variant), {})[task] = value
            for (benchmark, variant), shares in of_benchmark.items():
                unstated = table.get("unstated", {}).get(benchmark, "")
                yield Published(where, benchmark, variant, model, method, budget, frames, unstated, shares)
