"""Whether what a file says of a stream can be said of one: so that nothing in it leads a later call astray.

A stream relies on what it did before: cells lie in grids, patches and positions are before the cursor, rows hold the
same text. What was read has to keep to that before it is relied on. Knows nothing of files.
"""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from infinipot.engine.pending import NO_GRID, Pending
from infinipot.engine.setup import Setup
from infinipot.engine.state import StreamState
from infinipot.memory import MOST_POSITIONS, Cursor, Held
from infinipot.memory.grids import MOST_GRIDS
from infinipot.memory.transaction import NOWHERE
from infinipot.numbers import LATEST
from infinipot.stats import Stopwatch
from infinipot.tokens import Grid, cell_limit

_SLACK = 1.0  # seconds by which clocks of sound may be apart


class InconsistentError(ValueError):
    """What was read is not what a stream could have come to."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What a file says of a stream's state beside what its memory's slots store.

    Attributes:
        held: what the memory holds, without captions, which the slots tell.
        grids, peak: see `Memory`.
        pending, asked_tokens, dense_after: see `StreamState`.
        seconds: by phase.
    """

    held: Held
    grids: tuple[Grid, ...]
    peak: int
    pending: Pending
    asked_tokens: int
    dense_after: int
    seconds: dict[str, float]

    @classmethod
    def of(cls, state: StreamState) -> "Saved":
        """What a file says of a state that is to be saved."""
        memory = state.memory
        return cls(
            held=replace(memory.state, captions=()),
            grids=memory.grids,
            peak=memory.peak,
            pending=state.pending,
            asked_tokens=state.asked_tokens,
            dense_after=state.dense_after,
            seconds=dict(state.stopwatch.seconds),
        )


def check_state(state: Saved, captions: int, setup: Setup) -> None:
    """Raises `InconsistentError` for numbers that no stream with this setup comes to.

    Args:
        captions: tokens of captions that the slots hold.
    """
    _require(type(state.pending.partial) is type(setup.gatherer.empty), "what waits is of another modality")
    _check_ranges(state, setup)
    _check_grids(state.grids, state.pending, setup)
    _check_held(replace(state.held, captions=(0,) * captions), state.pending, setup)
    _check_cursor(state.held.cursor, state.held.tokens, state.pending, setup)
    _check_pending(state.pending, state.held, setup)


def _require(holds: object, what: str) -> None:
    if not holds:
        raise InconsistentError(what)


def _check_ranges(state: Saved, setup: Setup) -> None:
    held, pending, cap = state.held, state.pending, setup.budget.cap
    for part in (held, held.cursor, pending):
        numbers = {each.name: getattr(part, each.name) for each in fields(part)}
        below = [name for name, number in numbers.items() if type(number) is int and number < 0]
        _require(not set(below) - {"origin"}, f"numbers are below zero: {', '.join(below)}")
    _require(all(turn > 0 for turn in held.turns) and held.turns_gone < 1 << 30, "turns have no tokens")
    _require(held.tokens <= state.peak <= cap and 0 <= state.asked_tokens <= cap, "there are more tokens than the cap")
    _require(0 <= state.dense_after <= held.compressions and held.tokens <= held.seen, "counters contradict each other")
    _require(state.seconds.keys() == Stopwatch().seconds.keys(), "phases are not those of a stream")


def _check_grids(grids: tuple[Grid, ...], pending: Pending, setup: Setup) -> None:
    """No two grids share a number, each leaves room for a block, and the last is the current one."""
    first, steps = 0, setup.gatherer.steps
    _require(len(grids) <= MOST_GRIDS, f"there are more than {MOST_GRIDS} sizes of frames")
    for grid in sorted(grids, key=lambda grid: grid.first_cell):
        _require(min(grid.rows, grid.columns) > 0 and grid.first_cell >= first, "two grids share a cell's number")
        _require(setup.budget.block_patches(steps * grid.cells), "a grid has more cells than the memory has room for")
        first = grid.first_cell + grid.cells
    # Grids that were forgotten have left numbers free, which the next one that fits takes.
    _require(first <= 2 * MOST_GRIDS * setup.budget.cap, "cells are numbered higher than a stream's")
    current = grids[-1] if grids else NO_GRID
    # Frames are enlarged to the least pixels: those have to be about as many as there is room for.
    least = setup.pixels[0] if setup.pixels and setup.adapter.cell_pixels else 0
    most = 4 * (current.cells or setup.budget.cap) * setup.adapter.cell_pixels
    _require(least <= most, f"frames of {least} pixels and more have another grid")
    _require(len({(grid.rows, grid.columns) for grid in grids}) == len(grids), "a grid is there twice")
    _require(pending.grid == current and bool(grids) == bool(pending.size), "the current grid is not the last one")
    block = setup.budget.block_patches(steps * current.cells) if grids else 0
    _require(pending.block == block, "the block is not as long as the memory's share for it")
    sizes = {grid.cells for grid in grids}
    _require(not setup.policy.one_size or len(sizes) < 2, "the policy takes patches of one size only")


def _check_held(held: Held, pending: Pending, setup: Setup) -> None:
    """What is held adds up, and leaves room for a block, a question and its answer."""
    budget, policy = setup.budget, setup.policy
    _require(held.tokens == held.text + len(held.captions) + held.cell_tokens, "tokens do not add up")
    _require(held.prompt == (len(setup.prompt_ids) if held.tokens else 0), "the prompt is another one")
    _require(sum(held.turns) <= budget.dialogue, "turns are longer than their share")
    said = pending.said
    _require(len(said.turns) == len(held.turns), "the dialogue has other turns than the memory")
    _require(all(map(lambda text, turn: len(text) <= turn, said.turns, held.turns)), "a turn is longer than its text")
    words = len(setup.adapter.model.get_input_embeddings().weight)
    _require(all(0 <= token < words for text in (said.captions, *said.turns) for token in text), "a word is unknown")
    video = held.tokens - held.text
    if policy.evicts:
        fits = video + pending.block * pending.patch_tokens(setup) <= budget.video(held.text)
    else:
        fits = video + pending.tokens(setup) <= budget.video(len(setup.prompt_ids) + budget.dialogue)
    _require(fits, "there is more of the video than its share")
    _require(
        not (policy.one_size and pending.size) or held.cell_tokens % pending.grid.cells == 0, "a patch is not whole"
    )
    run = held.run
    _require(
        run is None or (0 <= run.start <= run.stop <= held.tokens and run.stop - run.start == held.cell_tokens),
        "cells do not lie where they are said to",
    )


def _check_cursor(cursor: Cursor, tokens: int, pending: Pending, setup: Setup) -> None:
    """Positions go on from where they are as the rule has it."""
    rule, now = setup.rule, max(pending.time, 0.0)
    _require(tokens or cursor == Cursor(), "nothing is held, and yet there are positions")
    _require(max(cursor.next, cursor.patch) <= MOST_POSITIONS, "there are more positions or patches than are counted")
    _require(cursor.newest <= cursor.next, "the newest patch is ahead of the cursor")
    _require(0 < cursor.pace <= 1, "positions count faster than the model's own, or not at all")
    slack = _SLACK if rule.flat else 0.0
    times = (cursor.first, cursor.started, cursor.latest)
    _require(all(-slack <= time <= now + slack for time in times), "patches are later than the newest frame")
    _require(abs(cursor.began) <= 2 * LATEST and cursor.started <= cursor.latest + slack, "a video began after its end")
    if cursor.base is None:
        return
    passed = rule.offset(cursor.index - 1, cursor.latest - cursor.started, cursor.pace)
    _require(not rule.flat and cursor.open and cursor.index > 0, "a span is open that cannot be")
    _require(cursor.base <= cursor.newest == cursor.origin + passed, "the newest patch is not where its time has it")


def _check_pending(pending: Pending, held: Held, setup: Setup) -> None:
    """What waits was given after what is held, in order, and can become patches."""
    starts = setup.gatherer.starts(pending.partial)
    if not pending.frames:
        given = pending.patches or starts
        _require(pending.time == -1.0 and not given and not held.tokens, "no frame was given, and yet there are some")
        return
    _require(0 <= pending.time <= LATEST and pending.size, "the newest frame has no time")
    _require(len(pending.patches) < pending.block, "more patches wait than a block has")
    grid = pending.grid
    try:
        setup.gatherer.check(pending.partial, pending.size, (grid.rows, grid.columns), pending.patches)
        _check_gated(pending, held, setup)
        _check_recent(pending, setup)
    except ValueError as error:
        raise InconsistentError(str(error)) from error
    flat = setup.rule.flat and setup.adapter.modality == "audio"
    times = [*(time for patch in pending.patches for time in patch.times), *starts]
    slack = _SLACK if flat else 0.0
    _require(all(-slack <= time <= pending.time + slack for time in times), "what waits is later than the newest frame")
    if not flat:
        known = [held.cursor.latest] * bool(held.cursor.patch) + times
        _require(all(one < other for one, other in pairwise(known)), "what waits is not in order")
    limit, caption_ids = setup.adapter.caption_limit, setup.adapter.caption_ids
    if limit:
        longest = max((sum(map(len, caption_ids([time], pending.frames, opens=True))) for time in times), default=0)
        _require(longest <= limit, "a caption is longer than any")


def _check_gated(pending: Pending, held: Held, setup: Setup) -> None:
    """What a gate has let through. After text, a video opens with a whole patch."""
    gated = [patch for patch in pending.patches if patch.places is not None]
    _require(setup.gate or not (pending.gated or pending.shown or gated), "the stream has no gate, but gated frames")
    opens = not held.tokens or not held.cursor.open
    _require(not (opens and gated and gated[0] is pending.patches[0]), "a video does not open with a whole patch")
    _require(pending.gated >= sum(patch.tokens - patch.given for patch in gated), "more was gated than is said")
    _require(pending.shown or not gated, "it is not said what cells showed last")
    if pending.shown:
        pending.shown.check(pending.grid.cells, setup.adapter.patch_frames)


def _check_recent(pending: Pending, setup: Setup) -> None:
    """The frames kept for a second look are the last ones, and no larger than they are kept."""
    recent, most = pending.recent, setup.config.look_again
    _require(len(recent) == min(most, pending.frames), "other frames are kept for a second look than the last ones")
    for frame in recent:
        pixels = frame.image.shape[0] * frame.image.shape[1] if frame.image.ndim == 3 else 0
        like = frame.image.dtype == np.uint8 and frame.image.shape[2:] == (3,)
        _require(like and 0 < pixels <= setup.picture_pixels, "a frame kept for a second look is not a picture")
    times = [frame.time for frame in recent]
    _require(all(map(operator.lt, times, [*times[1:], math.inf])), "frames kept for a second look are not in order")
    _require(not times or times[-1] == pending.time, "the last frame is not kept for a second look")


def check_slots(columns: Mapping[str, Tensor], state: Saved, captions: Tensor, setup: Setup) -> None:
    """Raises `InconsistentError` where the slots of some rows are not those of such a stream.

    Args:
        columns: `[rows, held]` each, on the CPU.
        captions: for each caption token held the temporal patch that it belongs to, ascending.
    """
    held, cell, patch = state.held, columns["cell"], columns["patch"]
    text, cells = patch == NOWHERE, cell >= 0
    words = ~(text | cells)
    above = cell_limit(state.grids)
    inside = bool(((patch >= NOWHERE) & (patch < held.cursor.patch) & (cell < above)).all())
    _require(inside and not (cells & text).any(), "a token is of no patch or cell that there was")
    for kind, count in ((text, held.text), (cells, held.cell_tokens), (words, len(captions))):
        _require((kind.sum(1) == count).all(), "rows hold other numbers of tokens than they should")
    _require((cell[words] == NOWHERE).all(), "a caption's token is of a cell")
    _require((patch[words].view(len(patch), -1).sort(1).values == captions).all(), "rows hold other captions")
    _require((cell[text].view(len(cell), -1).sort(1).values == _labels(held)).all(), "rows hold other texts")
    # Patches of which anything is held have their captions, in families that have any.
    captioned = torch.isin(patch[cells], captions).all() if setup.adapter.caption_limit else not len(captions)
    _require(captioned, "a patch is without its caption, or has one that cannot be")
    place = patch.long() * above + cell
    place = place[cells].view(len(place), -1).sort(1).values
    _require((place.diff(dim=1) > 0).all(), "a token is held twice")
    _require(held.run is None or cells[:, held.run].all(), "cells do not lie where they are said to")
    time, now = columns["time"], max(state.pending.time, 0.0)
    _require(((time >= -_SLACK) & (time <= now + _SLACK)).all(), "a token is later than the newest frame")
    _check_positions(columns, cells, state, setup)


def _labels(held: Held) -> Tensor:
    """What text says in place of a cell, ascending."""
    turns = enumerate(held.turns, held.turns_gone + 1)
    labels = [NOWHERE] * held.prompt + [NOWHERE - turn for turn, tokens in turns for _ in range(tokens)]
    return torch.tensor(labels, dtype=torch.int32).sort().values


def _check_positions(columns: Mapping[str, Tensor], cells: Tensor, state: Saved, setup: Setup) -> None:
    """Positions are before the cursor, and cells stand in their patch's rows and columns."""
    temporal, end = columns["temporal"], state.held.cursor.next
    _require(((temporal >= 0) & (temporal < end)).all(), "a position is beyond the cursor")
    if setup.rule.flat:
        base = columns["base"]
        _require(((base <= temporal) & (base >= -end) & (cells | (base == temporal))).all(), "a patch begins nowhere")
        return
    row = torch.zeros(cell_limit(state.grids) + 1, dtype=torch.int32)
    column = torch.zeros_like(row)
    for grid in state.grids:
        number = torch.arange(grid.cells, dtype=torch.int32)
        row[grid.first_cell : grid.first_cell + grid.cells] = number // grid.columns
        column[grid.first_cell : grid.first_cell + grid.cells] = number % grid.columns
    own = torch.where(cells, columns["cell"], len(row) - 1).long()
    base, other = columns["height"] - row[own], columns["width"] - column[own]
    reach = 1 << max(10, end.bit_length())  # positions for which there are rotations
    furthest = torch.maximum(columns["height"], columns["width"])
    _require(((base == other) & (base >= 0) & (furthest < reach)).all(), "a cell is not in its row and column")
    _require((cells | (base == temporal)).all(), "a text stands in rows and columns")


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether all of them are numbers, looked at a row at a time."""
    return all(math.isfinite(float(part.abs().max())) for tensor in tensors for part in tensor if part.numel())
