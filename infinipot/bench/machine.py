"""What a result depends on besides its case: the machine, weights and code; and process memory."""

import ast
import hashlib
import os
import platform
import sys
from pathlib import Path

import psutil
import torch

import infinipot
from infinipot import shipped

# Folders that change no answer, but for some files in them.
_ASIDE = ("cli/", "bench/", "embedded/", "witness/")
_YET = (
    "bench/watch.py",
    "bench/clips.py",
    "embedded/world.py",
    "embedded/scenery.py",
    "embedded/drawing.py",
    "embedded/facts.py",
)


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(psutil.Process().memory_info().rss)


def peak_resident() -> int:
    """The most bytes of memory that this process ever had."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says on Linux includes the parent before the process was its own
        lines = (line.split() for line in status.read_text().splitlines())
        return next(int(line[1]) * 1024 for line in lines if line[0] == "VmHWM:")
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else 1024 * used


def machine() -> dict[str, str]:
    """The machine."""
    return {"system": f"{platform.system()} {platform.machine()}", "processor": _processor(), "cores": f"{cores()}"}


def device(name: str) -> str:
    """What a device is called: "cpu", or the name of the card."""
    found = torch.device(name) if name != "auto" else torch.accelerator.current_accelerator(check_available=True)
    if found is None or found.type == "cpu":
        return "cpu"
    return torch.cuda.get_device_name(found) if found.type == "cuda" else found.type


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def digest(path: Path) -> str:
    """Twelve digits that stand for the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def digest_of_model(model: str) -> str:
    """Twelve digits that stand for a model: its weights if it is a folder, else its name."""
    folder = Path(shipped.folder_of(model)).expanduser()
    weights = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return "+".join(map(digest, weights)) or model


def digest_of_code() -> str:
    """Twelve digits that stand for the package's code as far as answers depend on it; comments and docstrings do not
    count."""
    root = Path(infinipot.__file__).parent
    whole = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not name.startswith(_ASIDE) or name in _YET:
            whole.update(f"{name}\n{_meaning(path.read_text())}\n".encode())
    return whole.hexdigest()[:12]


def _meaning(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [each for each in body if not _is_text(each)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown")
