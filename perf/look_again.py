"""What a second look is worth on questions about the last seconds, and what it costs.

python perf/look_again.py
python perf/look_again.py --clips 4 --look 2 --pixels 16384

Held-out clips of the embedded model, asked about what is there now and about events of the last `--seconds`. Memories
keep 1/32 of a full cache's tokens: `recent-frames`, the last ones whole; `--policy`; and the same one with a second
look at the last `--look` frames. Differences with their 95% interval over clips, milliseconds of a second look.
"""

import argparse
import json
from typing import Any

import torch

import infinipot
from infinipot.config import POLICY
from infinipot.embedded.facts import BACKGROUNDS, HELD_OUT_SEEDS
from infinipot.evaluate.core.statistics import clustered, difference, estimate, over_questions
from infinipot.evaluate.needle.case import Scene
from infinipot.evaluate.needle.memories import LONGEST_ANSWER, make_clip, options, questions
from infinipot.evaluate.needle.plan import FPS, MIX, SECONDS, holders_at

ROWS = ("recent-frames", "plain", "second look")
Found = dict[str, list[tuple[int, bool]]]


def watch(model: infinipot.Model, scene: Scene, given: argparse.Namespace, found: Found) -> tuple[float, int]:
    """Seconds that second looks took, and how many there were."""
    clip = make_clip(scene)
    asked = questions(clip, scene)
    policies = {"recent-frames": "recent-frames", "plain": given.policy, "second look": given.policy}
    streams = {}
    for row, policy in policies.items():
        settings = options(model, holders_at([policy], given.share)[0], scene)
        if row == "second look":  # the slots for it come on top
            settings["look_again"] = given.look
            settings |= {name: settings[name] + given.room for name in ("memory", "reserve")}
        streams[row] = model.stream(**settings)
    looks = 0
    for frame in clip:
        for stream in streams.values():
            stream.watch(frame)
        for question in asked.get(frame.time, ()):
            late = question.event is not None and frame.time - question.event > given.seconds
            if late or (question.event is None and question.kind != "now"):
                continue
            for row, stream in streams.items():
                look: dict[str, Any] = {"look_again": given.look} if row == "second look" else {}
                if look and given.pixels:
                    look["look_pixels"] = (given.pixels, given.pixels)
                answer = stream.ask(question.text, max_new_tokens=LONGEST_ANSWER, **look)
                found.setdefault(row, []).append((scene.seed, answer == question.answer))
            looks += 1
    return streams["second look"].stats().seconds["look_again"], looks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default=POLICY)
    parser.add_argument("--share", type=int, default=32)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--look", type=int, default=4)
    parser.add_argument("--pixels", type=int, help="of a frame that is looked at again")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--room", type=int, default=128, help="tokens of the reserve for the second look")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = infinipot.load("embedded")
    for kind, background in enumerate(BACKGROUNDS):
        found: Found = {}
        taken, looks = 0.0, 0
        for number in range(given.clips):
            cast, events = MIX[number % len(MIX)]
            seed = HELD_OUT_SEEDS.start + 1000 * kind + 800 + number
            seconds, count = watch(model, Scene(seed, SECONDS, FPS, events, background, cast, moments=8), given, found)
            taken, looks = taken + seconds, looks + count
        scores = {row: clustered(found[row]) for row in ROWS}
        line: dict[str, Any] = {"background": background, "questions": looks}
        for row in ROWS:
            share = estimate(scores[row], over_questions).get("overall")
            line[row] = None if share is None else round(share.value, 4)
        apart = difference(scores["recent-frames"], scores["second look"], over_questions)
        line["ahead_of_recent_frames"] = apart and [
            round(each or 0.0, 4) for each in (apart.value, apart.low, apart.high)
        ]
        print(json.dumps(line | {"milliseconds_a_look": round(1e3 * taken / max(looks, 1), 2)}), flush=True)


if __name__ == "__main__":
    main()
