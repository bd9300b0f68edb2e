"""Answers put together into the rows of each section: plain values and estimates, for tables, pictures and JSON."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from infinipot.bench import beyond
from infinipot.bench.case import Case, Holder
from infinipot.bench.cost import large_bytes
from infinipot.bench.counting import FULL_CACHE, Answers, Row, by_background
from infinipot.bench.journal import Journal
from infinipot.bench.plan import DELAY_SHARE, FULL, Size, holders_at
from infinipot.bench.statistics import Estimate
from infinipot.bench.variants import DEFAULT
from infinipot.bench.watch import Record
from infinipot.embedded.words import KINDS

DELAYS = (0, 8, 16, 32, 64)  # seconds, bounds
LONG_DELAYS = (0, 60, 600, 3600, 36_000)


def put_together(plan: dict[str, list[Case]], size: Size, journal: Journal) -> dict[str, list[Row]]:
    """The rows of each section of the plan, from what is finished of it."""
    makers: dict[str, Callable[[list[Record], Size], Iterator[Row]]] = {
        "caps": _caps,
        "delay": _delay,
        "kinds": _kinds,
        "length": _length,
        "after": lambda records, _: beyond.after(records),
        "dozens": _caps,
        "overlapping": _caps,
        "lookalikes": _caps,
        "night": lambda records, _: beyond.night(records),
        "hard": _caps,
        "ablations": _ablations,
        "turns": _turns,
    }
    rows: dict[str, list[Row]] = {}
    for section, cases in plan.items():
        found = [record for case in dict.fromkeys(cases) if (record := journal.records.get(case))]
        rows[section] = list(makers[section](found, size)) if section in makers else list(_cost(journal))
        if section == "length":
            rows["long delays"] = list(_long_delays(found))
            rows["long kinds"] = list(_long_kinds(found, size))
            rows["process memory"] = list(_process_memory(found))
    return {section: made for section, made in rows.items() if made}


def as_json(rows: dict[str, list[Row]]) -> dict[str, list[dict[str, Any]]]:
    """The rows with estimates as objects."""

    def plain(value: Any) -> Any:
        return asdict(value) if isinstance(value, Estimate) else value

    return {
        section: [{name: plain(value) for name, value in row.items()} for row in made] for section, made in rows.items()
    }


def refused(plan: dict[str, list[Case]], journal: Journal) -> dict[str, str]:
    """What could not be run, and why."""
    cases = {case for of_section in plan.values() for case in of_section}
    found = (record for case in cases if (record := journal.records.get(case)))
    return {
        f"{record.case.holder.policy}, |C| = {record.case.holder.kept}": record.error
        for record in found
        if record.error
    }


def _caps(records: list[Record], size: Size) -> Iterator[Row]:
    for background, there in by_background(records):
        answers = Answers(there)
        for holder in answers.of:
            share = FULL // holder.kept if holder.kept else 1
            if row := answers.row(holder, background=background, share=share):
                yield row


def _delay(records: list[Record], size: Size) -> Iterator[Row]:
    for background, there in by_background(records):
        yield from _in_delays(there, DELAYS, _told(size), background=background)


def _long_delays(records: list[Record]) -> Iterator[Row]:
    holders = dict.fromkeys(record.case.holder for record in records if record.case.holder.kept)
    yield from _in_delays(records, LONG_DELAYS, list(holders))


def _long_kinds(records: list[Record], size: Size) -> Iterator[Row]:
    """Of the default policy alone."""
    for seconds in dict(size.lengths):
        of_length = [record for record in records if record.case.scene.seconds == seconds]
        for kind in KINDS:
            answers = Answers(of_length, lambda _, answer: answer.kind == kind)  # noqa: B023
            for holder in (each for each in answers.of if each.policy == DEFAULT):
                if row := answers.row(holder, seconds=seconds, kind=kind):
                    yield row


def _in_delays(records: list[Record], bounds: Sequence[int], holders: list[Holder], **named: Any) -> Iterator[Row]:
    for low, high in pairwise(bounds):
        answers = Answers(records, lambda _, answer: answer.delay is not None and low <= answer.delay < high)  # noqa: B023
        for holder in holders:
            if row := answers.row(holder, **named, **{"from": low, "to": high}):
                yield row


def _kinds(records: list[Record], size: Size) -> Iterator[Row]:
    for background, there in by_background(records):
        for kind in KINDS:
            answers = Answers(there, lambda _, answer: answer.kind == kind)  # noqa: B023
            for holder in _told(size):
                if row := answers.row(holder, background=background, kind=kind):
                    yield row


def _length(records: list[Record], size: Size) -> Iterator[Row]:
    for seconds in dict(size.lengths):
        answers = Answers(record for record in records if record.case.scene.seconds == seconds)
        for holder in answers.of:
            if row := answers.row(holder, seconds=seconds):
                yield row


def _process_memory(records: list[Record]) -> Iterator[Row]:
    """The last tenth's peak against the second tenth's, of long streams that only memories with a cap watched.

    A row a policy and length: the largest of all clips.
    """
    crowded = {record.case.scene for record in records if not record.case.holder.kept}
    rows: dict[tuple[float, str], Row] = {}
    for record in records:
        scene, history, policy = record.case.scene, record.history, record.case.holder.policy
        if scene in crowded or len(history) < 20:
            continue
        tenth = len(history) // 10
        second, last = (max(sample[3] for sample in part) for part in (history[tenth : 2 * tenth], history[-tenth:]))
        row = {
            "clips": 1,
            "tokens": record.stats["peak_tokens"],
            "cap": record.cap,
            "full_tokens": history[-1][2],
            "rebases": record.stats["rebases"],
            "growth": last / second,
        }
        before = rows.get((scene.seconds, policy), {"clips": 0} | dict.fromkeys(list(row)[1:], 0))
        most = {name: max(row[name], before[name]) for name in row}
        rows[scene.seconds, policy] = (
            {"seconds": scene.seconds, "policy": policy} | most | {"clips": before["clips"] + 1}
        )
    yield from rows.values()


def _ablations(records: list[Record], size: Size) -> Iterator[Row]:
    usual = Answers(record for record in records if not record.case.scene.samples)
    for share in size.ablated:
        default = size.variants[0].holder(FULL // share)
        for variant in size.variants:
            holder = variant.holder(FULL // share)
            if row := usual.row(holder, share=share, option=variant.option, value=variant.value):
                yield row | {"room": holder.room, "against_default": usual.against(holder, default)}
    long = Answers(record for record in records if record.case.scene.samples)
    for holder in long.of:
        if row := long.row(holder, share=None, option=f"positions, {size.native / 60:g} min", value=holder.positions):
            yield row


def _turns(records: list[Record], size: Size) -> Iterator[Row]:
    answers = Answers(records)
    alone = next((holder for holder in answers.of if holder.turns == "alone"), None)
    given = {(record.case.scene, record.case.holder.turns): record.answers for record in records}
    for holder in answers.of:
        row = answers.row(holder, turns=holder.turns)
        if row and alone:
            pairs = [
                (ours.given, theirs.given)
                for (scene, turns), all_ours in given.items()
                if turns == holder.turns
                for ours, theirs in zip(all_ours, given.get((scene, "alone"), ()), strict=False)
            ]
            same = sum(ours == theirs for ours, theirs in pairs) / max(1, len(pairs))
            yield row | {"against_alone": answers.against(holder, alone), "same_as_alone": same}


def _cost(journal: Journal) -> Iterator[Row]:
    for name, measured in journal.costs.items():
        stats = measured["stats"]
        spent = sum(stats["seconds"].values())
        yield {
            "name": name,
            "tokens": stats["tokens"],
            "cap": stats["cap"],
            "frames": stats["frames"],
            "bytes": stats["bytes"],
            "process": measured["peak_bytes"] - measured["idle_bytes"],
            "peak": measured["peak_bytes"],
            "patch_seconds": measured["patch_seconds"],
            "first_token_seconds": measured["first_token_seconds"],
            "compress": stats["seconds"]["compress"] / spent,
            "compressions": stats["compressions"],
            "large_bytes": large_bytes(name),
            "history": measured["history"],
        }


def _told(size: Size) -> list[Holder]:
    return [FULL_CACHE, *holders_at(size.policies, DELAY_SHARE)]
