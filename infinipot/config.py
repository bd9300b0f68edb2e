"""What a model is loaded with, a stream is opened with and an answer is chosen with, as plain data.

Every other place takes one of these or makes one: the library's calls, the command line (whose options are made from
the fields), saved streams, runs of a benchmark. Knows no model: what a setting comes to with one is the engine's to
find.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infinipot.errors import CapError, QuestionError, SettingError
from infinipot.gate import OFF, Gate
from infinipot.numbers import MOST_PIXELS, is_finite, is_real, is_whole, is_whole_pair
from infinipot.text import check_text

POLICY = "infinipot-v"  # where nobody says
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_DTYPES = ("bfloat16", "float16", "float32", "float64")  # of weights
_ALIASES = {"half": "float16", "float": "float32", "double": "float64"}  # torch's other names for them


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
        "Temporal patches, or chunks of sound, that run at once.",
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
        if given is not None and not (is_whole_pair(given) and 0 < given[0] <= min(given[1], MOST_PIXELS)):
            raise SettingError(
                f"pixels={given!r}: give the least and the most pixels of a resized frame, the least of them at most "
                f"{MOST_PIXELS}"
            )
        if given is not None:
            object.__setattr__(self, "pixels", (int(given[0]), int(given[1])))  # which may have been numpy's
        if self.positions not in ("rebase", "native"):
            raise SettingError(f"positions={self.positions!r}: give 'rebase' or 'native'")
        if self.memory is not None and parse_memory(self.memory, bytes_per_token=1) < 1:
            raise SettingError(f"memory={self.memory}: the cap must be at least one token")
        self._check_shares()
        Gate.of(self.gate)
        if not is_whole(self.look_again) or self.look_again < 0:
            raise SettingError(f"look_again={self.look_again!r}: give a whole number of frames, 0 or more")
        if self.system is not None and not isinstance(self.system, str):
            raise SettingError(f"system={self.system!r}: give a string")
        check_text(self.system or "", "the system message", SettingError)

    def _check_shares(self) -> None:
        """Makes sure that the shares of a cap are ones at all, whatever the cap."""
        if not is_real(self.keep) or not 0 < self.keep < 1:
            raise SettingError(
                f"keep={self.keep!r}: the share of the video's memory that a compression leaves lies between 0 and 1"
            )
        for name, least in (("reserve", 1), ("dialogue", 0), ("block", 1)):
            value = getattr(self, name)
            if value is not None and (not is_whole(value) or value < least):
                raise SettingError(f"{name}={value!r}: give a whole number of {least} or more")


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """What a model is loaded with, see `infinipot.load`.

    A path, and a type or device of torch, become the text that names them.

    Raises:
        SettingError: a field that is wrong whatever the model; the message names it.
    """

    model: str = _setting("embedded", 'A hub id, a folder, or "embedded".', metavar="ID_OR_PATH")
    dtype: str = _setting("auto", "Type of the weights.", choices=("auto", "float32", "bfloat16", "float16"))
    device: str = _setting("auto", "Device to run on, such as cpu, cuda or cuda:1.")
    device_map: str | Mapping[str, Any] | None = _setting(
        None, "Spread the layers over devices, such as auto; overrides --device."
    )
    tp_plan: str | None = _setting(None, "Split each layer among torchrun's processes.", choices=("auto",))
    attn_implementation: str | None = _setting(None, "How attention is computed: sdpa or eager.")
    revision: str | None = _setting(None, "Revision of a hub checkpoint.")

    def __post_init__(self) -> None:
        dtype = str(self.dtype).removeprefix("torch.")
        for name, text in (("model", self.model), ("dtype", _ALIASES.get(dtype, dtype)), ("device", self.device)):
            object.__setattr__(self, name, str(text))
        if self.dtype not in ("auto", *_DTYPES):
            raise SettingError(
                f"dtype={self.dtype!r}: give 'auto', or a type such as 'bfloat16', 'float16' or 'float32'"
            )
        if not _is_device(self.device):
            raise SettingError(f"device={self.device!r}: give 'cpu', 'cuda', 'cuda:1', 'mps' or 'auto'")
        if self.tp_plan not in (None, "auto"):
            raise SettingError(f"tp_plan={self.tp_plan!r}: only 'auto' is possible")
        if self.tp_plan is not None and (self.device != "auto" or self.device_map is not None):
            raise SettingError(
                "with tp_plan each process takes the accelerator of its number: leave device and device_map out"
            )

    @property
    def name(self) -> str:
        """What the loaded model says that it was loaded from."""
        return str(Path(self.model).expanduser()) if self.model.startswith("~") else self.model


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the tokens of an answer are chosen. What is None is as the checkpoint's generation config has it.

    Where nothing is said anywhere, or the temperature is below 1e-5, the likeliest token is taken each time. A
    checkpoint that samples does so here too: `temperature=0` has it greedy. Giving a temperature, `top_p` or `top_k`
    asks for sampling.

    Attributes:
        temperature: what logits are divided by; 0 takes the likeliest token.
        top_p: draws among the likeliest tokens that have this probability together, 1 for all.
        top_k: draws among so many of the likeliest, 0 for all.
        repetition_penalty: what makes tokens that were there before less likely, 1 for nothing.
        seed: of what is drawn: the same question at the same moment has the same answer, another one another.
        stop: texts that end the answer, which is what stands before the first of them.

    Raises:
        QuestionError: a value that is out of range.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int = 0
    stop: Sequence[str] = ()

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else self.stop or ()
        if not isinstance(stop, Sequence) or not all(isinstance(text, str) and text for text in stop):
            raise QuestionError(f"stop={self.stop!r}: give a non-empty string, or several")
        object.__setattr__(self, "stop", tuple(stop))
        for name, fits, possible in (
            ("temperature", lambda value: is_real(value) and value >= 0 and is_finite(value), "a number of 0 or more"),
            ("top_p", lambda value: is_real(value) and 0 <= value <= 1, "a share from 0 to 1"),
            ("top_k", lambda value: is_whole(value) and value >= 0, "a whole number of 0 or more"),
            ("repetition_penalty", lambda value: is_real(value) and 0.01 <= value <= 100, "a number from 0.01 to 100"),
        ):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not fits(value)):
                raise QuestionError(f"{name}={value!r}: give {possible}")
        if not is_whole(self.seed) or not 0 <= self.seed < 2**63:
            raise QuestionError(f"seed={self.seed!r}: give a whole number from 0 to 2^63 - 1")

    def said(self) -> dict[str, Any]:
        """What `generate` of transformers would be told."""
        named = {name: getattr(self, name) for name in ("temperature", "top_p", "top_k", "repetition_penalty")}
        kinds = {"top_k": int}
        said = {name: kinds.get(name, float)(value) for name, value in named.items() if value is not None}
        return said | {"do_sample": True} if said.keys() - {"repetition_penalty"} else said


def _is_device(name: str) -> bool:
    """Whether PyTorch has devices of that name, here or elsewhere; PyTorch is imported for rare names only."""
    if re.fullmatch(r"auto|cpu|mps|cuda(:(0|[1-9]\d?))?", name):
        return True
    import torch  # here, since the command line imports this file

    try:
        torch.device(name)
    except RuntimeError:
        return False
    return True


def parse_memory(memory: int | str, bytes_per_token: int, bytes_beside: int = 0) -> int:
    """The cap in tokens of a number of tokens or an amount such as "256MiB", of which `bytes_beside` are no tokens'.

    Raises:
        SettingError: neither of the two.
        CapError: an amount in which no token fits.
    """
    if is_whole(memory):
        return int(memory)
    if not isinstance(memory, str):
        raise SettingError(f"memory={memory!r}: give tokens, such as 4096, or an amount, such as '256MiB' or '2GB'")
    found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([a-zA-Z]*)\s*", memory)
    number, unit = (found[1], found[2].upper()) if found else ("", "?")
    if unit == "" and "." not in number:
        return int(number)
    if unit not in _UNITS:
        raise SettingError(f"memory={memory!r}: give tokens, such as 4096, or an amount, such as '256MiB' or '2GB'")
    tokens = (int(float(number) * _UNITS[unit]) - bytes_beside) // bytes_per_token
    if tokens < 1:
        least = bytes_beside + bytes_per_token
        raise CapError(f"memory={memory!r} is less than one token takes: {least} bytes over all layers")
    return tokens
