"""Sources of sound: files, network addresses and arrays, as pieces of one rate. Knows nothing of models."""

from infinipot.audio.sound import GAP, RATE, SamplesLike, Sound, as_sound
from infinipot.audio.source import Audio, open_audio

__all__ = ["GAP", "RATE", "Audio", "SamplesLike", "Sound", "as_sound", "open_audio"]
