"""A second look: the last frames, encoded once more when a question is asked, beside what the memory holds.

What a memory keeps of the present is a share of it, at the size that frames are watched at. So the last few frames are
kept as pictures, too, and a question may have them run over again, larger if it wants. They see the prompt and each
other, not the past (DSCache, arXiv 2605.01858: an instant cache beside that of the past); the question sees everything.
They stand after all that was given, in slots that the reserve keeps free, and are forgotten with the question.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from PIL import Image
from torch import Tensor

from infinipot.engine.layout import Layout, ahead_of_video
from infinipot.engine.patches import patching, prepared
from infinipot.engine.requests import Encode, Forward, Prepare
from infinipot.engine.setup import Setup
from infinipot.engine.state import StreamState
from infinipot.errors import QuestionError
from infinipot.models import Clip, Patch
from infinipot.numbers import is_whole, is_whole_pair
from infinipot.tokens import Grid
from infinipot.video import Frame

PHASE = "look_again"


@dataclass(frozen=True, slots=True)
class Look:
    """How many of the last frames are looked at again, and at what size.

    Attributes:
        frames: at the most; fewer where fewer of the newest size were watched.
        pixels: least and most pixels of a resized frame; None for those of the stream.
    """

    frames: int
    pixels: tuple[int, int] | None = None

    @classmethod
    def of(cls, frames: int, pixels: tuple[int, int] | None) -> "Look | None":
        """Such a look, or None for one at no frames.

        Raises:
            QuestionError: a size is given for no frames.
        """
        if pixels is not None and not frames:
            raise QuestionError(f"look_pixels={pixels!r} is the size of a second look: give look_again, too")
        return cls(frames, pixels) if frames else None


def recent_after(setup: Setup, recent: Sequence[Frame], given: Frame) -> tuple[Frame, ...]:
    """The frames kept as pictures once one more was given: copies, no larger than a second look has room for."""
    most = setup.config.look_again
    return (*recent, _shrunk(given, setup.picture_pixels))[-most:] if most else ()


def _shrunk(frame: Frame, pixels: int) -> Frame:
    height, width = frame.size
    scale = (pixels / (height * width)) ** 0.5
    if scale >= 1:
        return replace(frame, image=np.array(frame.image))
    size = max(1, int(scale * width)), max(1, int(scale * height))
    return replace(frame, image=np.array(Image.fromarray(frame.image).resize(size, Image.Resampling.BICUBIC)))


def second_look(
    setup: Setup, state: StreamState, look: Look | None
) -> Generator[Prepare, list[Patch], tuple[Patch, ...]]:
    """The patches of a second look, not encoded yet; raises what `clips_of` raises."""
    clips = clips_of(setup, state, look)
    return tuple((yield from prepared(setup, state, clips, _pixels(setup, look), PHASE)) if clips else ())


def look_tokens(setup: Setup, state: StreamState, look: Look | None) -> int:
    """Slots that a second look at the frames that are kept now takes at the most; raises what `clips_of` raises."""
    clips = clips_of(setup, state, look)
    with patching(state, PHASE):
        return tokens_of(setup, setup.adapter.prepare(clips, _pixels(setup, look)) if clips else [])


def _pixels(setup: Setup, look: Look | None) -> tuple[int, int] | None:
    return look.pixels if look is not None and look.pixels else setup.pixels


def clips_of(setup: Setup, state: StreamState, look: Look | None) -> list[Clip]:
    """The frames of each patch of a second look.

    Raises:
        QuestionError: more frames are asked for than the stream keeps, or frames larger than the memory has room for.
    """
    if look is None:
        return []
    most, frames = setup.config.look_again, look.frames
    if not is_whole(frames) or not 0 <= frames <= most:
        raise QuestionError(
            f"look_again={frames!r}: the stream keeps {most} frames for a second look"
            + (f": open it with look_again={frames}" if is_whole(frames) and frames > most else "")
        )
    _require_pixels(setup, look.pixels)
    recent = state.pending.recent
    alike = [frame for frame in recent if frame.size == recent[-1].size][-frames:] if frames else []
    step = setup.adapter.patch_frames
    return [tuple(alike[start : start + step]) for start in range(0, len(alike), step)]


def _require_pixels(setup: Setup, pixels: tuple[int, int] | None) -> None:
    """Refuses, before any frame is resized, what could not fit."""
    if pixels is None:
        return
    if not is_whole_pair(pixels) or not 0 < pixels[0] <= pixels[1]:
        raise QuestionError(f"look_pixels={pixels!r}: give the least and the most pixels of a resized frame")
    most = setup.budget.reserve * setup.adapter.cell_pixels
    if setup.adapter.cell_pixels and pixels[0] > setup.budget.cap * setup.adapter.cell_pixels:
        raise QuestionError(
            f"look_pixels={pixels!r}: one such frame takes more tokens than the whole memory has: give at most {most} "
            f"pixels, which is what the reserve of {setup.budget.reserve} tokens has room for"
        )


def tokens_of(setup: Setup, patches: Sequence[Patch]) -> int:
    """Slots that a second look takes at the most."""
    return sum(patch.tokens + setup.adapter.caption_limit for patch in patches)


def grids_of(state: StreamState, patches: Sequence[Patch]) -> tuple[Grid, ...]:
    """The grids of the video, and that of a second look, if there is one: cells of other sizes have other numbers."""
    own = {state.memory.grid(patch.rows, patch.columns) for patch in patches}
    return (*state.memory.grids, *own.difference(state.memory.grids))


def look_again(layout: Layout, patches: Sequence[Patch]) -> Generator[Encode | Forward, Tensor, None]:
    """Runs over a second look after all that is laid out, and run over already. It does not count as said."""
    setup, state, transaction = layout.setup, layout.state, layout.transaction
    adapter = setup.adapter
    if opens := not transaction.cursor.open:
        ahead = ahead_of_video(setup, state, closed=True)
        transaction.text(len(ahead), state.pending.time)
        layout.add(adapter.embed(ahead))
    features = yield Encode(adapter, patches, state.stopwatch, PHASE)
    times = [patch.times[0] for patch in patches]
    waits = [1 / setup.config.fps, *(later - sooner for sooner, later in pairwise(times))]
    for patch, wait, cells in zip(patches, waits, features.split([each.tokens for each in patches]), strict=True):
        cursor = transaction.cursor
        before, after = adapter.caption_ids(patch.times, cursor.patch, opens=opens)
        opens = False
        # No more positions than tokens, of which the reserve has enough, however far apart in time frames are.
        if told := setup.rule.seconds(patch.tokens, cursor.pace):
            wait = min(wait, told)
        grid = state.memory.grid(patch.rows, patch.columns)
        transaction.video(grid, [cursor.latest + wait], len(before), len(after), shown=patch.times[0])
        layout.add(adapter.join([adapter.embed(before), cells, adapter.embed(after)]))
    yield layout.forward(PHASE, ahead=len(setup.prompt_ids))
