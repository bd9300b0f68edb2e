"""The pictures: accuracy against tokens, delay and length, and memory against time. Lines are named at their ends."""

from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, MaxNLocator

from infinipot.bench.counting import EVERYWHERE, Row
from infinipot.bench.plan import DELAY_SHARE, LONG_KEPT
from infinipot.bench.statistics import Estimate
from infinipot.bench.tabular import duration
from infinipot.bench.variants import DEFAULT
from infinipot.errors import InfinipotError

# The policies that a picture shows; tables have them all.
COLOURS = {
    "full": "0.25",
    DEFAULT: "tab:blue",
    "novelty": "tab:green",
    "deviation": "tab:purple",
    "van": "tab:orange",
    "uniform": "tab:brown",
    "random": "tab:pink",
    "sliding-window": "tab:red",
}
_APART = 5.5  # percent points between two names


def draw(rows: dict[str, list[Row]], folder: Path) -> list[Path]:
    """Draws what there are rows of; returns the files.

    Raises:
        InfinipotError: a file cannot be written.
    """
    makers: dict[str, tuple[str, Callable[[list[Row]], Figure | None]]] = {
        "accuracy-by-tokens.png": ("caps", _by_tokens),
        "accuracy-by-delay.png": ("delay", _by_delay),
        "accuracy-by-length.png": ("length", _by_length),
        "memory-by-time.png": ("cost", _by_time),
    }
    drawn = []
    for name, (section, make) in makers.items():
        if section in rows and (figure := make(rows[section])):
            try:
                figure.savefig(folder / name)
            except OSError as error:
                raise InfinipotError(f"{folder / name}: the picture cannot be written: {error}") from error
            drawn.append(folder / name)
    return drawn


def _by_tokens(rows: list[Row]) -> Figure:
    kinds = [kind for kind in dict.fromkeys(row["background"] for row in rows) if kind != EVERYWHERE]
    held = max((row["kept"] for row in rows if row["policy"] == "full"), default=None)
    whole = f" (the full cache holds {held:,})" if held else ""
    figure, panels = _figure(len(kinds), f"Accuracy by tokens kept, by background{whole}")
    for axes, kind in zip(panels, kinds, strict=True):
        there = [row for row in rows if row["background"] == kind]
        shares = sorted({row["share"] for row in there if row["policy"] != "full"}, reverse=True)
        kept = {row["share"]: row["kept"] for row in there}
        _lines(axes, there, shares, lambda row: row["share"], [f"{kept[share]}" for share in shares])
        axes.set(title=kind, xlabel="video tokens kept")
    _name_ends(panels)
    return figure


def _by_delay(rows: list[Row]) -> Figure:
    kinds = [kind for kind in dict.fromkeys(row["background"] for row in rows) if kind != EVERYWHERE]
    kept = min(row["kept"] for row in rows)
    title = f"Accuracy by time since the event, by background ({kept} tokens kept, 1/{DELAY_SHARE} of the full cache)"
    figure, panels = _figure(len(kinds), title)
    for axes, kind in zip(panels, kinds, strict=True):
        there = [row for row in rows if row["background"] == kind]
        bounds = {row["from"]: f"{row['to']}" for row in there}
        _lines(axes, there, list(bounds), lambda row: row["from"], list(bounds.values()))
        axes.set(title=kind, xlabel="seconds since, up to")
    _name_ends(panels)
    return figure


def _by_length(rows: list[Row]) -> Figure:
    figure, panels = _figure(1, f"Accuracy by length of the stream ({LONG_KEPT} tokens kept, still background)")
    lengths = sorted({row["seconds"] for row in rows})
    _lines(panels[0], rows, lengths, lambda row: row["seconds"], [duration(length) for length in lengths])
    panels[0].set(xlabel="length of the stream")
    _name_ends(panels)
    return figure


def _by_time(rows: list[Row]) -> Figure | None:
    """Tokens held over video time, of a full cache and of the default policy, and what they take in the process."""
    by_name = {row["name"]: row for row in rows}
    pair = next(
        (
            (by_name[full], by_name[ours])
            for full, ours in (("hour full", f"hour {DEFAULT}"), ("full", DEFAULT))
            if full in by_name and ours in by_name
        ),
        None,
    )
    if pair is None:
        return None
    figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
    figure.suptitle("Memory over video time")
    left, right = figure.subplots(1, 2)
    for row, name in zip(pair, ("full", DEFAULT), strict=True):
        minutes = [sample[0] / 60 for sample in row["history"]]
        held = [sample[1] for sample in row["history"]]
        begun = row["history"][0][3]
        grown = [(sample[3] - begun) / 2**20 for sample in row["history"]]
        for axes, values, end in ((left, held, f"{held[-1]:,}"), (right, grown, f"{grown[-1]:.1f} MiB")):
            axes.plot(minutes, values, color=COLOURS[name], linewidth=2)
            _beside(axes, minutes[-1], values[-1], f"{name}\n{end}", COLOURS[name])
    left.set(ylabel="tokens held, per layer and KV head")
    right.set(ylabel="process memory since the start, MiB")
    for axes in (left, right):
        axes.set(xlabel="video time (minutes)", xlim=(0, None))
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter("{x:,.0f}")
        _plain(axes)
    return figure


def _figure(panels: int, title: str) -> tuple[Figure, list[Axes]]:
    layout = ConstrainedLayoutEngine(wspace=0.06)
    figure = Figure(figsize=(9, 4) if panels > 1 else (9, 4.5), dpi=150, layout=layout)
    figure.suptitle(title)
    axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    axes[0].set(ylim=(0, 101), ylabel="right answers, %")
    return figure, list(axes)


def _lines(axes: Axes, rows: Sequence[Row], places: list[Any], place: Callable[[Row], Any], labels: list[str]) -> None:
    """A line a policy through its shares at `places`, with the interval as a band; what guessing gets as dots."""
    for policy, colour in COLOURS.items():
        points = {place(row): row["right"] for row in rows if row["policy"] == policy}
        if policy == "full" and points and points.keys().isdisjoint(places):  # one memory, whatever the others keep
            points = dict.fromkeys(places, next(iter(points.values())))
        line = [(number, points[at]) for number, at in enumerate(places) if at in points]
        if not line:
            continue
        across, shares = zip(*line, strict=True)
        ours = policy == DEFAULT
        axes.plot(
            across,
            [100 * share.value for share in shares],
            "--" if policy == "full" else "-",
            color=colour,
            label=policy,
            linewidth=2.5 if ours else 1.5,
        )
        if ours:
            low, high = zip(*(_ends(share) for share in shares), strict=True)
            axes.fill_between(across, low, high, color=colour, alpha=0.15, linewidth=0)
    chance = [[row["chance"] for row in rows if place(row) == at] for at in places]
    axes.plot([100 * sum(these) / len(these) for these in chance], ":", color="0.5", label="guessing")
    axes.set_xlim(0, max(1, len(places) - 1))
    axes.xaxis.set_major_locator(FixedLocator(range(len(places))))
    axes.set_xticklabels(labels)
    _plain(axes)


def _ends(share: Estimate) -> tuple[float, float]:
    """The interval in percent, of no width where there is none."""
    low, high = (share.value if end is None else end for end in (share.low, share.high))
    return 100 * low, 100 * high


def _name_ends(panels: Sequence[Axes]) -> None:
    """Writes each line's name behind its end in the last panel; at the right edge far enough apart to be read."""
    axes, edge = panels[-1], panels[-1].get_xlim()[1]
    at_edge = []
    for line in axes.lines:
        x, y = (float(np.asarray(values)[-1]) for values in (line.get_xdata(), line.get_ydata()))
        if x < edge:
            _beside(axes, x, y + _APART, str(line.get_label()), str(line.get_color()))
        else:
            at_edge.append((y, line))
    at_edge.sort(key=itemgetter(0))
    for height, (_, line) in zip(_spread([y for y, _ in at_edge]), at_edge, strict=True):
        _beside(axes, edge, height, str(line.get_label()), str(line.get_color()))


def _spread(heights: Sequence[float]) -> list[float]:
    """Rising heights, moved as little as it takes to be `_APART` and below 100."""
    spread: list[float] = []
    for height in heights:
        spread.append(max(height, spread[-1] + _APART) if spread else max(height, 1.0))
    for at in range(len(spread) - 1, -1, -1):
        spread[at] = min(spread[at], 100 if at == len(spread) - 1 else spread[at + 1] - _APART)
    return spread


def _beside(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    axes.annotate(text, (x, y), (6, 0), textcoords="offset points", va="center", color=colour, annotation_clip=False)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92")
