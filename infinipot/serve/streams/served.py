"""One stream as the server keeps it: its lane, its clock, its counters and whose it is. Knows no HTTP and no disk."""

import math
import time as clock
from collections import Counter, deque
from dataclasses import dataclass, field

from infinipot.config import StreamConfig
from infinipot.serve.errors import ApiError
from infinipot.serve.lane import FrameJob, Lane
from infinipot.serve.media.picture import Picture
from infinipot.serve.settings import Limits
from infinipot.serve.streams.protocol import FramesTaken, SourceState, StreamInfo
from infinipot.video import Frame
from infinipot.video.thumbnails import Thumbnails

RATE_WINDOW = 2.0  # seconds over which the frames that a stream takes are counted
_SLOT = 1e-6  # of a period of `fps` by which a frame may come early and still be the next one


@dataclass(slots=True, eq=False)
class Served:
    """A stream that is served.

    Attributes:
        owner, id: whose it is and how they call it.
        lane: of the worker.
        bytes: that are reserved for it.
        idle_seconds: without a frame or a question after which it is closed.
        created: when it was opened, in seconds since 1970.
        passing: whether it is gone with the connection or request that opened it; it is not saved.
        time: of the newest frame taken, in seconds; None before the first one.
        frame_at: when that came, in seconds since 1970.
        used: when it was last given a frame or a question, or had watched a frame; monotonic.
        description: what it is of, for people.
        dropped: frames that will not be watched, by reason.
        error: what last went wrong with a frame that had been taken.
        newest: the newest frame taken; thumbnails: small pictures of those before it.
        source: what is played into it, as it is told; plays: its whole address, and whether it goes at its own pace.
            None once it is over, as a file is that ended or failed; a camera that failed, or may not be watched, is
            to be played at the next start.
        saved_at, saved_time: when it was last saved, and up to which second of it; saved_when: when that was
            last tried, by a clock that nobody sets; saving_seconds: that it took; saved_state: frames and turns then.
        restored_at: the second up to which it was restored; gap: to the first frame after that.
    """

    owner: str
    id: str
    lane: Lane
    bytes: int
    idle_seconds: float
    passing: bool = False
    created: float = field(default_factory=clock.time)
    time: float | None = None
    frame_at: float | None = None
    used: float = field(default_factory=clock.monotonic)
    description: str = ""
    dropped: Counter[str] = field(default_factory=Counter)
    error: str | None = None
    newest: Frame | None = None
    thumbnails: Thumbnails = field(default_factory=Thumbnails)
    source: SourceState | None = None
    plays: tuple[str, bool] | None = None
    saved_at: float | None = None
    saved_time: float | None = None
    saved_when: float | None = None
    saving_seconds: float = 0.0
    saved_state: tuple[int, int] | None = None
    restored_at: float | None = None
    gap: float | None = None
    _came: deque[float] = field(default_factory=deque)
    _slot: int = -1

    @property
    def config(self) -> StreamConfig:
        """The settings that it was opened with."""
        return self.lane.stream.config

    def place(self, at: float | None) -> float | None:
        """The time of a frame that comes now; None where one came within the same period of `fps`.

        Args:
            at: seconds of the stream; left out, one period of `fps` after the last frame.

        Raises:
            ApiError: it is not later than the last frame.
        """
        fps, last = self.config.fps, self.time
        if at is None:
            return 0.0 if last is None else last + 1 / fps
        if last is not None and at <= last:
            message = f"frames must come in order of time: {at:g} s is not after {last:g} s"
            raise ApiError(400, message, "frame_out_of_order", param="time")
        return at if last is None or math.floor(at * fps + _SLOT) > self._slot else None

    def live_from(self) -> float:
        """The second of the stream that is the first one of a camera, or another live source, that begins now.

        It is as much later than the last frame as time has passed since that came; of a restored stream, since it was
        saved.
        """
        if self.time is None:
            return 0.0
        came = self.frame_at or self.saved_at or clock.time()
        return self.time + max(clock.time() - came, 1 / self.config.fps)

    def take(self, frame: Picture) -> FrameJob:
        """Notes a frame that is about to wait in the lane."""
        if self.restored_at is not None and self.gap is None:
            self.gap = frame.time - self.restored_at
        self.time, self.frame_at, self.used = frame.time, clock.time(), clock.monotonic()
        self._slot = math.floor(frame.time * self.config.fps + _SLOT)
        self.newest = frame
        self.thumbnails.add(frame, frame.small)
        return FrameJob(Frame(frame.image, frame.time))  # the small picture is not the stream's, nor its snapshots'

    def admit(self, frames: int, limits: Limits) -> None:
        """Counts frames that come; raises `ApiError` 429 where they come faster than the limit."""
        now, most = clock.monotonic(), limits.frames_per_second * RATE_WINDOW
        while self._came and self._came[0] < now - RATE_WINDOW:
            self._came.popleft()
        if len(self._came) + frames > max(most, 1):
            message = f"stream {self.id!r} takes at most {limits.frames_per_second:g} frames a second"
            raise ApiError(429, message, "too_many_frames", headers={"Retry-After": "1"})
        self._came.extend([now] * frames)

    def resume(self) -> None:
        """Goes on where a snapshot left the stream."""
        stats = self.lane.stats
        if stats.frames:
            self.time = self.restored_at = stats.time
            self._slot = math.floor(stats.time * self.config.fps + _SLOT)

    def taken(self, accepted: int, skipped: int) -> FramesTaken:
        """The reply to a client that sent frames."""
        return FramesTaken(
            id=self.id,
            accepted=accepted,
            skipped=skipped,
            time=self.time,
            waiting=self.lane.waiting()[0],
            dropped=dict(self.dropped),
            error=self.error,
        )

    def state(self, model: str) -> StreamInfo:
        """The state of the stream as the API describes it."""
        stats, config = self.lane.stats, self.config
        return StreamInfo(
            id=self.id,
            created=int(self.created),
            model=model,
            policy=self.lane.stream.policy.spec,
            fps=config.fps,
            gate=config.gate,
            look_again=config.look_again,
            system=config.system,
            tokens=stats.tokens,
            video_tokens=stats.video_tokens,
            text_tokens=stats.text_tokens,
            cap=stats.cap,
            bytes=self.bytes,
            frames=stats.frames,
            waiting=self.lane.waiting()[0],
            dropped=dict(self.dropped),
            time=stats.time,
            last_frame_at=self.frame_at,
            behind_seconds=self.lane.behind(),
            compressions=stats.compressions,
            turns=stats.turns,
            gated_tokens=stats.gated_tokens,
            source=self.source,
            saved_at=self.saved_at,
            saved_time=self.saved_time,
            restored_at=self.restored_at,
            gap_seconds=self.gap,
            error=self.error,
        )
