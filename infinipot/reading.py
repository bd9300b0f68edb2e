"""Readers that go from front to back once, like an open file: the pictures of a video, the pieces of a sound.

Knows neither what is read nor where it comes from.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from infinipot.errors import InfinipotError

T = TypeVar("T")


class Source(Protocol):
    """The source of a reading, which closes it at its end."""

    @property
    def incomplete(self) -> bool: ...

    def close(self) -> None:
        """Frees what it holds; may be called twice."""


class Closing(ABC):
    """Something that is closed at the end of a `with`."""

    @abstractmethod
    def close(self) -> None:
        """Closes it; may be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Reading(Closing, Iterator[T], Generic[T]):
    """Something read once: iterating again goes on where it stopped. Closes itself at its end, or as a context manager.

    Args:
        name: of what is read.
        source: is closed at the end.
        parts: what is read.
        error: is raised, as this kind, where one reads on after `close`.
    """

    def __init__(self, name: str, source: Source, parts: Generator[T, None, None], error: type[InfinipotError]) -> None:
        self.name = name
        self._closes, self._parts, self._error = source, parts, error
        self._closed = False

    @property
    def incomplete(self) -> bool:
        """Whether the source turned out to be cut short or damaged; what can be read is yielded."""
        return self._closes.incomplete

    def __next__(self) -> T:
        if self._closed:
            raise self._error(f"{self.name} is closed; open it again to read it")
        try:
            return next(self._parts)
        except StopIteration:
            self._closes.close()
            raise
        except BaseException:  # an interrupted decoder cannot go on: say so next time, rather than end in silence
            self.close()
            raise

    def close(self) -> None:
        """Closes the source; reading on raises an error."""
        self._closed = True
        self._parts.close()
        self._closes.close()
