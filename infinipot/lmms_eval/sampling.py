"""Which frames of a clip are watched, by lmms-eval's two settings. Knows nothing of lmms-eval itself."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from infinipot import Frame, VideoError, open_video
from infinipot.budget import is_real, is_whole

_DEFAULT_FPS = 2.0
_DEFAULT_SOURCE_FPS = 25.0  # where a file does not say


@dataclass(frozen=True, slots=True)
class Clip:
    """A video, or a part of one: path or address, and from when to when in seconds; `end=None` is its end."""

    source: str
    start: float = 0.0
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How frames are chosen.

    Attributes:
        fps: frames per second of video.
        max_num_frames: the most frames of a clip. Where the clip has more (or where `fps` would give more, if that is
            set too), so many are spread evenly from its first picture to its last.

    With neither, 2 frames per second, however long the clip is.

    Raises:
        VideoError: a rate or a number that cannot be.
    """

    fps: float | None = None
    max_num_frames: int | None = None

    def __post_init__(self) -> None:
        if self.fps is not None and not (is_real(self.fps) and 0 < self.fps < math.inf):
            raise VideoError(f"fps={self.fps!r}: give a number of frames per second above 0")
        if self.max_num_frames is not None and not (is_whole(self.max_num_frames) and self.max_num_frames > 0):
            raise VideoError(f"max_num_frames={self.max_num_frames!r}: give a whole number of frames, 1 or more")

    def frames(self, clip: Clip) -> Iterator[Frame]:
        """Yields the frames of a clip as they are read.

        Raises:
            VideoError: it cannot be read, or `max_num_frames` is set and it does not say how long it is.
        """
        rate = self._rate(clip)
        with open_video(clip.source, fps=rate, start=clip.start, end=clip.end) as video:
            yield from islice(video, self.max_num_frames)

    def _rate(self, clip: Clip) -> float | None:
        """Frames per second that give the frames wanted; None for every picture."""
        if self.max_num_frames is None:
            return _DEFAULT_FPS if self.fps is None else self.fps
        with open_video(clip.source) as video:
            duration, source_fps = video.duration, video.source_fps or _DEFAULT_SOURCE_FPS
        if duration is None:
            raise VideoError(f"{clip.source} does not say how long it is: give fps in place of max_num_frames")
        length = min(duration, clip.end or math.inf) - clip.start
        if self.fps is not None and self._enough(length * self.fps):
            return self.fps
        if self._enough(length * source_fps):
            return None
        if self.max_num_frames == 1:
            return 1 / length
        return (self.max_num_frames - 1) / (length - 1 / source_fps)  # from the first picture to the last

    def _enough(self, frames: float) -> bool:
        return self.max_num_frames is not None and frames <= self.max_num_frames + 1e-6
