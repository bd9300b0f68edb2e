"""Loading a checkpoint, and opening streams on it."""

import os
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers.distributed.configuration_utils import DistributedConfig

from infinipot import policies
from infinipot.checkpoint import Checkpoint, in_a_line
from infinipot.config import StreamConfig
from infinipot.engine import runner
from infinipot.engine.evidence import Answer
from infinipot.engine.setup import Setup
from infinipot.engine.task import Task
from infinipot.errors import InfinipotError, ModelError, SnapshotError
from infinipot.models import Adapter, adapters
from infinipot.policies import Policy
from infinipot.snapshot import Snapshot
from infinipot.stream import Stream
from infinipot.video import Frame, ImageLike

T = TypeVar("T")


class Model:
    """A loaded model: stateless and shared; every stream on it has a memory of its own.

    Attributes:
        name: the id or folder it was loaded from.
        adapter: its adapter, for streams of its modality.
    """

    def __init__(self, name: str, adapter: Adapter) -> None:
        self.name = name
        self.adapter = adapter
        self._others: dict[str, Adapter] = {}

    @property
    def device(self) -> torch.device:
        """What it computes on; where its layers are spread over several devices, the first of them."""
        return torch.device(self.adapter.model.device)

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights."""
        dtype: torch.dtype = self.adapter.model.dtype
        return dtype

    @property
    def commit(self) -> str | None:
        """The revision that was loaded from a hub, as its hash; None for a folder."""
        commit: str | None = getattr(self.adapter.model.config, "_commit_hash", None)
        return commit

    def stream(
        self,
        memory: int | str | None = None,
        policy: str | Policy = "infinipot-v",
        *,
        modality: str | None = None,
        fps: float = 2.0,
        keep: float = 0.75,
        block: int | None = None,
        reserve: int | None = None,
        dialogue: int | None = None,
        positions: str = "rebase",
        gate: float | str | None = None,
        look_again: int = 0,
        system: str | None = None,
        pixels: tuple[int, int] | None = None,
    ) -> Stream:
        """Opens a stream, whose whole memory is allocated here.

        Args:
            memory: the cap |M|: tokens per layer and KV head that the stream may ever hold, or an amount in bytes over
                all layers, such as "256MiB". By default 4096 tokens, or as many more as the model's largest frames (or
                those of `pixels`) need, and what the model's positions allow.
            policy: a name, a name with options ("infinipot-v:combine=union,alpha=0.4"), or a `Policy`.
            modality: "video" to watch, or "audio" to listen, where the model can hear; by default video.
            fps: period of frames that come without a time.
            keep: |C| as a share of the video's part of the cap: what a compression leaves.
            block: temporal patches, or chunks of sound (2 s), that go through the model at once; by default as many as
                fit, 8 at the most.
            reserve: tokens kept free for a question and its answer; by default an eighth of the cap, 64 to 512.
            dialogue: tokens that remembered turns may take from the video; by default an eighth of the cap, up to 512.
            positions: "rebase" keeps endless streams inside the positions that the model was trained on, in proportion
                to time; "native" lets positions grow with the video.
            gate: leaves out what stands still, so that watching it costs little: "patches" in which nothing changes;
                with "otsu" cells that do not, too; or how far a cell must change to be given to the model again, as a
                share of black to white; None for no gate. See engine/gating.py.
            look_again: frames that are kept as pictures, so that `Stream.ask` can look at the last of them again.
            system: a system message; by default the chat template's own.
            pixels: least and most pixels of a resized frame. By default the processor's, but no more than the family
                has for a frame of a video, and smaller ones (of 128 tokens at the least) where `memory` is small.

        Raises:
            CapError: the cap is too small for the prompt, or too large for the model's positions.
            PolicyError: an unknown policy or option.
            ModelError: the model does not take this modality.
        """
        return Stream(
            self._adapter_for(self.adapter.modality if modality is None else modality),
            policies.make(policy),
            memory,
            fps=fps,
            keep=keep,
            block=block,
            reserve=reserve,
            dialogue=dialogue,
            positions=positions,
            gate=gate,
            look_again=look_again,
            system=system,
            pixels=pixels,
        )

    def stream_bytes(
        self,
        memory: int | str | None = None,
        policy: str | Policy = "infinipot-v",
        *,
        modality: str | None = None,
        **settings: Any,
    ) -> int:
        """Bytes that a stream opened with these settings, those of `stream`, allocates: known before it is.

        Raises:
            What `stream` raises for them, but where the memory is too small for any video: opening one tells.
        """
        adapter = self._adapter_for(self.adapter.modality if modality is None else modality)
        return Setup.of(adapter, policies.make(policy), StreamConfig(memory=memory, **settings)).bytes

    def step(self, tasks: Iterable[Task[Any]], max_tokens: int | None = None) -> None:
        """Carries calls of different streams on, all together, by one run of the network: see `Stream.begin_watch`.

        Frames are encoded together, and blocks of frames, questions and tokens of answers share one packed sequence,
        of which each stream's part attends to its own memory. Of families with recurrent layers one stream runs after
        the other.

        Args:
            tasks: calls on streams of this model, at most one a stream; those that are done are passed over.
            max_tokens: that the step is to run over at the most; None for all there is. Single tokens of answers
                always go; beside them, in the order of `tasks`, what there is room for, but the first of it in any
                case: a task that is named first never waits.
        """
        runner.step(tasks, max_tokens)

    def watch(self, frames: Iterable[tuple[Stream, Frame | ImageLike]]) -> None:
        """Has streams take in a frame each, in packed steps: what `Stream.watch` does for one.

        Raises:
            What the first stream raised that did, once the others have taken their frames.
        """
        self._all([stream.begin_watch(frame) for stream, frame in frames])

    def ask(self, questions: Iterable[tuple[Stream, str]], **options: Any) -> list[Answer]:
        """Asks a question of each stream, in packed steps, with the options of `Stream.ask`; returns the answers.

        Raises:
            What the first stream raised that did, once the others have answered.
        """
        return self._all([stream.begin_ask(question, **options) for stream, question in questions])

    @staticmethod
    def _all(tasks: list[Task[T]]) -> list[T]:
        runner.finish(*tasks)
        return [task.result() for task in tasks]

    def restore(self, path: str | Path) -> Stream:
        """Opens a stream that goes on where a saved one was, see `Stream.save`: with its policy and its settings.

        The whole memory is allocated before anything is read into it.

        Raises:
            SnapshotError: the file is none of a stream's or damaged, or of another model, policy or version.
        """
        saved = Snapshot(Path(path))
        try:
            adapter = self._adapter_for(saved.model.modality)
            saved.check_model(adapter)
            settings = {field.name: getattr(saved.config, field.name) for field in fields(saved.config)}
            stream = Stream(adapter, saved.policy, **settings)
        except SnapshotError:
            raise
        except InfinipotError as error:
            raise saved.error(f"cannot be restored: {error}") from error
        stream.take_up(saved)
        return stream

    def _adapter_for(self, modality: str) -> Adapter:
        """The adapter of the same network for streams of this modality."""
        if modality == self.adapter.modality:
            return self.adapter
        if modality not in self._others:
            alike = [adapter for adapter in adapters() if set(adapter.model_types) & set(self.adapter.model_types)]
            possible = {adapter.modality: adapter for adapter in alike}
            if modality not in possible:
                taken = " or ".join(repr(each) for each in sorted({self.adapter.modality, *possible}))
                raise ModelError(f"modality={modality!r}: {self.adapter.title} takes {taken}")
            self._others[modality] = possible[modality](self.adapter.model, self.adapter.processor)
        return self._others[modality]


def load(
    model: str | Path,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    device_map: str | dict[str, Any] | None = None,
    tp_plan: str | None = None,
    attn_implementation: str | None = None,
    revision: str | None = None,
) -> Model:
    """Loads a checkpoint with its processor, through transformers' own `from_pretrained`.

    Args:
        model: a hub id, a folder, or a name: "embedded" for the small model that ships with the package, "witness"
            for the one with a pretrained decoder, which is put together when it is first asked for.
        dtype: of the weights; "auto" takes the checkpoint's.
        device: "auto" takes the accelerator if there is one.
        device_map: spreads the layers over devices (accelerate); overrides `device`.
        tp_plan: "auto" shares out each layer among the processes that torchrun started, one accelerator a process
            (tensor parallelism). Each process then gives its stream the same frames and questions, and gets the same
            answers; caps in tokens are those of one process, amounts in bytes are per process.
        attn_implementation: how attention is computed: "sdpa", torch's fused kernels, or "eager", by the formula; the
            vision encoder takes any that transformers knows.
        revision: of a hub checkpoint.

    Raises:
        ModelError: there is no such checkpoint, it lacks weights or a processor, its family is not supported, or it
            cannot be shared out among so many processes.
    """
    if dtype != "auto" and not isinstance(
        getattr(torch, dtype, None) if isinstance(dtype, str) else dtype, torch.dtype
    ):
        raise ModelError(f"dtype={dtype!r}: give 'auto', or a type such as 'bfloat16', 'float16' or 'float32'")
    name = str(Path(model).expanduser()) if str(model).startswith("~") else str(model)
    checkpoint = Checkpoint(name, revision)
    adapter = checkpoint.adapter()
    options: dict[str, Any] = {"attn_implementation": attn_implementation} if attn_implementation else {}
    shared = tp_plan is not None and _processes(tp_plan, device, device_map) > 1
    if shared:
        _require_even_share(checkpoint)
        plan: Any = dict(adapter.tp_plan) or tp_plan
        options["distributed_config"] = DistributedConfig(tp_plan=plan)
    else:
        options["device_map"] = device_map if device_map is not None else {"": _device(device)}
    # What is quick to check comes before what takes long.
    skeleton = checkpoint.skeleton(adapter, dtype=dtype)
    processor = checkpoint.processor()
    if skeleton is not None:
        checkpoint.check(adapter(skeleton, processor))
    network = checkpoint.network(adapter, dtype=dtype, **options)
    _require_resident(name, network)
    loaded = adapter(network.eval(), processor)
    if shared and loaded.tp_group.count == 1:
        raise ModelError(f"{name}: transformers has no plan that shares out the attention of {loaded.title}")
    return Model(name, loaded)


def _require_resident(name: str, network: torch.nn.Module) -> None:
    """Weights that wait in main memory or on disk for their turn are more than transformers' video models take."""
    weights = [weight.numel() for weight in network.parameters()]
    waiting = sum(weight.numel() for weight in network.parameters() if weight.is_meta)
    if waiting:
        raise ModelError(
            f"{name}: the devices have no room for {waiting / sum(weights):.0%} of the weights, and offloaded ones are "
            'not supported: use more or larger devices, dtype="bfloat16", or a smaller checkpoint'
        )


def _processes(tp_plan: str, device: str | torch.device, device_map: object) -> int:
    """How many processes torchrun started."""
    if tp_plan != "auto":
        raise ModelError(f"tp_plan={tp_plan!r}: 'auto' is what there is")
    if device != "auto" or device_map is not None:
        raise ModelError(
            "with tp_plan each process takes the accelerator of its number: leave device and device_map out"
        )
    if "WORLD_SIZE" not in os.environ:
        raise ModelError("tp_plan='auto' is for processes that torchrun starts: torchrun --nproc-per-node 8 ...")
    return int(os.environ["WORLD_SIZE"])


def _require_even_share(checkpoint: Checkpoint) -> None:
    """Each process takes whole KV heads, and as many as the others."""
    processes = int(os.environ["WORLD_SIZE"])
    heads = checkpoint.kv_heads()
    if heads % processes:
        possible = ", ".join(str(count) for count in range(1, heads + 1) if heads % count == 0)
        raise ModelError(
            f"{checkpoint.name} has {heads} KV heads a layer, which {processes} processes cannot share: start one of "
            f"{possible}"
        )


def _device(device: str | torch.device) -> torch.device:
    if device != "auto":
        try:
            return torch.device(device)
        except RuntimeError as error:
            raise ModelError(f"device={device!r}: {in_a_line(error)}") from error
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")
