"""Questions about the newest seconds: which slots attention skips while one is answered. Nothing is evicted."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Window:
    """The newest stretch of a video, and nothing before it; text is always seen.

    Attributes:
        since: the second of the video at which it begins, by the first frame of a temporal patch.
        looked: the first temporal patch of a second look; these patches are seen however old they are.
        gated: the cell numbers of the current grid if a gate leaves out cells that have not changed. Then a cell's
            newest token is seen however old it is, in all rows that hold it, since it shows the present. Empty without
            a gate.
        whole: whether the gate passes whole patches, so that the newest patch shows the present.
    """

    since: float
    looked: int
    gated: range = range(0)
    whole: bool = False

    def hidden(self, patch: Tensor, cell: Tensor, time: Tensor) -> Tensor:
        """Which tokens are too old, `[rows, N]` bool, given columns of the memory, `[rows, N]` each."""
        old = (patch >= 0) & (patch < self.looked) & (time < self.since)
        if not self.gated:
            return old
        place = (cell - self.gated.start).long()
        present = (place >= 0) & (place < len(self.gated))
        place.clamp_(0, len(self.gated) - 1)
        latest = patch.masked_fill(~present, -1)
        newest = latest.new_full((len(self.gated),), -1).scatter_reduce_(0, place.view(-1), latest.view(-1), "amax")
        if self.whole:
            newest = newest.amax().expand_as(newest)
        return old & (latest < newest[place])
