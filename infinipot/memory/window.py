"""A question about the newest seconds: which slots attention passes over while it is asked. Nothing leaves for it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Window:
    """The newest stretch of a video, and nothing before it; text is always seen.

    Attributes:
        since: second of the video at which it begins, by the first frame of a temporal patch.
        looked: the temporal patches from this one on are those of a second look, which is seen however old it is.
        gated: the numbers of the present grid's cells, where a gate leaves out those that show what they showed before:
            then what any row holds of a cell's newest token is seen however old it is, since it shows the present.
            Empty where all are given.
        whole: the gate gives patches whole, so that the present is the newest of them.
    """

    since: float
    looked: int
    gated: range = range(0)
    whole: bool = False

    def hidden(self, patch: Tensor, cell: Tensor, time: Tensor) -> Tensor:
        """Which tokens are too old, `[rows, N]` bool, by the columns of the memory, `[rows, N]` each."""
        old = (patch >= 0) & (patch < self.looked) & (time < self.since)
        if not self.gated:
            return old
        place = (cell - self.gated.start).long()
        present = (place >= 0) & (place < len(self.gated))
        place.clamp_(0, len(self.gated) - 1)
        given = patch.masked_fill(~present, -1)
        newest = given.new_full((len(self.gated),), -1).scatter_reduce_(0, place.view(-1), given.view(-1), "amax")
        if self.whole:
            newest = newest.amax().expand_as(newest)
        return old & (given < newest[place])
