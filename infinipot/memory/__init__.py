"""The bounded key/value memory: storage, coordinates, positions."""

from infinipot.memory.contents import Contents, HeldPatch
from infinipot.memory.draft import Draft
from infinipot.memory.held import Held
from infinipot.memory.memory import Memory, stored_columns
from infinipot.memory.positions import Cursor, PositionRule
from infinipot.memory.ranks import ALONE, Ranks
from infinipot.memory.rotary import Rotary
from infinipot.memory.step import Step
from infinipot.memory.storage import LayerShape, StateShape, allocated_bytes

__all__ = [
    "ALONE",
    "Contents",
    "Cursor",
    "Draft",
    "Held",
    "HeldPatch",
    "LayerShape",
    "Memory",
    "PositionRule",
    "Ranks",
    "Rotary",
    "StateShape",
    "Step",
    "allocated_bytes",
    "stored_columns",
]
