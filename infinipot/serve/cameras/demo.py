"""The stream of `infinipot serve --demo`: a camera on the synthetic world, for a first minute with answers to check."""

import random
from pathlib import Path

from infinipot import shipped
from infinipot.camera.demo import World
from infinipot.embedded.facts import HELD_OUT_SEEDS
from infinipot.errors import InfinipotError
from infinipot.serve.keys import Keys
from infinipot.serve.players import Players
from infinipot.serve.settings import Settings
from infinipot.serve.streams.protocol import StreamSettings
from infinipot.serve.streams.registry import Streams

NAME = "demo"
MEMORY = 512  # tokens
_MINUTES, _EVENTS = 3, 6
_SOON = 8.0  # seconds after which the first shape has come


def address(size: int) -> str:
    """A world nobody has seen, in frames of so many pixels, in which something happens soon."""
    while True:
        seed = random.choice(HELD_OUT_SEEDS)
        found = f"demo://still?seed={seed}&minutes={_MINUTES}&events={_EVENTS}&cast=varied&size={size}"
        if World.of(found).clip.events[0].start <= _SOON:
            return found


def check(settings: Settings) -> None:
    """Raises `InfinipotError` where the model of a server does not know the synthetic world."""
    if settings.demo and settings.model not in shipped.NAMES:
        names = ", ".join(shipped.NAMES)
        raise InfinipotError(f"--demo shows a world that {settings.model} does not know: give --model one of {names}")


async def open_demo(settings: Settings, streams: Streams, players: Players) -> None:
    """Opens the stream and watches, unless it was restored."""
    owner = Keys.read(settings.api_keys).owners[0]
    if any(served.owner == owner and served.id == NAME for served in streams):
        return
    served = await streams.open(owner, StreamSettings(memory=settings.memory or MEMORY), NAME)
    players.play(served, address(shipped.frame_size(Path(shipped.folder_of(settings.model)))))
