"""Rows and tables of what is beyond the usual clips: hours in which nothing comes, and nightfall."""

from collections.abc import Iterator
from itertools import product

from infinipot.bench.case import Holder
from infinipot.bench.counting import EVERYWHERE, Answers, Row, by_background
from infinipot.bench.plan import FULL
from infinipot.bench.tabular import PERCENT, Titled, blank, by, counts, crossed, duration, share
from infinipot.bench.watch import Answer, Record

PARTS = ("day", "night")


def after(records: list[Record]) -> Iterator[Row]:
    """Accuracy by seconds of nothing behind a clip, and what each memory takes: bytes, and seconds a patch and answer.

    Bytes are all that a stream allocates for its memory, columns and scratch included. Seconds are of streams that
    watched side by side, so they compare with each other only.
    """
    for background, there in by_background(records):
        spent = _spent(there)
        gaps = sorted({gap for record in there for gap in record.case.scene.gaps})
        for gap in gaps:
            answers = Answers(there, lambda record, answer: _gap(record, answer) == gap)  # noqa: B023
            for holder in answers.of:
                if row := answers.row(holder, background=background, gap=gap):
                    yield row | spent[holder]


def night(records: list[Record]) -> Iterator[Row]:
    """Accuracy about events of the first half, and of the second, by the brightness of the second."""
    for background, there in by_background(records):
        lights = sorted({record.case.scene.light for record in there}, reverse=True)
        for light, part in product(lights, PARTS):
            of_light = [record for record in there if record.case.scene.light == light]
            answers = Answers(of_light, lambda record, answer: _part(record, answer) == part)  # noqa: B023
            for holder in answers.of:
                share = FULL // holder.kept if holder.kept else 1
                if row := answers.row(holder, background=background, share=share, light=light, part=part):
                    yield row


def _gap(record: Record, answer: Answer) -> float:
    """Which of a scene's gaps an answer was given after: the one that ends nearest."""
    behind = answer.at - record.case.scene.seconds
    return min(record.case.scene.gaps, key=lambda gap: abs(gap - behind))


def _part(record: Record, answer: Answer) -> str | None:
    """Whether the earliest event that is asked about began by day or by night; None where it is about no event."""
    if answer.delay is None:
        return None
    return PARTS[answer.at - answer.delay >= record.case.scene.seconds / 2]


def _spent(records: list[Record]) -> dict[Holder, Row]:
    """Bytes, and mean seconds a patch and an answer, of each memory."""
    totals: dict[Holder, list[float]] = {}
    for record in (each for each in records if not each.error):
        seconds = record.stats["seconds"]
        watching = seconds["vision"] + seconds["prefill"] + seconds["compress"]
        found = (watching, record.stats["patches"], seconds["answer"], len(record.answers))
        before = totals.get(record.case.holder, [0.0] * len(found))
        totals[record.case.holder] = [one + other for one, other in zip(before, found, strict=True)]
    most = {record.case.holder: record.stats["bytes"] for record in records if not record.error}
    return {
        holder: {
            "bytes": most[holder],
            "patch_seconds": watching / max(1, patches),
            "answer_seconds": answering / max(1, answers),
        }
        for holder, (watching, patches, answering, answers) in totals.items()
    }


def after_tables(rows: list[Row]) -> Iterator[Titled]:
    """Who remembers what, after how long, at how many bytes."""
    for background, there in by(rows, "background"):
        title = f"After a clip, hours in which nothing comes; background {background}. {counts(there)}"
        table = blank()
        table.add_column("policy", no_wrap=True)
        gaps = list(dict.fromkeys(row["gap"] for row in there))
        headings = [f"{duration(gap)} later" if gap else "at once" for gap in gaps]
        for name in ("tokens", "KV KiB", *headings, "ms a patch", "ms an answer"):
            table.add_column(name, justify="right")
        for kept, of_size in by(there, "kept"):
            for policy, its in by(of_size, "policy"):
                found = {row["gap"]: share(row["right"]) for row in its}
                costs = [f"{1e3 * its[0][name]:.1f}" for name in ("patch_seconds", "answer_seconds")]
                size = f"{its[0]['bytes'] / 2**10:,.0f}"
                table.add_row(policy, str(kept), size, *(found.get(gap, "–") for gap in gaps), *costs)
        yield title, table


def night_tables(rows: list[Row]) -> Iterator[Titled]:
    """By the brightness of the second half, what is remembered of the first and of the second."""
    everywhere = [row for row in rows if row["background"] == EVERYWHERE] or rows
    for size, there in by(everywhere, "share"):
        kept = "full cache" if size == 1 else f"1/{size} of the tokens"
        title = f"Nightfall, {kept}: events of the day and of the night, by the brightness of the second half."
        named = [row | {"half": f"{row['part']}, {row['light']:g}"} for row in there]
        yield crossed(
            f"{title} {PERCENT}",
            named,
            "policy",
            "half",
            lambda row: str(row["half"]),
            lambda row: share(row["right"]),
            counted=True,
        )
