"""The base of protocols: how a benchmark's questions are put, its answers read, its scores averaged."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from infinipot.errors import BenchmarkError
from infinipot.evaluate.benchmarks.base import Benchmark
from infinipot.evaluate.protocols import readers, scores, subtitles
from infinipot.evaluate.records import FrameSampling, Item, Question, Subtitle, UnitScore, mean, score

if TYPE_CHECKING:
    from infinipot.evaluate.core.statistics import Average

_FUNCTIONS: dict[str, Any] = {
    "read": readers,
    "subtitles": subtitles,
    **dict.fromkeys(("unit", "guess", "score"), scores),
}
"""Where the functions are that a field of `rules.toml` names."""


@dataclass(frozen=True, slots=True)
class Rules:
    """A protocol's rules for one benchmark.

    Attributes:
        prompt: the whole text of the user's turn, with what `listed` gives in braces.
        read: (question, the model's text) -> a letter, or the text that is compared; None: unparsed.
        frames: the frames that are watched by default.
        max_new_tokens: the longest answer.
        prompts: the prompts of tasks that have their own, by task.
        with_subtitles: the prompt of a question that comes with subtitles, which stand in braces too.
        subtitles: (those of the video, times of the frames in seconds) -> their text in the prompt; None: `prompt` is
            taken.
        average: what the scores are averaged over, see `core.statistics.Average`.
        unit, means, singly: see `core.statistics.Average`, too.
        guess: (question, seed) -> what is drawn in place of an unparsed answer; None: `score` tells what that is worth.
        score: (question that is compared by rule and has a label, the answer as read) -> its score in 0..1.
        variants: the variants of the benchmark that the rules are for; None: all.
    """

    prompt: str
    read: Callable[[Question, str], str | None]
    frames: FrameSampling
    max_new_tokens: int
    prompts: Mapping[str, str] = field(default_factory=dict)
    with_subtitles: str = ""
    subtitles: Callable[[Sequence[Subtitle], Sequence[float]], str | None] | None = None
    average: Literal["questions", "tasks", "groups"] = "questions"
    unit: UnitScore = mean
    means: Mapping[str, Sequence[str]] = field(default_factory=dict)
    singly: str | None = None
    guess: Callable[[Question, int], str] | None = None
    score: Callable[[Question, str | None], float | None] = score
    variants: Sequence[str] | None = None


def listed(question: Question) -> dict[str, str]:
    """The parts of prompts: the question, and its options in each form."""
    letters = question.letters
    dotted = [f"{letter}. {option}" for letter, option in zip(letters, question.options, strict=True)]
    return {
        "text": question.text,
        "given": question.given,
        "bracketed": "".join(
            f"({letter}) {option}\n" for letter, option in zip(letters, question.options, strict=True)
        ),
        "dotted": "".join(f"{option}\n" for option in dotted),
        "joined": "; ".join(dotted) + ";",
        "letters": f"{', '.join(letters[:-1])} or {letters[-1:]}",
    }


@dataclass(frozen=True)
class Protocol:
    """A way to run benchmarks that others published, repeated to the character.

    Attributes:
        name: in kebab case.
        about: one line.
        rules: by benchmark.
    """

    name: str
    about: str
    rules: Mapping[str, Rules]

    def check(self, benchmark: Benchmark, variant: str) -> None:
        """Makes sure that the protocol has rules for the benchmark and variant.

        Raises:
            BenchmarkError: it has none; the message names what it has.
        """
        variants = self._rules(benchmark).variants
        if not self.has(benchmark, variant):
            others = [one.name for one in read_protocols().values() if one.has(benchmark, variant)]
            instead = f": give --protocol {' or '.join(others)}" if others else ""
            raise BenchmarkError(
                f'protocol "{self.name}" has no rules for {benchmark.title} with variant "{variant}", only for '
                f"{', '.join(variants or ())}{instead}"
            )

    def has(self, benchmark: Benchmark, variant: str) -> bool:
        """Whether there are rules for the benchmark and variant."""
        rules = self.rules.get(benchmark.name)
        return rules is not None and (rules.variants is None or variant in rules.variants)

    def prompt(self, benchmark: Benchmark, item: Item, question: Question, frame_times: Sequence[float]) -> str:
        """The whole text of the user's turn, after the video; `frame_times` in seconds, those watched so far."""
        rules = self._rules(benchmark)
        said = None
        if rules.subtitles and question.subtitled:
            said = rules.subtitles(item.subtitles, frame_times)
        asked = rules.prompts.get(question.task, rules.prompt) if said is None else rules.with_subtitles
        return asked.format(**listed(question), subtitles=said)

    def max_new_tokens(self, benchmark: Benchmark, question: Question) -> int:
        """The longest answer."""
        return self._rules(benchmark).max_new_tokens

    def read_answer(self, benchmark: Benchmark, question: Question, text: str) -> str | None:
        """The answer in the model's text: a letter, or what is compared or judged; None: unparsed.

        A letter may be none of the options', where the published rules read such a one: it is wrong.
        """
        return self._rules(benchmark).read(question, text)

    def draw(self, benchmark: Benchmark, question: Question, seed: int) -> str | None:
        """The choice that an unparsed answer counts as, drawn by `seed` and the question's id; None if not drawn."""
        guess = self._rules(benchmark).guess
        return None if guess is None else guess(question, seed)

    def score(self, benchmark: Benchmark, question: Question, answer: str | None) -> float | None:
        """The score in 0..1 of an answer that was read or drawn; None without a label, or where a judge is needed."""
        if question.answer is None or question.judged:
            return None
        return self._rules(benchmark).score(question, answer)

    def average(self, benchmark: Benchmark) -> Average:
        """How scores are averaged: "overall" first, then what has a name of its own, each task, group and part."""
        from infinipot.evaluate.core.statistics import Average  # here, since arithmetic takes long to import

        rules = self._rules(benchmark)
        return Average(rules.average, rules.unit, rules.means, rules.singly)

    def frames(self, benchmark: Benchmark) -> FrameSampling:
        """The frames that are watched by default."""
        return self._rules(benchmark).frames

    def _rules(self, benchmark: Benchmark) -> Rules:
        if benchmark.name not in self.rules:
            raise BenchmarkError(
                f'protocol "{self.name}" has no rules for {benchmark.title}, whose default is '
                f'"{benchmark.default_protocol}"; it has rules for {", ".join(self.rules)}'
            )
        return self.rules[benchmark.name]


def read_protocols() -> dict[str, Protocol]:
    """The protocols of `rules.toml`, by name."""
    tables = tomllib.loads((Path(__file__).parent / "rules.toml").read_text(encoding="utf-8"))
    return {
        name: Protocol(
            name, table["about"], {benchmark: _rules(tables, name, benchmark) for benchmark in table["benchmarks"]}
        )
        for name, table in tables.items()
    }


def _rules(tables: Mapping[str, Any], protocol: str, benchmark: str) -> Rules:
    """The rules of a protocol for a benchmark, with what the protocol itself says of all."""
    table = tables[protocol]
    own = table["benchmarks"][benchmark]
    if "like" in own:
        return _rules(tables, own["like"], benchmark)
    given = {"frames": table["frames"], "max_new_tokens": table["max_new_tokens"]} | own
    for name in given.keys() & _FUNCTIONS.keys():
        given[name] = _function(_FUNCTIONS[name], given[name])
    frames = given.pop("frames")
    pixels = tuple(frames["pixels"]) if "pixels" in frames else None
    return Rules(frames=FrameSampling(**frames | {"pixels": pixels}), **given)


def _function(module: Any, said: str | dict[str, Any]) -> Any:
    """The function that a name stands for, or a table of its name, `by`, and its arguments."""
    if isinstance(said, str):
        return getattr(module, said)
    return partial(getattr(module, said["by"]), **{name: value for name, value in said.items() if name != "by"})
