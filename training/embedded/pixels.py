"""What the vision tower sees of a clip, and what it should make of it. This file knows pixels, not tokens."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import torch

from infinipot.embedded.facts import MERGE, PATCH, SIZE, TEMPORAL_PATCH
from infinipot.embedded.words import COLOURS, SHAPES
from infinipot.embedded.world import Clip

IGNORE = -100  # the label that losses skip
CELL = PATCH * MERGE  # pixels on each side of what a visual token sees
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)  # the processor's own
_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


@dataclass(slots=True)
class Pixels:
    """What the vision tower sees of one clip and what it should make of it, T temporal patches of C cells.

    Attributes:
        patches: `[T * 4 * C, 384]` float32, as the video processor lays them out.
        colours: `[T * C]`, the colour (its place in `COLOURS`) that each cell shows; `len(COLOURS)` for
            none, IGNORE where too little is visible.
        shapes: `[T * C]`, the same for `SHAPES`.
        centres: `[T * C]`, 1 where the centre of a shape is, 0 elsewhere.
        arrivals: `[T * C]`, 1 where the centre of a shape is that was not there before, 0 elsewhere.
        corners: `[T * C]`, the corner (its place in `PLACES`) of the centre of the shape that a cell shows, or else of
            the cell.
        events: `[T * C]`, the number of the event that is shown, in the order of the clip, else IGNORE.
        lasting: `[T * C]`, 1 where the second frame still shows a shape, 0 where only the first does, else IGNORE.
    """

    patches: torch.Tensor
    colours: torch.Tensor
    shapes: torch.Tensor
    centres: torch.Tensor
    arrivals: torch.Tensor
    corners: torch.Tensor
    events: torch.Tensor
    lasting: torch.Tensor


def join(pixels: Iterable[Pixels]) -> Pixels:
    """The pixels of several clips, one behind the other."""
    pixels = list(pixels)
    return Pixels(*(torch.cat([getattr(one, each.name) for one in pixels]) for each in fields(Pixels)))


def see(clip: Clip, moments: list[tuple[float, float]]) -> Pixels:
    """The pixels of temporal patches, given by the times of their two frames."""
    images, covered = clip.draw([time for pair in moments for time in pair])
    side = clip.size // CELL
    areas = covered.reshape(-1, TEMPORAL_PATCH, side, CELL, side, CELL).sum((3, 5))
    first, second = areas.reshape(-1, TEMPORAL_PATCH, side**2).swapaxes(0, 1)  # [T, cells] each, pixels
    area = np.maximum(first, second)
    shown = [clip.visible(one) or clip.visible(other) for one, other in moments]
    labels = []
    for names, attribute in ((list(COLOURS), "colour"), (list(SHAPES), "shape")):
        there = np.array([[names.index(getattr(event, attribute))] if event else [0] for event in shown])
        labels.append(np.where(area >= 30, there, np.where(area > 0, IGNORE, len(names))))
    centres, arrivals = np.zeros_like(area, np.int64), np.zeros_like(area, np.int64)
    of_cells = _corners(side)
    corners = np.tile(of_cells, (len(area), 1))
    last = None
    for t, (event, pair) in enumerate(zip(shown, moments, strict=True)):
        if event:
            x, y = event.centre(max(pair[0], event.start))
            middle = int(y * side // SIZE) * side + int(x * side // SIZE)
            centres[t, middle] = 1
            corners[t, area[t] >= 30] = of_cells[middle]
            arrivals[t] = centres[t] * (event is not last)
        last = event
    numbers = np.array([[clip.events.index(event)] if event else [0] for event in shown])
    events = np.where(area >= 30, numbers, IGNORE)
    labels += [
        centres,
        arrivals,
        corners,
        events,
        np.where(second >= 30, 1, np.where((second == 0) & (first >= 30), 0, IGNORE)),
    ]
    return Pixels(patchify(images), *(torch.from_numpy(label.reshape(-1)) for label in labels))


def _corners(side: int) -> np.ndarray:
    """The corner (its place in `PLACES`) of each of `side * side` cells, `[side * side]`."""
    row, column = np.divmod(np.arange(side**2), side)
    return 2 * (row >= side // 2) + (column >= side // 2)


def patchify(images: np.ndarray) -> torch.Tensor:
    """Frames `[2T, size, size, 3]` uint8 to normalised patches `[T * 4 * C, 384]`, as the video processor does."""
    pixels = (images.astype(np.float32) / 255 - _MEAN) / _STD
    side = (images.shape[1] // CELL, MERGE, PATCH)
    split = pixels.reshape(-1, TEMPORAL_PATCH, *side, *side, 3)  # t, f, row, mr, pr, column, mc, pc, channel
    ordered = split.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)  # t, row, column, mr, mc, channel, f, pr, pc
    return torch.from_numpy(np.ascontiguousarray(ordered).reshape(-1, 3 * TEMPORAL_PATCH * PATCH**2))
