"""Tables of texts, for a terminal and as Markdown, and figures as they stand in them. Knows no figure's meaning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from infinipot.errors import ResultsError

if TYPE_CHECKING:
    from infinipot.evaluate.core.estimates import Difference, Estimate

_ENOUGH = 20  # videos from which on percentiles hold about as often as they say: `perf/interval_coverage.py`
_ONE_IN = 20  # intervals of 95%, of which chance alone has one leave the true value out
_WIDEST = 1000  # columns of a terminal that a table may ask for


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts, the first column being the names of its rows; `faint` rows stand below, and notes."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    faint: tuple[tuple[str, ...], ...] = ()


def percent(one: Estimate | None, digits: int = 1, ends: str = "[{}, {}]", *, signed: bool = False) -> str:
    """A share, or a difference, in percent with its interval: "62.1 [58.0, 66.1]"; a dash where there is none.

    Where no video differs from another there is no spread to tell: "+0.0 (all alike)", and `notes_on` says more.
    """
    if one is None:
        return "–"
    value, low, high = (
        None if each is None else f"{100 * each:{'+' if signed else ''}.{digits}f}"
        for each in (one.value, one.low, one.high)
    )
    if low is None:
        return f"{value}"
    return f"{value} {ends.format(low, high) if one.unseen is None else '(all alike)'}"


def notes_on(estimates: Iterable[Estimate | None], drawn: str) -> tuple[str, ...]:
    """What a reader has to know of some intervals, to stand below a table: of those that say "all alike" what that
    leaves open, and of those that rest on few videos how often they can be right.

    Args:
        drawn: what intervals come from the drawing of: "clip", "video".
    """
    known = [one for one in estimates if one is not None and one.low is not None]
    notes = []
    if alike := sorted((one.videos, one.unseen) for one in known if one.unseen is not None):
        worst = list(dict(alike).items())  # of those that rest on as many the largest share
        left = ", ".join(f"up to {share:.0%} where {videos} were seen" for videos, share in worst[:1] + worst[1:][-1:])
        notes.append(
            f"all alike: no {drawn} differs from another, so there is no spread to draw an interval from. "
            f"Of all {drawn}s there are, some may still differ: {left} (97.5% sure)."
        )
    few = min((one for one in known if one.unseen is None), key=lambda one: one.videos, default=None)
    if few and few.covered < 0.95:
        notes.append(
            f"An interval from {few.videos} {drawn}s holds the true value {few.covered:.0%} of the time at the most, "
            f"not 95%: it cannot reach beyond the {drawn}s that were seen."
        )
    elif few and few.videos < _ENOUGH:
        notes.append(
            f"An interval from {few.videos} {drawn}s is narrower than 95%: from 6 to {_ENOUGH - 1} {drawn}s it holds "
            "the true value 80% to 92% of the time."
        )
    return tuple(notes)


def note_on_chance(differences: Iterable[Difference | None]) -> tuple[str, ...]:
    """What a reader has to know of several differences side by side: how many of their intervals chance alone would
    have leave the true difference out. Nothing of fewer than two."""
    count = sum(one is not None and one.low is not None for one in differences)
    if count < 2:
        return ()
    if count < _ONE_IN:
        often = f"at least one of them up to {count / _ONE_IN:.0%} of the time"
        return (f"Of {count} intervals of 95% chance alone has {often} leave the true difference out.",)
    return (f"Of {count} intervals of 95% about {count / _ONE_IN:.0f} leave the true difference out by chance alone.",)


def duration(seconds: float) -> str:
    """ "64 s", "10 min", "1 h"."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size and not seconds % size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def print_tables(tables: Sequence[Table], file: TextIO | None = None) -> None:
    """Prints to stdout or to a file; outside a terminal no line is broken."""
    console = Console(file=file)
    whole = not console.file.isatty()
    for table in tables:
        shown = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1), header_style="bold")
        for number, column in enumerate(table.columns):
            shown.add_column(Text(column), justify="right" if number else "left", no_wrap=not number)
        for row in table.rows:
            shown.add_row(*map(Text, row), style="bold" if row[0] == "overall" else None)
        for row in table.faint:
            shown.add_row(*map(Text, row), style="dim")
        widen(console, shown, whole=whole)
        console.print(Text(table.title, "bold"), soft_wrap=whole)
        console.print(shown)
        for line in table.notes:
            console.print(Text(line, "dim"), soft_wrap=whole)
        if table.notes:
            console.print()


def widen(console: Console, table: RichTable, *, whole: bool = False) -> None:
    """Makes a console as wide as a table needs to be, so that no column vanishes where a terminal is narrower.

    Args:
        whole: whether no cell may be broken into lines either.
    """
    wide = console.options.update(max_width=_WIDEST)
    for column in table.columns:
        if column.no_wrap:  # rich counts its longest word alone, and would take what is missing from other columns
            cells = (column.header, *column.cells)
            column.min_width = max(console.measure(cell, options=wide).maximum for cell in cells)
    needed = console.measure(table, options=wide)
    console.width = max(console.width, needed.maximum if whole else needed.minimum)


def markdown(tables: Sequence[Table]) -> str:
    """As Markdown, a heading and a table each."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    texts = []
    for table in tables:
        rows = [line(row) for row in (*table.rows, *table.faint)]
        ruled = "|" + "---|" * len(table.columns)
        notes = (f"{note}\n" for note in table.notes)
        texts.append("\n".join([f"## {table.title}\n", line(table.columns), ruled, *rows, "", *notes]))
    return "\n".join(texts)


def file_name(text: str) -> str:
    """A text as a part of a file's name."""
    return "".join(letter if letter.isalnum() or letter in "-_.=@" else "-" for letter in text)


def write_text(path: Path, text: str) -> None:
    """Writes a file.

    Raises:
        ResultsError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise ResultsError(f"{path}: it cannot be written here: {error.strerror}") from error
