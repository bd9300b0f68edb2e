"""When a file's pictures are shown, found from their packets alone, without decoding. Knows nothing of pixels.

Containers declare lengths that are not those of the pictures: of the longest sound, or of the subtitles; counted from 0
where the pictures begin later; guessed from a bit rate. What the packets say is what the decoder will say.
"""

from collections.abc import Generator, Iterator
from contextlib import suppress
from heapq import heappop, heappush

from av import time_base
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from infinipot.video.address import Address
from infinipot.video.container import has_stamps, open_container
from infinipot.video.decoder import in_seconds, stamp_of

_REORDERED = 16  # pictures that are coded after one and shown ahead of it, at the most: H.264 and H.265
_BACK = 3.0  # seconds: formats without an index are entered anywhere, after pictures that are shown later


def stamps_of(address: Address, near: float | None = None) -> Generator[tuple[float | None, float], None, None]:
    """Yields time stamp or None, and duration, in seconds, of each picture in the order in which they are shown.

    Packets come in the order in which they are decoded. Those from one key picture to the next are put in order: none
    of them is shown before those that came before the key picture.

    What cannot be read any more ends it: the decoder will come no further, and tells.

    Args:
        near: seconds of the file's clock before which to begin, with a key picture if possible; None: with the first.
    """
    container, stream = open_container(address)
    try:
        if near is not None:
            with suppress(Exception):  # then all is read
                container.seek(int((near - _BACK) * time_base))
        stamped = has_stamps(container)
        group: list[tuple[float | None, float]] = []
        for packet in _packets(container, stream):
            if packet.is_keyframe:
                yield from _in_order(group)
                group = []
            duration = in_seconds(packet.duration, packet.time_base) or 0.0
            group.append((stamp_of(packet) if stamped else None, max(duration, 0.0)))
        yield from _in_order(group)
    finally:
        container.close()


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    """Yields the packets that are shown: not the empty one at the end, nor those that an edit list cuts away."""
    with suppress(Exception):
        for packet in container.demux(stream):
            if not packet.is_discard and (packet.size or packet.pts is not None):
                yield packet


def _without_wrong(group: list[tuple[float | None, float]]) -> list[tuple[float | None, float]]:
    """Takes away a stamp that is later than those of so many pictures coded after it that no format would mean it."""
    earliest: list[float] = []  # of what is coded after, so many; negative, so that the heap has the latest on top
    right = []
    for stamp, duration in reversed(group):
        wrong = stamp is not None and len(earliest) > _REORDERED and stamp > -earliest[0]
        right.append((None if wrong else stamp, duration))
        if stamp is not None:
            heappush(earliest, -stamp)
            if len(earliest) > _REORDERED + 1:
                heappop(earliest)
    return right[::-1]


def _in_order(group: list[tuple[float | None, float]]) -> list[tuple[float | None, float]]:
    """Sorts pictures by their stamps. Those without lie in the gaps between, or last where no gap is so wide."""
    group = _without_wrong(group)
    stamped = sorted((picture for picture in group if picture[0] is not None), key=lambda picture: picture[0] or 0.0)
    missing = [picture for picture in group if picture[0] is None]
    if stamped and missing and missing[0][1]:
        first, last = (stamp or 0.0 for stamp, _ in (stamped[0], stamped[-1]))
        if round((last - first) / missing[0][1]) + 1 >= len(group):
            return stamped
    return stamped + missing
