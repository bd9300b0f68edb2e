"""Stream times of frames whose times are those of a clock: the server's own, or a client's."""

from infinipot.serve.streams.served import Served


class Placing:
    """Turns instants of one clock into seconds of a stream: frames lie as far apart as their instants.

    The clock's own numbers mean nothing: it may be another machine's, and may be set.

    Args:
        behind: seconds by which an instant may lie before the newest frame. Where one lies further back, the clock was
            set, or several frames came at once, and the count begins anew.
    """

    def __init__(self, behind: float = 0.0) -> None:
        self._behind = behind
        self._begun: float | None = None

    def at(self, instant: float, served: Served, begin: float | None = None) -> float:
        """The seconds of the stream for an instant.

        Args:
            instant: of the clock, in seconds.
            served: the stream.
            begin: where the count begins, in seconds of the stream; left out, a period of `fps` after the newest frame.
        """
        last = served.time
        if self._begun is None or (last is not None and instant - self._begun <= last - self._behind):
            following = 0.0 if last is None else last + 1 / served.config.fps
            self._begun = instant - (following if begin is None else begin)
        return instant - self._begun
