"""Loading checkpoints: the same path for a hub id, a folder and the embedded model, and an error for what is none."""

import inspect
import json
import shutil
import typing
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from safetensors.torch import save_file
from transformers import PreTrainedConfig

import infinipot
from infinipot import ModelError, SettingError, embedded
from infinipot.config import LoadConfig
from infinipot.loading import _require_resident
from infinipot.models.chat import read_chat_format
from support.adapters import BUILDERS, omni_processor
from support.models import build, pictures


def answers(model: infinipot.Model) -> list[str]:
    with model.stream(memory=400) as stream:
        for image in pictures(60):
            stream.watch(image)
        assert stream.stats().compressions > 0
        return [stream.ask("How many shapes have appeared so far?", max_new_tokens=4)]


def test_a_folder_loads_as_the_embedded_model_does(tmp_path):
    folder = shutil.copytree(embedded.path(), tmp_path / "checkpoint")
    assert answers(infinipot.load(folder)) == answers(infinipot.load("embedded"))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_watches_compresses_rebases_and_answers(dtype):
    model = infinipot.load("embedded", dtype=dtype, device="cpu")
    with model.stream(memory=400, dialogue=64) as stream:
        for index, image in enumerate(pictures(120)):
            stream.watch(infinipot.Frame(image, 16.0 * index))  # so far apart that positions soon run out
            if index % 50 == 30:
                stream.ask("What colour was the circle?", max_new_tokens=4, remember=True)
        stats = stream.stats()
        assert stats.compressions > 10
        assert stats.rebases > 0
        (group,) = stream._state.memory.groups
        assert group.keys.dtype == getattr(torch, dtype)
        assert group.keys[:, : stats.tokens].isfinite().all()


@pytest.mark.parametrize("dtype", ["int8", torch.int32, "bool", "complex64", "nonsense", 16])
def test_what_weights_cannot_be_is_told_ahead_of_the_checkpoint(dtype):
    with pytest.raises(SettingError, match=r"^dtype=.*give 'auto', or a type such as 'bfloat16'"):
        infinipot.load("nobody/nothing", dtype=dtype)


@pytest.mark.parametrize("device", ["nowhere", "cuda:x", "cuda:01", ""])
def test_what_no_device_is_called_is_refused_where_it_is_written_down(device):
    with pytest.raises(SettingError, match=rf"^device='{device}': give 'cpu'"):
        LoadConfig(device=device)


@pytest.mark.parametrize("device", ["cuda:99", "cuda:200", 99])
def test_a_device_that_this_machine_lacks_is_refused_where_the_model_is_loaded(device):
    with pytest.raises(SettingError, match="no such GPU here"):
        infinipot.load("embedded", device=device)


@pytest.mark.parametrize("device", ["mps", "xpu:0", "meta"])
def test_a_device_of_another_kind_that_this_machine_lacks_is_refused_too(device, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(SettingError, match=f"^device='{device}': PyTorch finds no such device here; possible: cpu$"):
        infinipot.load("embedded", device=device)


def test_a_name_that_is_nearly_one_of_ours_is_told_before_a_hub_is_asked(monkeypatch):
    monkeypatch.setattr(PreTrainedConfig, "get_config_dict", lambda *_, **__: pytest.fail("the hub was asked"))
    with pytest.raises(ModelError, match='did you mean "embedded"'):
        infinipot.load("embeded")


def test_the_model_that_ships_is_loaded_without_a_word(capfd):
    infinipot.load("embedded")
    assert capfd.readouterr() == ("", "")


def test_what_torch_calls_a_type_or_a_device_is_text_in_the_settings():
    given: list[Any] = [Path("folder"), torch.float16, torch.device("cuda", 1)]
    config = LoadConfig(*given)
    assert asdict(config) == asdict(LoadConfig("folder", "half", "cuda:1"))
    assert (config.name, config.dtype) == ("folder", "float16")


def test_attention_implementations_agree():
    assert answers(infinipot.load("embedded", attn_implementation="eager")) == answers(infinipot.load("embedded"))


def test_layers_may_be_spread_by_a_device_map():
    assert answers(infinipot.load("embedded", device_map="auto")) == answers(infinipot.load("embedded"))


def test_of_a_whole_omni_checkpoint_the_thinker_is_loaded(tmp_path):
    """Named as in the published checkpoints, which have a talker beside it and no tokens that end an answer."""
    thinker = build("qwen2_5_omni_thinker")
    network = thinker.adapter.model
    names = (("model.language_model.", "model."), ("model.visual.", "visual."), ("model.audio_tower.", "audio_tower."))
    published = {"talker.codec_head.weight": torch.zeros(2, 2)}
    for name, weight in network.state_dict().items():
        for ours, theirs in names:
            name = theirs + name.removeprefix(ours) if name.startswith(ours) else name
        published[f"thinker.{name}"] = weight
    save_file(published, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "qwen2_5_omni", "thinker_config": network.config.to_dict()}
    (tmp_path / "config.json").write_text(json.dumps(config))
    omni_processor().save_pretrained(tmp_path)

    loaded = infinipot.load(tmp_path, device="cpu")
    assert loaded.adapter.stop_ids == thinker.adapter.stop_ids
    loaded.adapter.processor.videos_kwargs = thinker.adapter.processor.videos_kwargs
    with loaded.stream() as one, thinker.stream() as other:
        for stream in (one, other):
            for image in pictures(6):
                stream.watch(image)
        assert one.ask("Which shape was red?", max_new_tokens=6) == other.ask("Which shape was red?", max_new_tokens=6)


def test_a_model_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="no such folder"):
        infinipot.load(tmp_path / "nothing")
    with pytest.raises(ModelError, match=r"config\.json"):
        infinipot.load(tmp_path)
    with pytest.raises(ModelError, match=r"^nobody/nothing: no folder .* the hub cannot be asked for it$"):
        infinipot.load("nobody/nothing")
    with pytest.raises(ModelError, match='did you mean "embedded"'):
        infinipot.load("Embeded")
    with pytest.raises(ModelError, match=r"^the name of the model is empty: give a hub id, a folder, or one of emb"):
        infinipot.load("")
    (tmp_path / "config.json").touch()
    with pytest.raises(ModelError, match=r"this is a file: give the folder that holds its config\.json"):
        infinipot.load(tmp_path / "config.json")


def test_a_checkpoint_that_the_hub_does_not_know_is_told_apart_from_a_hub_that_cannot_be_asked(monkeypatch):
    def unknown(source):
        raise OSError("nobody/nothing is not a valid model identifier\nIf this is a private repository, ...")

    monkeypatch.setattr(PreTrainedConfig, "get_config_dict", unknown)
    with pytest.raises(ModelError, match=r"no such checkpoint: nobody/nothing is not a valid model identifier$"):
        infinipot.load("nobody/nothing")


def test_a_folder_without_a_processor_is_an_error(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(embedded.path() / name, folder)
    with pytest.raises(ModelError, match="processor"):
        infinipot.load(folder)


@pytest.mark.parametrize("model_type", ["llama", "qwen4_vl", "of_my_own"])
def test_an_unsupported_family_names_the_supported_ones(tmp_path, model_type):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(ModelError, match=r"supported are .*qwen2_5_vl, qwen2_vl, qwen3_5") as caught:
        infinipot.load(tmp_path)
    assert "\n" not in str(caught.value)
    assert "CONTRIBUTING.md" in str(caught.value)
    assert ("the nearest is qwen3_vl (Qwen3-VL)" in str(caught.value)) == (model_type == "qwen4_vl")


def test_a_chat_template_of_another_shape_is_an_error():
    class Processor:
        video_token = "<video>"

        def apply_chat_template(self, messages, **options):
            return "nothing of what was said"

    with pytest.raises(ModelError, match="chat template"):
        read_chat_format(Processor(), Processor.video_token)


def test_an_answer_follows_what_the_template_prompts_with_not_what_it_puts_ahead_of_a_given_answer():
    class Processor:
        video_token = "<video>"

        def apply_chat_template(self, messages, **options):
            texts = [content.get("text", self.video_token) for message in messages for content in message["content"]]
            return " | ".join(texts) + "\nANSWER:"

    assert read_chat_format(Processor(), Processor.video_token).after_question == "\nANSWER:"


def test_a_system_message_takes_the_place_of_the_templates_own(qwen):
    opening = qwen.adapter.chat("Be brief.").opening
    assert "Be brief." in opening
    assert qwen.adapter.chat().opening != opening


def test_a_template_that_thinks_aloud_is_asked_not_to():
    processor: Any = BUILDERS["qwen3_5"]()[1]
    thinks = (
        "{% if enable_thinking is defined and not enable_thinking %}<think></think>\n{% else %}<think>\n{% endif %}"
    )
    prompt = "<|im_start|>assistant\n"
    head, tail = processor.chat_template.rsplit(prompt, 1)
    processor.chat_template = head + prompt + thinks + tail
    after = read_chat_format(processor, processor.video_token).after_question
    assert after.endswith(prompt + "<think></think>\n")


def test_a_template_that_cannot_think_is_not_told_about_it():
    """transformers warns of what a template does not know."""
    processor: Any = BUILDERS["qwen2_5_vl"]()[1]
    given: list[set[str]] = []
    apply = processor.apply_chat_template
    processor.apply_chat_template = lambda messages, **options: given.append(set(options)) or apply(messages, **options)
    read_chat_format(processor, processor.video_token)
    assert given
    assert all(options == {"tokenize", "add_generation_prompt"} for options in given)


def test_weights_that_wait_elsewhere_are_refused():
    network = BUILDERS["qwen2_5_vl"]()[0]
    _require_resident("small", network)
    accelerate.cpu_offload(network, execution_device=torch.device("cpu"))
    with pytest.raises(ModelError, match="no room for 100% of the weights"):
        _require_resident("small", network)


def test_the_settings_of_a_stream_are_told_as_stream_config_has_them():
    told = {each.name: each for each in inspect.signature(infinipot.Model.stream).parameters.values()}
    named = {each.name: (each.type, each.default) for each in fields(infinipot.StreamConfig)}
    assert {name: (told[name].annotation, told[name].default) for name in named} == named
    assert told.keys() - named.keys() == {"self", "policy", "modality"}


def test_what_a_stream_takes_is_known_before_it_opens(model: infinipot.Model):
    for settings in ({}, {"memory": 600}, {"memory": 500, "policy": "full", "modality": model.adapter.modality}):
        with model.stream(**settings) as stream:
            assert model.stream_bytes(**settings) == stream.stats().bytes
    with pytest.raises(infinipot.SettingError):
        model.stream_bytes(memory=0)


OPENING = (infinipot.open_video, infinipot.open_audio, infinipot.open_camera)


@pytest.mark.parametrize("kind", [infinipot.Model, infinipot.Stream, infinipot.Answer, infinipot.Contents, *OPENING])
def test_every_class_that_a_public_call_takes_or_returns_has_a_public_name(kind: Any) -> None:
    public = {getattr(infinipot, name) for name in infinipot.__all__} | {infinipot.models.Adapter}
    told = inspect.getmembers(kind, lambda each: inspect.isfunction(each) or isinstance(each, property))
    opened = kind is infinipot.Stream  # by `Model.stream`, never by its own name
    calls = [
        getattr(each, "fget", each)
        for name, each in told
        if not name.startswith("_") or (name == "__init__" and not opened)
    ]
    hints = [pair for each in (kind, *calls) for pair in typing.get_type_hints(each).items()]
    named = {each for name, hint in hints if not name.startswith("_") for each in classes(hint)}
    assert {each for each in named if each.__module__.startswith("infinipot")} <= public


def test_calls_that_pass_options_of_ask_on_name_all_of_them() -> None:
    told, options = typing.get_type_hints(infinipot.Stream.ask), typing.get_type_hints(infinipot.AskOptions)
    assert {name: told[name] for name in told if name not in ("question", "return")} == options
    for call in (infinipot.Stream.begin_ask, infinipot.Model.ask):
        assert typing.get_type_hints(call)["options"] == typing.Unpack[infinipot.AskOptions]


def classes(hint: Any) -> set[type]:
    """The classes that a type names, those of its parameters too."""
    named = {each for parameter in typing.get_args(hint) for each in classes(parameter)}
    return named | {hint} if isinstance(hint, type) else named
