"""The pictures: accuracy against tokens, delay and length, and memory against time."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from infinipot.errors import InfinipotError
from infinipot.evaluate.core.estimates import Estimate
from infinipot.evaluate.core.tables import duration
from infinipot.evaluate.needle.cells import by
from infinipot.evaluate.needle.plan import DEFAULT, LONG_KEPT
from infinipot.evaluate.needle.rows import EVERYWHERE, Row

# The policies that a picture shows where too many are compared for one; tables have them all.
COLOURS = {
    "full": "0.25",
    DEFAULT: "tab:blue",
    "unusual": "tab:cyan",
    "keydiff": "tab:olive",
    "novelty": "tab:green",
    "deviation": "tab:purple",
    "van": "tab:orange",
    "uniform": "tab:brown",
    "random": "tab:pink",
    "sliding-window": "tab:red",
}
MOST_LINES = 9  # that a picture can be read with
DELAY_SHARE = 16  # is drawn by delay, if it is there: with more tokens the lines lie on each other


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
    held = max((row["kept"] for row in rows if row["policy"] == "full"), default=None)
    whole = f" (the full cache holds {held:,})" if held else ""
    title = f"Accuracy by tokens kept, by background{whole}"
    return _accuracy(title, _backgrounds(rows), "kept", str, "video tokens kept")


def _by_delay(rows: list[Row]) -> Figure:
    shares = {row["share"] for row in rows} - {1}
    share = DELAY_SHARE if DELAY_SHARE in shares else min(shares, default=1)
    drawn = [row for row in rows if row["share"] in (1, share)]
    kept = min(row["kept"] for row in drawn)
    title = f"Accuracy by time since the event, by background ({kept} tokens kept, 1/{share} of the full cache)"
    return _accuracy(title, _backgrounds(drawn), "delay", lambda delay: str(delay[1]), "seconds since, up to")


def _by_length(rows: list[Row]) -> Figure:
    title = f"Accuracy by length of the stream ({LONG_KEPT} tokens kept, still background)"
    return _accuracy(title, {"": rows}, "seconds", duration, "length of the stream")


def _backgrounds(rows: list[Row]) -> dict[str, list[Row]]:
    return {kind: its for kind, its in by(rows, "background") if kind != EVERYWHERE}


def _accuracy(title: str, panels: dict[str, list[Row]], across: str, label: Callable[[Any], str], below: str) -> Figure:
    """A panel for each group of rows: a line a policy through its shares by `across`; in grey two ways to guess."""
    figure = Figure(figsize=(9, 4.5), dpi=150, layout="constrained")
    figure.suptitle(title)
    lines: dict[Any, Any] = {}
    colours = _colours({row["policy"] for its in panels.values() for row in its})
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (name, rows) in zip(every, panels.items(), strict=True):
        at = sorted({row[across] for row in rows if row["policy"] != "full"})
        for policy, colour in colours.items():
            points = {row[across]: row["right"] for row in rows if row["policy"] == policy}
            if policy == "full" and points and points.keys().isdisjoint(at):  # one memory, whatever the others keep
                points = dict.fromkeys(at, next(iter(points.values())))
            if line := [(number, points[place]) for number, place in enumerate(at) if place in points]:
                _line(axes, policy, colour, line)
        for way, guess, style in (("chance", "guessing", ":"), ("blind", "always the commonest answer", "-.")):
            shares = [[row[way] for row in rows if row[across] == place] for place in at]
            axes.plot([100 * sum(these) / len(these) for these in shares], style, color="0.5", label=guess)
        axes.set(title=name, xlabel=below, ylim=(0, 101), xticks=range(len(at)), xticklabels=map(label, at))
        _plain(axes)
        lines |= {one.get_label(): one for one in axes.lines}
    every[0].set(ylabel="right answers, %")
    figure.legend(lines.values(), lines.keys(), loc="outside right center", frameon=False)
    return figure


def _colours(policies: set[str]) -> dict[str, str]:
    """The policies that are drawn, and how: those that are always drawn, and all others if they are few."""
    usual = {policy: colour for policy, colour in COLOURS.items() if policy in policies}
    others = sorted(policies - usual.keys())
    if len(usual) + len(others) > MOST_LINES:
        return usual
    free = [colour for colour in COLOURS.values() if colour not in usual.values()]
    return usual | dict(zip(others, free, strict=False))


def _line(axes: Axes, policy: str, colour: str, line: Sequence[tuple[int, Estimate]]) -> None:
    across, shares = zip(*line, strict=True)
    ours, style = policy == DEFAULT, "--" if policy == "full" else "-"
    values = [100 * share.value for share in shares]
    axes.plot(across, values, style, color=colour, label=policy, linewidth=2.5 if ours else 1.5)
    if ours:
        low, high = zip(*((100 * end for end in _ends(share)) for share in shares), strict=True)
        axes.fill_between(across, low, high, color=colour, alpha=0.15, linewidth=0)


def _ends(share: Estimate) -> tuple[float, float]:
    """The ends of its interval, or twice the value where it has none, or all clips are alike."""
    if share.low is None or share.high is None or share.unseen is not None:
        return share.value, share.value
    return share.low, share.high


def _by_time(rows: list[Row]) -> Figure | None:
    """Tokens held over video time, of a full cache and of the default policy, and what they take in the process."""
    by_name = {row["name"]: row for row in rows}
    pairs = (("hour full", f"hour {DEFAULT}"), ("full", DEFAULT))
    pair = next(((by_name[full], by_name[ours]) for full, ours in pairs if {full, ours} <= by_name.keys()), None)
    if pair is None:
        return None
    figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
    figure.suptitle("Memory over video time")
    left, right = figure.subplots(1, 2)
    for row, policy in zip(pair, ("full", DEFAULT), strict=True):
        minutes = [sample[0] / 60 for sample in row["history"]]
        begun = row["history"][0][3]
        for axes, values in (
            (left, [sample[1] for sample in row["history"]]),
            (right, [(sample[3] - begun) / 2**20 for sample in row["history"]]),
        ):
            axes.plot(minutes, values, color=COLOURS[policy], label=f"{policy}, {values[-1]:,.0f} at the end")
    left.set(ylabel="tokens held, per layer and KV head")
    right.set(ylabel="process memory since the start, MiB")
    for axes in (left, right):
        axes.set(xlabel="video time (minutes)", xlim=(0, None))
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.legend(frameon=False)
        _plain(axes)
    return figure


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92")
