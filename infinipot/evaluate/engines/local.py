"""One model in this process, one video after the other."""

from collections.abc import Iterator, Sequence

from infinipot.evaluate.records import Item
from infinipot.evaluate.run import Job
from infinipot.evaluate.setup import Event, Origin
from infinipot.evaluate.watch import Watcher


class Local:
    """Watches here."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def origin(self) -> Origin:
        return self._watcher.origin()

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Item, Event]]:
        for job in jobs:
            for event in self._watcher.watch(job.item, job.questions):
                yield job.item, event

    def report(self) -> str | None:
        return None

    def close(self) -> None:
        """There is nothing to let go of: the model is its owner's."""
