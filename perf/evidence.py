"""Whether an answer's evidence is where the event was, and what it costs, with a model that knows the world.

Held-out clips of the synthetic world at an eighth and a sixteenth of the tokens that all their frames make. Of right
answers to questions about one event, its colour, shape or place: whether the heaviest span lies within a second of the
event. Prints a line for each share and kind, how long the heaviest spans are, and the processor's time of answers with
evidence and without, and of evidence that is looked at.

    python perf/evidence.py [--clips 6] [--model embedded]
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

import infinipot
from infinipot.embedded.facts import HELD_OUT_SEEDS
from infinipot.embedded.world import Question
from infinipot.engine.evidence import Answer
from infinipot.evaluate.needle.case import Scene
from infinipot.evaluate.needle.memories import frame_size, make_clip, options
from infinipot.evaluate.needle.plan import FPS, MIX, SECONDS, holders_at

KINDS = ("colour", "shape", "where")
BACKGROUNDS = ("still", "moving", "cuts")
SHARES, NEAR = (8, 16), 1.0


def rested_on(question: Question, answer: Answer) -> bool:
    """Whether the heaviest span of an answer lies within a second of the question's event."""
    (event,) = question.about
    span = answer.evidence[0]
    return span.start <= event.end + NEAR and span.end >= event.start - NEAR


def scenes(clips: int) -> Iterator[Scene]:
    """So many clips of each background, as the needle benchmark has them."""
    for number in range(clips):
        cast, events = MIX[number % len(MIX)]
        for kind, background in enumerate(BACKGROUNDS):
            seed = HELD_OUT_SEEDS.start + 1000 * kind + number
            yield Scene(seed, SECONDS, FPS, events, background, cast, moments=1)


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=6, help="of each background")
    parser.add_argument("--model", default="embedded", help='"embedded", or "witness"')
    given = parser.parse_args()
    model = infinipot.load(given.model)
    told: dict[tuple[int, str], list[bool]] = defaultdict(list)
    lengths: dict[int, list[float]] = defaultdict(list)
    plain, seen, shown = [], [], []
    for scene in scenes(given.clips):
        clip = make_clip(scene, size=frame_size(model))
        for share in SHARES:
            (holder,) = holders_at(["infinipot-v"], share)
            with model.stream(**options(model, holder, scene)) as stream:
                for frame in clip:
                    stream.watch(frame)
                stream.ask("Is there a shape now?", max_new_tokens=1)  # else the first one runs over what waits
                for question in clip.every_question(frame.time, np.random.default_rng(0), plain=True):
                    if question.kind not in KINDS:
                        continue
                    begun = time.process_time()  # whatever else the machine does
                    stream.ask(question.text)
                    between = time.process_time()
                    answer = stream.ask(question.text, evidence=True)
                    made = time.process_time()
                    told_of = answer.evidence
                    plain.append(between - begun)
                    seen.append(made - between)
                    shown.append(time.process_time() - made)
                    if answer == question.answer:
                        told[share, question.kind].append(rested_on(question, answer))
                        lengths[share].append(told_of[0].end - told_of[0].start)
    for share in SHARES:
        found = [each for kind in KINDS for each in told[share, kind]]
        print(f"1/{share}: {sum(found)} of {len(found)} within {NEAR:g} s of the event, {np.mean(found):.1%}", end="")
        print(
            f"; heaviest spans last {statistics.median(lengths[share]):.1f} s ({max(lengths[share]):.1f} at the most)"
        )
        for kind in KINDS:
            print(f"    {kind}: {sum(told[share, kind])} of {len(told[share, kind])}")
    more = statistics.median(b / a - 1 for a, b in zip(plain, seen, strict=True))
    print(
        f"an answer takes {1000 * statistics.median(plain):.1f} ms of the processor; with evidence {more:+.1%}; "
        f"to look at it, {1000 * statistics.median(shown):.1f} ms"
    )


if __name__ == "__main__":
    main()
