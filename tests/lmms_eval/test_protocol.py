"""The protocol "lmms-eval" against lmms-eval itself: the same prompts, the same letters in any text."""

import random
import sys
from importlib import import_module
from itertools import product
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from infinipot.evaluate import Item, Question, Scored, Subtitle, find_benchmark, find_protocol
from infinipot.evaluate.records import Unit

FIVE = ("C cooks.", "C cooks a meal", "c reads", "nothing at all", "C cooks. And more")
PIECES = (
    *"ABCDEF",
    *("a", "b", " ", " ", " ", ".", ",", ":", ")", "(", "'", '"', "!", "\n", "(B)", "C)", "D.", "Because", "I think"),
    *("The answer is", "the Answer is", "answer is", "best option is", "The best option is", "my choice is", "I pick"),
    *("Best answer:", "答案是", "选", "정답은", "İ", "so", "A. C cooks.", "b. c cooks a meal", "nothing at all"),
)


@pytest.fixture(scope="module", autouse=True)
def decord() -> Any:
    """What its LongVideoBench reads frames with; nothing here does."""
    with pytest.MonkeyPatch.context() as patch:
        stub = ModuleType("decord")
        stub.__dict__.update(VideoReader=None, cpu=None)
        patch.setitem(sys.modules, "decord", stub)
        yield


def texts() -> list[str]:
    draw = random.Random(7)
    return ["", *PIECES, *("".join(draw.choices(PIECES, k=draw.randint(1, 9))) for _ in range(6000))]


def harness(task: str, module: str = "utils") -> Any:
    return import_module(f"lmms_eval.tasks.{task}.{module}")


def settings(task: str, name: str) -> dict[str, Any]:
    """A task's own settings of prompts and generation, without what its file names in Python."""
    file = name if name.endswith("_yaml") else f"{name}.yaml"
    lines = (Path(import_module("lmms_eval.tasks").__file__ or "").parent / task / file).read_text().splitlines()
    return yaml.safe_load("\n".join(line for line in lines if "!function" not in line))


def asked(options: tuple[str, ...], subtitled: bool = False) -> Question:
    given = "\n".join(lettered(options))
    return Question("q-1", "What is it?", options, "B", "any", given=given, subtitled=subtitled)


def lettered(options: tuple[str, ...]) -> list[str]:
    return [f"{letter}. {option}" for letter, option in zip("ABCDEF", options, strict=False)]


def prompt(name: str, question: Question, times: tuple[float, ...] = (), subtitles: tuple[Subtitle, ...] = ()) -> str:
    item = Item("v", Path("v.mp4"), (question,), subtitles=subtitles)
    return find_protocol("lmms-eval").prompt(find_benchmark(name), item, question, times)


def answer(name: str, question: Question, text: str) -> str | None:
    rules, of = find_protocol("lmms-eval"), find_benchmark(name)
    read = rules.read_answer(of, question, text)
    return rules.draw(of, question, seed=1) if read is None else read


def score(name: str, question: Question, text: str) -> float | None:
    return find_protocol("lmms-eval").score(find_benchmark(name), question, answer(name, question, text))


@pytest.mark.parametrize(
    ("name", "task", "options"),
    [("mlvu", "mlvu", FIVE[:4]), ("mlvu", "mlvu", (*FIVE, "six")), ("video-mme", "videomme", FIVE[:4])],
)
def test_letters_are_those_of_the_shared_parser(name: str, task: str, options: tuple[str, ...]) -> None:
    read = harness(task).extract_characters_regex
    question = asked(options)
    wrong = [text for text in texts() if (answer(name, question, text) or "") != read(text)]
    assert wrong == []


def test_letters_of_egoschema_and_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    utils, question = harness("egoschema"), asked(FIVE)
    guess = answer("egoschema", question, "")
    monkeypatch.setattr(utils, "random", SimpleNamespace(choice=lambda letters: guess))
    doc = {"option": lettered(FIVE)}
    index2ans, letters = utils.get_multi_choice_info(doc)
    read = [utils.parse_multi_choice_response(text, letters, index2ans)[0] for text in texts()]
    assert [answer("egoschema", question, text) for text in texts()] == read
    assert len(set(read)) == 5


def test_letters_of_longvideobench_and_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    utils, question = harness("longvideobench"), asked(FIVE)
    guess = answer("longvideobench", question, "")
    monkeypatch.setattr(utils.random, "choice", lambda letters: guess)
    read = [utils.parse_multi_choice_response(text, list("ABCDE"), {}) for text in texts()]
    monkeypatch.undo()
    assert [answer("longvideobench", question, text) for text in texts()] == read


def test_prompts_are_those_of_the_task_files() -> None:
    def theirs(task: str, name: str, function: str, doc: dict[str, Any]) -> str:
        return getattr(harness(task), function)(doc, settings(task, name)["lmms_eval_specific_kwargs"]["default"])

    doc: dict[str, Any] = {"question": "What is it?\n(A) C cooks.\n(B) C cooks a meal"}
    assert prompt("mlvu", asked(FIVE[:2])) == theirs("mlvu", "mlvu_dev", "mlvu_doc_to_text", doc)
    doc = {"question": "What is it?", "options": lettered(FIVE[:4])}
    assert prompt("video-mme", asked(FIVE[:4])) == theirs("videomme", "videomme", "videomme_doc_to_text", doc)
    doc = {"question": "What is it?", "option": lettered(FIVE)}
    assert prompt("egoschema", asked(FIVE)) == theirs("egoschema", "egoschema_subset", "egoschema_doc_to_text", doc)
    doc = {"question": "What is it?", **{f"option{n}": text for n, text in enumerate((*FIVE[:4], "N/A"))}}
    name, function = "longvideobench_val_v", "longvideobench_doc_to_text"
    assert prompt("longvideobench", asked(FIVE[:4])) == theirs("longvideobench", name, function, doc)


def test_prompts_of_ovo_bench_are_those_of_the_task() -> None:
    build = harness("ovobench").build_prompt
    doc: dict[str, Any] = {"task": "EPM", "question": "What is it?", "options": FIVE[:3]}
    assert prompt("ovo-bench", Question("q", "What is it?", FIVE[:3], "A", "EPM")) == build(doc, None)
    doc = {"task": "SSR", "test_info": [{"step": "cut"}]}
    assert prompt("ovo-bench", Question("q", "cut", (), "Yes", "SSR")) == build(doc, 0)
    doc = {"task": "CRR", "question": "Where?"}
    assert prompt("ovo-bench", Question("q", "Where?", (), "Yes", "CRR")) == build(doc, 0)
    doc = {"task": "REC", "activity": "jump"}
    assert prompt("ovo-bench", Question("q", "How many times did they jump?", (), "2", "REC")) == build(doc, 0)


def test_subtitles_of_longvideobench_stand_where_the_harness_puts_them() -> None:
    draw = random.Random(3)
    for _ in range(300):
        times = tuple(sorted(draw.uniform(0, 20) for _ in range(draw.randint(1, 8))))
        starts = sorted(draw.uniform(-5, 20) for _ in range(draw.randint(0, 8)))
        lines = tuple(Subtitle(start, start + draw.uniform(0, 4), f"line {n}") for n, start in enumerate(starts))
        given = [{"timestamp": [line.start, line.end], "text": line.text} for line in lines]
        theirs = harness("longvideobench").insert_subtitles_into_frames(list(times), given, 0.0, 20.0).split("\n")
        shown = prompt("longvideobench", asked(FIVE, subtitled=True), times, lines).partition("What is it?")[0]
        assert shown.split("\n")[:-1] == [line for line in theirs if line not in ("<image>", "")]


def test_prompts_of_video_mme_v2_are_those_of_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    utils = harness("videomme_v2")
    doc = {"question": "What is it?", "options": "\n".join(lettered(FIVE)), "video_id": "001"}
    assert prompt("video-mme-v2", asked(FIVE)) == utils.videomme_v2_doc_to_text(doc)
    for words in ((), ("Good", "morning.")):
        monkeypatch.setattr(utils, "load_subtitle_v2", lambda path, words=words: " ".join(words))
        lines = tuple(Subtitle(0, 1, word) for word in words)
        theirs = utils.videomme_v2_doc_to_text_subtitle(doc)
        assert prompt("video-mme-v2", asked(FIVE, subtitled=True), (), lines) == theirs


def test_letters_and_scores_of_video_mme_v2_are_those_of_the_task() -> None:
    utils, question = harness("videomme_v2"), asked((*FIVE, "six", "seven", "eight"))
    shown = question.given

    def theirs(text: str) -> str:
        doc = dict.fromkeys(("video_id", "question_id", "group_type", "group_structure")) | {"options": shown}
        found = utils.videomme_v2_process_results(doc | {"answer": "A"}, [text])["videomme_v2_overall_score"]
        return found["pred_answer"].replace("Z", "")

    forms = [f"{ahead}{text}" for ahead in ("", "\n", "**", "\n**") for text in texts()]
    wrong = [text for text in forms if (answer("video-mme-v2", question, text) or "") != theirs(text)]
    assert wrong == []
    average = find_protocol("lmms-eval").average(find_benchmark("video-mme-v2"))
    for kind in ("relevance", "[1,2,3,4]", "[1,[2,3],4]", "[[1,2],3,4]"):
        for right in product((0, 1), repeat=4):
            group = [Scored(f"{n}", "t", None, one, unit=Unit("v", n, 4, kind)) for n, one in enumerate(right)]
            points = utils.cal_relevance(right) if kind == "relevance" else utils.cal_logic(right, kind)
            assert 100 * average(group)["overall"] == pytest.approx(points)


def test_vsi_super_recall_is_that_of_the_task() -> None:
    utils, question = harness("vsisuper.recall", "vsr_utils"), asked(FIVE[:4])
    doc = {"question": " What is it?", "options": lettered(FIVE[:4]), "answer": "B"}
    assert prompt("vsi-super-recall", question) == utils.doc_to_text(doc)
    for text in texts():
        assert score("vsi-super-recall", question, text) == utils.process_results(doc, [text])["accuracy"], text


def test_vsi_super_count_is_that_of_the_tasks() -> None:
    utils = harness("vsisuper.count", "vsc_utils")
    streaming = harness("vsisuper.count_streaming", "vsc_streaming_utils")
    for right in (0, 1, 3, 7.5, 8, 20, 33):
        question = Question("q-1", "How many?", (), f"{right}", "any")
        assert prompt("vsi-super-count", question) == utils.doc_to_text({"question": "How many?"})
        for said in (*range(60), "", "none", "about 12.5 or 3", "-4", "1,000"):
            doc = {"answer": right, "answers": [right]}
            ours = score("vsi-super-count", question, f"{said}")
            assert ours == utils.process_results(doc, [f"{said}"])["mra"]
            if right and isinstance(said, int):  # with nothing to count its streaming task takes any number
                assert ours == streaming.process_results(doc, [f"[{said}]"])["mra"]


@pytest.mark.parametrize(
    ("benchmark", "task", "file"),
    [
        ("mlvu", "mlvu", "mlvu_dev"),
        ("video-mme", "videomme", "videomme"),
        ("longvideobench", "longvideobench", "longvideobench_val_v"),
        ("egoschema", "egoschema", None),
        ("ovo-bench", "ovobench", "ovo_backward"),
        ("video-mme-v2", "videomme_v2", "_default_template_yaml"),
        ("vsi-super-recall", "vsisuper", "recall/_default_vsr_yaml"),
        ("vsi-super-count", "vsisuper", "count/_default_vsc_yaml"),
        ("vsi-super-count", "vsisuper", "count_streaming/_default_vsc_streaming_yaml"),
    ],
)
def test_answers_are_as_long(benchmark: str, task: str, file: str | None) -> None:
    theirs = settings(task, file) if file else harness(task).config
    limit = find_protocol("lmms-eval").max_new_tokens(find_benchmark(benchmark), asked(FIVE))
    assert limit == theirs["generation_kwargs"]["max_new_tokens"]
