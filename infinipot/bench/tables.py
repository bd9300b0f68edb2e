"""Rows as tables to read: shares in percent, with their 95% intervals behind."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich import box
from rich.table import Table

from infinipot.bench.cost import FRAMES
from infinipot.bench.plan import DEFAULT, DELAY_SHARE, LONG_FPS, LONG_KEPT
from infinipot.bench.results import Row
from infinipot.bench.statistics import Estimate
from infinipot.embedded.world import KINDS

Cell = Callable[[Row], str]
Titled = tuple[str, Table]
_PERCENT = "Percent right (95% interval)."


def tables(rows: dict[str, list[Row]]) -> Iterator[Titled]:
    """The tables of all sections that there are rows of, each with what stands above it."""
    makers: dict[str, Callable[[list[Row]], Iterator[Titled]]] = {
        "caps": lambda made: _caps(made, "Accuracy by tokens kept"),
        "delay": _delay,
        "kinds": _kinds,
        "length": _length,
        "long delays": _long_delays,
        "long kinds": _long_kinds,
        "process memory": _process_memory,
        "hard": lambda made: _caps(made, "The hardest setting"),
        "ablations": _ablations,
        "turns": _turns,
        "cost": _cost,
    }
    for section, made in rows.items():
        yield from makers[section](made)


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


def _caps(rows: list[Row], title: str) -> Iterator[Titled]:
    for background, there in _by(rows, "background"):
        full = next((row for row in there if row["policy"] == "full"), None)
        bounded = [row for row in there if row["policy"] != "full"]
        heading = f"{title}, background {background}. {_counts(there)}"
        if full:
            heading += f" Full cache, {full['kept']} tokens: {share(full['right'])}."
        yield _crossed(heading, bounded, "policy", "share", _fraction, lambda row: share(row["right"]))
        yield _crossed(
            f"Against {DEFAULT} at the same tokens, in points, background {background}",
            [row for row in bounded if row["policy"] != DEFAULT],
            "policy",
            "share",
            _fraction,
            lambda row: difference(row["against_default"]),
        )
    default = [row for row in rows if row["policy"] == DEFAULT and row["against_full"]]
    yield _crossed(
        f"{DEFAULT} against the full cache, in points",
        default,
        "background",
        "share",
        _fraction,
        lambda row: difference(row["against_full"]),
    )


def _delay(rows: list[Row]) -> Iterator[Titled]:
    for background, there in _by(rows, "background"):
        title = f"Accuracy by seconds since the event, 1/{DELAY_SHARE} of the tokens, background {background}."
        yield _crossed(
            f"{title} {_PERCENT}",
            there,
            "policy",
            "from",
            lambda row: f"{row['from']} to {row['to']} s",
            lambda row: share(row["right"]),
            counted=True,
        )


def _long_delays(rows: list[Row]) -> Iterator[Titled]:
    yield _crossed(
        f"Accuracy by time since the event, long streams, {LONG_KEPT} tokens kept. {_PERCENT}",
        rows,
        "policy",
        "from",
        lambda row: f"{duration(row['from'])} to {duration(row['to'])}",
        lambda row: share(row["right"]),
        counted=True,
    )


def _long_kinds(rows: list[Row]) -> Iterator[Titled]:
    yield _crossed(
        f"Accuracy of {DEFAULT} by length and question, {LONG_KEPT} tokens kept. {_PERCENT}",
        sorted(rows, key=lambda row: KINDS.index(row["kind"])),
        "kind",
        "seconds",
        lambda row: duration(row["seconds"]),
        lambda row: share(row["right"]),
    )


def _kinds(rows: list[Row]) -> Iterator[Titled]:
    for background, there in _by(rows, "background"):
        ordered = sorted(there, key=lambda row: KINDS.index(row["kind"]))
        yield _crossed(
            f"Accuracy by question, 1/{DELAY_SHARE} of the tokens, background {background}. Percent right.",
            ordered,
            "policy",
            "kind",
            lambda row: str(row["kind"]),
            lambda row: f"{100 * row['right'].value:.0f}",
            counted=True,
        )


def _length(rows: list[Row]) -> Iterator[Titled]:
    title = f"Accuracy by length, still background, {LONG_FPS:g} frames/s, {LONG_KEPT} tokens kept. {_PERCENT}"
    if any(row["policy"] == "full" for row in rows):
        title += " After some minutes the full cache is beyond the lengths and positions of training."
    heading, right = lambda row: duration(row["seconds"]), lambda row: share(row["right"])
    yield _crossed(title, rows, "policy", "seconds", heading, right, counted=True)


def _process_memory(rows: list[Row]) -> Iterator[Titled]:
    title = "Memory of the process in which they watched side by side: the last tenth's peak against the second tenth's"
    table = _table()
    for name in ("length", "policy", "clips", "tokens held at the most", "cap", "full cache", "re-basings", "growth"):
        table.add_column(name, justify="left" if name in ("length", "policy") else "right")
    for row in rows:
        counts = (f"{row[name]:,}" for name in ("clips", "tokens", "cap", "full_tokens", "rebases"))
        table.add_row(duration(row["seconds"]), row["policy"], *counts, f"{row['growth']:.4f}")
    yield title, table


def _ablations(rows: list[Row]) -> Iterator[Titled]:
    def label(row: Row) -> str:
        return f"{row['option']}: {row['value']}"

    for share_kept, there in _by(rows, "share"):
        where = "long streams" if share_kept is None else f"1/{share_kept} of the tokens"
        title, table = f"Options, {where}. {_counts(there)}", _table()
        table.add_column("option")
        for name in ("tokens kept", "right", "against the default"):
            table.add_column(name, justify="right")
        for row in there:
            kept = f"{row['kept']} of {row['room']}" if "room" in row else str(row["kept"])
            table.add_row(label(row), kept, share(row["right"]), difference(row["against_default"]))
        yield title, table


def _turns(rows: list[Row]) -> Iterator[Titled]:
    title, table = f"Ten questions at ten moments of a stream. {_counts(rows)}", _table()
    table.add_column("turns")
    for name in ("right", "against each alone", "same answer as alone"):
        table.add_column(name, justify="right")
    for row in rows:
        same = f"{100 * row['same_as_alone']:.0f}%"
        table.add_row(row["turns"], share(row["right"]), difference(row["against_alone"]), same)
    yield title, table


def _cost(rows: list[Row]) -> Iterator[Titled]:
    timed = [row for row in rows if row["large_bytes"] is None or row["name"] == "full"]
    fastest = min((row["patch_seconds"] for row in timed), default=1.0)
    title, table = f"Cost, a process each, {FRAMES} frames (an hour where it says so)", _table()
    table.add_column("policy")
    for name in (
        "tokens",
        "KV KiB",
        "process MiB",
        "of it stream",
        "ms a patch",
        "ratio",
        "first token ms",
        "compression",
    ):
        table.add_column(name, justify="right")
    for row in timed:
        table.add_row(
            row["name"],
            f"{row['tokens']:,}",
            f"{row['bytes'] / 2**10:,.0f}",
            f"{row['peak'] / 2**20:.0f}",
            f"{row['process'] / 2**20:.1f}",
            f"{1e3 * row['patch_seconds']:.1f}",
            f"{row['patch_seconds'] / fastest:.2f}",
            f"{1e3 * row['first_token_seconds']:.1f}",
            f"{row['compress']:.0%}",
        )
    yield title, table
    title, table = f"Memory of {FRAMES} frames", _table()
    table.add_column("cap")
    for name in ("Qwen2.5-VL-7B, bfloat16, computed", "of full", "embedded model, float32, measured", "of full"):
        table.add_column(name, justify="right")
    paired = [row for row in rows if row["large_bytes"]]
    full = next((row for row in paired if row["name"] == "full"), None)
    for row in paired:
        if full:
            table.add_row(
                row["name"],
                f"{row['large_bytes'] / 2**30:.2f} GiB",
                f"{row['large_bytes'] / full['large_bytes']:.0%}",
                f"{row['bytes'] / 2**20:.2f} MiB for {row['cap']:,} tokens",
                f"{row['bytes'] / full['bytes']:.0%}",
            )
    yield title, table


def _crossed(
    title: str, rows: list[Row], down: str, across: str, heading: Cell, cell: Cell, counted: bool = False
) -> Titled:
    """A table with a row for each value of `down` and a column for each of `across`, both in the order they come.

    Where `counted`, what guessing gets and how many answers there are stand below.
    """
    columns = {row[across]: row for row in reversed(rows)}
    order = dict.fromkeys(row[across] for row in rows)
    table = _table()
    table.add_column(down, no_wrap=True)
    for value in order:
        table.add_column(heading(columns[value]), justify="right")
    for name, there in _by(rows, down):
        cells = {row[across]: cell(row) for row in there}
        table.add_row(str(name), *(cells.get(value, "–") for value in order))
    if counted:
        table.add_row("guessing", *(f"{100 * columns[value]['chance']:.0f}" for value in order), style="dim")
        table.add_row("answers", *(f"{columns[value]['right'].answers:,}" for value in order), style="dim")
        table.add_row("clips", *(f"{columns[value]['right'].clips}" for value in order), style="dim")
    return title, table


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1))


def _fraction(row: Row) -> str:
    return f"1/{row['share']} ({row['kept']})"


def _by(rows: Iterable[Row], name: str) -> Iterator[tuple[Any, list[Row]]]:
    """The rows of each value of a column, in the order they come."""
    rows = list(rows)
    for value in dict.fromkeys(row[name] for row in rows):
        yield value, [row for row in rows if row[name] == value]


def _counts(rows: Sequence[Row]) -> str:
    """What the figures rest on."""
    if not rows:
        return ""
    clips = sorted({row["right"].clips for row in rows})
    answers = sorted({row["right"].answers for row in rows})
    chance = sum(row["chance"] for row in rows) / len(rows)
    return f"{_span(clips)} clips, {_span(answers)} answers each, guessing {100 * chance:.0f}. {_PERCENT}"


def _span(counts: list[int]) -> str:
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
