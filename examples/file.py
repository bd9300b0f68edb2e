"""Watches a video file in a fixed memory and asks about it: in the middle, and at the end.

python examples/file.py street.mp4                                        # the small model that ships
python examples/file.py street.mp4 --model Qwen/Qwen2.5-VL-7B-Instruct --memory 4096 --ask "What happened?"
"""

import argparse

import infinipot


def main() -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Watch a video file and ask about it.")
    parser.add_argument("file")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--memory", default="512")
    parser.add_argument("--ask", default="How many shapes have appeared so far?")
    args = parser.parse_args()

    model = infinipot.load(args.model)
    with infinipot.open_video(args.file, fps=2) as video, model.stream(memory=args.memory) as stream:
        middle = (video.duration or 0) / 2
        for frame in video:
            stream.watch(frame)
            if frame.time <= middle < frame.time + 0.5:
                print(f"[{frame.time:g} s] {stream.ask(args.ask)}")
        print(f"[{frame.time:g} s] {stream.ask(args.ask)}")
        stats = stream.stats()
    print(f"{stats.tokens} tokens held of {stats.cap}; a full cache would hold {stats.full_tokens}")


if __name__ == "__main__":
    main()
