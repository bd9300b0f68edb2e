"""Which frames are watched, against what lmms-eval's own Qwen models take: they leave it to qwen-vl-utils."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest

from infinipot.evaluate import FrameSampling

theirs = pytest.importorskip("qwen_vl_utils.vision_process")
PICTURES, RATE = 100, 10


class Reader:
    """A decord reader of `PICTURES` pictures that notes which ones it is asked for."""

    taken: list[int]

    def __init__(self, path: str) -> None: ...

    def __len__(self) -> int:
        return PICTURES

    def get_avg_fps(self) -> float:
        return RATE

    def get_batch(self, indices: list[int]) -> Any:
        type(self).taken = indices
        stub = ModuleType("batch")
        stub.asnumpy = lambda: np.zeros((len(indices), 1, 1, 3), np.uint8)  # type: ignore[attr-defined]
        return stub


@pytest.mark.parametrize("frames", [2, 6, 8, 16, 32, 64, 90, 100])
def test_so_many_frames_are_those_that_qwen_vl_utils_takes(
    frames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decord = ModuleType("decord")
    decord.VideoReader = Reader  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "decord", decord)
    theirs._read_video_decord({"video": "any", "nframes": frames})
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width = stream.height = 32
        for index in range(PICTURES):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            picture.pts = index
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    with FrameSampling.of(frames).open(str(path)) as video:
        assert [round(frame.time * RATE) for frame in video] == Reader.taken
