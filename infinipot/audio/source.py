"""The public way in: `open_audio` takes what users have and gives pieces of sound at the rate that models hear."""

import math
from collections.abc import Generator, Iterable, Iterator
from os import PathLike, fspath
from typing import Any, Protocol

import av
import numpy as np

from infinipot.audio.arrays import ArraySource
from infinipot.audio.file import FileSource
from infinipot.audio.resample import resampled
from infinipot.audio.sound import GAP, RATE, SamplesLike, Sound
from infinipot.errors import AudioError, SettingError
from infinipot.numbers import is_endless, is_finite, is_whole
from infinipot.reading import Reading

PIECE = 0.5
"""Seconds of a piece; shorter where the sound ends or pauses."""


class Source(Protocol):
    """The interface of a kind of source."""

    @property
    def name(self) -> str: ...
    @property
    def duration(self) -> float | None: ...
    @property
    def incomplete(self) -> bool: ...

    def blocks(self) -> Iterator[tuple[float | None, av.AudioFrame]]:
        """Yields the sound in order, each block read when asked for, with its time stamp if it has one."""

    def close(self) -> None:
        """Frees what the source holds; may be called twice."""


class Audio(Reading[Sound]):
    """The pieces of a sound, read front to back, once, like an open file. Holds about a piece at a time.

    Closes itself at the end, and as a context manager.

    Attributes:
        name: the path or address, or "samples" for arrays.
        duration: length of the whole in seconds, or None where that is not known.
        incomplete: True once the source turned out to be damaged; what can be read is yielded.
    """

    def __init__(self, source: Source, start: float = 0.0, end: float = math.inf) -> None:
        super().__init__(source.name, source, _pieces(source, start, end), AudioError)
        self.duration = source.duration


def open_audio(
    source: str | PathLike[str] | SamplesLike | Iterable[SamplesLike],
    *,
    start: float = 0.0,
    end: float | None = None,
    rate: int | None = None,
) -> Audio:
    """Opens sound and returns it in pieces of half a second, of one channel, 16,000 samples a second.

    Channels are averaged, and rates are changed by FFmpeg's resampler. Time 0 is the first sample.

    Args:
        source: path of an audio file, or of a video file with sound; an address (`https://`, `rtsp://`); or samples: an
            array or tensor `[n]`, or an iterable, of any length, of such pieces, of what `as_sound` takes.
        start: seconds at which to begin. Pieces keep the times of the whole.
        end: seconds at which to stop; None or infinity: its end.
        rate: samples a second of an array or iterable; 16,000, if not given.

    Raises:
        AudioError: for a source that is missing, empty, no sound or without any that can be decoded. What holds no
            samples raises it when read.
        SettingError: for rates and times that cannot be.
        FrameError: while reading, for samples of the wrong shape, dtype or range (see `as_sound`).
    """
    start, end = _checked("start", start), math.inf if is_endless(end) else _checked("end", end)
    if end <= start:
        raise SettingError(f"end={end:g} is not after start={start:g}")
    if rate is not None and (not is_whole(rate) or not 0 < rate < 1 << 20):
        raise SettingError(f"rate={rate!r}: give the samples a second, such as 44100")
    if isinstance(source, str | PathLike):
        if rate is not None:
            raise SettingError("rate is for arrays of samples; a file has its own")
        return Audio(FileSource(fspath(source)), start, end)
    return Audio(ArraySource(source, RATE if rate is None else int(rate)), start, end)


def _checked(name: str, seconds: Any) -> float:
    if not is_finite(seconds) or seconds < 0:
        raise SettingError(f"{name} must be a finite number at least 0, not {seconds!r}")
    return float(seconds)


def _pieces(source: Source, start: float, end: float) -> Generator[Sound, None, None]:
    """The sound between two times, in pieces."""
    first, last, most = round(start * RATE), end * RATE, round(PIECE * RATE)
    held, place, empty = np.zeros(0, np.float32), first, True
    for at, samples in resampled(source.blocks()):
        if at >= last:
            break
        begin = max(first - at, 0)
        samples, at = samples[begin : None if math.isinf(last) else round(last) - at], at + begin
        if not len(samples):
            continue
        if at - place - len(held) > GAP * RATE or empty:
            if len(held):
                yield Sound(held, place / RATE)
            held, place, empty = samples, at, False
        else:
            held = np.concatenate([held, samples])
        while len(held) >= most:
            yield Sound(held[:most].copy(), place / RATE)
            held, place = held[most:], place + most
    if len(held):
        yield Sound(held.copy(), place / RATE)
    if empty:
        raise AudioError(f"{source.name} holds no sound" + (f" from {start:g} s on" if start else ""))
