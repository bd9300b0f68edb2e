"""Streams on the disk: saved on a clock, on request and at shutdown, and restored at the start.

    <folder>/<owner>/<id>/stream-<n>.safetensors    what the stream remembers, written whole or not at all
    <folder>/<owner>/<id>/stream.json               which of these counts, and what else is to be known of the stream

The second file is replaced once the first one is on the disk. So whenever the process dies, there is one whole
snapshot, and what lies beside it is swept away at the next start.
"""

import asyncio
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from infinipot.durable import sync_folder
from infinipot.errors import InfinipotError, SnapshotError
from infinipot.serve.errors import ApiError
from infinipot.serve.lane import GoneError
from infinipot.serve.logs import event
from infinipot.serve.metrics import Metrics
from infinipot.serve.streams.protocol import NAME, Saved
from infinipot.serve.streams.registry import Streams
from infinipot.serve.streams.served import Served
from infinipot.stream import Stream

logger = logging.getLogger(__name__)
_TOLD = "stream.json"
_FILE = re.compile(r"stream-(\d{1,12})\.safetensors")
_SOON = 0.05  # seconds until it is seen whether the disk is free
_SHARE = 0.05  # of the time, that saving on a clock takes at the most


class Told(BaseModel):
    """The record of a saved stream, beside its snapshot."""

    version: int = 1
    owner: str
    id: str
    file: str
    bytes: Annotated[int, Field(ge=1)]
    created: float
    saved_at: float
    time: float
    idle_seconds: Annotated[float, Field(gt=0)]
    dropped: dict[str, int] = {}
    plays: tuple[str, bool] | None = None
    description: str = ""


class Snapshots:
    """The folder of saved streams.

    Args:
        folder: None where nothing is saved.
        streams: of the server.
        metrics: count what happens.
    """

    def __init__(self, folder: Path | None, streams: Streams, metrics: Metrics) -> None:
        self._folder, self._streams, self._metrics = folder, streams, metrics
        self._disk = threading.Lock()

    @property
    def kept(self) -> bool:
        """Whether streams are saved."""
        return self._folder is not None

    def check(self) -> None:
        """Raises `ApiError` 409 where nothing is saved on this server."""
        if not self.kept:
            raise ApiError(409, "this server saves no streams: start it with --snapshots", "snapshots_off")

    async def save(self, served: Served) -> Saved:
        """Saves a stream when its turn comes: with all frames that have come so far.

        What is on the disk as it is now is not written again.

        One is written at a time, and the others go on until the disk is free: one that is slow holds up one stream
        alone, and a stream that has much to do before its turn holds up no other.

        Raises:
            ApiError: nothing is saved on this server, or it cannot be written.
        """
        self.check()
        place = self._place(served)
        records: list[Told] = []

        def save(stream: Stream) -> None:
            if not self._disk.acquire(blocking=False):
                return
            started = time.perf_counter()
            try:
                told = _told(served, stream)
                records.append(_same(place, served, stream, told) or _write(place, served, stream, told))
            finally:
                self._disk.release()
                served.saving_seconds = time.perf_counter() - started

        try:
            while not records:
                while self._disk.locked():
                    await asyncio.sleep(_SOON)
                await asyncio.shield(asyncio.wrap_future(self._streams.worker.alone(served.lane, save)))
        except GoneError:
            raise ApiError(410, f"stream {served.id} was closed", "stream_closed") from None
        except (InfinipotError, OSError, RuntimeError) as error:  # of the device, too: those after it are saved
            served.saved_when = time.monotonic()  # it is tried again when it would be saved again
            self._metrics.snapshots.labels("failed").inc()
            why = getattr(error, "strerror", None) or error
            event(logger, "snapshot failed", logging.ERROR, stream=served.id, why=str(why))
            raise ApiError(507, f"stream {served.id} cannot be saved", "snapshot_failed") from None
        self._metrics.snapshots.labels("saved").inc()
        self._metrics.snapshot_seconds.observe(served.saving_seconds)
        (saved,) = records
        served.saved_at, served.saved_time, served.saved_when = saved.saved_at, saved.time, time.monotonic()
        size = (place / saved.file).stat().st_size
        return Saved(id=served.id, time=saved.time, saved_at=saved.saved_at, bytes=size)

    async def save_all(self) -> None:
        """Saves the streams in which something happened since they were last saved."""
        for served in self._unsaved():
            with suppress(ApiError):  # it was told, or the stream was closed meanwhile
                await self.save(served)

    async def save_due(self, every: float) -> None:
        """Saves those of them that were last saved so many seconds ago or more, or never.

        A snapshot is the whole of a stream. So that a disk that is slow is not busy with them all the time, there is a
        pause after each, and streams are saved less often where there are too many.
        """
        now = time.monotonic()
        due = [each for each in self._unsaved() if each.saved_when is None or now - each.saved_when >= every]
        for served in sorted(due, key=lambda each: each.saved_when or 0.0):
            with suppress(ApiError):
                await self.save(served)
            await asyncio.sleep(served.saving_seconds * (1 / _SHARE - 1))

    def _unsaved(self) -> list[Served]:
        return [each for each in self._streams if self.kept and not each.passing and _changed(each)]

    def has(self, owner: str, name: str) -> bool:
        """Whether a stream is saved, whether or not it could be restored."""
        return self._folder is not None and (self._folder / _name(owner) / _name(name) / _TOLD).is_file()

    async def forget(self, served: Served) -> None:
        """Deletes what was saved of a stream."""
        if self._folder is not None and not served.passing:
            await asyncio.to_thread(shutil.rmtree, self._place(served), ignore_errors=True)

    async def restore_all(self, owners: Collection[str]) -> list[tuple[Served, Told]]:
        """Opens all streams that were saved; one that cannot be is told of, and left where it lies.

        Args:
            owners: whose streams are opened. Those of others nobody could see or close, and their cameras would be
                watched on.
        """
        restored = []
        for place in self._places():
            try:
                record = Told.model_validate_json((place / _TOLD).read_bytes())
                if not NAME.fullmatch(record.id) or not _FILE.fullmatch(record.file):
                    raise SnapshotError("it does not name a stream and its file")
                if record.owner not in owners:
                    raise SnapshotError(f"no key of its owner, {record.owner}, is known to this server")
                path = place / record.file
                served = await self._streams.restore(record.owner, record.id, path, record.bytes, record.idle_seconds)
            except (ApiError, InfinipotError, OSError, ValidationError) as error:
                why = " ".join(str(error).split())
                event(logger, "a stream was not restored", logging.ERROR, snapshot=str(place), why=why)
                continue
            served.created, served.saved_at, served.saved_time = record.created, record.saved_at, record.time
            served.dropped.update(record.dropped)
            served.description = record.description
            served.restored_at, served.saved_when, served.saved_state = record.time, time.monotonic(), _state(served)
            _sweep(place, record.file)
            restored.append((served, record))
        return restored

    def _place(self, served: Served) -> Path:
        assert self._folder is not None
        return self._folder / _name(served.owner) / _name(served.id)

    def _places(self) -> Iterator[Path]:
        """The folders of saved streams; of a stream whose first snapshot was not finished, nothing is left."""
        if self._folder is None:
            return
        for place in sorted(self._folder.glob("*/*")):
            if (place / _TOLD).is_file():
                yield place
            elif place.is_dir() and all(_ours(each.name) for each in place.iterdir()):
                shutil.rmtree(place, ignore_errors=True)


def _name(text: str) -> str:
    """An id as the name of a folder: no two ids share one, on a disk that tells no capitals either."""
    return "".join(f"={letter.lower()}" if letter.isupper() else letter.replace(":", "=_") for letter in text)


def _changed(served: Served) -> bool:
    return served.saved_at is None or _state(served) != served.saved_state


def _state(served: Served) -> tuple[int, int]:
    """Counts that change whenever a stream does: its frames and turns."""
    stats = served.lane.stats
    return stats.frames, stats.turns


def _told(served: Served, stream: Stream) -> Told:
    """What is known of a stream now, without a file and a date."""
    return Told(
        owner=served.owner,
        id=served.id,
        file="",
        bytes=served.bytes,
        created=served.created,
        saved_at=0.0,
        time=stream.stats().time,
        idle_seconds=served.idle_seconds,
        dropped=dict(served.dropped),
        plays=served.plays,
        description=served.description,
    )


def _same(place: Path, served: Served, stream: Stream, told: Told) -> Told | None:
    """The record on the disk, where the stream and what is known of it are there as they are now."""
    stats = stream.stats()
    if (stats.frames, stats.turns) != served.saved_state:
        return None
    try:
        known = Told.model_validate_json((place / _TOLD).read_bytes())
    except (OSError, ValidationError):
        return None
    undated = known.model_copy(update={"file": "", "saved_at": 0.0})
    return known if told == undated and (place / known.file).is_file() else None


def _write(place: Path, served: Served, stream: Stream, told: Told) -> Told:
    """Saves a stream, then what is known of it, then takes away what was there before."""
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    numbers = [int(found[1]) for each in place.iterdir() if (found := _FILE.fullmatch(each.name))]
    file = f"stream-{max(numbers, default=0) + 1}.safetensors"
    stats = stream.stats()
    stream.save(place / file)
    record = told.model_copy(update={"file": file, "saved_at": time.time()})
    part = place / f".{_TOLD}.part"
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as written:  # an address may be secret
        written.write(record.model_dump_json())
        written.flush()
        os.fsync(written.fileno())
    os.replace(part, place / _TOLD)
    sync_folder(place)
    served.saved_state = stats.frames, stats.turns
    _sweep(place, file)
    return record


def _sweep(place: Path, file: str) -> None:
    """Deletes all files but the current snapshot and its record."""
    for each in place.iterdir():
        if each.name not in (_TOLD, file) and _ours(each.name):
            with suppress(OSError):
                each.unlink()


def _ours(name: str) -> bool:
    return bool(_FILE.fullmatch(name) or re.fullmatch(r"\.stream[-.\w]*\.part|\.stream[-.\w]*\.lock", name))
