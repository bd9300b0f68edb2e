"""The base of all benchmarks, and how annotations become items. Knows no prompt, metric or model."""

import tomllib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from infinipot.errors import BenchmarkError
from infinipot.evaluate.benchmarks.annotations import Entry, UnusableError, read_rows, shown
from infinipot.evaluate.benchmarks.layout import find_file, require
from infinipot.evaluate.records import Item, Problem, Question, Subtitle, Unit, counted


class Benchmark(ABC):
    """A benchmark as its authors lay it out on disk; what it says of itself is in `descriptions.toml`.

    Attributes:
        name: in kebab case.
        title: as its authors write it.
        about: one line.
        paper: where it is described.
        source: where to get it.
        licence: a note, no legal advice; the authors' own page counts.
        layout: the tree that is expected in the data folder.
        variants: the first is the default.
        default_protocol: a name in `PROTOCOLS`.
        streaming: whether questions are asked while the video runs.
        files: the annotation files by variant, or for "any" variant: each list holds alternatives, of which the first
            that exists is read.
        columns: the columns of a Parquet file that are read; empty for all.
        video_field: the field that names a row's video.
        video_folders: where the videos lie: the first of these folders that exists.
        video_endings: what is tried after a video's name, in order.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    about: ClassVar[str]
    paper: ClassVar[str]
    source: ClassVar[str]
    licence: ClassVar[str]
    layout: ClassVar[str]
    variants: ClassVar[tuple[str, ...]]
    default_protocol: ClassVar[str]
    streaming: ClassVar[bool] = False
    files: ClassVar[dict[str, list[list[str]]]]
    columns: ClassVar[tuple[str, ...]] = ()
    video_field: ClassVar[str] = "video"
    video_folders: ClassVar[tuple[str, ...]] = ()
    video_endings: ClassVar[tuple[str, ...]] = ("",)

    def __init_subclass__(cls, name: str | None = None) -> None:
        if name is None:  # what several benchmarks share is none itself
            return
        cls.name = name
        for attribute, value in _descriptions()[name].items():
            setattr(cls, attribute, tuple(value) if isinstance(value, list) else value)

    def rows(self, data: Path, variant: str) -> Iterator[Entry | Problem]:
        """The annotations of `variant`, and files that could not be read."""
        wanted = self.files.get(variant) or self.files["any"]
        for path, names in zip(require(data, self.title, *wanted), wanted, strict=True):
            instead = next((name for name in names if name.endswith(".json")), None)
            yield from read_rows(path, data, self.columns, instead)

    def split(self, row: Entry, variant: str) -> Iterable[Entry]:
        """An entry for each question of `variant` in an annotation, which by default is one.

        Raises:
            UnusableError: the annotation does not say which questions it holds.
        """
        return [row]

    @abstractmethod
    def question(self, entry: Entry, variant: str) -> Question:
        """The question that an entry holds.

        Raises:
            UnusableError: the entry cannot be used.
        """

    def video(self, entry: Entry, data: Path, variant: str) -> tuple[Path, str]:
        """The video that an entry is about, and its path in the layout.

        Raises:
            UnusableError: it names none that is there.
        """
        return self.find(data, entry.text(self.video_field), *self.video_folders)

    def find(self, data: Path, name: str, *folders: str) -> tuple[Path, str]:
        """A video in the first of `folders` that exists; see `find_file`."""
        (folder,) = require(data, self.title, folders)
        return find_file(folder, name, data, endings=self.video_endings)

    def subtitles(self, data: Path, variant: str, video: Path, entry: Entry) -> tuple[Subtitle, ...]:
        """The subtitles of a video, which one of its entries may name; none, unless the benchmark has some.

        Raises:
            UnusableError: the file cannot be used.
        """
        return ()

    def submission(self, answers: Mapping[str, str | None]) -> str | None:
        """The file that the benchmark's own server scores, from the letters read by question id; None: it has none."""
        return None

    def read(self, data: Path, variant: str | None = None) -> Iterator[Item | Problem]:
        """The videos with their questions, and every annotation that cannot be used.

        Problems come first, then the items in the order of the annotations. Whatever the annotation files hold, nothing
        is raised for it.

        Args:
            data: the folder that holds `layout`.
            variant: one of `variants`; the first, if not given.

        Raises:
            BenchmarkError: at the first item, for an unknown variant or a file of the layout that is missing.
        """
        variant = self.variants[0] if variant is None else variant
        if variant not in self.variants:
            raise BenchmarkError(f'{self.title} has no variant "{variant}"; possible: {", ".join(self.variants)}')
        if not data.is_dir():
            raise BenchmarkError(f"{self.title}: there is no data folder {data}")
        videos: dict[Path, list[_Placed]] = {}
        known: set[str] = set()
        for entry in self._entries(data, variant):
            if isinstance(entry, Problem):
                yield entry
                continue
            try:
                placed = _Placed(self.question(entry, variant), *self.video(entry, data, variant), entry)
                if placed.question.id in known:
                    raise UnusableError(f"the id {shown(placed.question.id)} was used before; the first one counts")
                known.add(placed.question.id)
                videos.setdefault(placed.video, []).append(placed)
            except UnusableError as error:
                yield Problem(entry.where, str(error))
        for together in videos.values():
            yield from self._item(data, variant, together)

    def _entries(self, data: Path, variant: str) -> Iterator[Entry | Problem]:
        """An entry for each question, and what cannot be used."""
        for row in self.rows(data, variant):
            if isinstance(row, Problem):
                yield row
                continue
            try:
                yield from self.split(row, variant)
            except UnusableError as error:
                yield Problem(row.where, str(error))

    def _item(self, data: Path, variant: str, together: Sequence["_Placed"]) -> Iterator[Item | Problem]:
        """A video with the questions about it, and what cannot be used of them."""
        first = together[0]
        try:
            subtitles = self.subtitles(data, variant, first.video, first.entry)
        except UnusableError as error:
            yield Problem(first.label, f"{error} ({counted(len(together), 'question')} left out)")
            return
        questions = [placed.question for placed in together]
        lacking = _lacking(questions)
        yield from (Problem(first.label, what) for what in lacking.values())
        if left := tuple(one for one in questions if one.unit is None or one.unit.id not in lacking):
            yield Item(first.label, first.video, left, subtitles)


class _Placed(NamedTuple):
    """A question, its video, the video's path in the layout, and the entry that the question was read from."""

    question: Question
    video: Path
    label: str
    entry: Entry


def _lacking(questions: Sequence[Question]) -> dict[str, str]:
    """The units that can have no score, since not all of their questions can be used, each with a line that says so."""
    units: dict[str, list[Unit]] = {}
    for question in questions:
        if question.unit is not None:
            units.setdefault(question.unit.id, []).append(question.unit)
    lacking = {}
    for name, found in units.items():
        size = found[0].size
        if sorted(one.place for one in found) != list(range(size)):
            what = f"the {counted(size, 'question')} of {shown(name)} share one score, and not all of them can be used"
            lacking[name] = f"{what} ({counted(len(found), 'question')} left out)"
    return lacking


@cache
def _descriptions() -> dict[str, dict[str, Any]]:
    return tomllib.loads((Path(__file__).parent / "descriptions.toml").read_text(encoding="utf-8"))
