"""How rows become tables: what a cell says, rows crossed or listed, and what a reader has to know of them.

Knows no section.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from infinipot.evaluate.core.tables import Table, notes_on, percent
from infinipot.evaluate.needle.rows import Row
from infinipot.evaluate.records import counted as in_words

Cell = Callable[[Row], str]
PERCENT = "Percent right (95% interval)."


@dataclass(frozen=True, slots=True)
class Estimated:
    """A cell of an estimate of a row, by its name: "97 (95–99)"; one clip alone has no interval."""

    name: str
    digits: int = 0
    ends: str = "({}–{})"
    signed: bool = False

    def __call__(self, row: Row) -> str:
        return percent(row[self.name], self.digits, self.ends, signed=self.signed)


right = Estimated("right")


def by(rows: Sequence[Row], name: str) -> Iterator[tuple[Any, list[Row]]]:
    """The rows of each value of a column, in the order they come."""
    for value in dict.fromkeys(row.get(name) for row in rows):
        yield value, [row for row in rows if row.get(name) == value]


def crossed(
    title: str, rows: Sequence[Row], across: str, heading: Cell, cell: Cell, down: str = "policy", counted: bool = False
) -> Table:
    """A table with a row for each value of `down` and a column for each of `across`, both in the order they come.

    Where `counted`, what two ways to guess get (see `counts`) and how many answers there are stand below.
    """
    columns = {value: its[0] for value, its in by(rows, across)}
    lines = []
    for name, there in by(rows, down):
        cells = {row[across]: cell(row) for row in there}
        lines.append((str(name), *(cells.get(value, "–") for value in columns)))
    faint = (
        ("guessing", *(f"{100 * row['chance']:.0f}" for row in columns.values())),
        ("commonest answer", *(f"{100 * row['blind']:.0f}" for row in columns.values())),
        ("answers", *(f"{row['right'].questions:,}" for row in columns.values())),
        ("clips", *(f"{row['right'].videos}" for row in columns.values())),
    )
    headings = (down, *(heading(row) for row in columns.values()))
    return Table(title, headings, tuple(lines), notes(rows, cell), faint if counted else ())


def listed(title: str, rows: Sequence[Row], cells: dict[str, Cell]) -> Table:
    """A table with a line a row and a column for each of `cells`."""
    lines = tuple(tuple(cell(row) for cell in cells.values()) for row in rows)
    return Table(title, tuple(cells), lines, notes(rows, *cells.values()))


def notes(rows: Sequence[Row], *cells: Cell) -> tuple[str, ...]:
    """The notes on the intervals that these cells show of the rows."""
    return notes_on((row[cell.name] for cell in cells if isinstance(cell, Estimated) for row in rows), "clip")


def points(name: str) -> Estimated:
    """ "+2.1 (-0.3, +4.0)", in points."""
    return Estimated(name, 1, "({}, {})", signed=True)


def written(form: str) -> Cell:
    """A format filled in with a row's values, by name."""
    return lambda row: form.format(**row)


def scaled(name: str, form: str, scale: float) -> Cell:
    """A value of a row in another unit, such as KiB of bytes."""
    return lambda row: form.format(row[name] / scale)


fraction = written("1/{share} ({kept})")
kib = scaled("bytes", "{:,.0f}", 2**10)


def counts(rows: Sequence[Row]) -> str:
    """What the figures rest on: clips, answers, and what is right without the video, by saying any choice, or always
    the commonest answer to this kind of question where that is better."""
    if not rows:
        return ""
    clips, answers = (
        _span({getattr(row["right"], name) for row in rows}, noun)
        for name, noun in (("videos", "clip"), ("questions", "answer"))
    )
    chance, blind = (100 * sum(row[name] for row in rows) / len(rows) for name in ("chance", "blind"))
    return f"{clips}, {answers} each, guessing {chance:.0f}, always the commonest answer {blind:.0f}. {PERCENT}"


def _span(counts: set[int], noun: str) -> str:
    most = in_words(max(counts), noun)
    return most if len(counts) == 1 else f"{min(counts)} to {most}"
