"""Sources of sound: files, network addresses and arrays, as pieces of one rate. Knows nothing of models."""

from infinipot.audio.sound import GAP, RATE, SamplesLike, Sound, as_sound

__all__ = ["GAP", "RATE", "SamplesLike", "Sound", "as_sound"]
