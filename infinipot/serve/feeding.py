"""Frames of one request for a stream: pictures and videos by address, watched before the request goes on."""

import asyncio
import re
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager

from infinipot.serve.chat.protocol import VideoIo
from infinipot.serve.errors import ApiError
from infinipot.serve.files.uploads import Uploads
from infinipot.serve.lane import GoneError
from infinipot.serve.media.decoders import DecodedVideo, DecodeError, Decoders
from infinipot.serve.media.picture import Picture
from infinipot.serve.media.sources import Sources, data_of, from_base64
from infinipot.serve.settings import Settings
from infinipot.serve.streams.registry import Streams
from infinipot.serve.streams.served import Served

UPLOAD = "upload://"
"""Before the id of a file: an address of one that its client handed over."""
_LISTED = re.compile(r"data:video/(jpeg|png);base64,", re.IGNORECASE)
_LIST_FPS = 1.0  # of a list of frames, where nobody says: as vLLM has it


class Feeder:
    """Gives streams the frames of requests.

    Args:
        settings: of the server.
        streams: of the server.
        decoders, sources, uploads: decode pictures, open videos, and have those that clients handed over.
    """

    def __init__(
        self, settings: Settings, streams: Streams, decoders: Decoders, sources: Sources, uploads: Uploads
    ) -> None:
        self._limits, self._streams, self._decoders, self._sources = settings.limits, streams, decoders, sources
        self._uploads = uploads

    async def media(self, served: Served, media: Sequence[tuple[str, bool]], how: VideoIo) -> None:
        """Has a stream watch all pictures and videos of a request.

        Args:
            served: the stream.
            media: their addresses, in order; each with whether it is a picture.
            how: the frames of a video are taken.

        Raises:
            ApiError: that takes too long in all; see `picture` and `video`.
        """
        limit = self._limits.video_seconds
        try:
            async with asyncio.timeout(limit):
                for address, is_picture in media:
                    if is_picture:
                        await self.picture(served, address)
                    else:
                        await self.video(served, address, how)
        except TimeoutError:
            message = f"the pictures and videos were not decoded and watched within {limit:g} s"
            raise DecodeError(message, "video_timeout") from None

    async def picture(self, served: Served, address: str) -> None:
        """Has a stream watch a picture now."""
        if address[:5].lower() == "data:":
            await self.watch(served, await self._decoders.picture(data_of(address, "image")), None)
            return
        async with self._sources.still(address) as clip:
            async for frame in clip.frames():
                await self.watch(served, frame, None)

    async def video(self, served: Served, address: str, how: VideoIo) -> None:
        """Has a stream watch a video, or a list of frames: at its own times after what the stream has seen.

        Raises:
            ApiError: it has, or is to have, too many frames, or cannot be decoded.
            InfinipotError: the stream cannot take one of them.
        """
        most = self._limits.frames_per_request
        if how.num_frames is not None and how.num_frames > most:
            message = f"num_frames is {how.num_frames}; at most {most} are allowed"
            raise ApiError(413, message, "too_many_frames", param="media_io_kwargs.video.num_frames")
        begin = 0.0 if served.time is None else served.time + 1 / served.config.fps
        listed = _LISTED.match(address)
        if listed is not None:
            frames = await self._listed(served, address[listed.end() :], how, begin)
        else:
            async with self._clip(served, address, how) as clip:
                frames = [await self.watch(served, each, begin + each.time) async for each in clip.frames()]
        for each in frames:
            await watched(each)  # what is wrong with one is told, rather than asked about without it

    def _clip(self, served: Served, address: str, how: VideoIo) -> AbstractAsyncContextManager[DecodedVideo]:
        fps, most = how.fps or (None if how.num_frames else served.config.fps), self._limits.frames_per_request
        if address.startswith(UPLOAD):
            upload = self._uploads.find(served.owner, address.removeprefix(UPLOAD))
            return self._sources.upload(upload, fps=fps, frames=how.num_frames)
        frames = how.num_frames or (most if how.fps is None else None)  # of a long video, as many as are allowed
        return self._sources.clip(address, fps=fps, most=most, frames=frames)

    async def _listed(self, served: Served, pictures: str, how: VideoIo, begin: float) -> list["Future[None]"]:
        encoded = pictures.split(",")
        if len(encoded) > self._limits.frames_per_request:
            most = self._limits.frames_per_request
            raise ApiError(413, f"the list has {len(encoded)} frames; at most {most} are allowed", "too_many_frames")
        indices = how.frames_indices or list(range(len(encoded)))
        if len(indices) != len(encoded) or sorted(set(indices)) != indices:
            message = f"frames_indices must be ascending, with one for each of the {len(encoded)} frames"
            raise ApiError(400, message, param="media_io_kwargs")
        jobs = []
        for index, each in zip(indices, encoded, strict=True):
            picture = await self._decoders.picture(from_base64(each))
            jobs.append(await self.watch(served, picture, begin + index / (how.fps or _LIST_FPS)))
        return jobs

    async def watch(self, served: Served, picture: Picture, at: float | None) -> "Future[None]":
        """Queues a frame, and waits if many are queued: none of a request's frames is dropped for another.

        Where others, such as the stream's camera, gave it later frames meanwhile, it comes behind them.

        Returns:
            What is set once it was watched; without the frame, which others may wait for much longer.
        """
        place = served.place(None) if at is None or (served.time is not None and at <= served.time) else at
        assert place is not None
        job = self._streams.push(served, picture.at(place))
        if at is None or served.passing or self._streams.half_full(served):
            await watched(job.watched)
        return job.watched


async def watched(done: "Future[None]") -> None:
    """Waits until a frame was watched; raises what was wrong with it.

    Raises:
        ApiError: its stream was closed.
    """
    waiting = asyncio.wrap_future(done)
    await asyncio.wait({waiting})
    if waiting.cancelled():  # it gave way to newer frames, which is counted
        return
    try:
        waiting.result()
    except GoneError:
        raise ApiError(410, "the stream was closed", "stream_closed") from None
