"""Tells from the first bytes of a file how it can be read. Knows nothing of where they come from."""

import struct

HEAD = 4096
"""Bytes in which a file says what it is made of."""

_ANIMATED = 0x02  # of the flags of a WebP file's VP8X chunk
_HEADER = 30  # bytes up to the end of that chunk
_BEFORE = (b"ftyp", b"styp", b"sidx", b"pdin", b"free", b"skip", b"wide", b"uuid")  # ahead of index and pictures
_BOX, _LONG = struct.Struct("!I4s"), struct.Struct("!Q")


def animation_size(head: bytes) -> tuple[int, int] | None:
    """Returns width and height of an animated WebP file, as its first bytes say, or None where it is none."""
    if head[:4] != b"RIFF" or head[8:16] != b"WEBPVP8X" or len(head) < _HEADER or not head[20] & _ANIMATED:
        return None
    return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1


def goes_back(head: bytes) -> bool:
    """Returns whether who reads what begins so has to go back in it, however it comes.

    An animation of WebP or PNG is read so; and MP4 that was not made for it has its index after its pictures.
    """
    return animation_size(head) is not None or b"acTL" in head or _index_is_last(head)


def _index_is_last(head: bytes) -> bool:
    """Returns whether the pictures of an MP4 file come ahead of its index (ISO/IEC 14496-12, section 4.2)."""
    place = 0
    while place + _BOX.size + _LONG.size <= len(head):
        size, kind = _BOX.unpack_from(head, place)
        if kind not in _BEFORE:
            return bool(kind == b"mdat" and place)
        if size == 1:
            (size,) = _LONG.unpack_from(head, place + _BOX.size)
        if size < _BOX.size:
            return False
        place += size
    return False
