"""A question about the newest seconds: which slots attention passes over while it is asked. Nothing leaves for it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Window:
    """The newest stretch of a video, and nothing before it; text is always seen.

    Attributes:
        since: second of the video at which it begins, by the first frame of a temporal patch.
        looked: the temporal patches from this one on are those of a second look, which is seen however old it is.
        cells: cell numbers are below it, where a gate leaves out cells that show what they showed before: then the
            newest token of each cell is seen however old it is, since it shows the present. 0 where all are given.
    """

    since: float
    looked: int
    cells: int = 0

    def hidden(self, patch: Tensor, cell: Tensor, time: Tensor) -> Tensor:
        """Which tokens are too old, `[rows, N]` bool, by the columns of the memory, `[rows, N]` each."""
        old = (patch >= 0) & (patch < self.looked) & (time < self.since)
        if not self.cells:
            return old
        place = (cell + 1).clamp_min(0).long()  # 0 is for text and captions
        newest = patch.new_full((len(patch), self.cells + 1), -1).scatter_reduce_(1, place, patch, "amax")
        return old & ((cell < 0) | (patch < newest.gather(1, place)))
