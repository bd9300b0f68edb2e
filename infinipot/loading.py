"""Loading a checkpoint as a model, and what is checked before that takes long."""

import atexit
import os
from pathlib import Path
from typing import Any

import torch
from transformers.distributed.configuration_utils import DistributedConfig

from infinipot.checkpoint import Checkpoint
from infinipot.errors import ModelError
from infinipot.model import Model


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
    if dtype != "auto":
        _require_floating(dtype)
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
        options["device_map"] = device_map if device_map is not None else {"": found_device(device)}
    # What is quick to check comes before what takes long.
    skeleton = checkpoint.skeleton(adapter, dtype=dtype)
    processor = checkpoint.processor(adapter)
    if skeleton is not None:
        checkpoint.check(adapter(skeleton, processor))
    joined = torch.distributed.is_available() and torch.distributed.is_initialized()
    network = checkpoint.network(adapter, dtype=dtype, **options)
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


def _require_floating(dtype: object) -> None:
    """Weights are numbers of floating point."""
    known = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not (isinstance(known, torch.dtype) and known.is_floating_point):
        raise ModelError(f"dtype={dtype!r}: give 'auto', or a type such as 'bfloat16', 'float16' or 'float32'")


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
        raise ModelError(f"tp_plan={tp_plan!r}: only 'auto' is possible")
    if device != "auto" or device_map is not None:
        raise ModelError(
            "with tp_plan each process takes the accelerator of its number: leave device and device_map out"
        )
    if "WORLD_SIZE" not in os.environ:
        raise ModelError("tp_plan='auto' is for processes that torchrun starts: torchrun --nproc-per-node 8 ...")
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


def found_device(device: str | torch.device) -> torch.device:
    """The device of that name; "auto" is the accelerator if there is one, or else the CPU.

    Raises:
        ModelError: there is no such device here.
    """
    if device != "auto":
        try:
            found = torch.device(device)
        except (RuntimeError, TypeError):
            raise ModelError(f"device={device!r}: give 'cpu', 'cuda', 'cuda:1', 'mps' or 'auto'") from None
        if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
            there = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
            raise ModelError(
                f"device={device!r}: PyTorch finds no such GPU here; possible: {', '.join([*there, 'cpu'])}"
            )
        return found
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")
