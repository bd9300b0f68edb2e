"""A real RTSP server, Debian's gst-rtsp-server, for the tests of cameras. Run by a Python that has its bindings.

    python3 rtsp_server.py PORT [WIDTH HEIGHT]

Lines on its input: `still` and `moving` (the picture), `drop SHARE` (of coded pictures that are lost), `size WIDTH
HEIGHT` (clients are cut off and find the new one), `cut`.
"""

import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PIPELINE = (
    "( videotestsrc name=picture is-live=true pattern=snow ! video/x-raw,width={width},height={height},framerate=15/1 "
    "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! identity name=loss "
    "! rtph264pay name=pay0 pt=96 config-interval=1 )"
)


class Server:
    def __init__(self, port: str, width: str = "320", height: str = "240") -> None:
        self.server = GstRtspServer.RTSPServer(service=port, address="127.0.0.1")
        self.factory = GstRtspServer.RTSPMediaFactory(launch=PIPELINE.format(width=width, height=height), shared=True)
        self.factory.connect("media-configure", lambda _, media: self.configure(media))
        self.server.get_mount_points().add_factory("/live", self.factory)
        self.picture, self.loss = "snow", 0.0
        self.elements: list[Gst.Element] = []
        self.server.attach(None)

    def configure(self, media: GstRtspServer.RTSPMedia) -> None:
        self.elements = [media.get_element().get_by_name_recurse_up(name) for name in ("picture", "loss")]
        self.apply()

    def apply(self) -> None:
        for element, (name, value) in zip(
            self.elements,
            (("pattern", self.picture), ("drop-probability", self.loss)),
            strict=False,
        ):
            Gst.util_set_object_arg(element, name, str(value))

    def obey(self, command: str, *words: str) -> None:
        if command in ("still", "moving"):
            self.picture = "blue" if command == "still" else "snow"
        elif command == "drop":
            self.loss = float(words[0])
        elif command in ("size", "cut"):
            if words:
                self.factory.set_launch(PIPELINE.format(width=words[0], height=words[1]))
            self.elements = []
            self.server.client_filter(lambda server, client: GstRtspServer.RTSPFilterResult.REMOVE)
        self.apply()


def main() -> None:
    Gst.init(None)
    server, loop = Server(*sys.argv[1:]), GLib.MainLoop()

    def read() -> None:
        for line in sys.stdin:
            GLib.idle_add(server.obey, *line.split())
        loop.quit()

    threading.Thread(target=read, daemon=True).start()
    print("ready", flush=True)
    loop.run()


main()
