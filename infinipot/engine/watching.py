"""Taking in a frame, or a piece of sound: it waits until a block is full, which is then run over and compressed.

Work that asks for the model where it needs it, see task.py; who runs it, and what else in the same step, is not known.
"""

from collections.abc import Sequence
from dataclasses import replace

from infinipot.audio import GAP, SamplesLike, Sound, as_sound
from infinipot.engine.gating import admit
from infinipot.engine.layout import Layout
from infinipot.engine.limits import require_positions, require_slots, stay_in_range
from infinipot.engine.looking import recent_after
from infinipot.engine.patches import patch_of, patching, waiting
from infinipot.engine.pending import Pending
from infinipot.engine.probing import probe
from infinipot.engine.setup import Setup, block_patches
from infinipot.engine.state import StreamState
from infinipot.engine.task import Work
from infinipot.errors import FrameError, InfinipotError
from infinipot.models import Patch
from infinipot.tokens import Grid
from infinipot.video import Frame, ImageLike, as_frame

_PERIOD_ROUNDING = 1e-6  # of a period


def watch(setup: Setup, state: StreamState, frame: Frame | ImageLike, time: float | None = None) -> Work[None]:
    """Takes in a frame: see `Stream.watch`."""
    yield from _take_in(setup, state, _accept_frame(setup, state, frame, time))


def listen(setup: Setup, state: StreamState, sound: Sound | SamplesLike, time: float | None = None) -> Work[None]:
    """Takes in a piece of sound: see `Stream.listen`."""
    yield from _take_in(setup, state, _accept_sound(setup, state, sound, time))


def feed(setup: Setup, state: StreamState, given: Frame | Sound) -> Work[None]:
    """Takes in a frame or a piece of sound, whichever it is: see `Stream.feed`."""
    return listen(setup, state, given) if isinstance(given, Sound) else watch(setup, state, given)


def _require_modality(setup: Setup, modality: str) -> None:
    """Makes sure that the stream is of a modality."""
    own = setup.adapter.modality
    if own != modality:
        raise InfinipotError(f"the stream takes {own}: open one for {modality} with modality={modality!r}")


def _accept_frame(setup: Setup, state: StreamState, frame: Frame | ImageLike, time: float | None) -> Frame:
    """The frame with its time.

    Raises:
        FrameError: it is no picture, or not later than the last one.
        InfinipotError: the stream is of sound.
    """
    _require_modality(setup, "video")
    last, adapter = state.pending.time, setup.adapter
    if time is None and not isinstance(frame, Frame):
        time = _following(last, setup.config.fps) if state.pending.frames else 0.0
    accepted = as_frame(frame, time)
    if accepted.time <= last:
        raise FrameError(f"frames must come in order of time: {accepted.time:g} s is not after {last:g} s")
    limit = adapter.caption_limit
    if limit and sum(map(len, adapter.caption_ids([accepted.time], state.pending.frames, opens=True))) > limit:
        raise FrameError(f"the time {accepted.time:g} s takes more tokens than the {limit} set aside for a caption")
    return accepted


def _following(time: float, fps: float) -> float:
    """The time one period of `fps` later.

    Whole numbers of periods stay that: a sum of periods is off by rounding errors, which captions would show.
    """
    periods = time * fps
    off = (periods + 0.5) % 1 - 0.5  # no number where there are too many to count
    return (round(periods) + 1) / fps if abs(off) < _PERIOD_ROUNDING else time + 1 / fps


def _accept_sound(setup: Setup, state: StreamState, sound: Sound | SamplesLike, time: float | None) -> Sound:
    """The sound with its time.

    Raises:
        FrameError: it is no sound, too long, or not after the last piece.
        InfinipotError: the stream is of video.
    """
    _require_modality(setup, "audio")
    last = max(state.pending.time, 0.0)
    if time is None and not isinstance(sound, Sound):
        time = last
    accepted = as_sound(sound, time)
    if accepted.time < last - GAP:
        raise FrameError(f"sound must come in order of time: {accepted.time:g} s is before the end at {last:g} s")
    return accepted


def _take_in(setup: Setup, state: StreamState, given: Frame | Sound) -> Work[None]:
    """Takes in what was accepted."""
    partial = setup.gatherer.after(state.pending.partial, given)
    if given.size != state.pending.size:
        yield from _change_size(setup, state, given)
        partial = setup.gatherer.after(state.pending.partial, given)
    pending = replace(state.pending, partial=partial, frames=state.pending.frames + 1, time=given.end)
    if isinstance(given, Frame):
        pending = replace(pending, recent=recent_after(setup, pending.recent, given))
    require_slots(setup, state, pending)
    require_positions(setup, state, pending)
    stay_in_range(setup, state, pending)
    with patching(state):
        full, rest = setup.gatherer.split(partial)
    pending = replace(pending, partial=rest)
    if full is not None:
        patch = yield from patch_of(setup, state, full)
        with state.stopwatch.phase("vision"):
            pending = _admitted(setup, pending, patch)
    if len(pending.patches) < pending.block:
        state.pending = pending
        return
    yield from _prefill(setup, state, pending.patches, replace(pending, patches=()))


def _prefill(
    setup: Setup, state: StreamState, patches: Sequence[Patch], after: Pending, grid: Grid | None = None
) -> Work[None]:
    """Has the model run over patches, which become part of the memory: that compresses where it is full.

    Args:
        patches: of one grid.
        after: what waits then.
        grid: of the patches; by default the newest.
    """
    with Layout.begin(setup, state) as layout:
        yield from layout.add_patches(patches, grid)
        yield from layout.run("prefill")
        yield from probe(layout, after)
        layout.commit(after)


def _admitted(setup: Setup, pending: Pending, full: Patch) -> Pending:
    """What waits together with a full patch, or with what a gate lets through of it."""
    given, shown = full, None
    if setup.gate is not None:
        given, shown = admit(setup.gate, setup.adapter.pictures(full), full, pending.shown)
    gated = pending.gated + full.tokens - given.given
    return replace(pending, patches=(*pending.patches, given), shown=shown, gated=gated)


def _change_size(setup: Setup, state: StreamState, given: Frame | Sound) -> Work[None]:
    """Enters the grid of a frame of another size: what waits in the old one goes into the memory first."""
    pending, memory, policy = state.pending, state.memory, setup.policy
    with patching(state):
        rows, columns = setup.gatherer.grid(given)
    cells, steps = rows * columns, setup.gatherer.steps
    block, old, grids = block_patches(setup, steps * cells), pending.grid, memory.grids
    if policy.one_size and grids and cells != old.cells:
        raise FrameError(
            f"frames changed from {old.rows} x {old.columns} to {rows} x {columns} cells, but policy "
            f"{policy.name!r} reads the memory as patches of one size"
        )
    require_slots(setup, state, pending, more=steps * (cells + setup.adapter.caption_limit))
    patches = yield from waiting(setup, state)
    try:
        grid = memory.use_grid(rows, columns)
        after: Pending = replace(pending.emptied(), size=given.size, grid=grid, block=block)
        yield from _prefill(setup, state, patches, after, old)
    except BaseException:
        if state.pending.grid is old:
            memory.grids = grids
        raise
