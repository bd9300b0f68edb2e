"""Prompts character by character, the reading of awkward answers, and averages worked out by hand."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinipot import BenchmarkError
from infinipot.evaluate import (
    BENCHMARKS,
    PROTOCOLS,
    FrameSampling,
    Item,
    Question,
    Scored,
    Subtitle,
    find_benchmark,
    find_protocol,
)
from infinipot.evaluate.core.statistics import over_groups, over_questions, over_tasks
from infinipot.evaluate.protocols.subtitles import interleaved
from infinipot.evaluate.records import score

FOUR = ("a cat", "a dog", "a bird", "nothing")
LETTERED = "A. a cat\nB. a dog\nC. a bird\nD. nothing"
LINES = (Subtitle(0, 1, "Look!"), Subtitle(1, 2.5, "A dog."), Subtitle(2.6, 2.9, "Gone."), Subtitle(8, 9, "The end."))


def question(options=FOUR, answer="B", task="any", **fields):
    return Question("q-1", "What is it?", tuple(options), answer, task, **{"given": LETTERED, **fields})


def prompt(protocol, benchmark, asked, frame_times=(0.0, 2.0), subtitles=()):
    item = Item("v", Path("v.mp4"), (asked,), subtitles=subtitles)
    return find_protocol(protocol).prompt(find_benchmark(benchmark), item, asked, frame_times)


def answer(protocol, benchmark, text, asked=None, seed=0):
    rules, of, asked = find_protocol(protocol), find_benchmark(benchmark), asked or question()
    read = rules.read_answer(of, asked, text)
    return rules.draw(of, asked, seed) if read is None else read


PROMPTS = [
    (
        "paper",
        "mlvu",
        question(),
        "Question: What is it?\nOptions:\n(A) a cat\n(B) a dog\n(C) a bird\n(D) nothing\n"
        "Respond with only the letter (A, B, C or D) of the correct option.",
    ),
    (
        "paper",
        "mlvu",
        question([*FOUR, "a", "b"]),
        "Question: What is it?\nOptions:\n(A) a cat\n(B) a dog\n(C) a bird\n(D) nothing\n(E) a\n(F) b\n"
        "Respond with only the letter (A, B, C, D, E or F) of the correct option.",
    ),
    (
        "paper",
        "video-mme",
        question(),
        "Question: What is it?\nOptions:\nA. a cat\nB. a dog\nC. a bird\nD. nothing\n"
        "Respond with only the letter (A, B, C, or D) of the correct option.",
    ),
    (
        "paper",
        "longvideobench",
        question(),
        "Question: What is it?\nOptions:\n(A) a cat\n(B) a dog\n(C) a bird\n(D) nothing\n"
        "Please answer with the letter for the correct option.",
    ),
    (
        "paper",
        "egoschema",
        question([*FOUR, "both"]),
        "Question: What is it?\nOptions:\n(A) a cat\n(B) a dog\n(C) a bird\n(D) nothing\n(E) both\n"
        "Respond with only the letter (A, B, C, D or E) of the correct option.",
    ),
    (
        "lmms-eval",
        "mlvu",
        question(),
        "What is it?\n(A) a cat\n(B) a dog\n(C) a bird\n(D) nothing\nOnly give the best option.\nBest option: (",
    ),
    (
        "lmms-eval",
        "video-mme",
        question(),
        "Select the best answer to the following multiple-choice question based on the video and the subtitles. "
        "Respond with only the letter (A, B, C, or D) of the correct option.\nWhat is it?\n"
        "A. a cat\nB. a dog\nC. a bird\nD. nothing\n\n"
        "Answer with the option's letter from the given choices directly.",
    ),
    (
        "lmms-eval",
        "longvideobench",
        question(),
        "What is it?\nA. a cat\nB. a dog\nC. a bird\nD. nothing\n"
        "Answer with the option's letter from the given choices directly.\n",
    ),
    (
        "lmms-eval",
        "egoschema",
        question([*FOUR, "both"]),
        "What is it?\nA. a cat\nB. a dog\nC. a bird\nD. nothing\nE. both\n"
        "Answer with the option's letter from the given choices directly.",
    ),
    ("paper", "rvs", question(()), "What is it?"),
    ("official", "rvs", question(()), "What is it?"),
    (
        "official",
        "ovo-bench",
        question(task="EPM"),
        "\nQuestion: What is it?\nOptions:\nA. a cat; B. a dog; C. a bird; D. nothing;\n\n"
        "Respond only with the letter corresponding to your chosen option (e.g., A, B, C). \n"
        "Do not include any additional text or explanation in your response.\n",
    ),
    (
        "official",
        "ovo-bench",
        question((), task="REC"),
        "\nYou're watching a video in which people may perform a certain type of action repetively. \n"
        "The person performing this kind of action are referred to as 'they' in the following statement.\n"
        "You're task is to count how many times have different people in the video perform this kind of action in "
        "total.\nOne complete motion counts as one. \nNow, answer the following question: What is it?\n"
        "Provide your answer as a single number (e.g., 0, 1, 2, 3…) indicating the total count.\n"
        "Do not include any additional text or explanation in your response.\n",
    ),
    (
        "lmms-eval",
        "ovo-bench",
        question((), task="SSR"),
        "\nYou're watching a tutorial video which contain a sequential of steps. \n"
        "The following is one step from the whole procedures: \nWhat is it?\n"
        "Your task is to determine if the man or woman in the video is currently performing this step.\n"
        "Answer only with “Yes” or “No”.\nDo not include any additional text or explanation in your response.\n",
    ),
    (
        "official",
        "ovo-bench",
        question((), task="CRR"),
        "\nYou're responsible of answering questions based on the video content. \n"
        "The following question are relevant to the latest frames, i.e. the end of the video.\nWhat is it?\n"
        "Decide whether existing visual content, especially latest frames, i.e. frames that near the end of the video, "
        "provide enough information for answering the question.\n"
        "Answer only with “Yes” or “No”.\nDo not include any additional text or explanation in your response.\n",
    ),
    (
        "official",
        "streaming-bench",
        question(),
        "You are an advanced video question-answering AI assistant. You have been provided with some frames from the "
        "video and a multiple-choice question related to the video. Your task is to carefully analyze the video and "
        "provide the best answer to question, choosing from the four options provided. Respond with only the letter "
        "(A, B, C, or D) of the correct option.\n\nQuestion: What is it?\n\nOptions:\nA. a cat\nB. a dog\nC. a bird\n"
        "D. nothing\n\nThe best option is:",
    ),
    (
        "official",
        "video-mme-v2",
        question(),
        "These are the frames of a video.Question: What is it?\nA. a cat\nB. a dog\nC. a bird\nD. nothing\n"
        "Select the best answer to the following multiple-choice question based on the video. "
        "Respond with only the letter (A, B, C, D, E, F, G, or H) of the correct option.",
    ),
    (
        "lmms-eval",
        "video-mme-v2",
        question(),
        "Question: What is it?\nA. a cat\nB. a dog\nC. a bird\nD. nothing\n"
        "Select the best answer to the following multiple-choice question based on the video. "
        "Respond with only the letter (A, B, C, D, E, F, G, or H) of the correct option.",
    ),
    (
        "lmms-eval",
        "vsi-super-recall",
        question(),
        "What is it?\nOptions:\nA. a cat\nB. a dog\nC. a bird\nD. nothing\n"
        "Answer with the option's letter from the given choices directly.",
    ),
    (
        "lmms-eval",
        "vsi-super-count",
        question((), "3"),
        "These are frames of a video.\nWhat is it?\nPlease answer the question using a single word or phrase.",
    ),
    (
        "official",
        "ovo-s-bench",
        question(),
        "You are evaluating a video understanding task. Based on the video frames provided, answer the following "
        "multiple choice question.\n\nQuestion: What is it?\n\nOptions:\nA. a cat\nB. a dog\nC. a bird\nD. nothing\n\n"
        'Instructions:\n- Respond with ONLY the letter of your answer (e.g., "A" or "B").\n'
        "- Do not include any explanation or additional text.\n\nYour answer:",
    ),
]


@pytest.mark.parametrize(("protocol", "benchmark", "asked", "expected"), PROMPTS)
def test_prompts_are_the_published_ones_to_the_character(protocol, benchmark, asked, expected):
    assert prompt(protocol, benchmark, asked) == expected


def test_every_rule_has_its_prompt_here():
    assert {(name, benchmark) for name, protocol in PROTOCOLS.items() for benchmark in protocol.rules} == {
        *((name, benchmark) for name, benchmark, _, _ in PROMPTS)
    } | {("lmms-eval", "ovo-bench")}


@pytest.mark.parametrize("text", ["{}", "{0}", "{question}", "100 %s \\1"])
def test_questions_that_look_like_templates_stay_as_they_are(text):
    for name, protocol in PROTOCOLS.items():
        for benchmark in protocol.rules:
            for task in ("EPM", "REC", "SSR", "CRR"):
                asked = Question("q", text, (text, "b", "c", "d"), "A", task, given=text)
                assert text in prompt(name, benchmark, asked)


def test_subtitles_of_video_mme_are_those_on_show_at_a_frame():
    asked = question(subtitled=True)
    shown = prompt("lmms-eval", "video-mme", asked, (0.0, 1.0, 3.0, 8.5), LINES)
    assert shown == (
        "This video's subtitles are listed below: \nLook!\nA dog.\nThe end.\n"
        "Select the best answer to the following multiple-choice question based on the video and the subtitles. "
        "Respond with only the letter (A, B, C, or D) of the correct option.\nWhat is it?\n"
        "A. a cat\nB. a dog\nC. a bird\nD. nothing\nThe best answer is:"
    )
    none = prompt("lmms-eval", "video-mme", asked, (0.0,))
    assert none.startswith("This video's subtitles are listed below: \nNo subtitles available\nSelect")


def test_subtitles_of_video_mme_v2_are_all_words():
    asked = question(subtitled=True)
    alone = prompt("lmms-eval", "video-mme-v2", asked)
    assert prompt("lmms-eval", "video-mme-v2", asked, (8.5,), LINES) == (
        f"This video's subtitles are listed below:\nLook! A dog. Gone. The end.\n\n{alone}"
    )
    assert prompt("official", "video-mme-v2", asked, (8.5,), LINES) == (
        "These are the frames of a video. This video's subtitles are listed below:\n"
        f"Look! A dog. Gone. The end.\n{alone}"
    )
    assert alone.startswith("Question: What is it?")


def test_subtitles_of_longvideobench_stand_among_the_frames():
    # "Gone." lasts 0.3 s and counts as 2.25 to 3.25; no frame lies within the first and the last line.
    assert interleaved(LINES, (0.0, 2.0, 3.0, 4.0)) == [0, "A dog.", 1, "Gone.", 2, 3]
    assert interleaved(LINES, (0.5, 8.4, 8.5, 8.6)) == [0, "Look!", 1, 2, "The end.", 3]
    assert interleaved((), (0.0, 1.0)) == [0, 1]
    asked = question(subtitled=True)
    assert prompt("lmms-eval", "longvideobench", asked, (0.0, 2.0, 3.0, 4.0), LINES) == (
        "A dog.\nGone.\nWhat is it?\nA. a cat\nB. a dog\nC. a bird\nD. nothing\n"
        "Answer with the option's letter from the given choices directly.\n"
    )


AWKWARD = [
    "(B)",
    "Answer: C.",
    "The answer is D",
    "a",
    "",
    "I think A or B",
    "B. a cat",
    "Because of C",
    "E",
    "no idea",
]
READINGS = {  # as the published code reads them, slips included
    ("paper", "mlvu"): ["B", "C", "D", None, None, "A", "B", "B", None, None],
    ("paper", "video-mme"): ["B", "C", "D", None, None, "A", "B", "B", None, None],
    ("paper", "longvideobench"): ["B", "C", "D", None, None, "A", "B", "B", "E", None],
    ("paper", "egoschema"): ["B", "C", "D", None, None, "A", "B", "B", "E", None],
    ("lmms-eval", "mlvu"): ["B", "C", "D", None, None, "B", "B", "C", None, None],
    ("lmms-eval", "video-mme"): ["B", "C", "D", None, None, "B", "B", "C", None, None],
    ("official", "ovo-bench"): ["B", "A", "D", None, None, "B", "B", "B", None, None],
    ("official", "streaming-bench"): [None, "A", None, None, None, None, "B", "B", None, None],
    ("official", "video-mme-v2"): ["B", "C", "D", None, None, "A", "B", "B", "E", None],
    ("lmms-eval", "video-mme-v2"): [None, "C", "D", "A", None, None, "B", None, "E", None],
    ("lmms-eval", "vsi-super-recall"): ["B", "A", "A", "A", None, "A", "B", "B", None, "D"],
    ("official", "ovo-s-bench"): ["B", "C", "D", "A", None, "B", "B", "C", "E", None],
}


@pytest.mark.parametrize(("protocol", "benchmark"), READINGS)
def test_awkward_answers_are_read_as_the_published_code_reads_them(protocol, benchmark):
    assert [answer(protocol, benchmark, text) for text in AWKWARD] == READINGS[protocol, benchmark]
    assert answer(protocol, benchmark, "B") == "B"


@pytest.mark.parametrize(
    ("protocol", "benchmark", "text", "expected"),
    [
        ("paper", "longvideobench", "( A )", None),  # the published code strips brackets only
        ("paper", "mlvu", "( A )", "A"),
        ("paper", "mlvu", "[C]", "C"),
        ("paper", "mlvu", "Answer", None),
        ("lmms-eval", "mlvu", "B) a dog", "B"),
        ("lmms-eval", "mlvu", " B\n", "B"),
        ("lmms-eval", "mlvu", "not A. But C: not D", "D"),  # at the end counts more than before a full stop
        ("lmms-eval", "mlvu", "E)", None),
        ("lmms-eval", "video-mme", "(A), (C) or B. all", "C"),  # the last in the form that counts most
        ("lmms-eval", "video-mme", "I pick the one Called D, I think", "D"),
        ("lmms-eval", "longvideobench", "Best answer: C", "C"),
        ("lmms-eval", "longvideobench", "E", "E"),  # read, and wrong: not drawn
        ("lmms-eval", "egoschema", "B. a dog.", "B"),
        ("lmms-eval", "egoschema", "B. a dog", "B"),
        ("lmms-eval", "egoschema", "I think A or B", "A"),
        ("lmms-eval", "egoschema", "i would say c. a bird it is", "C"),
        ("official", "video-mme-v2", "Final Answer: H", "H"),
        ("official", "video-mme-v2", "The best answer is Good, I think", "G"),
        ("official", "video-mme-v2", "so many small words, more than ten of them, and not one letter", None),
        ("official", "video-mme-v2", "The Final Answer: is C", "C"),
        ("lmms-eval", "video-mme-v2", "H. none of them", "H"),
        ("lmms-eval", "video-mme-v2", "I saw a cat\n** f ** .", "F"),
        ("lmms-eval", "video-mme-v2", "The answer: A, or the best option is G", "G"),
        ("lmms-eval", "video-mme-v2", "It is **C**, not D", "C"),
        ("lmms-eval", "video-mme-v2", "It is **C** or **D**", None),
        ("lmms-eval", "video-mme-v2", "There is A Dog on the bed", "B"),
        ("lmms-eval", "video-mme-v2", "There is a dog beside a cat", None),
        ("lmms-eval", "vsi-super-count", "about 12.5, or 13", "12.5"),
        ("lmms-eval", "vsi-super-count", "-3 chairs", "-3"),
        ("lmms-eval", "vsi-super-count", "twelve", None),
        ("official", "ovo-s-bench", "A or B?</think> I chose it. C.", "C"),
        ("official", "ovo-s-bench", "Answer: b, since A is behind", "B"),
        ("official", "ovo-s-bench", "<answer> d </answer>", "D"),
        ("official", "ovo-s-bench", "<|begin_of_box|>E<|end_of_box|>", "E"),
        ("official", "ovo-s-bench", "a. left, as I see it", "A"),
        ("official", "ovo-s-bench", f"Choice: C {'and so on ' * 40}", "C"),  # too far from the end for "answer: X"
        ("official", "ovo-s-bench", "It may well be [ b ] then", "B"),
        ("official", "ovo-s-bench", "Let's look at the options: 3m, 5m", None),
        ("official", "ovo-s-bench", "F", None),  # the published code knows A to E
        ("official", "rvs", " A lamp\n", "A lamp"),
        ("official", "rvs", "\n", None),
    ],
)
def test_more_awkward_answers(protocol, benchmark, text, expected):
    assert answer(protocol, benchmark, text) == expected


def test_six_options_have_six_letters():
    six = question([*FOUR, "a", "b"], answer="F")
    assert answer("paper", "mlvu", "(F)", six) == "F"
    assert answer("lmms-eval", "mlvu", "F) b", six) is None  # the harness looks for A to D alone


def test_ovo_bench_scores_what_is_contained():
    def right(task, label, text):
        asked = question((), label, task)
        return score(asked, answer("official", "ovo-bench", text, asked))

    assert [right("REC", "12", text) for text in ("12", "12 times", "1 or 2", "about 3", "twelve", "")] == [
        1, 1, 1, 0, 0, 0
    ]  # fmt: skip
    assert [right("SSR", "Yes", text) for text in ("Yes", "Y", "Yes, not No", "yes", "No", "N", "")] == [
        1, 1, 1, 0, 0, 0, 0
    ]  # fmt: skip
    assert [right("CRR", "No", text) for text in ("No.", "N", "Yes. No?", "Not yet", "Y", "nothing")] == [
        1, 1, 1, 1, 0, 0
    ]  # fmt: skip


@pytest.mark.parametrize("benchmark", ["longvideobench", "egoschema"])
def test_unparsed_answers_are_drawn_by_seed_and_question(benchmark):
    def drawn(seed, name):
        asked = Question(name, "?", FOUR, "A", "t")
        return answer("lmms-eval", benchmark, "no idea", asked, seed)

    first = [drawn(7, f"q{number}") for number in range(200)]
    assert first == [drawn(7, f"q{number}") for number in reversed(range(200))][::-1]
    assert first != [drawn(8, f"q{number}") for number in range(200)]
    assert min(first.count(letter) for letter in "ABCD") > 25
    assert set(first) == set("ABCD")


@given(st.text(max_size=40), st.integers(2, 6), st.integers(), st.sampled_from(["EPM", "REC", "SSR", "CRR"]))
def test_no_text_breaks_a_reader(text, options, seed, task):
    for name, protocol in PROTOCOLS.items():
        for benchmark in protocol.rules:
            right = "3" if benchmark == "vsi-super-count" else "B"
            asked = question([f"{number}." for number in range(options)], right, task=task)
            read = answer(name, benchmark, text, asked, seed)
            assert read is None or (isinstance(read, str) and read)
            points = protocol.score(find_benchmark(benchmark), asked, read)
            assert points is not None
            assert 0.0 <= points <= 1.0


def test_answers_without_a_label_or_rule_have_no_score():
    assert score(question(answer=None), "A") is None
    assert score(question((), "A lamp.", judged=True), "A lamp.") is None
    assert [score(question(), read) for read in ("B", "A", None)] == [1, 0, 0]
    assert [score(question(also=("D",)), read) for read in ("B", "D", "A", None)] == [1, 1, 0, 0]
    for name, protocol in PROTOCOLS.items():
        for benchmark in protocol.rules:
            unlabelled, judged = question(answer=None), question((), "A lamp.", judged=True)
            for asked in (unlabelled, judged):
                assert find_protocol(name).score(find_benchmark(benchmark), asked, "A") is None


SCORED = [
    Scored("1", "count", "short", 1.0),
    Scored("2", "count", "long", 0.0),
    Scored("3", "count", "long", 0.0),
    Scored("4", "order", "long", 1.0),
    Scored("5", "order", "short", None),
    Scored("6", "ego", "short", 0.5),
]


def test_averages_by_hand():
    tasks = {"count": 1 / 3, "order": 1.0, "ego": 0.5}
    groups = {"short": 0.75, "long": 1 / 3}
    questions = over_questions(SCORED)
    assert questions == pytest.approx({"overall": 2.5 / 5, **tasks, **groups})
    assert list(questions) == ["overall", "count", "order", "ego", "short", "long"]
    assert over_tasks(SCORED) == pytest.approx({"overall": (1 / 3 + 1 + 0.5) / 3, **tasks, **groups})
    for average in (over_questions, over_tasks, over_groups):
        assert average([]) == average([Scored("5", "order", None, None)]) == {}


@pytest.mark.parametrize("average", [over_questions, over_tasks, over_groups])
def test_no_task_takes_the_place_of_the_headline(average):
    summary = average([Scored("1", "overall", "overall", 1.0), Scored("2", "any", "else", 0.0)])
    assert summary["overall"] == 0.5
    assert next(iter(summary)) == "overall"


def test_ovo_bench_averages_tasks_then_modes():
    rows = [
        ("EPM", "backward", 1),
        ("EPM", "backward", 0),
        ("ASI", "backward", 1),
        ("OCR", "real-time", 0),
        ("REC", "forward", 1),
        ("REC", "forward", 1),
        ("REC", "forward", 0),
        ("CRR", "forward", 0),
    ]
    scored = [Scored(str(number), task, mode, correct) for number, (task, mode, correct) in enumerate(rows)]
    summary = find_protocol("official").average(find_benchmark("ovo-bench"))(scored)
    assert summary == pytest.approx(
        {
            "overall": (0.75 + 0 + 1 / 3) / 3,
            "three modes": (0.75 + 0 + 1 / 3) / 3,
            "real-time + backward": 0.375,
            "EPM": 0.5,
            "ASI": 1,
            "OCR": 0,
            "REC": 2 / 3,
            "CRR": 0,
            "backward": 0.75,
            "real-time": 0,
            "forward": 1 / 3,
        }
    )
    assert next(iter(summary)) == "overall"
    average = find_protocol("official").average(find_benchmark("ovo-bench"))
    assert "three modes" not in average([one for one in scored if one.group != "forward"])
    assert average([one for one in scored if one.group != "forward"])["real-time + backward"] == 0.375
    assert not {"three modes", "real-time + backward"} & average(scored[:3]).keys()


@pytest.mark.parametrize(
    ("protocol", "benchmark", "overall"),
    [
        ("paper", "mlvu", 0.75),
        ("paper", "longvideobench", 0.75),
        ("paper", "video-mme", 0.6),
        ("paper", "egoschema", 0.6),
        ("lmms-eval", "mlvu", 0.75),
        ("lmms-eval", "longvideobench", 0.6),
        ("lmms-eval", "video-mme", 0.6),
        ("official", "streaming-bench", 0.6),
    ],
)
def test_each_protocol_averages_as_published(protocol, benchmark, overall):
    scored = [Scored(str(number), "ab"[number == 4], None, number in (0, 1, 4)) for number in range(5)]
    assert find_protocol(protocol).average(find_benchmark(benchmark))(scored)["overall"] == pytest.approx(overall)


def test_protocols_say_what_they_have_no_rules_for():
    paper = find_protocol("paper")
    with pytest.raises(BenchmarkError, match='"paper" has no rules for StreamingBench, whose default is "official"'):
        paper.check(BENCHMARKS["streaming-bench"], "real-time")
    with pytest.raises(
        BenchmarkError, match='with variant "subtitles", only for no-subtitles: give --protocol lmms-eval'
    ):
        paper.check(BENCHMARKS["video-mme"], "subtitles")
    with pytest.raises(BenchmarkError, match="has no rules for OVO-Bench"):
        paper.frames(BENCHMARKS["ovo-bench"])
    with pytest.raises(BenchmarkError, match=r'unknown protocol: "papers"; possible: paper, lmms-eval, official'):
        find_protocol("papers")


def test_default_frames():
    assert find_protocol("paper").frames(BENCHMARKS["mlvu"]) == FrameSampling("uniform", 768, 2.0, (100352, 100352))
    assert find_protocol("lmms-eval").frames(BENCHMARKS["mlvu"]) == FrameSampling("uniform", 32)
    assert find_protocol("official").frames(BENCHMARKS["rvs"]) == FrameSampling("fps", fps=0.5)
