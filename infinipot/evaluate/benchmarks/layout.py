"""Where a benchmark's files lie in its data folder. Nothing that an annotation names is looked for outside of it."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from infinipot.errors import BenchmarkError
from infinipot.evaluate.benchmarks.annotations import UnusableError, shown


def require(data: Path, title: str, *wanted: Sequence[str]) -> list[Path]:
    """Of each of `wanted` the first of the files or folders in `data` that exists.

    Raises:
        BenchmarkError: of some none does; all of those are named.
    """
    found = [next((data / name for name in names if _exists(data / name, title)), None) for names in wanted]
    if lacking := [" or ".join(names) for names, path in zip(wanted, found, strict=True) if path is None]:
        raise BenchmarkError(
            f"{data} does not hold {', '.join(lacking)}, of {title}; `infinipot eval --list` shows the layout"
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
        endings: tried in order behind the name.
        what: it is, for messages.

    Raises:
        UnusableError: it is missing, is no file, or lies outside of `folder`, whatever leads there.
    """
    called = f"{what} {shown(name)}"
    place = "the data folder" if folder == data else f"{folder.relative_to(data).as_posix()}/"
    if "\0" in name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise UnusableError(f"{called} is not named by a path inside {place}")
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
        raise UnusableError(f"{called} is no file that can be reached") from None
    raise UnusableError(f"{called} is not in {place}")


def _exists(path: Path, title: str) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise BenchmarkError(f"{title}: {path} cannot be reached ({error.strerror})") from None
