"""Loading a checkpoint as a model, and what is checked before that takes long."""

import atexit
import os
from pathlib import Path
from typing import Any

import torch
from transformers.distributed.configuration_utils import DistributedConfig

from infinipot.checkpoint import Checkpoint
from infinipot.config import LoadConfig
from infinipot.errors import ModelError, SettingError
from infinipot.model import Model


def load(
    model: str | Path,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | int | torch.device = "auto",
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
        device: "auto" takes the accelerator if there is one; a number is that of a GPU.
        device_map: spreads the layers over devices (accelerate); overrides `device`.
        tp_plan: "auto" shares out each layer among the processes that torchrun started, one accelerator a process
            (tensor parallelism). Each process then gives its stream the same frames and questions, and gets the same
            answers; caps in tokens are those of one process, amounts in bytes are per process.
        attn_implementation: how attention is computed: "sdpa", torch's fused kernels, or "eager", by the formula; the
            vision encoder takes any that transformers knows.
        revision: of a hub checkpoint.

    Raises:
        SettingError: a setting is wrong in itself, or this machine has no such device.
        ModelError: there is no such checkpoint, it lacks weights or a processor, its family is not supported, or it
            cannot be shared out among so many processes.
    """
    config = LoadConfig(
        model=str(model),
        dtype=str(dtype),
        device=f"cuda:{device}" if isinstance(device, int) else str(device),
        device_map=device_map,
        tp_plan=tp_plan,
        attn_implementation=attn_implementation,
        revision=revision,
    )
    name = config.name
    checkpoint = Checkpoint(name, config.revision)
    adapter = checkpoint.adapter()
    attention = config.attn_implementation
    options: dict[str, Any] = {"attn_implementation": attention} if attention else {}
    shared = config.tp_plan is not None and _processes() > 1
    if shared:
        _require_even_share(checkpoint)
        plan: Any = dict(adapter.tp_plan) or config.tp_plan
        options["distributed_config"] = DistributedConfig(tp_plan=plan)
    else:
        spread = config.device_map
        options["device_map"] = {"": found_device(config.device)} if spread is None else spread
    # What is quick to check comes before what takes long.
    skeleton = checkpoint.skeleton(adapter, dtype=config.dtype)
    processor = checkpoint.processor(adapter)
    if skeleton is not None:
        checkpoint.check(adapter(skeleton, processor))
    joined = torch.distributed.is_available() and torch.distributed.is_initialized()
    network = checkpoint.network(adapter, dtype=config.dtype, **options)
    if shared and not joined:
        atexit.register(_leave_group)
    _require_resident(name, network)
    loaded = adapter(network.eval(), processor)
    if skeleton is None:
        checkpoint.check(loaded)
    if shared and loaded.tp_group.count == 1:
        raise ModelError(
            f"{name}: transformers has no tensor-parallel plan for the attention of {loaded.title}: leave tp_plan out"
        )
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


def _processes() -> int:
    """How many processes torchrun started."""
    if "WORLD_SIZE" not in os.environ:
        raise SettingError("tp_plan='auto' is for processes that torchrun starts: torchrun --nproc-per-node 8 ...")
    return int(os.environ["WORLD_SIZE"])


def _leave_group() -> None:
    """Ends the process group that transformers began: Python may abort at its end while the group's threads run."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


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


def found_device(device: str) -> torch.device:
    """The device that a `LoadConfig` names; "auto" is the accelerator if there is one, or else the CPU.

    Raises:
        SettingError: there is no such device here.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device != "auto":
        found = torch.device(device)
        if found.type == "cuda" and not 0 <= (found.index or 0) < torch.cuda.device_count():
            there = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
            raise SettingError(
                f"device={device!r}: PyTorch finds no such GPU here; possible: {', '.join([*there, 'cpu'])}"
            )
        if found.type not in ("cuda", "cpu") and (accelerator is None or found.type != accelerator.type):
            possible = "cpu" if accelerator is None else f"{accelerator.type}, cpu"
            raise SettingError(f"device={device!r}: PyTorch finds no such device here; possible: {possible}")
        return found
    return accelerator or torch.device("cpu")
