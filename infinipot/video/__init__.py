"""Sources of frames: files, network addresses and arrays, sampled by time. Knows nothing of models."""

from infinipot.video.frame import Frame
from infinipot.video.images import ImageLike, as_frame
from infinipot.video.source import Video, open_video

__all__ = ["Frame", "ImageLike", "Video", "as_frame", "open_video"]
