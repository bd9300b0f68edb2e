"""A clip, and by lmms-eval's two settings how many of its frames are watched. Knows nothing of lmms-eval itself."""

import math
from dataclasses import dataclass

from infinipot import VideoError, open_video
from infinipot.numbers import is_real, is_whole
from infinipot.video import Video

_DEFAULT_FPS = 2.0


@dataclass(frozen=True, slots=True)
class Clip:
    """A video, or a part of one: path or address, and from when to when in seconds; `end=None` is its end."""

    source: str
    start: float = 0.0
    end: float | None = None


@dataclass(frozen=True, slots=True)
class FrameCount:
    """How many frames of a clip are watched; which ones, `open_video` says.

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

    def open(self, clip: Clip) -> Video:
        """The frames of a clip, read as they are asked for.

        Raises:
            VideoError: it cannot be read; at the first frame, where it does not say how long it is, as
                `max_num_frames` needs.
        """
        fps = _DEFAULT_FPS if self.fps is None and self.max_num_frames is None else self.fps
        return open_video(clip.source, fps=fps, start=clip.start, end=clip.end, frames=self.max_num_frames)
