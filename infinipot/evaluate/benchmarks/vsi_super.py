"""VSI-SUPER (Cambrian-S, arXiv 2511.04670): recall and counting in videos of ten minutes to four hours.

As https://huggingface.co/datasets/nyu-visionx/VSI-SUPER-Recall and VSI-SUPER-Count have them: tables of questions as
Parquet, which `pyarrow` reads (the extra `eval`), beside folders of videos; the same rows as JSON are
taken as well. The length of a row's video is read from the row, not from the file's name: one file may hold rows of all
lengths.

Recall asks where an object was seen, after the whole video. Count asks how many there are, after the whole video
(plain), or at several moments of it (streaming): the moments of a row share one score. Their times are counted in
frames at one per second, so they are seconds.
"""

import math
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from infinipot.evaluate.benchmarks.annotations import (
    Entry,
    UnusableError,
    parse_seconds,
    read_rows,
    shown,
    without_letters,
)
from infinipot.evaluate.benchmarks.base import Benchmark
from infinipot.evaluate.benchmarks.layout import require
from infinipot.evaluate.records import Problem, Question, Unit
from infinipot.numbers import is_real

LENGTHS = ("10mins", "30mins", "60mins", "120mins", "240mins")
COUNT_LENGTHS = LENGTHS[:4]
STREAMING = "_streaming"
FOLDERS = (*LENGTHS, *(f"{length}{STREAMING}" for length in LENGTHS))


class _VSISuper(Benchmark):
    """What both have in common.

    Attributes:
        kind: the field of a row that says which kind of row it is, by length.
        kinds: the kinds of rows that each variant asks.
    """

    kind: ClassVar[str]
    kinds: ClassVar[dict[str, tuple[str, ...]]]

    def rows(self, data: Path, variant: str) -> Iterator[Entry | Problem]:
        others = {kind for kinds in self.kinds.values() for kind in kinds}.difference(self.kinds[variant])
        left = dict.fromkeys(self.kinds[variant])
        for path in self._tables(data, variant):
            for row in read_rows(path, data, self.columns):
                if isinstance(row, Problem):
                    yield row
                elif (kind := _kind(row, self.kind)) not in others:
                    left.pop(kind, None)
                    yield row
        for kind in left:
            yield Problem("test*", f'no row has the "{self.kind}" {kind}')

    def _tables(self, data: Path, variant: str) -> list[Path]:
        """The files that hold rows; of one that exists in both forms, the JSON file.

        Raises:
            BenchmarkError: a length that is asked has no file, and no other file may hold its rows.
        """
        found = {path.stem: path for ending in ("parquet", "json") for path in data.glob(f"test*.{ending}")}
        if found.keys() <= {f"test_{length}" for length in LENGTHS}:
            asked = [f"test_{kind.removesuffix(STREAMING)}" for kind in self.kinds[variant]]
            require(data, self.title, *([f"{name}.json", f"{name}.parquet"] for name in asked))
        return [found[name] for name in sorted(found, key=lambda name: (len(name), name))]  # 30mins before 120mins

    def question(self, entry: Entry, variant: str) -> Question:
        kind = entry.one_of(self.kind, self.kinds[variant])
        named = next((name for name in ("id", "question_id") if entry.get(name) is not None), None)
        stem = PurePosixPath(entry.text("video_path")).stem
        own = f"{stem}-{entry.index}" if named is None else entry.label(named)
        return self.ask(entry, kind, f"{kind}-{own}")

    def video(self, entry: Entry, data: Path, variant: str) -> tuple[Path, str]:
        """The video; a folder of one length, as the zip files unpack to, may be a link to another disk."""
        folder, _, name = entry.text(self.video_field).partition("/")
        if name and folder in FOLDERS and (data / folder).is_dir():
            return self.find(data, name, folder)
        return super().video(entry, data, variant)

    @abstractmethod
    def ask(self, entry: Entry, kind: str, identity: str) -> Question:
        """The question of a row, of one of the variants' kinds, by the id that it has or gets.

        Raises:
            UnusableError: the row cannot be used.
        """


class VSISuperRecall(_VSISuper, name="vsi-super-recall"):
    kind: ClassVar[str] = "type"
    kinds: ClassVar[dict[str, tuple[str, ...]]] = {"all": LENGTHS, **{length: (length,) for length in LENGTHS}}

    def ask(self, entry: Entry, kind: str, identity: str) -> Question:
        given = entry.texts("options")
        answer = re.search("[A-D]", entry.text("answer").upper())
        if answer is None or answer[0] not in "ABCD"[: len(given)]:
            raise UnusableError(
                f'"answer" is {shown(entry.get("answer"))}, which names none of the {len(given)} options'
            )
        return Question(
            id=identity,
            text=entry.text("question").strip(),
            options=without_letters(given),
            answer=answer[0],
            task=kind,
            given="\n".join(given),
        )


class VSISuperCount(_VSISuper, name="vsi-super-count"):
    kind: ClassVar[str] = "split"
    kinds: ClassVar[dict[str, tuple[str, ...]]] = {
        "plain": COUNT_LENGTHS,
        "streaming": tuple(f"{length}{STREAMING}" for length in COUNT_LENGTHS),
        **{length: (length,) for length in COUNT_LENGTHS},
        **{f"{length}-streaming": (f"{length}{STREAMING}",) for length in COUNT_LENGTHS},
    }

    def split(self, row: Entry, variant: str) -> Iterable[Entry]:
        """A plain row, or a streaming one at each of its moments: its query times, and after them the end."""
        if not _kind(row, self.kind).endswith(STREAMING):
            yield row
            return
        times, answers = row.values("query_times"), row.values("answers")
        if not answers or len(answers) - len(times) not in (0, 1):
            raise UnusableError(
                f'"answers" holds {len(answers)} numbers for {len(times)} "query_times"; give as many or one more'
            )
        for place, answer in enumerate(answers):
            at = times[place : place + 1]  # none where it is asked at the end
            yield row.at("answers", place, answer=answer, query_times=at, place=place, size=len(answers))

    def ask(self, entry: Entry, kind: str, identity: str) -> Question:
        question = Question(identity, entry.text("question").strip(), (), _count(entry.get("answer")), kind)
        if not kind.endswith(STREAMING):
            return question
        place, size = entry.whole("place"), entry.whole("size")
        at = next((parse_seconds(time, '"query_times"') for time in entry.values("query_times")), None)
        return replace(question, id=f"{identity}_{place}", at=at, unit=Unit(identity, place, size))


def _kind(entry: Entry, name: str) -> str:
    """The field's text; "" where there is none."""
    value = entry.value.get(name) if isinstance(entry.value, dict) else None
    return value if isinstance(value, str) else ""


def _count(value: Any) -> str:
    """A number as text, whole ones without a point."""
    try:
        number = float(value) if isinstance(value, str) or is_real(value) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise UnusableError(f'"answer" is {shown(value)}, not a number from 0 on')
    return str(int(number)) if number.is_integer() else repr(number)
