"""Text that comes from outside: whether UTF-8 can hold it, and how it is written down without a loss.

What is no UTF-8 on a command line, in a file's name or in a pipe reaches Python as lone surrogates, and so does half of
a character in JSON. No tokenizer takes such a text, and no file in UTF-8 holds it as it is.
"""

import json
from typing import Any

from infinipot.errors import InfinipotError

_ESCAPED = range(0xDC80, 0xDD00)  # how Python writes the bytes 0x80 to 0xff where they are no UTF-8
_SHOWN = 20


def check_text(text: str, what: str, error: type[InfinipotError] = InfinipotError) -> None:
    """Raises `error`, which calls the text `what`, if it holds what is no character."""
    try:
        text.encode()
    except UnicodeEncodeError as found:
        code = ord(text[found.start])
        odd = f"the byte 0x{code - 0xDC00:02x}" if code in _ESCAPED else f"half of a character, U+{code:04X},"
        ahead = text[max(0, found.start - _SHOWN) : found.start]
        place = f"after {ahead!r}" if ahead else "at its beginning"
        raise error(f"{what} is not text in UTF-8: {odd} stands {place}") from None


def to_json(value: Any, *, encoding: str = "utf-8", **options: Any) -> str:
    """A value as JSON that `encoding` can hold: in its own letters, or else in escapes, which every reader undoes."""
    text = json.dumps(value, ensure_ascii=False, **options)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(value, **options)
    return text
