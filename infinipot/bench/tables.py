"""Rows as tables to read: shares in percent, with their 95% intervals behind."""

from collections.abc import Callable, Iterator
from itertools import chain

from infinipot.bench import beyond
from infinipot.bench.cost import FRAMES
from infinipot.bench.counting import EVERYWHERE, Row
from infinipot.bench.plan import DELAY_SHARE, DOZENS_EVENTS, DOZENS_SECONDS, LONG_FPS, LONG_KEPT
from infinipot.bench.tabular import PERCENT, Titled, blank, by, counts, crossed, difference, duration, fraction, share
from infinipot.bench.variants import DEFAULT
from infinipot.embedded.words import KINDS


def tables(rows: dict[str, list[Row]]) -> Iterator[Titled]:
    """The tables of all sections that there are rows of, each with what stands above it."""
    makers: dict[str, Callable[[list[Row]], Iterator[Titled]]] = {
        "caps": lambda made: chain(_caps(made, "Accuracy by tokens kept"), _bytes(made)),
        "delay": _delay,
        "kinds": _kinds,
        "length": _length,
        "long delays": _long_delays,
        "long kinds": _long_kinds,
        "process memory": _process_memory,
        "after": beyond.after_tables,
        "dozens": lambda made: _caps(_everywhere(made), f"{DOZENS_EVENTS} events in {duration(DOZENS_SECONDS)}"),
        "overlapping": lambda made: _caps(_everywhere(made), "Several events at once"),
        "lookalikes": lambda made: _caps(_everywhere(made), "Events that look alike"),
        "night": beyond.night_tables,
        "hard": lambda made: _caps(made, "The hardest setting"),
        "ablations": _ablations,
        "turns": _turns,
        "cost": _cost,
    }
    for section, made in rows.items():
        yield from makers[section](made)


def _caps(rows: list[Row], title: str) -> Iterator[Titled]:
    for background, there in by(rows, "background"):
        full = next((row for row in there if row["policy"] == "full"), None)
        bounded = [row for row in there if row["policy"] != "full"]
        heading = f"{title}, background {background}. {counts(there)}"
        if full:
            heading += f" Full cache, {full['kept']} tokens: {share(full['right'])}."
        yield crossed(heading, bounded, "policy", "share", fraction, lambda row: share(row["right"]))
        yield crossed(
            f"Against {DEFAULT} at the same tokens, in points, background {background}",
            [row for row in bounded if row["policy"] != DEFAULT],
            "policy",
            "share",
            fraction,
            lambda row: difference(row["against_default"]),
        )
    default = [row for row in rows if row["policy"] == DEFAULT and row["against_full"]]
    yield crossed(
        f"{DEFAULT} against the full cache, in points",
        default,
        "background",
        "share",
        fraction,
        lambda row: difference(row["against_full"]),
    )


def _bytes(rows: list[Row]) -> Iterator[Titled]:
    """What each memory allocates: keys and values at its cap, and whatever its policy stores beside them."""
    there = [row for row in _everywhere(rows) if row["bytes"]]
    full = next((row for row in there if row["policy"] == "full"), None)
    if bounded := [row for row in there if row["policy"] != "full"]:
        least = {share: min(row["bytes"] for row in of_share) for share, of_share in by(bounded, "share")}
        yield crossed(
            "Memory in KiB, and over the least at the same tokens, in percent."
            + (f" Full cache: {full['bytes'] / 2**10:,.0f}." if full else ""),
            bounded,
            "policy",
            "share",
            fraction,
            lambda row: f"{row['bytes'] / 2**10:,.0f} (+{100 * (row['bytes'] / least[row['share']] - 1):.1f})",
        )


def _everywhere(rows: list[Row]) -> list[Row]:
    """The rows of all backgrounds together, where there are several."""
    return [row for row in rows if row["background"] == EVERYWHERE] or rows


def _delay(rows: list[Row]) -> Iterator[Titled]:
    for background, there in by(rows, "background"):
        title = f"Accuracy by seconds since the event, 1/{DELAY_SHARE} of the tokens, background {background}."
        yield crossed(
            f"{title} {PERCENT}",
            there,
            "policy",
            "from",
            lambda row: f"{row['from']} to {row['to']} s",
            lambda row: share(row["right"]),
            counted=True,
        )


def _long_delays(rows: list[Row]) -> Iterator[Titled]:
    yield crossed(
        f"Accuracy by time since the event, long streams, {LONG_KEPT} tokens kept. {PERCENT}",
        rows,
        "policy",
        "from",
        lambda row: f"{duration(row['from'])} to {duration(row['to'])}",
        lambda row: share(row["right"]),
        counted=True,
    )


def _long_kinds(rows: list[Row]) -> Iterator[Titled]:
    yield crossed(
        f"Accuracy of {DEFAULT} by length and question, {LONG_KEPT} tokens kept. {PERCENT}",
        sorted(rows, key=lambda row: KINDS.index(row["kind"])),
        "kind",
        "seconds",
        lambda row: duration(row["seconds"]),
        lambda row: share(row["right"]),
    )


def _kinds(rows: list[Row]) -> Iterator[Titled]:
    for background, there in by(rows, "background"):
        ordered = sorted(there, key=lambda row: KINDS.index(row["kind"]))
        yield crossed(
            f"Accuracy by question, 1/{DELAY_SHARE} of the tokens, background {background}. Percent right.",
            ordered,
            "policy",
            "kind",
            lambda row: str(row["kind"]),
            lambda row: f"{100 * row['right'].value:.0f}",
            counted=True,
        )


def _length(rows: list[Row]) -> Iterator[Titled]:
    title = f"Accuracy by length, still background, {LONG_FPS:g} frames/s, {LONG_KEPT} tokens kept. {PERCENT}"
    if any(row["policy"] == "full" for row in rows):
        title += " After some minutes the full cache is beyond the lengths and positions of training."
    heading, right = lambda row: duration(row["seconds"]), lambda row: share(row["right"])
    yield crossed(title, rows, "policy", "seconds", heading, right, counted=True)


def _process_memory(rows: list[Row]) -> Iterator[Titled]:
    title = "Memory of the process in which they watched side by side: the last tenth's peak against the second tenth's"
    table = blank()
    for name in ("length", "policy", "clips", "tokens held at the most", "cap", "full cache", "re-basings", "growth"):
        table.add_column(name, justify="left" if name in ("length", "policy") else "right")
    for row in rows:
        counts = (f"{row[name]:,}" for name in ("clips", "tokens", "cap", "full_tokens", "rebases"))
        table.add_row(duration(row["seconds"]), row["policy"], *counts, f"{row['growth']:.4f}")
    yield title, table


def _ablations(rows: list[Row]) -> Iterator[Titled]:
    def label(row: Row) -> str:
        return f"{row['option']}: {row['value']}"

    for share_kept, there in by(rows, "share"):
        where = "long streams" if share_kept is None else f"1/{share_kept} of the tokens"
        title, table = f"Options, {where}. {counts(there)}", blank()
        table.add_column("option")
        for name in ("tokens kept", "right", "against the default"):
            table.add_column(name, justify="right")
        for row in there:
            kept = f"{row['kept']} of {row['room']}" if "room" in row else str(row["kept"])
            table.add_row(label(row), kept, share(row["right"]), difference(row["against_default"]))
        yield title, table


def _turns(rows: list[Row]) -> Iterator[Titled]:
    title, table = f"Ten questions at ten moments of a stream. {counts(rows)}", blank()
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
    title, table = f"Cost, a process each, {FRAMES} frames (an hour where it says so)", blank()
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
    title, table = f"Memory of {FRAMES} frames", blank()
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
