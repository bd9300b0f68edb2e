"""Decoding in other processes: a crash, a hang or a bomb costs one error, never the server.

Pictures go to a few processes that stay; a video has one of its own. All of it is awaited on the event loop.
"""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np

from infinipot import interpreter
from infinipot.serve.errors import ApiError
from infinipot.serve.media.frames import LONGEST_HEADER, PREFIX, packed
from infinipot.serve.media.picture import Picture
from infinipot.serve.settings import Limits

_CHUNK = 1 << 20
_BEGIN = 60.0  # seconds for a process to begin, on a machine that has much to do


class DecodeError(ApiError):
    """Media from a client cannot be decoded, or not within the limits."""

    def __init__(self, message: str, code: str = "media_not_decoded") -> None:
        super().__init__(422, message, code)


class CameraFoundError(DecodeError):
    """What was opened as a video is a camera, which is watched and not decoded from its beginning."""


class DecoderProcess:
    """A decoding process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, limits: Limits, files: Sequence[int] = ()) -> "DecoderProcess":
        """Starts one, which inherits these open files; it has begun when this is over.

        Raises:
            DecodeError: it did not begin.
        """
        environment = interpreter.environment().items()
        process = await asyncio.create_subprocess_exec(
            *interpreter.command("infinipot.serve.media.child", str(int(limits.decode_bytes))),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            pass_fds=files,
            env={name: value for name, value in environment if not name.startswith("INFINIPOT_SERVE_")},
            limit=_CHUNK,
        )
        decoder = cls(process)
        try:
            async with asyncio.timeout(_BEGIN):
                await decoder.receive()
        except BaseException as error:
            await asyncio.shield(decoder.stop())
            if isinstance(error, TimeoutError):
                raise DecodeError("no process for decoding could be started", "decoder_timeout") from None
            raise
        return decoder

    async def send(self, job: dict[str, Any], content: bytes = b"") -> None:
        """Sends the process a job."""
        assert self._process.stdin is not None
        with suppress(ConnectionError):  # what became of it is seen when it is read from
            self._process.stdin.writelines([packed(job, content), content])
            await self._process.stdin.drain()

    async def receive(self, most: int = 0) -> tuple[dict[str, Any], bytes]:
        """The next message; its content has so many bytes at the most.

        Raises:
            DecodeError: it says that it cannot decode, or is no more.
        """
        assert self._process.stdout is not None
        try:
            head, length = PREFIX.unpack(await self._process.stdout.readexactly(PREFIX.size))
            if head > LONGEST_HEADER or length > most:
                raise DecodeError("decoding failed")
            header = json.loads(await self._process.stdout.readexactly(head))
            content = await self._process.stdout.readexactly(length)
        except (asyncio.IncompleteReadError, ValueError):
            raise DecodeError("decoding it crashed the decoding process", "decoder_crashed") from None
        if header.get("kind") == "error":
            raise (CameraFoundError if header.get("camera") else DecodeError)(str(header["message"]))
        return header, content

    async def stop(self) -> None:
        """Kills the process."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        # Its pipes are closed with the transport, which the process object alone knows.
        self._process._transport.close()  # type: ignore[attr-defined]


class Decoders:
    """The processes that decode pictures, and those that decode videos.

    Args:
        limits: of the server.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._idle: asyncio.LifoQueue[DecoderProcess | None] = asyncio.LifoQueue()
        self._videos: set[DecoderProcess] = set()
        self._running = 0  # videos, those that are being started too
        self._pictures: set[DecoderProcess] = set()
        for _ in range(limits.decoders):
            self._idle.put_nowait(None)

    async def picture(self, content: bytes) -> Picture:
        """The pixels of a JPEG, PNG or WebP, upright.

        Raises:
            DecodeError: it is none, larger than the limit, or takes too long to decode.
        """
        limits = self._limits
        if len(content) > limits.frame_bytes:
            message = f"a picture has {len(content):,} bytes; at most {int(limits.frame_bytes):,} are allowed"
            raise ApiError(413, message, "frame_too_large")
        decoder = await self._idle.get()
        sound = False
        try:
            if decoder is None:
                decoder = await DecoderProcess.start(limits)
                self._pictures.add(decoder)
            async with asyncio.timeout(limits.decode_seconds):
                await decoder.send({"kind": "picture", **_bounds(limits)}, content)
                header, pixels = await decoder.receive(_largest(limits))
            sound = True
            return _picture(header, pixels)
        except DecodeError as error:
            sound = error.code != "decoder_crashed"
            raise
        except TimeoutError:
            message = f"a picture took more than {limits.decode_seconds:g} s to decode"
            raise DecodeError(message, "decoder_timeout") from None
        finally:
            if decoder is not None and not sound:
                self._pictures.discard(decoder)
                await asyncio.shield(decoder.stop())
                decoder = None
            self._idle.put_nowait(decoder)

    @asynccontextmanager
    async def video(
        self, job: dict[str, Any], content: bytes = b"", files: Sequence[int] = ()
    ) -> AsyncIterator["DecodedVideo"]:
        """A video that is being decoded in a process of its own, which ends with this context.

        Raises:
            ApiError: 429 where too many are.
            DecodeError: the process did not begin, or took no job.
        """
        if self._running >= self._limits.videos:
            message = f"{self._limits.videos} videos are being decoded, which is the limit: try again later"
            raise ApiError(429, message, "too_many_videos", headers={"Retry-After": "1"})
        self._running += 1
        try:
            decoder = await DecoderProcess.start(self._limits, files)
            self._videos.add(decoder)
            try:
                await self._give(decoder, job | _bounds(self._limits), content)
                yield DecodedVideo(decoder, self._limits)
            finally:
                self._videos.discard(decoder)
                await asyncio.shield(decoder.stop())
        finally:
            self._running -= 1

    async def _give(self, decoder: DecoderProcess, job: dict[str, Any], content: bytes) -> None:
        try:
            async with asyncio.timeout(self._limits.source_seconds):
                await decoder.send(job, content)
        except TimeoutError:
            raise DecodeError("the video took too long to open", "decoder_timeout") from None

    async def close(self) -> None:
        """Ends all processes."""
        for decoder in (*self._videos, *self._pictures):
            await decoder.stop()


class DecodedVideo:
    """The frames of a video, as they are decoded: the process waits while nobody takes them.

    Attributes:
        live: whether it is read as it comes, so that it begins wherever its sender is now, and may have no end; None
            before it was opened.
        incomplete: whether it was damaged, or broke off.
    """

    def __init__(self, decoder: DecoderProcess, limits: Limits) -> None:
        self._decoder, self._limits = decoder, limits
        self.live: bool | None = None
        self.incomplete = False

    async def frames(self) -> AsyncIterator[Picture]:
        """The frames, one after the other.

        Raises:
            DecodeError: the video cannot be decoded, or no frame came for too long.
        """
        while True:
            try:
                async with asyncio.timeout(self._limits.source_seconds):
                    header, content = await self._decoder.receive(_largest(self._limits))
            except TimeoutError:
                message = f"no picture came for {self._limits.source_seconds:g} s"
                raise DecodeError(message, "source_stalled") from None
            match header["kind"]:
                case "opened":
                    self.live = header["live"]
                case "frame":
                    yield _picture(header, content)
                case "end":
                    self.incomplete = header.get("incomplete", False)
                    return


def _bounds(limits: Limits) -> dict[str, int]:
    """The limits on the size of pictures that a job is given."""
    return {"pixels": limits.frame_pixels, "small": int(limits.thumbnail_bytes)}


def _largest(limits: Limits) -> int:
    """Bytes of a picture and the small one after it."""
    return 3 * limits.frame_pixels + int(limits.thumbnail_bytes)


def _picture(header: dict[str, Any], content: bytes) -> Picture:
    """The picture in a message, whose bytes are the pixels and then the thumbnail."""
    shape = header["height"], header["width"], 3
    size = math.prod(shape)
    pixels = np.frombuffer(content, np.uint8, size).reshape(shape).copy()
    return Picture(pixels, header["time"], content[size:])
