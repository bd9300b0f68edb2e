"""A report as files: Markdown, JSON and a picture. Knows how things look, nothing of how they were found.

The picture needs matplotlib, which comes with the extra `plots`; without it there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from infinipot import extras
from infinipot.evaluate.core.tables import markdown, write_text
from infinipot.evaluate.report import Section, as_json, tables
from infinipot.text import to_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OWN, _PUBLISHED = "tab:blue", "0.6"


def write(sections: Sequence[Section], folder: Path) -> list[Path]:
    """Writes `report.md`, `report.json` and, where matplotlib is installed, `report.png`; returns where.

    Raises:
        ResultsError: the folder cannot be written.
    """
    paths = [folder / f"report.{ending}" for ending in ("md", "json")]
    write_text(paths[0], markdown([table for section in sections for table in tables(section)]))
    write_text(paths[1], to_json([as_json(section) for section in sections], indent=2) + "\n")
    if not extras.missing("plots"):
        paths.append(folder / "report.png")
        draw(sections).savefig(paths[-1])
    return paths


def draw(sections: Sequence[Section]) -> Figure:
    """The overall averages with their intervals, a panel for each benchmark; published ones in grey."""
    from matplotlib.figure import Figure

    heights = [0.8 + 0.35 * (len(section.runs) + len(section.published)) for section in sections]
    figure = Figure(figsize=(9, 1 + sum(heights)), dpi=150, layout="constrained")
    panels = figure.subplots(len(sections), 1, squeeze=False, height_ratios=heights)
    for axes, section in zip(panels[:, 0], sections, strict=True):
        _panel(axes, section)
    return figure


def _panel(axes: Axes, section: Section) -> None:
    names: list[str] = []
    for compared in section.runs:
        if (one := compared.estimates.get("overall")) is not None:
            axes.barh(len(names), 100 * one.value, color=_OWN)
            if one.low is not None and one.high is not None:
                style = "-" if one.unseen is None else ":"
                axes.plot([100 * one.low, 100 * one.high], [len(names)] * 2, style, color="black", linewidth=1)
            # A bar of 0 cannot be seen, and the end of its interval would be taken for it.
            axes.plot(100 * one.value, len(names), "o", color=_OWN, markeredgecolor="black", clip_on=False, zorder=3)
            _number(axes, 100 * one.value, len(names))
        names.append(compared.run.name)
    for row in section.published:
        axes.barh(len(names), row.values["overall"], color=_PUBLISHED)
        _number(axes, row.values["overall"], len(names))
        names.append(row.name)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    lines = "black lines are 95% intervals by drawing videos, dotted ones what is open where all videos are alike"
    axes.set(xlim=(0, 100), xlabel=f"%; {lines}", title=section.title)
    axes.spines[["top", "right"]].set_visible(False)


def _number(axes: Axes, value: float, bar: int) -> None:
    """Writes a bar's number at the right margin, where it cannot be taken for the end of an interval."""
    axes.annotate(
        f"{value:.1f}", (100, bar), xytext=(8, 0), textcoords="offset points", va="center", annotation_clip=False
    )
