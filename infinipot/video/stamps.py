"""When a file's pictures are shown, found from their packets alone, without decoding. Knows nothing of pixels.

Containers declare lengths that are not those of the pictures: of the longest sound, or of the subtitles; counted from 0
where the pictures begin later; guessed from a bit rate. What the packets say is what the decoder will say.
"""

from collections.abc import Generator, Iterator
from math import inf

from av import time_base
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from infinipot.video.address import Address
from infinipot.video.container import has_stamps, open_container
from infinipot.video.decoder import in_seconds, stamp_of

_BACK = 3.0  # seconds: formats without an index are entered anywhere, behind pictures that are shown later


def stamps_of(address: Address, near: float | None = None) -> Generator[tuple[float | None, float], None, None]:
    """Yields time stamp or None, and duration, in seconds, of each picture in the order in which they are shown.

    Packets come in the order in which they are decoded. Those from one key picture to the next are put in order: none
    of them is shown before those that came before the key picture.

    Args:
        near: seconds of the file's clock before which to begin, with a key picture if possible; None: with the first.
    """
    container, stream = open_container(address)
    try:
        if near is not None:
            container.seek(int((near - _BACK) * time_base))
        stamps = has_stamps(container)
        for group in _groups(container, stream):
            shown = [(stamp_of(packet) if stamps else None, _duration(packet)) for packet in group]
            yield from sorted(shown, key=lambda picture: inf if picture[0] is None else picture[0])
    finally:
        container.close()


def _groups(container: InputContainer, stream: VideoStream) -> Iterator[list[Packet]]:
    """Yields the packets from one key picture to the next."""
    group: list[Packet] = []
    for packet in _packets(container, stream):
        if packet.is_keyframe and group:
            yield group
            group = []
        group.append(packet)
    yield group


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    """Yields the packets that are shown: not the empty one at the end, nor those that an edit list cuts away."""
    for packet in container.demux(stream):
        if not packet.is_discard and (packet.size or packet.pts is not None):
            yield packet


def _duration(packet: Packet) -> float:
    return max(in_seconds(packet.duration, packet.time_base) or 0.0, 0.0)
