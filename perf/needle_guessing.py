"""What the needle benchmark's questions give away: the share that is right without the video, by section.

python perf/needle_guessing.py

Two ways to guess: any choice, or, for each kind of question, always its commonest answer where that is better. Clips of
over an hour are left out. No model runs.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from infinipot.embedded.facts import HELD_OUT_SEEDS
from infinipot.evaluate.needle.case import Case
from infinipot.evaluate.needle.memories import make_clip, questions
from infinipot.evaluate.needle.plan import Extent, make_plan
from infinipot.evaluate.needle.rows import best_guess

SECTIONS = ("caps", "dozens", "overlapping", "lookalikes", "hard", "length")
LONGEST = 3600  # seconds


def guesses(cases: Sequence[Case]) -> tuple[int, float, float]:
    """Questions that these cases' clips ask, and the shares of them that the two ways to guess get right."""
    rights: dict[str, list[str]] = defaultdict(list)
    chances: dict[str, list[float]] = defaultdict(list)
    for scene in {replace(case.scene, background="still") for case in cases if case.scene.seconds <= LONGEST}:
        for asked in questions(make_clip(scene), scene).values():
            for one in asked:
                rights[one.kind].append(one.answer)
                chances[one.kind].append(one.chance)
    count = sum(map(len, rights.values()))
    blind = sum(best_guess(rights[kind], chances[kind]) for kind in rights)
    return count, sum(map(sum, chances.values())) / count, blind / count


def main() -> None:
    plan = make_plan(Extent(), HELD_OUT_SEEDS.start)
    print(f"{'section':12} questions   any choice   commonest answer")
    for section in SECTIONS:
        count, chance, blind = guesses(plan[section])
        print(f"{section:12} {count:9} {chance:12.0%} {blind:18.0%}")


if __name__ == "__main__":
    main()
