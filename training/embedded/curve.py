"""Draws the learning curve of a training run from its log, and prints it as a table in Markdown.

LOG=docs/results/outputs/embedded-training.jsonl
python -m training.embedded.curve $LOG --picture docs/pictures/embedded-training.png
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from infinipot.embedded.words import KINDS

COLUMNS = ("cells", *KINDS, "list")
ROWS = 16
Line = dict[str, float]


def read(log: Path) -> list[Line]:
    """The lines of a log, oldest first; of a step that was run twice, after a resumption, the later one."""
    lines = (json.loads(line) for line in log.read_text().splitlines())
    lines = ({"minutes": line.get("seconds", 0) / 60} | line for line in lines)
    return [line for _, line in sorted({line["step"]: line for line in lines}.items())]


def table(lines: Sequence[Line]) -> str:
    """Means of the lines between one row and the next, as shares of right answers."""
    rows = [("step", "minutes", *COLUMNS), ("---:",) * (2 + len(COLUMNS)), *_rows(lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def draw(lines: Sequence[Line], path: Path, smooth: int = 9) -> None:
    """Share of right answers by step, each kind a line, averaged over `smooth` lines of the log."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in COLUMNS:
        known = [(line["step"], line[name]) for line in lines if name in line]
        if len(known) < smooth:
            continue
        steps, right = np.array(known).T
        mean = np.convolve(right, np.full(smooth, 1 / smooth), mode="valid")
        colour = f"C{KINDS.index(name)}" if name in KINDS else "black"
        style = "-" if name in KINDS else "--" if name == "cells" else ":"
        axes.plot(steps[smooth // 2 :][: len(mean)], 100 * mean, label=name, color=colour, linestyle=style)
    axes.set(xlabel="step", ylabel="right, %", ylim=(0, 101), title="Clips before they were trained on")
    axes.grid(alpha=0.3)
    axes.legend(ncols=2, fontsize="small")
    figure.savefig(path, dpi=120)


def _rows(lines: Sequence[Line]) -> Iterator[tuple[str, ...]]:
    for part in np.array_split(np.arange(len(lines)), min(ROWS, len(lines))):
        last = lines[part[-1]]
        yield (
            f"{last['step']:.0f}",
            f"{last['minutes']:.0f}",
            *(_mean(lines[i].get(name) for i in part) for name in COLUMNS),
        )


def _mean(shares: Iterator[float | None]) -> str:
    known = [share for share in shares if share is not None]
    return f"{np.mean(known):.0%}" if known else ""


def main() -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Draw the learning curve of a training run.")
    parser.add_argument("log", type=Path)
    parser.add_argument("--picture", type=Path, required=True)
    args = parser.parse_args()
    lines = read(args.log)
    print(table(lines))
    draw(lines, args.picture)


if __name__ == "__main__":
    main()
