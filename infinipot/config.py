"""What a model is loaded with and a stream is opened with, as plain data.

Every other place takes one of these or makes one: the library's calls, the command line (whose options are made from
the fields), saved streams, runs of a benchmark. Knows no model: what a setting comes to with one is the engine's to
find.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infinipot.engine.budget import check_shares, parse_memory
from infinipot.engine.gate import OFF, Gate
from infinipot.errors import SettingError
from infinipot.numbers import is_finite, is_whole, is_whole_pair
from infinipot.text import check_text

POLICY = "infinipot-v"  # where nobody says
_MOST_PIXELS = 1 << 26  # that a frame can be made to have


def _setting(value: Any, text: str, **options: Any) -> Any:
    """A field, with what the command line says of it: `choices`, `metavar`, `default` in words, the word for `none`."""
    return field(default=value, metadata={"help": text, **options})


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """What a stream is opened with, see `Model.stream`.

    Raises:
        SettingError: a field that no model could take; the message names it.
        CapError: a memory of so few bytes that no token fits.
    """

    memory: int | str | None = _setting(
        None,
        "The cap: the most tokens held per layer and KV head, or an amount such as 256MiB.",
        metavar="TOKENS|BYTES",
        default="4096, or as the model's largest frames need and its positions allow",
    )
    fps: float = _setting(2.0, "Frames watched per second of video.")
    keep: float = _setting(0.75, "Share of the video's memory that a compression keeps.")
    block: int | None = _setting(
        None,
        "Temporal patches, or chunks of sound, that are run at once.",
        metavar="N",
        default="as many as fit, at most 8",
    )
    reserve: int | None = _setting(
        None, "Tokens kept free for a question and its answer.", metavar="N", default="an eighth of the cap, 64 to 512"
    )
    dialogue: int | None = _setting(
        None, "Tokens that remembered turns may take.", metavar="N", default="an eighth of the cap, at most 512"
    )
    positions: str = _setting(
        "rebase",
        "Keep endless videos inside the trained positions (rebase), or let positions grow (native).",
        choices=("rebase", "native"),
    )
    gate: float | str | None = _setting(
        None,
        "Leave out what does not change: whole patches (patches), or cells too (otsu, or a threshold from 0 to 1).",
        metavar="off|patches|otsu|SHARE",
        none=OFF,
    )
    look_again: int = _setting(
        0, "Number of last frames that are kept as pictures, and that a question looks at again.", metavar="N"
    )
    system: str | None = _setting(None, "A system message that replaces the model's own.", metavar="TEXT")
    pixels: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not is_finite(self.fps) or not self.fps > 0:
            raise SettingError(f"fps={self.fps!r}: the frames per second must be a number above 0")
        object.__setattr__(self, "fps", float(self.fps))  # which may have been numpy's, or a Decimal
        given = self.pixels
        if given is not None and not (is_whole_pair(given) and 0 < given[0] <= min(given[1], _MOST_PIXELS)):
            raise SettingError(
                f"pixels={given!r}: give the least and the most pixels of a resized frame, the least of them at most "
                f"{_MOST_PIXELS}"
            )
        if given is not None:
            object.__setattr__(self, "pixels", (int(given[0]), int(given[1])))  # which may have been numpy's
        if self.positions not in ("rebase", "native"):
            raise SettingError(f"positions={self.positions!r}: give 'rebase' or 'native'")
        if self.memory is not None and parse_memory(self.memory, bytes_per_token=1) < 1:
            raise SettingError(f"memory={self.memory}: the cap must be at least one token")
        check_shares(keep=self.keep, block=self.block, reserve=self.reserve, dialogue=self.dialogue)
        Gate.of(self.gate)
        if not is_whole(self.look_again) or self.look_again < 0:
            raise SettingError(f"look_again={self.look_again!r}: give a whole number of frames, 0 or more")
        if self.system is not None and not isinstance(self.system, str):
            raise SettingError(f"system={self.system!r}: give a text")
        check_text(self.system or "", "the system message", SettingError)


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """What a model is loaded with, see `infinipot.load`, for places that cannot pass a loaded one on."""

    model: str = _setting("embedded", 'A hub id, a folder, or "embedded".', metavar="ID_OR_PATH")
    dtype: str = _setting("auto", "Type of the weights.", choices=("auto", "float32", "bfloat16", "float16"))
    device: str = _setting("auto", "Device to run on, such as cpu, cuda or cuda:1.")
    device_map: str | None = _setting(None, "Spread the layers over devices, such as auto; overrides --device.")
    tp_plan: str | None = _setting(None, "Split each layer among torchrun's processes.", choices=("auto",))
    attn_implementation: str | None = _setting(None, "How attention is computed: sdpa or eager.")
    revision: str | None = _setting(None, "Revision of a hub checkpoint.")

    @property
    def name(self) -> str:
        """What the loaded model says that it was loaded from."""
        return str(Path(self.model).expanduser()) if self.model.startswith("~") else self.model
