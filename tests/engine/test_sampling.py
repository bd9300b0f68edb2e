"""How tokens are chosen: against transformers' `generate` with the same settings, and what is said of an answer."""

import time
from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st

from infinipot import Model, ModelError, QuestionError
from infinipot.engine import decoding
from infinipot.engine.decoding import Speaker
from infinipot.errors import NumericalError
from infinipot.models.qwen2_vl import Qwen25VL
from support.adapters import BUILDERS
from support.memories import held, same
from support.models import build, given, pictures
from support.one_forward import QUESTION, Clip, Recorder, about, inputs_of, rendered, right_positions, spoken, watch

LENGTH = 12


@over(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=6), max_size=3))
def test_what_may_be_the_beginning_of_an_end_is_held_back_and_no_more(text: str, stop: list[str]) -> None:
    told, held_back, cut = decoding._before(stop, text)
    found = [text.find(end) for end in stop if end in text]
    if found:
        assert (told, held_back, cut) == (text[: min(found)], "", True)
        return
    begun = [text[place:] for place in range(len(text)) if any(end.startswith(text[place:]) for end in stop)]
    assert (told + held_back, held_back, cut) == (text, max(begun, key=len, default=""), False)


def test_an_end_far_longer_than_any_answer_takes_no_time() -> None:
    begun = time.process_time()
    speaker = Speaker(lambda tokens: "x" * len(tokens), ["x" * 100 + "y" * 5_000_000])
    assert all(speaker.say(1) for _ in range(200))
    assert time.process_time() - begun < 2


def test_scores_that_are_no_distribution_are_an_error_and_not_the_devices() -> None:
    """A GPU would end the process where it draws from what is none."""
    endless = lambda ids, row: row.masked_fill(row > 0, torch.inf)  # noqa: E731
    chooser = decoding.Chooser(endless, [1], 3, 0, torch.device("cpu"))
    with pytest.raises(NumericalError):
        chooser(torch.tensor([-1.0, 2.0]))
    assert chooser(torch.tensor([-1.0, -50.0])) == 0


# What checkpoints of the hub bring, and what others might.
CHECKPOINTS: dict[str, dict[str, Any]] = {
    "Qwen2.5-VL's": {"do_sample": True, "temperature": 1e-6, "repetition_penalty": 1.05},
    "Qwen2-VL's": {"do_sample": True, "temperature": 0.01, "top_k": 1, "top_p": 0.001},
    "Qwen3-VL's": {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8},
    "a strong penalty": {"repetition_penalty": 1.8},
    "no phrase twice": {"no_repeat_ngram_size": 2},
    "forced": {"min_new_tokens": LENGTH - 1, "suppress_tokens": [40, 41, 42], "forced_eos_token_id": 77},
    "all at once": {
        "do_sample": True,
        "temperature": 1.3,
        "min_p": 0.001,
        "repetition_penalty": 1.2,
        "typical_p": 0.95,
    },
    "another search": {"num_beams": 1, "guidance_scale": None, "min_length": 3, "max_length": 5},
}

# Where the family matters: which tokens its prompt has, which one ends an answer, and what is drawn of its vocabulary.
OF_FAMILIES = {**CHECKPOINTS["no phrase twice"], **CHECKPOINTS["forced"], **CHECKPOINTS["all at once"]}


def bring(patch: pytest.MonkeyPatch, model: Model, **brought: Any) -> None:
    """Has a checkpoint bring a generation config of its own; nothing ends an answer, so that all of it is compared."""
    config = deepcopy(model.adapter.model.generation_config)
    config.do_sample = None
    config.eos_token_id = [1_000_000]
    for name, value in brought.items():
        setattr(config, name, value)
    patch.setattr(model.adapter.model, "generation_config", config)


def generated(model: Model, text: str, clips: list[Clip], seed: int = 0, **options: Any) -> str:
    """What `generate` answers to a whole prompt, drawing as torch does by this seed."""
    inputs = inputs_of(model, text, clips, 2.0)
    torch.manual_seed(seed)
    with right_positions(model, 2.0):
        ids = model.adapter.model.generate(**inputs, max_new_tokens=LENGTH, **options)
    return model.adapter.detokenize(ids[0, inputs["input_ids"].shape[1] :].tolist()).strip()


def check_generate(model: Model, checkpoint: dict[str, Any], patch: pytest.MonkeyPatch) -> None:
    bring(patch, model, **checkpoint)
    clip = 0, given(model, 5)
    with model.stream(memory=2048, policy="full", block=2) as stream:
        watch(stream, clip)
        for seed in (0, 1) if checkpoint.get("do_sample") else (0,):
            expected = generated(model, rendered(model, about(model, QUESTION)), [clip], seed)
            assert stream.ask(QUESTION, max_new_tokens=LENGTH, seed=seed) == expected


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_answers_are_those_of_generate_by_the_checkpoints_own_settings(qwen, checkpoint, monkeypatch):
    check_generate(qwen, CHECKPOINTS[checkpoint], monkeypatch)


def test_answers_of_every_family_are_those_of_generate(any_model, monkeypatch):
    check_generate(any_model, OF_FAMILIES, monkeypatch)


@pytest.mark.parametrize(
    "asked",
    [
        {"temperature": 0.9, "top_p": 0.9, "top_k": 30},
        {"temperature": 0},
        {"top_k": 3},
        {"top_p": 0.5},
        {"repetition_penalty": 1.5},
        {"temperature": 1.5, "top_k": 0, "repetition_penalty": 1},
    ],
    ids=str,
)
def test_what_is_asked_for_goes_before_what_the_checkpoint_says(qwen, asked, monkeypatch):
    bring(monkeypatch, qwen, do_sample=True, temperature=0.4, top_k=20, repetition_penalty=1.2)
    told: dict[str, Any] = {**asked, "do_sample": True}
    if asked.get("temperature") == 0:
        told = {"do_sample": False}
    if "repetition_penalty" in told:
        told["repetition_penalty"] = float(told["repetition_penalty"])
    clip = 0, pictures(5)
    expected = generated(qwen, rendered(qwen, about(qwen, QUESTION)), [clip], 3, **told)
    with qwen.stream(memory=2048, policy="full", positions="native") as stream:
        watch(stream, clip)
        assert stream.ask(QUESTION, max_new_tokens=LENGTH, seed=3, **asked) == expected


def test_what_was_said_in_earlier_turns_counts_as_it_does_for_generate(any_model, monkeypatch):
    first = 0, given(any_model, 5, seed=1)
    with any_model.stream(memory=2048, policy="full", block=2, dialogue=256) as stream:
        watch(stream, first)
        with pytest.MonkeyPatch.context() as patch:
            said = any_model.adapter.tokenize(spoken(any_model, "red circle"), behind="x")
            Recorder(any_model, patch).script = [*said, min(any_model.adapter.stop_ids)]
            assert stream.ask(QUESTION, remember=True) == "red circle"
        bring(monkeypatch, any_model, repetition_penalty=1.8)
        answer = stream.ask("Which shape was red?", max_new_tokens=LENGTH)
    text = rendered(any_model, about(any_model, QUESTION), "red circle", "Which shape was red?")
    assert answer == generated(any_model, text, [first])


def test_what_counts_as_said_is_what_the_whole_prompt_has(any_model, monkeypatch):
    """Each token of it, what stands for the video included; how often does not count."""
    seen: list[set[int]] = []
    scores = type(any_model.adapter).scores
    monkeypatch.setattr(
        any_model.adapter, "scores", lambda *given: seen.append(set(given[1])) or scores(any_model.adapter, *given)
    )
    clip = 0, given(any_model, 5)
    with any_model.stream(memory=2048, policy="full", block=2) as stream:
        watch(stream, clip)
        answer = stream.ask(QUESTION, max_new_tokens=1)
    inputs = inputs_of(any_model, rendered(any_model, about(any_model, QUESTION)), [clip], 2.0)
    assert seen == [set(inputs["input_ids"][0].tolist())]
    assert answer.prompt_tokens == len(inputs["input_ids"][0])


def test_a_caption_that_left_the_memory_still_counts_and_no_list_of_them_grows(monkeypatch):
    model = build("qwen3_vl")
    with model.stream(memory=320, reserve=56, dialogue=60) as stream:
        sizes = []
        for image in pictures(120):
            stream.watch(image)
            sizes.append(len(stream._state.pending.said.ids(0)))
        assert stream.stats().compressions > 3
        digits = {token for digit in "0123456789" for token in model.adapter.tokenize(digit)}
        assert digits & stream._state.pending.said.captions
        assert sizes[-1] == sizes[-20], "each token once"


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": "hot"},
        {"top_p": 1.5},
        {"top_k": 2.5},
        {"top_k": -1},
        {"top_k": True},
        {"repetition_penalty": 0},
        {"seed": -1},
        {"seed": 1.5},
        {"stop": [""]},
        {"stop": [3]},
        {"stop": 3},
    ],
    ids=str,
)
def test_a_setting_that_means_nothing_is_named_with_what_it_takes(qwen, wrong):
    (name,) = wrong
    with qwen.stream(memory=400) as stream:
        stream.watch(pictures(1)[0])
        before = held(stream)
        with pytest.raises(QuestionError, match=f"^{name}=.*: give "):
            stream.ask(QUESTION, **wrong)
        assert same(before, held(stream))


def test_a_checkpoint_whose_generation_config_is_none_is_told_before_anything_is_watched(qwen, monkeypatch):
    bring(monkeypatch, qwen, do_sample=True, temperature="hot")
    with qwen.stream(memory=400) as stream, pytest.raises(ModelError, match="generation config"):
        stream.answer_limit(QUESTION)


def test_the_generation_config_is_worked_out_once_and_again_where_somebody_changes_it(qwen, monkeypatch):
    counted, network = [], qwen.adapter.model
    prepare = network._prepare_generation_config
    monkeypatch.setattr(network, "_prepare_generation_config", lambda *args: counted.append(1) or prepare(*args))
    bring(monkeypatch, qwen, repetition_penalty=1.3)

    def penalties(**asked: Any) -> list[float]:
        return [each.penalty for each in qwen.adapter.scores(asked, [1, 2, 3], 4, torch.device("cpu"))[0]]

    assert [penalties(), penalties(repetition_penalty=1.7), penalties()] == [[1.3], [1.7], [1.3]]
    assert len(counted) == 1
    network.generation_config.repetition_penalty = 1.0
    assert penalties() == []
    assert len(counted) == 2


def test_what_is_drawn_depends_on_the_seed_alone(qwen):
    """Not on torch's own generator, on other streams, or on how often the question was asked; nor is that changed."""
    with qwen.stream(memory=400) as one, qwen.stream(memory=400) as other:
        for image in pictures(9):
            one.watch(image)
            other.watch(image)
        state = torch.get_rng_state()
        drawn = [one.ask(QUESTION, temperature=1.5, seed=seed, max_new_tokens=8) for seed in range(6)]
        assert torch.equal(state, torch.get_rng_state())
        torch.manual_seed(99)
        assert drawn == [other.ask(QUESTION, temperature=1.5, seed=seed, max_new_tokens=8) for seed in range(6)]
        assert len(set(drawn)) > 3


# Texts that end an answer


@pytest.fixture(scope="module", params=["qwen2_5_vl", "llava_next_video", "smolvlm"])
def talker(request: pytest.FixtureRequest) -> Model:
    """Tokens of bytes, of letters with a fallback to bytes, and of digits."""
    return build(request.param)


def test_the_pieces_of_a_text_are_the_text_before_its_end(talker):
    adapter = talker.adapter
    usual = adapter.tokenize("red circle é 你好 🙂 12.5\n\n square, blue.")

    @settings(max_examples=150)
    @over(
        st.lists(st.one_of(st.sampled_from(usual), st.integers(0, 400)), max_size=20),
        st.one_of(st.none(), st.tuples(st.integers(0, 60), st.integers(1, 4)), st.text(min_size=1, max_size=3)),
    )
    def check(tokens, end):
        whole = adapter.detokenize(tokens)
        stop = whole[end[0] : sum(end)] if isinstance(end, tuple) else end
        pieces: list[str] = []
        taken, text, cut = speak(tokens, adapter.detokenize, [stop] if stop else [], pieces.append)
        assert taken == tokens[: len(taken)]
        assert cut or taken == tokens
        assert cut or text == whole
        assert not stop or stop not in "".join(pieces)
        if "\ufffd" in whole:  # a tokenizer may take back a letter when it sees bytes behind it that are none
            return
        assert text == "".join(pieces) == (whole.partition(stop)[0] if stop else whole)
        assert cut == bool(stop and stop in whole)
        assert not cut or stop not in adapter.detokenize(taken[:-1]), "no more is taken than it takes"

    check()


def speak(tokens, spell, stop, on_text):
    """Says tokens until they end or a text ends them: those taken, the text, and whether one did."""
    speaker = Speaker(spell, stop, on_text)
    for token in tokens:
        if not speaker.say(token):
            break
    return speaker.tokens, speaker.end(), speaker.cut


def test_the_first_of_several_ends_it_and_none_of_them_shows():
    pieces: list[str] = []
    spelt = [*"one two\n\nHuman: three"]
    text = speak(range(len(spelt)), lambda ids: "".join(spelt[i] for i in ids), ["\nHuman:", "\n\n"], pieces.append)[1]
    assert text == "".join(pieces) == "one two"


def test_a_long_answer_is_not_spelt_from_its_beginning_each_time():
    spelt = 0

    def spell(ids: list[int]) -> str:
        nonlocal spelt
        spelt += len(ids)
        return "".join("ab "[token % 3] for token in ids)

    speak(range(3000), spell, ["nothing"], lambda piece: None)
    assert spelt < 10 * 3000


def test_a_stream_stops_at_a_text_and_shows_none_of_it(qwen):
    with qwen.stream(memory=512) as stream:
        for image in pictures(5):
            stream.watch(image)
        whole = stream.ask(QUESTION, max_new_tokens=16)
        stop = whole[len(whole) // 2 :][:3]
        pieces: list[str] = []
        before = held(stream)
        answer = stream.ask(QUESTION, max_new_tokens=16, stop=stop, on_text=pieces.append)
        assert answer == whole.partition(stop)[0].strip()
        assert answer == "".join(pieces).strip() != whole
        assert answer == stream.ask(QUESTION, max_new_tokens=16, stop=[stop, "never"])
        assert same(before, held(stream))


@pytest.mark.parametrize("remember", [False, True])
def test_an_answer_says_how_long_it_is_and_why_it_ended(qwen, remember):
    """By what the model said: neither a special token nor one that ended the answer shows in the text."""
    words = qwen.adapter.tokenize("red circle blue", behind="x")
    end, count = min(qwen.adapter.stop_ids), len(words)
    special = min(set(qwen.adapter.processor.tokenizer.all_special_ids) - set(qwen.adapter.stop_ids))
    half = qwen.adapter.tokenize("é", behind="x")[0]  # the first of its two bytes, told when no other one comes
    for script, limit, stop, expected in (
        ([*words, end], count + 1, (), ("red circle blue", count, "stop")),
        ([*words, end], count, (), ("red circle blue", count, "length")),
        ([*words, special], count + 1, (), ("red circle blue", count + 1, "length")),
        (words, count, ("circle",), ("red", len(qwen.adapter.tokenize("red circle", behind="x")), "stop")),
        ([*words, half], count + 1, ("\ufffd",), ("red circle blue", count + 1, "stop")),
        ([end], 1, (), ("", 0, "stop")),
    ):
        with qwen.stream(memory=512) as stream, pytest.MonkeyPatch.context() as patch:
            stream.watch(pictures(1)[0])
            Recorder(qwen, patch).script = list(script)
            answer = stream.ask(QUESTION, remember=remember, max_new_tokens=limit, stop=stop)
        assert (answer, answer.tokens, answer.finish_reason) == expected


@pytest.mark.parametrize("words", ["red circle blue square", "red circle\n\nblue", "red circle bluered"])
@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava_next_video", "qwen3_5"])
def test_a_turn_is_remembered_as_its_answer_was_given(name, words, monkeypatch):
    """What the model has said of the text that ends it, and behind it, is no part of the memory."""
    model = build(name)
    stop = words.removeprefix("red circle")[:4]
    memories, answers, window = [], [], 1.0 if model.adapter.packs else None
    for said, ends in ((words, [stop]), ("red circle", [])):
        with model.stream(memory=700, block=2, dialogue=200) as stream, pytest.MonkeyPatch.context() as patch:
            for image in pictures(5):
                stream.watch(image)
            recorder = Recorder(model, patch)
            recorder.script = [*model.adapter.tokenize(said, behind="x"), min(model.adapter.stop_ids)]
            assert stream.ask(QUESTION, remember=True, stop=ends, window=window) == "red circle"
            patch.undo()
            memories.append(held(stream))
            assert stream.stats().turns == 1
            assert len(stream._state.pending.said.turns) == 1
            answers.append(stream.ask("Which shape was red?", max_new_tokens=6))
    for one, other in zip(*memories, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
    assert answers[0] == answers[1]


# What is no number


def overflowing(dtype: torch.dtype) -> Model:
    """A model whose first layer makes numbers that are too large for the type."""
    built: Any = BUILDERS["qwen2_5_vl"]()
    network, processor = built
    network.model.language_model.layers[0].mlp.down_proj.weight.data.fill_(1e30 if dtype == torch.float32 else 1e4)
    network.model.language_model.layers[0].mlp.up_proj.weight.data.fill_(1e30 if dtype == torch.float32 else 1e4)
    return Model("overflowing", Qwen25VL(network.to(dtype), processor))


@pytest.mark.parametrize(("dtype", "mend"), [(torch.float16, "--dtype bfloat16"), (torch.float32, "damaged")])
def test_numbers_that_overflow_are_told_in_a_line_at_the_first_block(dtype, mend):
    with overflowing(dtype).stream(memory=400) as stream:
        with pytest.raises(NumericalError, match=mend) as caught:
            for image in pictures(60):
                stream.watch(image)
        assert "\n" not in str(caught.value)
        assert stream.stats().tokens == stream.stats().compressions == 0
        with pytest.raises(NumericalError):
            stream.ask(QUESTION)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("asked", [{}, {"temperature": 1.0, "top_p": 0.9}, {"repetition_penalty": 1.2}], ids=str)
def test_what_is_no_number_loses_nothing(qwen, value, asked):
    """Whichever forward it comes from: the call raises, and what is done again is as if nothing had been."""
    forward, countdown = type(qwen.adapter).forward, [0]

    def broken(adapter, *args):
        countdown[0] -= 1
        logits = forward(adapter, *args)
        return logits.index_fill(1, torch.tensor(7), value) if not countdown[0] else logits

    with pytest.MonkeyPatch.context() as patch, qwen.stream(memory=400, block=1) as stream:
        for number, image in enumerate(pictures(30)):
            before = held(stream), stream.stats().frames
            patch.setattr(type(qwen.adapter), "forward", broken)
            countdown[0] = 1 + number % 3
            try:
                if number % 4 == 3:
                    stream.ask(QUESTION, max_new_tokens=5, remember=number == 19, **asked)
                else:
                    stream.watch(image)
                patch.undo()
            except NumericalError:
                assert same(before[0], held(stream))
                assert before[1] == stream.stats().frames
                patch.undo()
                if number % 4 != 3:
                    stream.watch(image)
        assert stream.stats().frames == 30 - 7
        memory = stream._state.memory
        states = [states[:, : memory.held] for group in memory.groups for states in (group.keys, group.values)]
        assert all(part.isfinite().all() for part in states)
