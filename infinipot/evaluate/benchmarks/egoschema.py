"""EgoSchema (arXiv 2308.09126).

As https://github.com/egoschema/EgoSchema has it: `questions.json` and, for 500 of the questions, their labels. The
full set is scored by the authors' server from a file of answers: `submission` makes it. `videos/` is where the
authors' download puts the videos, `video/` where the published InfiniPot-V code looks for them.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from infinipot.evaluate.benchmarks.annotations import (
    Entry,
    UnusableError,
    entries_of,
    read_json,
    require_all,
    shown,
)
from infinipot.evaluate.benchmarks.base import Benchmark, Placed
from infinipot.evaluate.records import LETTERS, Problem, Question

OPTIONS = 5


class EgoSchema(Benchmark, name="egoschema"):
    def entries(self, data: Path, variant: str) -> Iterator[Entry | Problem]:
        if variant == "full":
            yield from super().entries(data, variant)
            return
        path, labels = require_all(data, self.title, ["questions.json"], ["subset_answers.json"])
        answers = self._answers(labels)
        if isinstance(answers, Problem):
            yield answers
            return
        left = dict(answers)
        for entry in entries_of(path, data):
            uid = entry.value.get("q_uid") if isinstance(entry, Entry) and isinstance(entry.value, dict) else None
            if isinstance(uid, str) and uid in answers:
                left.pop(uid, None)
                yield Entry({**entry.value, "answer": answers[uid]}, entry.where, index=entry.index)  # type: ignore[union-attr]
            elif not isinstance(uid, str):  # unlike one of the many that are not in the subset
                yield entry if isinstance(entry, Problem) else Entry(entry.value, entry.where, index=entry.index)
        yield from (Problem("subset_answers.json", f"{shown(uid)} is not in questions.json") for uid in left)

    def place(self, entry: Entry, data: Path, variant: str) -> Placed:
        uid = entry.text("q_uid")
        options = tuple(entry.text(f"option {index}") for index in range(OPTIONS))
        answer = entry.choice("answer", options) if variant == "subset" else None
        question = Question(uid, entry.text("question"), options, answer, "EgoSchema")
        return Placed(question, *self.find(data, uid, "videos", "video", endings=(".mp4", ".MP4")))

    def submission(self, answers: Mapping[str, str | None]) -> str:
        """The file that the authors' server takes: JSON of `{q_uid: index of the option}`; -1 where unparsed."""
        indices = {uid: LETTERS.index(letter) if letter else -1 for uid, letter in answers.items()}
        return json.dumps(indices, indent=1)

    def _answers(self, path: Path) -> Mapping[str, object] | Problem:
        try:
            answers = read_json(path)
        except UnusableError as error:
            return Problem(path.name, str(error))
        return answers if isinstance(answers, dict) else Problem(path.name, "holds no object of answers by q_uid")
