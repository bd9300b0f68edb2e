"""A web server with files, and a camera at every other path: at most of them, cameras do not say what they are."""

import http.server
import io
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image


class Served(http.server.BaseHTTPRequestHandler):
    """Files of `folder`, and at every other path a camera that sends a JPEG twenty times a second."""

    folder: Path

    def do_GET(self) -> None:
        if (file := self.folder / self.path[1:]).is_file():
            body = file.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        for shade in itertools.cycle(range(40, 240, 10)):
            picture = io.BytesIO()
            Image.new("RGB", (64, 64), (shade,) * 3).save(picture, "jpeg")
            body = picture.getvalue()
            try:
                self.wfile.write(
                    b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(body), body)
                )
            except OSError:
                return
            time.sleep(0.05)

    def log_message(self, *args: object) -> None: ...


@contextmanager
def web_camera(folder: Path) -> Iterator[str]:
    """The address of such a server."""
    handler = type("Handler", (Served,), {"folder": folder})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
