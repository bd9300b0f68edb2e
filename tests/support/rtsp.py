"""Starts the RTSP server of `rtsp_server.py`, and says what is missing where it cannot be started."""

import functools
import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

PACKAGES = (
    "python3-gi",
    "gir1.2-gst-rtsp-server-1.0",
    "gstreamer1.0-plugins-base",
    "gstreamer1.0-plugins-good",
    "gstreamer1.0-plugins-bad",
    "gstreamer1.0-plugins-ugly",
)
_TRIAL = (
    "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0'); "
    "from gi.repository import Gst, GstRtspServer; Gst.init(None); "
    "assert all(map(Gst.ElementFactory.find, ('x264enc', 'rtph264pay', 'videotestsrc')))"
)


@functools.cache
def python() -> str | None:
    """A Python with the bindings of the server, which the one of a virtual environment has not."""
    for name in ("/usr/bin/python3", shutil.which("python3")):
        if name and Path(name).exists():
            tried = subprocess.run([name, "-c", _TRIAL], capture_output=True, check=False)
            if tried.returncode == 0:
                return name
    return None


def missing() -> str:
    """What to install, in a line; empty where nothing is missing."""
    return "" if python() else f"needs a real RTSP server: apt-get install {' '.join(PACKAGES)}"


class RtspServer:
    """A server on a free port of this machine."""

    def __init__(self) -> None:
        with socket.socket() as trial:
            trial.bind(("127.0.0.1", 0))
            self.port = trial.getsockname()[1]
        self.address = f"rtsp://me:s3cret@127.0.0.1:{self.port}/live"
        self.start()

    def start(self, *size: str) -> None:
        script = Path(__file__).with_name("rtsp_server.py")
        self.process = subprocess.Popen(
            [python() or "", str(script), str(self.port), *size],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
