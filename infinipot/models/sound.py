"""Sound on its way to an audio encoder: chunks of samples, and the spectrum of each as the whole clip would have it.

A log-mel spectrum is made of windows that reach over the ends of a chunk. So a chunk waits for the few samples after it
(2.5 ms) and keeps those ahead: its spectrum is then, window by window, that of the whole clip. After a clip's last
sample there is silence, ahead of its first one its mirror image (Whisper, arXiv 2212.04356; transformers' extractor).

What is quieter than 1e-8 of a clip's loudest value is lifted to that. A stream does not know what is still to come: its
loudest value is that of what was heard, back to as long ago as the longest clip that the extractor takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from infinipot.audio import GAP, RATE, Sound
from infinipot.audio.sound import LOUDEST
from infinipot.errors import FrameError, ModelError
from infinipot.models.gathering import Gatherer
from infinipot.models.patch import Patch, require_alike
from infinipot.models.waiting import WaitingSound

WINDOWS = 4  # of a spectrum to a token: the encoder halves them twice
_RANGE = 8.0  # in log10: what lies further below the loudest value is lifted
_FAINTEST = 1e-10
_LOUDEST_PEAK = 20.0  # in log10: no window of sound that is taken comes near


@dataclass(frozen=True)
class Spectrum:
    """How samples become log-mel spectra.

    Attributes:
        filters: `[bins, mel]`.
        width: samples in a window (n_fft), and hop: from one window to the next.
        windows: in a full chunk.
        chunks: in the longest clip.
    """

    filters: Tensor
    width: int
    hop: int
    windows: int
    chunks: int

    @classmethod
    def of(cls, extractor: Any, windows: int) -> "Spectrum":
        """The spectrum as a checkpoint's own Whisper feature extractor makes it.

        Raises:
            ModelError: it is for sound of another rate.
        """
        if extractor.sampling_rate != RATE:
            raise ModelError(
                f"the checkpoint takes sound at {extractor.sampling_rate} samples a second; only {RATE} is supported"
            )
        chunks = max(1, extractor.n_samples // (windows * extractor.hop_length))
        filters = torch.from_numpy(np.asarray(extractor.mel_filters, np.float32))
        return cls(filters, extractor.n_fft, extractor.hop_length, windows, chunks)

    @property
    def samples(self) -> int:
        """Samples in a full chunk."""
        return self.windows * self.hop

    @property
    def reach(self) -> int:
        """Samples that a window reaches to each side of its middle."""
        return self.width // 2

    @property
    def lookahead(self) -> int:
        """Samples after a chunk that its last window reaches."""
        return max(0, self.reach - self.hop)

    @cached_property
    def _hann(self) -> Tensor:
        return torch.hann_window(self.width, dtype=torch.float32, device="cpu")  # whatever the process's defaults are

    def windows_of(self, samples: int) -> int:
        """Windows whose middles lie in so many samples, those of one chunk at the most."""
        return min(-(-samples // self.hop), self.windows)

    def log_mel(self, before: np.ndarray, samples: np.ndarray) -> Tensor:
        """`[mel, windows]` float32, log10 of the power of a chunk, nothing lifted yet.

        Args:
            before: the `reach` samples ahead of the chunk; none at the beginning of a clip.
            samples: those from the beginning of the chunk on; silence after them.
        """
        ahead = before if len(before) else samples[1 : self.reach + 1][::-1]
        here = np.zeros((self.windows_of(len(samples)) - 1) * self.hop + self.reach, np.float32)
        heard = samples[: len(here)]
        here[: len(heard)] = heard
        sound = torch.from_numpy(np.concatenate([ahead, here]))
        bins = torch.stft(sound, self.width, self.hop, window=self._hann, center=False, return_complex=True)
        return (self.filters.T @ (bins.abs() ** 2)).clamp_min(_FAINTEST).log10()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ResumedSound(WaitingSound):
    """Sound after a pause that ended a chunk before it was full. Between calls of a stream there is none.

    Attributes:
        ended: that chunk.
    """

    ended: WaitingSound


@dataclass(frozen=True, slots=True, eq=False)
class SoundGatherer(Gatherer[WaitingSound, Sound]):
    """Gathers pieces of sound into chunks; a pause ends one.

    Attributes:
        spectrum: what patches are made by.
    """

    unit: ClassVar[str] = "chunks of sound"
    empty: ClassVar[WaitingSound] = WaitingSound()
    spectrum: Spectrum

    @property
    def steps(self) -> int:
        return self.spectrum.windows // WINDOWS

    def grid(self, given: Sound) -> tuple[int, int]:
        return 1, 1

    def after(self, waiting: WaitingSound, given: Sound) -> WaitingSound:
        """What waits with one more piece, at most as long as a chunk. A pause ahead of the piece ends the chunk."""
        most = self.spectrum.samples
        if len(given.samples) > most:
            raise FrameError(
                f"{len(given.samples) / RATE:g} s of sound at once: give at most {most / RATE:g} s, or let "
                "open_audio split it"
            )
        late = given.time - (waiting.time + len(waiting.samples) / RATE)
        if not len(waiting.samples):
            return replace(waiting, samples=given.samples, time=given.time, begun=given.time)
        if late > GAP:
            return ResumedSound(
                samples=given.samples, time=given.time, begun=given.time, peaks=waiting.peaks, ended=waiting
            )
        if waiting.time + late < waiting.begun - GAP:  # no two clocks run so far apart
            raise FrameError(
                f"the sound up to {given.end:g} s is longer than its times allow: give {RATE} samples a second"
            )
        # Clocks of devices run apart: the newest piece's is right.
        return replace(waiting, samples=np.concatenate([waiting.samples, given.samples]), time=waiting.time + late)

    def starts(self, waiting: WaitingSound) -> tuple[float, ...]:
        ended = self.starts(waiting.ended) if isinstance(waiting, ResumedSound) else ()
        tokens = _tokens(-(-len(waiting.samples) // self.spectrum.hop))
        return (*ended, *(waiting.time + token * WINDOWS * self.spectrum.hop / RATE for token in range(tokens)))

    def whole(self, waiting: WaitingSound) -> Patch | None:
        return self._made(waiting)[0]

    def split(self, waiting: WaitingSound) -> tuple[Patch | None, WaitingSound]:
        if isinstance(waiting, ResumedSound):
            patch, peaks = self._made(waiting.ended)
            return patch, WaitingSound(waiting.samples, waiting.time, waiting.begun, peaks=peaks)
        full, reach = self.spectrum.samples, self.spectrum.reach
        if len(waiting.samples) < full + self.spectrum.lookahead:
            return None, waiting
        patch, peaks = self._made(waiting)
        before, behind = waiting.samples[full - reach : full], waiting.samples[full:]
        time = waiting.time + full / RATE
        return patch, WaitingSound(behind, time, time, before, peaks)

    def check(
        self, waiting: WaitingSound, size: tuple[int, ...], grid: tuple[int, int], patches: Sequence[Patch]
    ) -> None:
        spectrum, heard = self.spectrum, (waiting.samples, waiting.before)
        if size != (1,) or grid != (1, 1):
            raise ValueError("sound has no size")
        if any(each.dtype != np.float32 or each.ndim != 1 for each in heard):
            raise ValueError("samples that wait are none")
        if len(waiting.samples) >= spectrum.samples + spectrum.lookahead:
            raise ValueError("more samples wait than a chunk has")
        if len(waiting.before) not in (0, spectrum.reach):
            raise ValueError("the samples ahead of a chunk are not as many as its windows reach")
        if not all(np.abs(each).max(initial=0.0) <= LOUDEST for each in heard):
            raise ValueError("samples that wait are no sound")
        if len(waiting.peaks) > spectrum.chunks or any(abs(peak) > _LOUDEST_PEAK for peak in waiting.peaks):
            raise ValueError("chunks were louder than sound can be")
        if abs(waiting.time - waiting.begun) > spectrum.samples / RATE:
            raise ValueError("times are not those of a chunk")
        for patch in patches:
            windows = patch.pixels.shape[-1] if patch.pixels.dim() else 0
            like = Patch(torch.empty(len(spectrum.filters.T), min(windows, spectrum.windows)), 1, 1, ())
            require_alike(patch, like, steps=_tokens(windows), times=max(1, _tokens(windows)))

    def _made(self, waiting: WaitingSound) -> tuple[Patch | None, tuple[float, ...]]:
        """The patch of what there is of the chunk, and the peaks with its own."""
        tokens = _tokens(self.spectrum.windows_of(len(waiting.samples)))
        if not tokens:
            return None, waiting.peaks
        log_mel = self.spectrum.log_mel(waiting.before, waiting.samples)
        peaks = (*waiting.peaks, float(log_mel.max()))[-self.spectrum.chunks :]
        features = (log_mel.clamp_min(max(peaks) - _RANGE) + 4.0) / 4.0
        return Patch(features, 1, 1, self.starts(waiting)[:tokens], steps=tokens), peaks


def _tokens(windows: int) -> int:
    """How many tokens the encoder makes of so many windows in a row."""
    return (windows + 1) // WINDOWS
