"""Brings batches to the device while it is at work on others. Knows nothing of what is in them."""

import queue
import threading
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import torch
from torch.utils.data import DataLoader

from training.witness.batches import Batch, Lessons


def ahead(lessons: Lessons, workers: int, device: torch.device) -> Iterator[Any]:
    """Batches on the device; a thread fetches the next ones meanwhile."""
    loader: Any = DataLoader(
        lessons,  # type: ignore[arg-type]
        batch_size=None,
        num_workers=workers,
        prefetch_factor=3 if workers else None,
        collate_fn=_as_it_is,  # type: ignore[arg-type]
        multiprocessing_context="fork" if workers else None,
    )
    ready: queue.Queue[Any] = queue.Queue(3)
    stopped = threading.Event()

    def fetch() -> None:
        try:
            for batch in loader:
                ready.put(on_device(batch, device))
                if stopped.is_set():
                    return
            ready.put(None)
        except Exception as error:
            ready.put(error)

    threading.Thread(target=fetch, daemon=True).start()
    try:
        while (batch := ready.get()) is not None:
            if isinstance(batch, Exception):
                raise batch
            yield batch
    finally:
        stopped.set()
        while not ready.empty():
            ready.get()


def _as_it_is(batch: Batch) -> Batch:
    return batch


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch as tensors on a device; whole numbers become int64."""
    moved: dict[str, Any] = {}
    for each in fields(batch):
        value = getattr(batch, each.name)
        if value is None:
            continue
        tensor = torch.from_numpy(value)
        tensor = tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
        moved[each.name] = tensor.long() if tensor.dtype in (torch.int32, torch.int16) else tensor
    return Batch(**moved)
