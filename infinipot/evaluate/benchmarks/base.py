"""What every benchmark says of itself, and how its annotations become items. Knows no prompt, metric or model."""

import tomllib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from infinipot.errors import BenchmarkError
from infinipot.evaluate.benchmarks.annotations import (
    Entry,
    UnusableError,
    entries_of,
    find_video,
    parts_of,
    require,
    shown,
)
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
        files: of the annotations, the first that is there of each list, by variant or for "any".
        parts: of an annotation in JSON, the field that holds a list of questions; none: it is one.
        columns: that are read of Parquet; none: all.
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
    files: ClassVar[dict[str, list[str]]]
    parts: ClassVar[str] = ""
    columns: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, name: str | None = None) -> None:
        if name is None:  # what several benchmarks share is none itself
            return
        cls.name = name
        for attribute, value in _descriptions()[name].items():
            setattr(cls, attribute, tuple(value) if isinstance(value, list) else value)

    def entries(self, data: Path, variant: str) -> Iterator[Entry | Problem]:
        """The annotations of `variant`, one a question, and files that could not be read."""
        names = self.files.get(variant, self.files.get("any", []))
        path = require(data, self.title, *names)
        instead = next((data / name for name in names if name.endswith(".json")), None)
        found = entries_of(path, data, columns=self.columns, instead=instead)
        return parts_of(found, self.parts) if self.parts and path.suffix == ".json" else found

    @abstractmethod
    def place(self, entry: Entry, data: Path, variant: str) -> "Placed":
        """The question that an annotation holds, with its video.

        Raises:
            UnusableError: the annotation cannot be used.
        """

    def find(self, data: Path, name: str, *folders: str, endings: Sequence[str] = ("",)) -> tuple[Path, str]:
        """A video in the first of the layout's folders that is there, see `find_video`."""
        return find_video(require(data, self.title, *folders), name, data, endings=endings)

    def subtitles(self, data: Path, variant: str, placed: "Placed") -> tuple[Subtitle, ...]:
        """The subtitles of a video; none, unless a benchmark has some.

        Raises:
            UnusableError: the file cannot be used.
        """
        return ()

    def submission(self, answers: Mapping[str, str | None]) -> str | None:
        """The file that the benchmark's own server scores, from the letters read by question id; None: it has none."""
        return None

    def read(self, data: Path, variant: str | None = None) -> Iterator[Item | Problem]:
        """The videos with their questions, and every annotation that cannot be used.

        Problems come first, then the items in the order of the annotations. What the annotation files hold raises
        nothing.

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
        videos: dict[tuple[Path, float, float | None], list[Placed]] = {}
        known: set[str] = set()
        for entry in self.entries(data, variant):
            if isinstance(entry, Problem):
                yield entry
                continue
            try:
                placed = self.place(entry, data, variant)
                if placed.question.id in known:
                    raise UnusableError(f"the id {shown(placed.question.id)} was used before; the first one counts")
                known.add(placed.question.id)
                videos.setdefault((placed.video, placed.start, placed.end), []).append(placed)
            except UnusableError as error:
                yield Problem(entry.where, str(error))
        yield from self._items(data, variant, videos.values())

    def _items(self, data: Path, variant: str, videos: Iterable[list["Placed"]]) -> Iterator[Item | Problem]:
        for together in videos:
            first = together[0]
            try:
                subtitles = self.subtitles(data, variant, first)
            except UnusableError as error:
                yield Problem(first.label, f"{error} ({counted(len(together), 'question')} left out)")
                continue
            span = "" if first.start == 0.0 and first.end is None else f"@{first.start:g}-{first.end or 0.0:g}"
            questions = [placed.question for placed in together]
            lacking = _lacking(questions)
            yield from (Problem(first.label, what) for what in lacking.values())
            if left := tuple(one for one in questions if one.unit is None or one.unit.id not in lacking):
                yield Item(first.label + span, first.video, left, first.start, first.end, subtitles)


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
            what = f"the {counted(size, 'question')} of {shown(name)} have one score, and not each can be used"
            lacking[name] = f"{what} ({counted(len(found), 'question')} left out)"
    return lacking


@cache
def _descriptions() -> dict[str, dict[str, Any]]:
    return tomllib.loads((Path(__file__).parent / "descriptions.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Placed:
    """A question with its video.

    Attributes:
        video: the file.
        label: of the video, for its item's id: its path in the layout.
        start, end: see `Item`.
        extra: what `Benchmark.subtitles` needs besides.
    """

    question: Question
    video: Path
    label: str
    start: float = 0.0
    end: float | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
