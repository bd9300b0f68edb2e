"""Sound of any rate and any channels as samples of one rate, on one clock. Knows nothing of where it came from."""

from collections.abc import Iterable, Iterator

import av
import numpy as np

from infinipot.audio.sound import GAP, RATE


def resampled(blocks: Iterable[tuple[float | None, av.AudioFrame]]) -> Iterator[tuple[int, np.ndarray]]:
    """Yields samples `[n]` float32 of one channel and the place of the first of them, counted from the first of all.

    Places go on from one to the next but where times say that nothing was recorded for more than `GAP`. A time that
    lies before what was heard already counts for nothing.

    Args:
        blocks: times in seconds since the first of all, or None where they go on, and blocks in order.
    """
    resampler, layout = None, None
    place, due = 0, 0.0
    for told, block in blocks:
        time = due if told is None else told
        its_layout = block.format.name, block.layout.name, block.sample_rate
        if resampler is None or its_layout != layout or time > due + GAP:
            for samples in _made(resampler, None):
                yield place, samples
                place += len(samples)
            due = max(due, time)
            place, layout = max(place, round(due * RATE)), its_layout
            resampler = av.AudioResampler(format="flt", rate=RATE)
        block.pts = None
        for samples in _made(resampler, block):
            yield place, samples
            place += len(samples)
        due += block.samples / block.sample_rate
    for samples in _made(resampler, None):
        yield place, samples
        place += len(samples)


def _made(resampler: av.AudioResampler | None, block: av.AudioFrame | None) -> list[np.ndarray]:
    """Resamples a block and averages its channels; None flushes the rest at the end.

    FFmpeg's own mix of channels that are alike would be louder than each of them. Their samples stand side by side,
    since PyAV cannot read eight channels and more from planes of their own: it crashes.
    """
    parts = [] if resampler is None else resampler.resample(block)
    return [part.to_ndarray().reshape(part.samples, -1).mean(1, dtype=np.float32) for part in parts if part is not None]
