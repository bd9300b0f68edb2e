"""Saved streams: what is in the file, of which model it is, and whether it can be gone on with.

A file holds tensors (what the held slots store, what waits for its block) and a text in JSON: the layout's version, the
model, the policy, the settings and the stream's own numbers. Nothing in it is run, and nothing is believed: see
tensor_file.py for the file itself, plain.py for types, consistency.py for what the numbers have to keep to.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infinipot import policies
from infinipot.config import StreamConfig
from infinipot.consistency import InconsistentError, Saved, all_finite, check_slots, check_state
from infinipot.engine.setup import Setup
from infinipot.engine.state import StreamState
from infinipot.errors import InfinipotError, PolicyError, SnapshotError
from infinipot.memory import Memory
from infinipot.memory.transaction import NOWHERE
from infinipot.models import Adapter
from infinipot.plain import PlainError, from_plain, to_plain
from infinipot.policies.base import Policy
from infinipot.stats import Stopwatch
from infinipot.tensor_file import TensorFile, write

VERSION = 3  # of the layout: another one means that files of the one before can no longer be read
_SAMPLES = 16  # numbers of each weight that its fingerprint looks at
_PASSING = ("transformers_version", "dtype", "torch_dtype", "architectures", "attn_implementation")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which model a stream is of.

    Attributes:
        name: where its weights were loaded from, for people; another copy of the same weights will do.
        model_type, modality, dtype: see `Adapter`.
        fingerprint: of its configuration and of some numbers of each weight.
        process: this one's number, and how many share the heads.
    """

    name: str
    model_type: str
    modality: str
    dtype: str
    fingerprint: str
    process: tuple[int, int]

    @classmethod
    def of(cls, adapter: Adapter) -> "Identity":
        """The identity of a loaded model."""
        config = adapter.model.config
        return cls(
            name=str(getattr(config, "_name_or_path", "") or adapter.title),
            model_type=str(config.model_type),
            modality=adapter.modality,
            dtype=str(adapter.model.dtype).removeprefix("torch."),
            fingerprint=_fingerprint(adapter.model),
            process=(adapter.tp_group.number, adapter.tp_group.count),
        )


def _fingerprint(model: Any) -> str:
    """A hash of what the configuration says beyond defaults, and of numbers of each weight, taken evenly over it."""
    found = hashlib.sha256(json.dumps(_lasting(_said(model.config)), sort_keys=True, default=str).encode())
    for name, weight in sorted(model.named_parameters()):
        own = weight.to_local() if hasattr(weight, "to_local") else weight
        flat = own.detach().reshape(-1)
        some = flat[:: max(1, len(flat) // _SAMPLES)][:_SAMPLES].cpu().to(torch.float64)  # which not every device has
        found.update(f"{name} {list(weight.shape)}".encode() + some.numpy().tobytes())
    return found.hexdigest()[:32]


def _said(config: Any) -> dict[str, Any]:
    """A configuration without the defaults of its classes: a release of transformers may bring more of those."""
    parts = {name: part for name in config.sub_configs if (part := getattr(config, name, None)) is not None}
    try:
        usual = type(config)().to_dict()
    except (TypeError, ValueError):  # a class that has to be told something
        usual = {}
    beside = {key: value for key, value in config.to_dict().items() if key not in usual or value != usual[key]}
    return beside | {name: _said(part) for name, part in parts.items()}


def _lasting(config: Any) -> Any:
    """A configuration without what says nothing about the model."""
    if isinstance(config, Mapping):
        named = {str(key): value for key, value in config.items()}
        return {key: _lasting(value) for key, value in named.items() if key not in _PASSING and key[:1] != "_"}
    return [_lasting(each) for each in config] if isinstance(config, list | tuple) else config


def save(path: Path, setup: Setup, state: StreamState) -> None:
    """Writes a stream's state to a file.

    Raises:
        SnapshotError: it cannot be written, or not be restored from what would be written.
    """
    policy = setup.policy
    try:
        known = policies.make(policy.spec) == policy
    except PolicyError:
        known = False
    if not known:
        raise SnapshotError(
            f"infinipot knows no policy by the name {policy.spec!r}, so that the snapshot could not be restored"
        )
    arrays: dict[str, Tensor] = {}
    saved = Saved.of(state)
    try:
        check_state(saved, len(state.memory.state.captions), setup)
    except InconsistentError as error:
        raise SnapshotError(f"the stream cannot be saved: {error}") from error
    document = {
        "version": VERSION,
        "model": to_plain(Identity.of(setup.adapter), "model", arrays),
        "policy": policy.spec,
        "config": to_plain(setup.config, "config", arrays),
        "state": to_plain(saved, "state", arrays),
    }
    write(path, json.dumps(document, allow_nan=False), state.memory.stored() | arrays)


class Snapshot:
    """A saved stream that is being read.

    Args:
        path: of the file.

    Attributes:
        model: of which it is.
        policy, config: with which it was opened.

    Raises:
        SnapshotError: it is none, or damaged, or of another version of the layout.
    """

    def __init__(self, path: Path) -> None:
        self._file = TensorFile(path)
        try:
            told = json.loads(self._file.text)
            version = told["version"]
            if version == VERSION:
                self.model: Identity = from_plain(Identity, told["model"], "model", self._array)
                self.policy: Policy = policies.make(str(told["policy"]))
                self.config: StreamConfig = from_plain(StreamConfig, told["config"], "config", self._array)
                self._state = told["state"]
        except (ValueError, TypeError, KeyError, RecursionError, InfinipotError) as error:
            raise self.error(f"cannot be read: {error}") from error
        if version != VERSION:
            raise self.error(f"has version {version!r} of the layout, and this infinipot reads {VERSION}")

    def error(self, what: str) -> SnapshotError:
        """What to raise where it cannot be restored."""
        return self._file.error(what)

    def check_model(self, adapter: Adapter) -> None:
        """Raises `SnapshotError` where it is not of this model."""
        mine, theirs = Identity.of(adapter), self.model
        if replace(mine, name="") == replace(theirs, name=""):
            return
        differs = next(
            f"{name} {getattr(theirs, name)!r}, not {getattr(mine, name)!r}"
            for name in ("model_type", "modality", "dtype", "process", "fingerprint")
            if getattr(theirs, name) != getattr(mine, name)
        )
        raise self.error(f"is of another model ({theirs.name!r}): it has {differs}")

    def restore(self, setup: Setup, state: StreamState) -> None:
        """Makes an empty state what was saved.

        Raises:
            SnapshotError: it is not what such a stream can have come to.
        """
        memory = state.memory
        try:
            saved = self._read(self._array)
            stored = self._stored(memory, saved)
            slots = [self._columns(stored, number) for number in range(len(memory.groups))]
            captions = _captions(slots[0])
            check_state(saved, len(captions), setup)
            for columns in slots:
                check_slots(columns, saved, captions, setup)
            if not all_finite([part for name, part in stored.items() if part.dim() > 2]):
                raise InconsistentError("keys or values are not numbers")
        except (InconsistentError, PlainError, TypeError, OverflowError) as error:
            raise self.error(f"cannot be restored: {error}") from error
        saved = self._read(lambda name: self._array(name).clone())
        held = replace(saved.held, captions=tuple(captions.tolist()))
        memory.restore(held, saved.grids, saved.peak, stored)
        state.pending, state.stopwatch = saved.pending, Stopwatch(saved.seconds)
        state.asked_tokens, state.dense_after = saved.asked_tokens, saved.dense_after

    def _read(self, arrays: Callable[[str], Tensor]) -> Saved:
        saved: Saved = from_plain(Saved, self._state, "state", arrays)
        return saved

    def _array(self, name: str) -> Tensor:
        if name not in self._file.entries:
            raise InconsistentError(f"it lacks {name}")
        return self._file.tensor(name)

    def _stored(self, memory: Memory, saved: Saved) -> dict[str, Tensor]:
        """What the file has for a memory, once it is clear that it has nothing but that and what waits."""
        wanted = memory.layout(saved.held.tokens)
        waiting = {name for name in self._file.entries if name.startswith("state.")}
        if self._file.entries.keys() - waiting != wanted.keys():
            raise InconsistentError("it has tensors that no stream has, or lacks some")
        used: dict[str, Tensor] = {}
        to_plain(saved, "state", used)
        if waiting != used.keys():
            raise InconsistentError("it has tensors of waiting frames that its header does not describe")
        for name, like in wanted.items():
            dtype, shape, _ = self._file.entries[name]
            if (dtype, shape) != like:
                raise InconsistentError(f"{name} is {dtype} of shape {list(shape)}, not {like[0]} of {list(like[1])}")
        return {name: self._file.tensor(name) for name in wanted}

    def _columns(self, stored: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
        start = f"{number}."
        return {name.removeprefix(start): part for name, part in stored.items() if name.startswith(start)}


def _captions(columns: Mapping[str, Tensor]) -> Tensor:
    """For each caption token of the first row the temporal patch that it belongs to, ascending."""
    patch, cell = columns["patch"][0], columns["cell"][0]
    captions: Tensor = patch[(patch != NOWHERE) & (cell < 0)].sort().values
    return captions
