"""The settings of a stream, as plain data. Knows no model: what a setting comes to with one is the stream's to find."""

from dataclasses import dataclass

from infinipot.settings import check_settings
from infinipot.text import check_text


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """What a stream is opened with, see `Model.stream`. A wrong value raises what `check_settings` raises for it."""

    memory: int | str | None = None
    fps: float = 2.0
    keep: float = 0.75
    block: int | None = None
    reserve: int | None = None
    dialogue: int | None = None
    positions: str = "rebase"
    system: str | None = None
    pixels: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_settings(
            self.memory,
            fps=self.fps,
            keep=self.keep,
            block=self.block,
            reserve=self.reserve,
            dialogue=self.dialogue,
            positions=self.positions,
            pixels=self.pixels,
        )
        check_text(self.system or "", "the system message")
