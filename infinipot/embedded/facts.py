"""Numbers and names of the packaged model and its world that can be told without drawing or loading anything."""

from typing import Literal

BACKGROUNDS = ("still", "moving", "cuts")
HELD_OUT_SEEDS = range(10_000, 100_000)
FIRST_TRAINING_SEED = 1_000_000

SIZE = 64  # pixels, both sides of a frame
PATCH, MERGE, TEMPORAL_PATCH = 8, 2, 2  # of the model: pixels, patches a token along a side, frames

Staging = Literal["plain", "overlapping", "lookalikes"]  # of a clip's events: see staging.py
