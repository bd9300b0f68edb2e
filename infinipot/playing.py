"""The one loop that plays a source into streams and stops at moments: whoever watches and asks uses it.

Knows neither what is asked nor where frames come from.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from infinipot.audio import Sound
from infinipot.engine import runner
from infinipot.stream import Stream
from infinipot.video import Frame

END = math.inf  # the moment after the last frame


class Moment(NamedTuple):
    """The time at which playing stopped.

    Attributes:
        time: that was asked for, in seconds.
        over: whether the source came to its end before.
    """

    time: float
    over: bool


def play(
    source: Iterable[Frame | Sound],
    streams: Sequence[Stream],
    moments: Iterable[float] = (END,),
    on_frame: Callable[[Frame | Sound], None] = lambda _: None,
    on_failure: Callable[[Stream, Exception], None] | None = None,
) -> Iterator[Moment]:
    """Has streams of one model watch, or listen to, a source side by side, in packed steps.

    Args:
        source: what is played, in order of time.
        streams: what takes it in; nothing else uses them between two moments. Those that whoever iterates, or
            `on_failure`, takes out of a list take no more in; where none is left nothing is played any more.
        moments: in seconds, where to stop; `END` is after everything.
        on_frame: called after each frame that was taken in.
        on_failure: called with a stream that cannot take in a frame, and why; the others go on. By default that is
            raised.

    Yields:
        Each moment, in order, once all frames up to it were taken in and none after it. Sound is heard up to the very
        moment. Those that are not reached are yielded at the end. What is after the last one is played if whoever
        iterates goes on, and left if they stop.

    Raises:
        InfinipotError: the source or a stream fails.
    """
    due = sorted(float(moment) for moment in moments)
    for given in source:
        left = given
        while due and due[0] < left.end:
            if isinstance(left, Sound):
                early, left = left.split(due[0])
                if len(early.samples):
                    _take(streams, early, on_failure)
            yield Moment(due.pop(0), over=False)
        if not isinstance(left, Sound) or len(left.samples):
            _take(streams, left, on_failure)
        if not streams:
            return
        on_frame(given)
    for time in due:
        yield Moment(time, over=True)


def _take(
    streams: Sequence[Stream], given: Frame | Sound, on_failure: Callable[[Stream, Exception], None] | None
) -> None:
    """Has streams take in a frame or sound in packed steps; what goes wrong there is every packed stream's error, so
    that each of those tries it alone."""
    for stream in [*streams] if len(streams) == 1 else _failed(streams, given):
        try:
            stream.feed(given)
        except Exception as error:
            if on_failure is None:
                raise
            on_failure(stream, error)


def _failed(streams: Sequence[Stream], given: Frame | Sound) -> list[Stream]:
    """The streams that did not take in what is given in packed steps, each of them as it was before."""
    begun = [stream.begin_feed(given) for stream in streams]
    runner.finish(*begun)
    failed = []
    for stream, task in zip(streams, begun, strict=True):
        try:
            task.result()
        except Exception:
            failed.append(stream)
    return failed
