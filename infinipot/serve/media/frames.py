"""Messages between the server and its decoding processes: a JSON header and bytes. Nothing in them is run.

8 bytes: length of the header, length of the content; the header in JSON; the content.
"""

import json
import struct
from typing import Any, BinaryIO

PREFIX = struct.Struct("!II")
LONGEST_HEADER = 1 << 16


def packed(header: dict[str, Any], *content: bytes | memoryview) -> bytes:
    """The beginning of a message, after which its content goes."""
    text = json.dumps(header).encode()
    return PREFIX.pack(len(text), sum(map(len, content))) + text


def send(file: BinaryIO, header: dict[str, Any], *content: bytes | memoryview) -> None:
    """Writes a message, its content in parts."""
    file.writelines([packed(header, *content), *content])
    file.flush()


def receive(file: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """Reads a message; None where there are no more."""
    prefix = file.read(PREFIX.size)
    if len(prefix) < PREFIX.size:
        return None
    header, content = PREFIX.unpack(prefix)
    return json.loads(file.read(header)), file.read(content)
