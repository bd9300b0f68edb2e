"""Reading subtitles: SubRip files (.srt), the two JSON forms of LongVideoBench, and a JSON line a word."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infinipot.errors import BenchmarkError
from infinipot.evaluate.benchmarks.annotations import Entry, UnusableError, parse_json, parse_seconds, read_text
from infinipot.evaluate.records import Subtitle

_TIMES = re.compile(r"(\d+:\d+:\d+[,.]\d+)\s*-->\s*(\d+:\d+:\d+[,.]\d+)")
_TAG = re.compile(r"<[^<>]*>")


def read_of(
    video: Path, folder: Path, ending: str, read: Callable[[Path], tuple[Subtitle, ...]], title: str
) -> tuple[Subtitle, ...]:
    """The subtitles of a video in a folder of files that are named like the videos; one without a file has none.

    Raises:
        BenchmarkError: the folder holds none for any video.
        UnusableError: see `read`.
    """
    if next(folder.glob(f"*{ending}"), None) is None:
        raise BenchmarkError(f"{title}: {folder} holds no {ending} file, so no video would have subtitles")
    path = folder / f"{video.stem}{ending}"
    return read(path) if path.exists() else ()


def read_srt(path: Path) -> tuple[Subtitle, ...]:
    """The subtitles of a SubRip file, without markup; sections that are none are passed over.

    Raises:
        UnusableError: it cannot be read, or holds something, but no subtitle.
    """
    try:
        content = read_text(path)
    except UnusableError as error:
        raise UnusableError(f"the file of subtitles {path.name} {error}") from None
    found = []
    for section in re.split(r"\n\s*\n", content.replace("\r\n", "\n")):
        lines = section.strip().split("\n")
        at = next((index for index, line in enumerate(lines) if _TIMES.search(line)), None)
        if at is None:
            continue
        start, end = (parse_seconds(time.replace(",", "."), "a time") for time in _TIMES.search(lines[at]).groups())  # type: ignore[union-attr]
        text = _TAG.sub("", " ".join(lines[at + 1 :])).strip()
        if text:
            found.append(Subtitle(start, end, text))
    if content.strip() and not found:
        raise UnusableError(f"the file of subtitles {path.name} is not a SubRip file")
    return tuple(found)


def read_words(path: Path) -> tuple[Subtitle, ...]:
    """The words of a JSON Lines file, each `{text, start_time, end_time}`.

    Raises:
        UnusableError: it cannot be read or holds something else.
    """
    try:
        lines = [line for line in read_text(path).split("\n") if line.strip()]
        words = [Entry(parse_json(line), f"line {number}") for number, line in enumerate(lines, 1)]
        return tuple(
            Subtitle(word.seconds("start_time"), word.seconds("end_time"), word.text("text", default=""))
            for word in words
        )
    except UnusableError as error:
        raise UnusableError(f"the subtitles {path.name} cannot be used: {error}") from None


def read_timed_lines(path: Path, offset: float, duration: float) -> tuple[Subtitle, ...]:
    """The subtitles of LongVideoBench: a list of `{timestamp: [start, end], text}` or `{start, end, line}`.

    Args:
        path: of the file.
        offset: seconds that are subtracted from the file's times to give the video's. What was said before the video
            begins has times below 0.
        duration: length of the video in seconds. A line without an end ends then, on the clock of the file, as in the
            authors' loader.

    Raises:
        UnusableError: it cannot be read or holds something else.
    """
    try:
        lines = parse_json(read_text(path))
        if not isinstance(lines, list):
            raise UnusableError("they are not a list")
        read = [_timed_line(Entry(line, path.name), duration) for line in lines]
    except UnusableError as error:
        raise UnusableError(f"the subtitles {path.name} cannot be used: {error}") from None
    return tuple(Subtitle(start - offset, end - offset, text) for start, end, text in read if text.strip())


def _timed_line(entry: Entry, duration: float) -> tuple[float, float, str]:
    stamp: Any = entry.get("timestamp")
    if stamp is None:
        return entry.seconds("start"), entry.seconds("end"), entry.text("line", default=" ")
    if not isinstance(stamp, list) or len(stamp) != 2:
        raise UnusableError('"timestamp" is not a pair of times')
    start, end = stamp
    end = end if isinstance(end, float) else duration
    return parse_seconds(start, '"timestamp"'), parse_seconds(end, '"timestamp"'), entry.text("text", default=" ")
