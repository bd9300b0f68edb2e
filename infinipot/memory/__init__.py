"""The bounded key/value memory: storage, coordinates, positions. The only part that knows transformers' cache."""

from infinipot.memory.draft import Draft
from infinipot.memory.memory import Memory
from infinipot.memory.positions import PositionRule
from infinipot.memory.ranks import ALONE, Ranks
from infinipot.memory.rotary import Rotary
from infinipot.memory.storage import LayerShape, StateShape, allocated_bytes

__all__ = ["ALONE", "Draft", "LayerShape", "Memory", "PositionRule", "Ranks", "Rotary", "StateShape", "allocated_bytes"]
