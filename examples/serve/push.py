"""Pushes a video at its own pace into a realtime session, as voice agents do, and asks while it runs.

    pip install websockets
    infinipot serve --model embedded &
    python examples/serve/push.py [street.mp4] [--fps 1] [--every 5] [--question "What is there?"] [--fast]

Without a video, frames of the synthetic world that the embedded model knows. The socket speaks OpenAI's realtime
events: a picture is an `input_image`, and `conversation: "none"` asks without a trace. INFINIPOT_URL is where the
server is, INFINIPOT_KEY a key of its file of keys, if it has one.
"""

import argparse
import base64
import io
import json
import os
import time

from PIL import Image
from websockets.sync.client import ClientConnection, connect

import infinipot
from infinipot.embedded.world import Clip


def item(*content: dict) -> dict:
    return {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": list(content)}}


def picture(frame: infinipot.Frame) -> dict:
    written = io.BytesIO()
    Image.fromarray(frame.image).save(written, "JPEG", quality=95)
    url = f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode()}"
    return {"type": "input_image", "image_url": url, "infinipot": {"time": frame.time}}


def tell(socket: ClientConnection, event: dict, end: str) -> str:
    """Sends an event and waits for what ends it; returns the text that came meanwhile."""
    socket.send(json.dumps(event))
    text = ""
    while (told := json.loads(socket.recv()))["type"] != end:
        if told["type"] == "error":
            raise SystemExit(told["error"]["message"])
        text += told["delta"] if told["type"] == "response.output_text.delta" else ""
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", nargs="?")
    parser.add_argument("--fps", type=float, default=2)
    parser.add_argument("--every", type=float, default=5, help="seconds of the video between two questions")
    parser.add_argument("--question", default="How many shapes have appeared so far?")
    parser.add_argument("--fast", action="store_true", help="do not keep the video's own pace")
    given = parser.parse_args()
    frames = infinipot.open_video(given.video, fps=given.fps) if given.video else Clip(1, 20, fps=given.fps)

    url = os.environ.get("INFINIPOT_URL", "http://127.0.0.1:8000").replace("http", "ws", 1)
    key = {"Authorization": f"Bearer {os.environ.get('INFINIPOT_KEY', 'none')}"}
    with connect(f"{url}/v1/realtime", additional_headers=key) as socket:
        settings = {"type": "realtime", "infinipot": {"fps": given.fps}}
        tell(socket, {"type": "session.update", "session": settings}, "session.updated")
        begin, due = time.monotonic(), given.every
        for frame in frames:
            if not given.fast:
                time.sleep(max(begin + frame.time - time.monotonic(), 0))
            tell(socket, item(picture(frame)), "conversation.item.done")
            if frame.time >= due:
                due += given.every
                tell(socket, item({"type": "input_text", "text": given.question}), "conversation.item.done")
                asked = {"type": "response.create", "response": {"conversation": "none"}}
                print(f"[{frame.time:g} s] {given.question} {tell(socket, asked, 'response.done').strip()}", flush=True)


if __name__ == "__main__":
    main()
