"""What can be told of a stream's settings while there is no model yet. Knows no prompt, no layers and no positions."""

from collections.abc import Sequence

from infinipot.engine.budget import check_shares, parse_memory
from infinipot.errors import CapError, FrameError, InfinipotError
from infinipot.numbers import is_real


def check_settings(
    memory: int | str | None = None,
    *,
    fps: float = 2.0,
    keep: float = 0.75,
    block: int | None = None,
    reserve: int | None = None,
    dialogue: int | None = None,
    positions: str = "rebase",
    pixels: tuple[int, int] | None = None,
) -> None:
    """Raises what `Model.stream` would raise for settings that no model could take.

    Raises:
        CapError: a memory that is neither tokens nor an amount, or a share of it that is out of range.
        FrameError: `fps` is no number above 0.
        InfinipotError: other `positions` or `pixels` than there are.
    """
    if not is_real(fps) or not fps > 0:
        raise FrameError(f"fps={fps!r}: the frames per second must be a number above 0")
    if pixels is not None and not (isinstance(pixels, Sequence) and len(pixels) == 2 and 0 < pixels[0] <= pixels[1]):
        raise InfinipotError(f"pixels={pixels!r}: give the least and the most pixels of a resized frame")
    if positions not in ("rebase", "native"):
        raise InfinipotError(f"positions={positions!r}: give 'rebase' or 'native'")
    if memory is not None and parse_memory(memory, bytes_per_token=1) < 1:
        raise CapError(f"memory={memory}: the cap must be at least one token")
    check_shares(keep=keep, block=block, reserve=reserve, dialogue=dialogue)
