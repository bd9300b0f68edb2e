"""Installs what the tests of the page and of cameras need, where that can be done, and says in a line what is missing.

Nothing here fails: a test whose needs are missing skips itself.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from support import rtsp
from support.places import AXE

CHROMIUM = "apt-get install chromium (or CHROMIUM, the path of a browser)"
SECONDS = 240


def tried(*command: str) -> bool:
    """Whether a command went well."""
    try:
        return subprocess.run(command, capture_output=True, timeout=SECONDS, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def as_root() -> tuple[str, ...] | None:
    """What stands ahead of a command that only root may run; None where there is no way, or it would surprise."""
    if os.geteuid() == 0:
        return ()
    return ("sudo", "-n") if os.environ.get("CI") and shutil.which("sudo") else None


def browser() -> str | None:
    """The browser that the tests drive."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def main() -> None:
    """Installs, and tells."""
    if not AXE.exists() and shutil.which("npm"):
        tried("npm", "install", "--no-save", "--no-audit", "--no-fund", "--prefix", str(AXE.parents[2]), "axe-core@4")
    packages = [*([] if browser() else ["chromium"]), *([] if rtsp.python() else rtsp.PACKAGES)]
    root = as_root()
    if packages and shutil.which("apt-get") and root is not None:
        install = (*root, "apt-get", "install", "--yes", "--no-install-recommends", *packages)
        if not tried(*install) and tried(*root, "apt-get", "update"):
            tried(*install)
        rtsp.python.cache_clear()
    missing = [
        *([] if browser() else [CHROMIUM]),
        *([] if AXE.exists() else ["npm install --no-save axe-core"]),
        *([] if rtsp.python() else [f"apt-get install {' '.join(rtsp.PACKAGES)}"]),
    ]
    if missing:
        print(f"some tests will be skipped; what they need: {'; '.join(missing)}")


main()
