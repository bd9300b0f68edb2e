"""Watches a camera and asks about it every few seconds, for as long as you let it.

python examples/camera.py demo://still                                    # a camera of the synthetic world
python examples/camera.py rtsp://camera.local/stream --model Qwen/Qwen2.5-VL-7B-Instruct --ask "Who is there?"
"""

import argparse

import infinipot


def main() -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Watch a camera and ask about it.")
    parser.add_argument("address", help="rtsp://..., http://..., a device such as /dev/video0, or demo://still")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--memory", default="512")
    parser.add_argument("--ask", default="Is there a shape now?")
    parser.add_argument("--every", type=float, default=5, help="seconds between two questions")
    parser.add_argument("--seconds", type=float, default=60, help="how long to watch")
    args = parser.parse_args()

    model = infinipot.load(args.model)
    with infinipot.open_camera(args.address, fps=2) as camera, model.stream(memory=args.memory) as stream:
        due = args.every
        for frame in camera:  # the newest picture: what came while an answer was made is missed, and counted
            if frame.time > args.seconds:
                break
            stream.watch(frame)
            if frame.time >= due:
                print(f"[{frame.time:.1f} s] {stream.ask(args.ask)}")
                due += args.every
        print(f"{stream.stats().frames} frames watched, {camera.dropped} missed")


if __name__ == "__main__":
    main()
