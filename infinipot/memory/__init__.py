"""The bounded key/value memory: storage, coordinates, positions."""

from infinipot.memory.contents import Contents, HeldPatch
from infinipot.memory.held import Held
from infinipot.memory.memory import Memory
from infinipot.memory.positions import MOST_POSITIONS, Cursor, PositionRule
from infinipot.memory.rotary import Rotary
from infinipot.memory.slots import stored_columns
from infinipot.memory.step import Step, Steps
from infinipot.memory.storage import LayerShape, StateShape, allocated_bytes, lacks_memory, token_bytes
from infinipot.memory.tensor_parallel import ALONE, TensorParallelGroup
from infinipot.memory.transaction import Taken, Transaction
from infinipot.memory.turned import AnswerScratch
from infinipot.memory.window import Window

__all__ = [
    "ALONE",
    "MOST_POSITIONS",
    "AnswerScratch",
    "Contents",
    "Cursor",
    "Held",
    "HeldPatch",
    "LayerShape",
    "Memory",
    "PositionRule",
    "Rotary",
    "StateShape",
    "Step",
    "Steps",
    "Taken",
    "TensorParallelGroup",
    "Transaction",
    "Window",
    "allocated_bytes",
    "lacks_memory",
    "stored_columns",
    "token_bytes",
]
