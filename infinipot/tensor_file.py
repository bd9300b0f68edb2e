"""Files of named tensors and a text, in the safetensors format: written whole or not at all, read with distrust.

The format is eight bytes with the length of a JSON header, the header, and the tensors' bytes one after the other
(https://github.com/huggingface/safetensors). It is written here row by row, since the library wants all bytes in memory
at once; what is read is a map of the file, of which nothing is in memory until someone looks. A checksum over header
and tensors stands in the header at a fixed place. Knows nothing of streams.
"""

import json
import math
import mmap
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from infinipot.durable import replacing
from infinipot.errors import SnapshotError

LONGEST_HEADER = 1 << 20  # bytes: JSON takes a multiple of its length when it is read
_ALIGNMENT = 8
_LONG = 400  # letters of a line
_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_BEGINS = b'{"__metadata__": {"checksum": "'
_CHECKSUM = slice(len(_BEGINS), len(_BEGINS) + 8)
_BLANK = b"0" * 8


class Entry(NamedTuple):
    """The header's entry for a tensor; `start` counts bytes from the end of the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int


def write(path: Path, text: str, tensors: Mapping[str, Tensor]) -> None:
    """Writes a file in place of the one that may be there, which stays until the new one is on the disk.

    Args:
        path: of the file; what is on its way lies beside it, under one name of its own.
        text: anything.
        tensors: by name; a row of each is in memory at a time.

    Raises:
        SnapshotError: it cannot be written, something else than a file is there, or someone else is writing it.
    """
    _check_place(path)
    # Wide types come first: so each tensor is aligned.
    ordered = dict(sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize))
    header = _header(text, ordered)
    if len(header) > LONGEST_HEADER:
        raise SnapshotError(
            f"{path}: dialogue and settings take {len(header)} bytes; at most {LONGEST_HEADER} are allowed"
        )
    try:
        with replacing(path) as file:
            length = len(header).to_bytes(8, "little")
            file.write(length + header)
            checksum = zlib.crc32(header)
            for tensor in ordered.values():
                for content in _contents(tensor):
                    file.write(content)
                    checksum = zlib.crc32(content, checksum)
            file.seek(len(length) + _CHECKSUM.start)
            file.write(b"%08x" % checksum)
    except BlockingIOError as error:
        raise SnapshotError(f"{error.filename}: {error.strerror}: try again, or save under another name") from error
    except OSError as error:
        raise SnapshotError(f"{path} cannot be written: {error.strerror or error}") from error


def _check_place(path: Path) -> None:
    """Raises `SnapshotError` where no file can be, or where it would take the place of a device, a pipe or a folder."""
    if not path.name or "\0" in str(path):
        raise SnapshotError(f"{str(path)!r} is not the name of a file: give one, such as street.safetensors")
    if _kind(path) == "another":
        raise SnapshotError(f"{path} is a directory or a device, so it is left as it is: give the name of a file")


def _kind(path: Path) -> Literal["none", "file", "another"]:
    """Returns what stands at a path.

    Raises:
        SnapshotError: the system does not say.
    """
    try:
        return "none" if not path.exists() else "file" if path.is_file() else "another"
    except OSError as error:  # too long a name
        raise SnapshotError(f"{path} cannot be looked at: {error.strerror or error}") from error


def _header(text: str, tensors: Mapping[str, Tensor]) -> bytes:
    entries, start = {}, 0
    for name, tensor in tensors.items():
        offsets = [start, start + tensor.nbytes]
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        start += tensor.nbytes
    header = json.dumps({"__metadata__": {"checksum": _BLANK.decode(), "text": text}, **entries}).encode()
    return header + b" " * (-len(header) % _ALIGNMENT)


def _contents(tensor: Tensor) -> Iterator[Any]:
    """The bytes of a tensor, those of a row at a time where it has rows."""
    for part in filter(torch.Tensor.numel, tensor if tensor.dim() > 1 else [tensor]):
        yield part.contiguous().cpu().view(-1).view(torch.uint8).numpy()


class TensorFile:
    """A file of tensors, mapped into memory.

    Args:
        path: of the file.

    Attributes:
        text: the text in it.
        entries: what there is, by name.

    Raises:
        SnapshotError: there is no such file, or it is not one, or not whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if (kind := _kind(path)) != "file":
            raise SnapshotError(f"{path}: there is no such file" if kind == "none" else f"{path} is not a file")
        try:
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError) as error:  # of an empty one there is no map
            raise SnapshotError(f"{path} cannot be read: {error}") from error
        length = int.from_bytes(self._bytes[:8], "little")
        header = self._bytes[8 : 8 + min(length, LONGEST_HEADER)]
        if len(header) != length or length % _ALIGNMENT or not header.startswith(_BEGINS):
            raise self.error("is not the snapshot of a stream, or is truncated")
        self._begin = 8 + length
        if header[_CHECKSUM] != b"%08x" % self._checksum(header):
            raise self.error("is damaged or truncated: its checksum does not match")
        self.text, self.entries = self._parsed(header)

    def error(self, what: str) -> SnapshotError:
        """The error about the file, as a single line."""
        return SnapshotError(f"the snapshot {self.path} {what.partition(chr(10))[0][:_LONG]}")

    def tensor(self, name: str) -> Tensor:
        """A tensor as it lies in the file: on the CPU, and good as long as the file is open."""
        dtype, shape, start = self.entries[name]
        size = math.prod(shape) * dtype.itemsize
        whole = torch.frombuffer(self._bytes, dtype=torch.uint8)
        return whole[self._begin + start : self._begin + start + size].view(dtype).view(shape)

    def _checksum(self, header: bytes) -> int:
        blank = header[: _CHECKSUM.start] + _BLANK + header[_CHECKSUM.stop :]
        return zlib.crc32(memoryview(self._bytes)[self._begin :], zlib.crc32(blank))

    def _parsed(self, header: bytes) -> tuple[str, dict[str, Entry]]:
        try:
            told = json.loads(header)
            text = told.pop("__metadata__")["text"]
            entries = {name: _entry(**entry) for name, entry in told.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise self.error("has a header that cannot be read") from error
        end = 0
        for dtype, shape, start in sorted(entries.values(), key=lambda entry: entry.start):
            if start != end:
                raise self.error("has a header that does not fit its contents")
            end += math.prod(shape) * dtype.itemsize
        if end != len(self._bytes) - self._begin or not isinstance(text, str):
            raise self.error("has a header that does not fit its contents")
        return text, entries


def _entry(dtype: str, shape: list[int], data_offsets: list[int]) -> Entry:
    """Raises ValueError or another error of its kind for what is no entry."""
    start, end = data_offsets
    own = _TYPES[dtype]
    numbers = [start, end, *shape]
    if not all(type(number) is int and 0 <= number < 1 << 48 for number in numbers) or len(shape) > 6:
        raise ValueError("a number is out of range")
    if end - start != math.prod(shape) * own.itemsize or start % own.itemsize:
        raise ValueError("the extent of a tensor does not fit its shape")
    return Entry(own, tuple(shape), start)
