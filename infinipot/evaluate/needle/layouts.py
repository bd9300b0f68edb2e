"""Rows of the needle benchmark as tables to read: how each section is laid out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from infinipot.embedded.words import KINDS
from infinipot.evaluate.core.tables import Table, duration, note_on_chance
from infinipot.evaluate.needle.cells import (
    PERCENT,
    Cell,
    by,
    counts,
    crossed,
    fraction,
    kib,
    listed,
    notes,
    points,
    right,
    scaled,
    written,
)
from infinipot.evaluate.needle.cost import FRAMES
from infinipot.evaluate.needle.plan import DEFAULT, DOZENS_EVENTS, DOZENS_SECONDS, LONG_FPS, LONG_KEPT
from infinipot.evaluate.needle.rows import EVERYWHERE, Row

Layout = Callable[[list[Row]], Iterator[Table]]


def tables(rows: dict[str, list[Row]]) -> Iterator[Table]:
    """The tables of all sections that there are rows of."""
    for section, made in rows.items():
        yield from _LAYOUTS[section](made)


def _everywhere(rows: Sequence[Row]) -> list[Row]:
    """The rows of all backgrounds together, where there are several."""
    return [row for row in rows if row["background"] == EVERYWHERE] or list(rows)


def _caps(rows: Sequence[Row], title: str) -> Iterator[Table]:
    for background, there in by(rows, "background"):
        full = next((row for row in there if row["policy"] == "full"), None)
        bounded = [row for row in there if row["policy"] != "full"]
        heading = f"{title}, background {background}. {counts(there)}"
        if full:
            heading += f" Full cache, {full['kept']} tokens: {right(full)}."
        yield replace(crossed(heading, bounded, "share", fraction, right), notes=notes(there, right))
        others = [row for row in bounded if row["policy"] != DEFAULT]
        if any(row["against_default"] for row in others):
            heading = f"Against {DEFAULT} at the same tokens, in points, background {background}"
            yield _differences(heading, others, "against_default", "policy")
    if default := [row for row in rows if row["policy"] == DEFAULT and row["against_full"]]:
        yield _differences(f"{DEFAULT} against the full cache, in points", default, "against_full", "background")


def _differences(title: str, rows: Sequence[Row], name: str, down: str) -> Table:
    """A table of differences, with a note on how many would stand out by chance alone."""
    table = crossed(title, rows, "share", fraction, points(name), down)
    return replace(table, notes=(*table.notes, *note_on_chance(row[name] for row in rows)))


def _bytes(rows: Sequence[Row]) -> Iterator[Table]:
    """The bytes that each memory allocates: keys and values at its cap, and what its policy stores beside them."""
    there = [row for row in _everywhere(rows) if row["bytes"]]
    full = next((row for row in there if row["policy"] == "full"), None)
    if bounded := [row for row in there if row["policy"] != "full"]:
        least = {share: min(row["bytes"] for row in of_share) for share, of_share in by(bounded, "share")}
        heading = "Memory in KiB, and over the least at the same tokens, in percent."
        heading += f" Full cache: {kib(full)}." if full else ""

        def cell(row: Row) -> str:
            return f"{kib(row)} (+{100 * (row['bytes'] / least[row['share']] - 1):.1f})"

        yield crossed(heading, bounded, "share", fraction, cell)


def _crossed(title: str, unit: str, across: str, heading: Cell, cell: Cell = right, **how: Any) -> Layout:
    """A table as in `crossed` of each background that there are rows of; of all rows, where they know of none.

    Args:
        title, unit: what the figures are of, and in what they are told.
    """

    def made(rows: list[Row]) -> Iterator[Table]:
        for background, there in by(rows, "background"):
            where = f", background {background}" if background else ""
            its = sorted(there, key=lambda row: KINDS.index(row["kind"])) if "kind" in there[0] else there
            yield crossed(f"{title}{where}. {unit}", its, across, heading, cell, **how)

    return made


def _at_each_size(title: str, *columns: Any, **how: Any) -> Layout:
    """The tables of `_crossed` for each share of the tokens, the full cache in each of them."""

    def made(rows: list[Row]) -> Iterator[Table]:
        for share in sorted({row["share"] for row in rows} - {1}) or [1]:
            there = [row for row in rows if row["share"] in (1, share)]
            kept = f", 1/{share} of the tokens" if share > 1 else ""
            yield from _crossed(f"{title}{kept}", *columns, **how)(there)

    return made


def _length(rows: list[Row]) -> Iterator[Table]:
    title = f"Accuracy by length, still background, {LONG_FPS:g} frames/s, {LONG_KEPT} tokens kept"
    unit = PERCENT
    if any(row["policy"] == "full" for row in rows):
        unit += " After some minutes the full cache is beyond the lengths and positions of training."
    yield from _crossed(title, unit, "seconds", _seconds, counted=True)(rows)


def _seconds(row: Row) -> str:
    return duration(row["seconds"])


def _process_memory(rows: Sequence[Row]) -> Iterator[Table]:
    title = "Memory of the process in which they watched side by side: the last tenth's peak against the second tenth's"
    cells: dict[str, Cell] = {
        "length": _seconds,
        "policy": written("{policy}"),
        "clips": written("{clips:,}"),
        "tokens held at the most": written("{tokens:,}"),
        "cap": written("{cap:,}"),
        "full cache": written("{full_tokens:,}"),
        "re-basings": written("{rebases:,}"),
        "growth": written("{growth:.4f}"),
    }
    yield listed(title, rows, cells)


def _after(rows: Sequence[Row]) -> Iterator[Table]:
    """Who remembers what, after how long, at how many bytes."""
    for background, there in by(rows, "background"):
        gaps = list(dict.fromkeys(row["gap"] for row in there))
        title = f"After a clip, hours in which nothing comes; background {background}. {counts(there)}"
        headings = (f"{duration(gap)} later" if gap else "at once" for gap in gaps)
        columns = ("policy", "tokens", "KV KiB", *headings, "ms a patch", "ms an answer")
        lines = []
        for kept, of_size in by(there, "kept"):
            for policy, its in by(of_size, "policy"):
                found = {row["gap"]: right(row) for row in its}
                costs = (f"{1e3 * its[0][name]:.1f}" for name in ("patch_seconds", "answer_seconds"))
                lines.append((policy, str(kept), kib(its[0]), *(found.get(gap, "–") for gap in gaps), *costs))
        yield Table(title, columns, tuple(lines), notes(there, right))


def _night(rows: Sequence[Row]) -> Iterator[Table]:
    """By the brightness of the second half, what is remembered of the first and of the second."""
    ordered = sorted(_everywhere(rows), key=lambda row: (-row["light"], row["part"]))
    for size, there in by(sorted(ordered, key=lambda row: row["share"]), "share"):
        kept = "full cache" if size == 1 else f"1/{size} of the tokens"
        title = (
            f"Nightfall, {kept}: events of the day and of the night, by the brightness of the second half. {PERCENT}"
        )
        halves = [row | {"half": f"{row['part']}, {row['light']:g}"} for row in there]
        yield crossed(title, halves, "half", written("{half}"), right, counted=True)


def _ablations(rows: Sequence[Row]) -> Iterator[Table]:
    for share, there in by(rows, "share"):
        where = "long streams" if share is None else f"1/{share} of the tokens"
        cells: dict[str, Cell] = {
            "option": written("{option}: {value}"),
            "tokens kept": written("{kept}" if share is None else "{kept} of {room}"),
            "right": right,
            "against the default": points("against_default"),
        }
        yield listed(f"Options, {where}. {counts(there)}", there, cells)


def _turns(rows: Sequence[Row]) -> Iterator[Table]:
    cells: dict[str, Cell] = {
        "turns": written("{turns}"),
        "right": right,
        "against each alone": points("against_alone"),
        "same answer as alone": written("{same_as_alone:.0%}"),
    }
    yield listed(f"Ten questions at ten moments of a stream. {counts(rows)}", rows, cells)


def _cost(rows: Sequence[Row]) -> Iterator[Table]:
    timed = [row for row in rows if row["large_bytes"] is None or row["name"] == "full"]
    fastest = min((row["patch_seconds"] for row in timed), default=1.0)
    cells: dict[str, Cell] = {
        "policy": written("{name}"),
        "tokens": written("{tokens:,}"),
        "KV KiB": kib,
        "process MiB": scaled("peak", "{:.0f}", 2**20),
        "of it stream": scaled("process", "{:.1f}", 2**20),
        "ms a patch": scaled("patch_seconds", "{:.1f}", 1e-3),
        "ratio": scaled("patch_seconds", "{:.2f}", fastest),
        "first token ms": scaled("first_token_seconds", "{:.1f}", 1e-3),
        "compression": written("{compress:.0%}"),
    }
    yield listed(f"Cost, a process each, {FRAMES} frames (an hour where it says so)", timed, cells)
    paired = [row for row in rows if row["large_bytes"]]
    if full := next((row for row in paired if row["name"] == "full"), None):
        cells = {
            "cap": written("{name}"),
            "Qwen2.5-VL-7B, bfloat16, computed": scaled("large_bytes", "{:.2f} GiB", 2**30),
            "of full": scaled("large_bytes", "{:.0%}", full["large_bytes"]),
            "embedded model, float32, measured": lambda row: (
                f"{row['bytes'] / 2**20:.2f} MiB for {row['cap']:,} tokens"
            ),
            "of its full": scaled("bytes", "{:.0%}", full["bytes"]),
        }
        yield listed(f"Memory of {FRAMES} frames", paired, cells)


_LAYOUTS: dict[str, Layout] = {
    "caps": lambda rows: chain(_caps(rows, "Accuracy by tokens kept"), _bytes(rows)),
    "delay": _at_each_size(
        "Accuracy by seconds since the event",
        PERCENT,
        "delay",
        lambda row: "{} to {} s".format(*row["delay"]),
        counted=True,
    ),
    "kinds": _at_each_size(
        "Accuracy by question",
        "Percent right.",
        "kind",
        written("{kind}"),
        lambda row: f"{100 * row['right'].value:.0f}",
        counted=True,
    ),
    "length": _length,
    "long delays": _crossed(
        f"Accuracy by time since the event, long streams, {LONG_KEPT} tokens kept",
        PERCENT,
        "delay",
        lambda row: " to ".join(map(duration, row["delay"])),
        counted=True,
    ),
    "long kinds": _crossed(
        f"Accuracy of {DEFAULT} by length and question, {LONG_KEPT} tokens kept",
        PERCENT,
        "seconds",
        _seconds,
        down="kind",
    ),
    "process memory": _process_memory,
    "after": _after,
    "dozens": lambda rows: _caps(_everywhere(rows), f"{DOZENS_EVENTS} events in {duration(DOZENS_SECONDS)}"),
    "overlapping": lambda rows: _caps(_everywhere(rows), "Several events at once"),
    "lookalikes": lambda rows: _caps(_everywhere(rows), "Events that look alike"),
    "night": _night,
    "hard": lambda rows: _caps(rows, "The hardest setting"),
    "told": lambda rows: _caps(_everywhere(rows), "The question known in advance"),
    "ablations": _ablations,
    "turns": _turns,
    "cost": _cost,
}
