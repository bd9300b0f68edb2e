"""Video-MME-v2 (arXiv 2604.05015): four questions a video, which have one score together.

As https://huggingface.co/datasets/MME-Benchmarks/Video-MME-v2 has it: the questions as Parquet, which `pyarrow` reads
(the extra `eval`); the same rows as JSON are taken as well. What a group has once (its type
and structure, its level and its two headings) may stand in any of its rows: the last question's has the level and the
headings. How a group is scored is the protocol's.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from infinipot.evaluate.benchmarks.annotations import Entry, UnusableError, shown, without_letters
from infinipot.evaluate.benchmarks.base import Benchmark
from infinipot.evaluate.benchmarks.layout import require
from infinipot.evaluate.benchmarks.subtitles import read_of, read_words
from infinipot.evaluate.records import LETTERS, Problem, Question, Subtitle, Unit
from infinipot.numbers import is_real

SIZE = 4
"""How many questions a group has."""
STRUCTURES = ("[1,2,3,4]", "[1,[2,3],4]", "[[1,2],3,4]")
"""The structures of groups of type logic, which say which questions build on which."""
OF_A_GROUP = ("group_type", "group_structure", "level", "second_head", "third_head")


class VideoMMEv2(Benchmark, name="video-mme-v2"):
    def rows(self, data: Path, variant: str) -> Iterator[Entry | Problem]:
        groups: dict[str, list[Entry]] = {}
        for row in super().rows(data, variant):
            if isinstance(row, Problem) or not isinstance(row.value, dict):
                yield row
            else:
                groups.setdefault(repr(row.value.get(_video_field(row))), []).append(row)
        for together in groups.values():
            yield from _with_shared_fields(together)

    def question(self, entry: Entry, variant: str) -> Question:
        video_id, identity = entry.label(_video_field(entry)), entry.label("question_id")
        number = re.search(r"-([1-4])$", identity)
        if number is None:
            raise UnusableError(f'"question_id" is {shown(identity)}, which does not end in -1, -2, -3 or -4')
        given, options = _options(entry)
        return Question(
            id=identity,
            text=entry.text("question"),
            options=options,
            answer=entry.letter("answer", options),
            task=entry.one_of("group_type", ("relevance", "logic")),
            group=_level(entry),
            given=given,
            subtitled=variant == "subtitles",
            parts=_heads(entry),
            unit=Unit(video_id, int(number[1]) - 1, SIZE, _kind(entry)),
        )

    def video(self, entry: Entry, data: Path, variant: str) -> tuple[Path, str]:
        return self.find(data, entry.label(_video_field(entry)), *self.video_folders)

    def subtitles(self, data: Path, variant: str, video: Path, entry: Entry) -> tuple[Subtitle, ...]:
        if variant == "no-subtitles":
            return ()
        (folder,) = require(data, self.title, ["subtitle/subtitle", "subtitle"])
        return read_of(video, folder, ".jsonl", read_words, self.title)


def _video_field(entry: Entry) -> str:
    """The field that names a row's video."""
    return "video" if entry.get("video_id") is None and entry.get("video") is not None else "video_id"


def _with_shared_fields(rows: list[Entry]) -> Iterator[Entry]:
    """The rows of a video, each with what any of them says of the group; where several do, the last one counts."""
    shared = {name: row.value[name] for row in rows for name in OF_A_GROUP if not _is_null(row.value.get(name))}
    yield from (replace(row, value=row.value | {name: shared.get(name) for name in OF_A_GROUP}) for row in rows)


def _is_null(value: Any) -> bool:
    """Whether a cell is empty: columns of numbers that have empty cells may hold NaN there."""
    return value is None or (is_real(value) and value != value)


def _kind(entry: Entry) -> str:
    """By which rule the group is scored: "relevance", or the structure of a group of type logic."""
    if entry.text("group_type") == "relevance":
        return "relevance"
    structure = re.sub(r"\s", "", entry.text("group_structure"))
    if structure not in STRUCTURES:
        raise UnusableError(f'"group_structure" is {shown(structure)}; possible: {", ".join(STRUCTURES)}')
    return structure


def _level(entry: Entry) -> str | None:
    value = entry.get("level")
    if value is None:
        return None
    text = str(int(value)) if value in (1, 2, 3) and not isinstance(value, bool) else value
    if text not in ("1", "2", "3"):
        raise UnusableError(f'"level" is {shown(value)}, not 1, 2 or 3')
    return f"level {text}"


def _heads(entry: Entry) -> tuple[str, ...]:
    heads = (("second head", "second_head"), ("third head", "third_head"))
    return tuple(f"{title}: {entry.text(name).strip()}" for title, name in heads if entry.get(name) is not None)


def _options(entry: Entry) -> tuple[str, tuple[str, ...]]:
    """The options as they are given, with their letters, and without them."""
    if isinstance(entry.get("options"), list | tuple):
        given = entry.texts("options")
        options = without_letters(given)
        if options == given:
            raise UnusableError('"options" do not begin with "A.", "B." and so on')
        return "\n".join(given), options
    given_text = entry.text("options")
    found = re.split(r"^([A-Z])\.", given_text, flags=re.MULTILINE)
    letters, options = "".join(found[1::2]), tuple(option.strip() for option in found[2::2])
    if found[0].strip() or len(options) < 2 or letters != LETTERS[: len(options)]:
        raise UnusableError('"options" is not a text of lines that begin with "A.", "B." and so on')
    return given_text, options
