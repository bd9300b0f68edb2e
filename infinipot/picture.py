"""Draws what a memory holds: how many tokens over time, of which age they are, and of which cells of the frame.

Knows numbers only: no models, streams or videos. Drawing needs matplotlib, which comes with the extra `plots`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from infinipot import extras
from infinipot.errors import InfinipotError
from infinipot.memory.contents import Contents, HeldPatch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FULL, _HELD, _CAP = "0.35", "tab:blue", "tab:red"  # colours
_SHOWN = 6  # patches whose cells are shown
_POINTS = 4000  # of a history


@dataclass(slots=True)
class History:
    """The filling of a memory: time in seconds, tokens held, and those that a full cache would hold.

    Bounded: when it is long, every second point goes, and only every second one that comes is taken.
    """

    points: list[tuple[float, int, int]] = field(default_factory=list)
    _every: int = 1
    _came: int = 0

    def add(self, time: float, held: int, full: int) -> None:
        """Adds a point, or skips it."""
        self._came += 1
        if self._came % self._every:
            return
        self.points.append((time, held, full))
        if len(self.points) >= 2 * _POINTS:
            self.points = self.points[::2]
            self._every *= 2

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Minutes, tokens held and tokens of a full cache."""
        time, held, full = np.array(self.points, dtype=float).reshape(-1, 3).T
        return time / 60, held, full


def draw_history(history: History, cap: int, path: Path, title: str, asked: Sequence[float] = ()) -> None:
    """Draws the tokens that a memory holds over video time, against its cap and a full cache.

    Args:
        history: of the memory.
        cap: of the memory.
        path: the picture; its suffix names the format (png, svg, pdf).
        title: what it is of, such as the policy.
        asked: seconds at which questions were asked.

    Raises:
        InfinipotError: the file cannot be written, or matplotlib is not installed.
    """
    minutes, held, full = history.arrays()
    figure = _figure(9, 6)
    length = f"{minutes[-1]:.1f}".removesuffix(".0")
    figure.suptitle(f"{title}: {length} minutes of video in {cap} tokens of memory")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))

    above.plot(minutes, full, color=_FULL, linewidth=2)
    above.plot(minutes, held, color=_HELD, linewidth=2)
    _label(above, minutes[-1], full[-1], f"full cache\n{full[-1]:,.0f}", _FULL)
    _label(above, minutes[-1], held[-1], f"held\n{held[-1]:,.0f}", _HELD)

    _held_against_cap(below, minutes, held, cap)
    below.plot(np.array(asked) / 60, [0] * len(asked), "^", color=_FULL, clip_on=False, label="questions asked")
    below.legend(loc="best", frameon=False)
    room = "room for the next block, a question and its answer"
    below.text(minutes[-1] / 2, (cap + held[-1]) / 2, room, ha="center", va="center", color=_FULL)
    below.set(xlabel="video time (minutes)", ylabel="tokens, enlarged")
    above.set(ylim=(0, None), ylabel="tokens per layer and KV head")
    for axes in (above, below):
        _plainly(axes)
    _save(figure, path)


def draw_contents(
    contents: Contents,
    history: History,
    cap: int,
    path: Path,
    title: str,
    frames: Mapping[float, np.ndarray] | None = None,
) -> None:
    """Draws what a memory holds: how it filled, of which time its tokens are, and which cells of which patches stay.

    Args:
        contents, history, cap: of the memory.
        path: the picture; its suffix names the format (png, svg, pdf).
        title: what it is of.
        frames: small pictures `[height, width, 3]` by their time in seconds, for the patches that have one.

    Raises:
        InfinipotError: the file cannot be written, nothing is held yet, or matplotlib is not installed.
    """
    if not contents.patches or not history.points:
        raise InfinipotError(
            f"{path}: there is nothing to draw yet: the frames given so far wait for their block "
            "to fill; with block=1 none waits"
        )
    shown = contents.fullest(_SHOWN)
    figure = _figure(10, 8)
    figure.suptitle(title)
    grid = figure.add_gridspec(3, _SHOWN + 1, height_ratios=(2, 2, 2))
    filling, ages = figure.add_subplot(grid[0, :]), figure.add_subplot(grid[1, :])

    minutes, held, full = history.arrays()
    _held_against_cap(filling, minutes, held, cap)
    inside = full <= 1.15 * cap
    filling.plot(minutes[inside], full[inside], color=_FULL, linewidth=1)
    filling.set(ylabel="tokens held")
    _label(filling, minutes[inside][-1], full[inside][-1], f"a full cache, {full[-1]:,.0f} at the end", _FULL)

    _draw_ages(ages, contents, minutes[-1], shown)
    for number, patch in enumerate(shown):
        _draw_cells(figure.add_subplot(grid[2, number]), patch, (frames or {}).get(patch.time))
    _draw_frame(figure.add_subplot(grid[2, _SHOWN]), contents)
    for axes in (filling, ages):
        _plainly(axes)
    _save(figure, path)


def clock(seconds: float) -> str:
    """Video time to the second, such as 1:15 or 1:00:00."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _figure(width: float, height: float) -> Figure:
    """Returns an empty figure of this size in inches."""
    extras.require("plots", "a picture")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def _draw_ages(axes: Axes, contents: Contents, end: float, shown: Sequence[HeldPatch]) -> None:
    """Draws how many tokens are held of each time."""
    times = np.array([patch.time for patch in contents.patches]) / 60
    tokens = np.array([patch.tokens for patch in contents.patches])
    axes.vlines(times, 0, tokens, color=_HELD, linewidth=max(0.6, min(3.0, 400 / max(len(times), 1))))
    axes.plot([patch.time / 60 for patch in shown], [0] * len(shown), "^", color=_CAP, clip_on=False, markersize=5)
    axes.set(xlabel="video time (minutes)", ylabel="tokens held of it", ylim=(0, None), xlim=(0, max(end, 1e-3)))


def _draw_cells(axes: Axes, patch: HeldPatch, frame: np.ndarray | None) -> None:
    """Draws which cells of a patch stay: its picture, dark where nothing is held."""
    rows, columns = patch.cells.shape
    extent = (0.0, float(columns), float(rows), 0.0)
    if frame is not None:
        axes.imshow(frame, extent=extent)
        axes.imshow(np.zeros_like(patch.cells), alpha=0.75 * (1 - patch.cells), cmap="gray", extent=extent)
    else:
        axes.imshow(patch.cells, vmin=0, vmax=1, cmap="Blues", extent=extent)
    axes.set(xticks=[], yticks=[], aspect=1)
    axes.set_title(f"{clock(patch.time)}\n{patch.tokens:.1f} of {patch.cells.size}", fontsize=8)


def _draw_frame(axes: Axes, contents: Contents) -> None:
    held = contents.over_frame()
    axes.imshow(held, vmin=0, cmap="Blues", extent=(0.0, float(held.shape[1]), float(held.shape[0]), 0.0))
    axes.set(xticks=[], yticks=[], aspect=1)
    axes.set_title(f"all times\n{held.sum():,.0f} tokens", fontsize=8)


def _held_against_cap(axes: Axes, minutes: np.ndarray, held: np.ndarray, cap: int) -> None:
    axes.plot(minutes, held, color=_HELD, linewidth=1)
    axes.axhline(cap, color=_CAP, linestyle="--")
    _label(axes, minutes[-1], cap, f"cap\n{cap:,}", _CAP)
    _label(axes, minutes[-1], held[-1], f"held\n{held[-1]:,.0f}", _HELD)
    axes.set(ylim=(0, 1.15 * cap), xlim=(0, max(minutes[-1] + float(np.diff(minutes[-2:]).sum()), 1e-3)))


def _plainly(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))  # of what is counted
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", color="0.9")


def _label(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    """Writes beside the end of a line."""
    axes.annotate(text, (x, y), (8, 0), textcoords="offset points", va="center", color=colour, annotation_clip=False)


def _save(figure: Figure, path: Path) -> None:
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise InfinipotError(f"{path}: the picture cannot be written: {error}") from error
