"""Opening a stream: what can be checked before its first frame, and then its memory."""

from infinipot.engine.limits import require_probes
from infinipot.engine.pending import Pending
from infinipot.engine.setup import Setup, block_patches
from infinipot.engine.state import StreamState


def open_state(setup: Setup) -> StreamState:
    """The state of a stream that was given nothing yet.

    Raises:
        CapError: the cap has no room for any video or for what the policy asks the model, or the device none for the
            memory.
    """
    block_patches(setup, setup.gatherer.steps)
    require_probes(setup)
    return StreamState(setup.allocate(), Pending(setup.gatherer.empty))
