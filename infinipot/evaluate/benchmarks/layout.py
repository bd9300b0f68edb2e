"""Finds a benchmark's files in its data folder, and none outside, whatever an annotation names."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from infinipot.errors import BenchmarkError
from infinipot.evaluate.benchmarks.annotations import UnusableError, shown


def require(data: Path, title: str, *wanted: Sequence[str]) -> list[Path]:
    """The files or folders in `data` that a layout needs: of each of `wanted`, the first that exists.

    Raises:
        BenchmarkError: none exists of one of `wanted`, or of several; the message names them all.
    """
    found = [next((data / name for name in names if _exists(data / name, title)), None) for names in wanted]
    if lacking := [" or ".join(names) for names, path in zip(wanted, found, strict=True) if path is None]:
        raise BenchmarkError(
            f"{title}: {data} does not hold {', '.join(lacking)}; `infinipot eval --list` shows the layout"
        )
    return [path for path in found if path is not None]


def find_file(
    folder: Path, name: str, data: Path, *, endings: Sequence[str] = ("",), what: str = "the video"
) -> tuple[Path, str]:
    """The file that an annotation names, and its path in the layout.

    Args:
        folder: of the layout; what the annotation names has to lie in it.
        name: as the annotation gives it.
        data: the data folder.
        endings: tried in order after the name.
        what: what the file is, for messages.

    Raises:
        UnusableError: it is missing, is not a file, or lies outside of `folder`, through its name or a link.
    """
    called = f"{what} {shown(name)}"
    place = "the data folder" if folder == data else f"{folder.relative_to(data).as_posix()}/"
    if "\0" in name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise UnusableError(f"{called} is not a relative path inside {place}")
    try:
        root = folder.resolve()
        for ending in endings:
            path = folder / (name + ending)
            found = path.resolve()
            if not found.is_relative_to(root) or found == root:
                raise UnusableError(f"{called} lies outside of {place}")
            if found.is_file():
                return path, Path(os.path.relpath(path, data)).as_posix()
    except OSError as error:
        raise UnusableError(f"{called} cannot be reached ({error.strerror})") from None
    except (RuntimeError, ValueError):  # links that lead to themselves, and names that no file can have
        raise UnusableError(f"{called} cannot be reached") from None
    raise UnusableError(f"{called} is not in {place}")


def _exists(path: Path, title: str) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise BenchmarkError(f"{title}: {path} cannot be reached ({error.strerror})") from None
