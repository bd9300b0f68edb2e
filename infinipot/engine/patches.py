"""Patches, which the encoder takes, of the frames or the sound that a stream was given."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

from infinipot.engine.requests import Prepare
from infinipot.engine.setup import Setup
from infinipot.engine.state import StreamState
from infinipot.errors import FrameError
from infinipot.models import Clip, Patch


@contextmanager
def patching(state: StreamState, phase: str = "vision") -> Iterator[None]:
    """Counts the time that is spent on making patches, and tells of a frame that none can be made of."""
    with state.stopwatch.phase(phase), _as_frame_errors():
        yield


@contextmanager
def _as_frame_errors() -> Iterator[None]:
    """Raises a FrameError for a picture that no processor takes, such as one that is 200 times as wide as high."""
    try:
        yield
    except ValueError as error:
        raise FrameError(f"the model cannot take a frame of this size: {error}") from error


def prepared(
    setup: Setup, state: StreamState, clips: Sequence[Clip], pixels: tuple[int, int] | None, phase: str = "vision"
) -> Generator[Prepare, list[Patch], list[Patch]]:
    """Has patches made of frames of one size; the time counts on `phase`."""
    with _as_frame_errors():
        return (yield Prepare(setup.adapter, clips, pixels, state.stopwatch, phase))


def patch_of(setup: Setup, state: StreamState, part: Patch | Clip) -> Generator[Prepare, list[Patch], Patch]:
    """Has a patch made of frames, where it is none yet."""
    if isinstance(part, Patch):
        return part
    return (yield from prepared(setup, state, [part], setup.pixels))[0]


def waiting(setup: Setup, state: StreamState, known: int = 0) -> Generator[Prepare, list[Patch], tuple[Patch, ...]]:
    """The patches that wait after so many that are known, one that is not full included."""
    full = state.pending.patches
    if known > len(full):
        return ()
    with patching(state):
        last = setup.gatherer.whole(state.pending.partial)
    return full[known:] if last is None else (*full[known:], (yield from patch_of(setup, state, last)))
