"""Describes the machine, its device, and memory. Knows nothing of what is measured."""

import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from infinipot import extras

try:
    import resource
except ImportError:  # Windows does not count this way
    resource = None  # type: ignore[assignment]


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(_process().rss)


def peak_resident() -> int:
    """The most bytes of memory that this process ever had; 0 where nobody counts them."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says on Linux includes the parent before the process was its own
        lines = (line.split() for line in status.read_text().splitlines())
        return next(int(line[1]) * 1024 for line in lines if line[0] == "VmHWM:")
    if resource is None:
        return 0 if extras.missing("bench") else int(_process().peak_wset)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else 1024 * used


def forget_peak() -> None:
    """Begins `peak_allocated` anew, where there are accelerators."""
    if torch.cuda.is_available():
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)


def peak_allocated() -> int:
    """The most bytes that were allocated on all accelerators together; of the process, where there are none."""
    if torch.cuda.is_available():
        return sum(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count()))
    return peak_resident()


def machine() -> dict[str, str]:
    """The machine."""
    return {"system": f"{platform.system()} {platform.machine()}", "processor": _processor(), "cores": f"{cores()}"}


def device_name(device: torch.device) -> str:
    """The name of a device: that of the card, or else its type, such as "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _process() -> Any:
    import psutil  # of the extra "bench"

    return psutil.Process().memory_info()


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown")
