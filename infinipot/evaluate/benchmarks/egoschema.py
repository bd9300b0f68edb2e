"""EgoSchema (arXiv 2308.09126).

As https://github.com/egoschema/EgoSchema has it: `questions.json` and, for 500 of the questions, their labels. The
full set is scored by the authors' server from a file of answers: `submission` makes it. `videos/` is where the
authors' download puts the videos, `video/` where the published InfiniPot-V code looks for them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from infinipot.evaluate.benchmarks.annotations import Entry, UnusableError, parse_json, read_rows, read_text, shown
from infinipot.evaluate.benchmarks.base import Benchmark
from infinipot.evaluate.benchmarks.layout import require
from infinipot.evaluate.records import LETTERS, Problem, Question

OPTIONS = 5


class EgoSchema(Benchmark, name="egoschema"):
    def rows(self, data: Path, variant: str) -> Iterator[Entry | Problem]:
        if variant == "full":
            yield from super().rows(data, variant)
            return
        path, labels = require(data, self.title, *self.files["subset"])
        try:
            answers = _answers(labels)
        except UnusableError as error:
            yield Problem(labels.name, str(error))
            return
        left = dict(answers)
        for row in read_rows(path, data):
            uid = row.value.get("q_uid") if isinstance(row, Entry) and isinstance(row.value, dict) else None
            if isinstance(row, Entry) and isinstance(uid, str) and uid in answers:
                left.pop(uid, None)
                yield replace(row, value=row.value | {"answer": answers[uid]})
            elif not isinstance(uid, str):  # unlike one of the many that are not in the subset
                yield row
        yield from (Problem(labels.name, f"{shown(uid)} is not in questions.json") for uid in left)

    def question(self, entry: Entry, variant: str) -> Question:
        options = tuple(entry.text(f"option {index}") for index in range(OPTIONS))
        answer = entry.choice("answer", options) if variant == "subset" else None
        return Question(entry.text("q_uid"), entry.text("question"), options, answer, "EgoSchema")

    def submission(self, answers: Mapping[str, str | None]) -> str:
        """The file that the authors' server takes: JSON of `{q_uid: index of the option}`; -1 where unparsed."""
        indices = {uid: LETTERS.index(letter) if letter else -1 for uid, letter in answers.items()}
        return json.dumps(indices, indent=1)


def _answers(path: Path) -> Mapping[str, object]:
    answers = parse_json(read_text(path))
    if not isinstance(answers, dict):
        raise UnusableError("does not hold an object of answers by q_uid")
    return answers
