"""Figures as text, and rows laid out as tables to read."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich import box
from rich.table import Table

from infinipot.bench.counting import Row
from infinipot.bench.statistics import Estimate

Cell = Callable[[Row], str]
Titled = tuple[str, Table]
PERCENT = "Percent right (95% interval)."


def share(estimate: Estimate | None) -> str:
    """ "97 (95–99)", in percent; one clip alone has no interval."""
    if estimate is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:.0f}"
    return f"{100 * estimate.value:.0f} ({100 * estimate.low:.0f}–{100 * estimate.high:.0f})"


def difference(estimate: Estimate | None) -> str:
    """ "+2.1 (-0.3, +4.0)", in points."""
    if estimate is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:+.1f}"
    return f"{100 * estimate.value:+.1f} ({100 * estimate.low:+.1f}, {100 * estimate.high:+.1f})"


def duration(seconds: float) -> str:
    """ "64 s", "10 min", "1 h"."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size and not seconds % size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def crossed(
    title: str, rows: list[Row], down: str, across: str, heading: Cell, cell: Cell, counted: bool = False
) -> Titled:
    """A table with a row for each value of `down` and a column for each of `across`, both in the order they come.

    Where `counted`, what guessing gets and how many answers there are stand below.
    """
    columns = {row[across]: row for row in reversed(rows)}
    order = dict.fromkeys(row[across] for row in rows)
    table = blank()
    table.add_column(down, no_wrap=True)
    for value in order:
        table.add_column(heading(columns[value]), justify="right")
    for name, there in by(rows, down):
        cells = {row[across]: cell(row) for row in there}
        table.add_row(str(name), *(cells.get(value, "–") for value in order))
    if counted:
        table.add_row("guessing", *(f"{100 * columns[value]['chance']:.0f}" for value in order), style="dim")
        table.add_row("answers", *(f"{columns[value]['right'].answers:,}" for value in order), style="dim")
        table.add_row("clips", *(f"{columns[value]['right'].clips}" for value in order), style="dim")
    return title, table


def blank() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1))


def fraction(row: Row) -> str:
    return f"1/{row['share']} ({row['kept']})"


def by(rows: Iterable[Row], name: str) -> Iterator[tuple[Any, list[Row]]]:
    """The rows of each value of a column, in the order they come."""
    rows = list(rows)
    for value in dict.fromkeys(row[name] for row in rows):
        yield value, [row for row in rows if row[name] == value]


def counts(rows: Sequence[Row]) -> str:
    """What the figures rest on."""
    if not rows:
        return ""
    clips = sorted({row["right"].clips for row in rows})
    answers = sorted({row["right"].answers for row in rows})
    chance = sum(row["chance"] for row in rows) / len(rows)
    return f"{_span(clips)} clips, {_span(answers)} answers each, guessing {100 * chance:.0f}. {PERCENT}"


def _span(counts: list[int]) -> str:
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
