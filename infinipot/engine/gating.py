"""The gate ahead of the model: cells that show what they showed when they were last given are not given again.

Video that stands still tells nothing new, and the model need not run over it. That tokens like those of the same place
in the frame before can go is TimeChat-Online's rule (arXiv 2504.17343) and EVS's (arXiv 2510.14624); where the
threshold lies is found by Otsu's method, as in FluxMem (arXiv 2603.02096). What differs, and why:

- A cell is compared with what it showed when it was last *given*, not a frame ago: so changes too slow to be seen from
  frame to frame add up, and what the model was shown last is never further from the present than the threshold.
- The threshold is that of one patch, since a stream knows no others, and bounded on both sides. Otsu's method always
  finds two classes, in pure noise as well: below the bounds everything is noise, above them everything has changed.
- Pictures are compared as the vision encoder gets them, ahead of it. So a patch that shows nothing new costs no
  encoding, and the choice is made where pixels lie, on the CPU: no device is waited for, although how many tokens
  there are depends on what they show.

A cell's picture is the mean colour of 4 x 4 blocks of each frame, and the block that changed most counts: averaging
takes the sensor's noise away, and the maximum keeps what is small. Cells that touch one that has changed are given with
it, so that a thing is seen as a whole where only its edge moves. A patch of which more than half has changed, as at a
scene cut or under a moving camera, is given whole; as is the first one, and one long after the last whole one. A model
has never seen a part of a frame, and may be led astray by one: a gate of whole patches gives all of a patch of which
any cell has changed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from infinipot.gate import Gate
from infinipot.models import Patch
from infinipot.models.pictures import picture_bytes

_WHOLE = 0.5  # a share of cells: where more have changed, all are given
_LONGEST = 64  # patches in a row that are not given whole, so that what is held of a place is not from long ago


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What each cell of the current grid showed when it was last given.

    Attributes:
        pictures: `[cells, blocks, 3]` uint8, see `models.pictures`.
        since: patches that were not given whole since the last one that was.
    """

    pictures: Tensor
    since: int = 0

    def check(self, cells: int, frames: int) -> None:
        """Raises ValueError where this is not of a grid of so many cells and patches of so many frames."""
        if self.pictures.dtype != torch.uint8 or self.pictures.shape != (cells, picture_bytes(frames) // 3, 3):
            raise ValueError("what cells showed last is not of their grid")
        if not 0 <= self.since <= _LONGEST:
            raise ValueError("a patch was not given whole for too long")


def admit(gate: Gate, seen: Tensor, patch: Patch, shown: Shown | None) -> tuple[Patch, Shown]:
    """What the model is given of a full patch, and what it has been shown then.

    Args:
        gate: how far apart pictures have to be.
        seen: what each cell of the patch shows, see `Adapter.pictures`.
        patch: whose cells are chosen.
        shown: before it; None where nothing of this grid was.
    """
    if shown is None or shown.since >= _LONGEST:
        return patch, Shown(seen)
    apart = distances(seen, shown.pictures)
    changed = apart >= min(max(otsu(apart), gate.least), gate.most)
    around = changed.any() if gate.whole else with_neighbours(changed, patch.rows, patch.columns)
    given = around.expand(changed.shape)
    if int(changed.sum()) > _WHOLE * len(changed) or bool(given.all()):
        return patch, Shown(seen)
    kept = torch.where(given[:, None, None], seen, shown.pictures)
    return patch.part(given.nonzero()[:, 0].tolist()), Shown(kept, shown.since + 1)


def distances(one: Tensor, other: Tensor) -> Tensor:
    """How far apart two pictures of each cell are, `[cells]` float32 from 0 to 1: their blocks' largest difference."""
    apart = (one.to(torch.int16) - other.to(torch.int16)).abs_()
    return apart.float().mean(-1).amax(-1).div_(255)


def with_neighbours(cells: Tensor, rows: int, columns: int) -> Tensor:
    """Some cells of a grid, `[rows · columns]` bool, together with those that touch them."""
    return max_pool2d(cells.view(1, rows, columns).float(), 3, stride=1, padding=1).flatten() > 0


def otsu(values: Tensor) -> float:
    """The threshold that parts `[n]` values into two classes whose variance between them is largest (N. Otsu, A
    Threshold Selection Method from Gray-Level Histograms, 1979): halfway between their nearest values."""
    ordered = values.double().sort().values
    if len(ordered) < 2:
        return float(ordered.max())
    below = torch.arange(1, len(ordered), dtype=torch.float64)
    sums = ordered.cumsum(0)
    means = sums[:-1] / below - (sums[-1] - sums[:-1]) / (len(ordered) - below)
    split = int((below * (len(ordered) - below) * means**2).argmax())
    return float(ordered[split : split + 2].mean())
