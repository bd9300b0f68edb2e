"""Checkpoints whose files are missing, damaged, or not of one model: one clear line, before any weight is read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import infinipot
from infinipot import CapError, InfinipotError, ModelError
from infinipot.checkpoint import Checkpoint
from infinipot.memory import Memory
from support.adapters import BUILDERS

Change = Callable[[Path], Any]
ROPE = {"mrope_section": [2, 1, 1], "rope_theta": 10_000.0}
WEIGHT = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of which all is right."""
    return save(tmp_path_factory.mktemp("whole"), "qwen2_5_vl")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return shutil.copytree(whole, tmp_path / "checkpoint")


def save(folder: Path, name: str) -> Path:
    network, processor = BUILDERS[name]()
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def without(*names: str) -> Change:
    return lambda folder: [(folder / name).unlink() for name in names]


def holding(name: str, content: str | bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def cut(name: str, length: int) -> Change:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:length])


def changed(name: str, change: Callable[[dict], Any]) -> Change:
    """A JSON file with something changed in it."""

    def spoil(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        change(value)
        (folder / name).write_text(json.dumps(value))

    return spoil


def config(part: str | None = None, **values: Any) -> Change:
    return changed("config.json", lambda whole: (whole[part] if part else whole).update(values))


def both(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    def spoil(folder: Path) -> None:
        held = load_file(folder / "model.safetensors")
        change(held)
        save_file(held, folder / "model.safetensors", {"format": "pt"})

    return spoil


def template(ahead: str) -> Change:
    path = "chat_template.jinja"
    return lambda folder: (folder / path).write_text(ahead + (folder / path).read_text())


def more_tokens(tokenizer: dict) -> None:
    last = tokenizer["added_tokens"][-1]
    tokenizer["added_tokens"].append({**last, "id": last["id"] + 1, "content": "<|more|>"})


def renumbered(tokenizer: dict) -> None:
    """The two kinds of placeholders have changed places."""
    image, video = tokenizer["added_tokens"][-2:]
    image["content"], video["content"] = video["content"], image["content"]


PROJECTION = "visual.patch_embed.proj.weight"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system, please') }}{% endif %}"
SPOILT: dict[str, tuple[Change, str]] = {
    "no tokenizer": (
        without("tokenizer.json", "tokenizer_config.json"),
        "tokenizer knows no words.*put the",
    ),
    "no vocabulary": (without("tokenizer.json"), "tokenizer knows no words.*put the checkpoint's own tokenizer.json"),
    "more tokens than the model": (
        changed("tokenizer.json", more_tokens),
        "has 469 tokens, and the model 468",
    ),
    "tokens of other numbers": (changed("tokenizer.json", renumbered), "gives .* the number 46., and the model 46."),
    "half a tokenizer": (cut("tokenizer.json", 100), "tokenizer.json is cut short or damaged .*download it again"),
    "a tokenizer that is a list": (holding("tokenizer.json", "[]"), "tokenizer.json holds no JSON object"),
    "a tokenizer's settings that are a list": (
        holding("tokenizer_config.json", "[1]"),
        "tokenizer_config.json holds",
    ),
    "no processor": (without("processor_config.json"), "processor cannot be loaded.*It needs the checkpoint's own"),
    "half a processor": (cut("processor_config.json", 9), "processor_config.json is cut short or damaged"),
    "a processor that cuts otherwise": (
        changed("processor_config.json", lambda one: one["video_processor"].update(patch_size=7)),
        "patch_size is 7, and the model's 8",
    ),
    "patches of four frames": (
        both(
            changed("processor_config.json", lambda one: one["video_processor"].update(temporal_patch_size=4)),
            config("vision_config", temporal_patch_size=4),
            weights(lambda held: held.update({PROJECTION: held[PROJECTION].repeat(1, 1, 2, 1, 1)})),
        ),
        "it takes 4 frames to a patch; of its family 2 are supported",
    ),
    "a processor that cannot cut": (
        changed("processor_config.json", lambda one: one["video_processor"].update(patch_size="x")),
        "failed on a test image.*processor_config.json",
    ),
    "half of what it says of answers": (
        cut("generation_config.json", 20),
        "generation_config.json is cut short or damaged",
    ),
    "a temperature that is a text": (
        changed("generation_config.json", lambda one: one.update(do_sample=True, temperature="hot")),
        "generation config cannot be used: '>' not supported",
    ),
    "an end that is no token": (
        changed("generation_config.json", lambda one: one.update(eos_token_id=[[1]])),
        r"generation config cannot be used: eos_token_id=\[\[1\]\] is not a token id",
    ),
    "no template": (without("chat_template.jinja"), "chat template cannot be used for video.*chat_template.jinja"),
    "a template that is no Jinja": (holding("chat_template.jinja", "{% if %}"), "chat template cannot be used"),
    "a template that is no text": (
        holding("chat_template.jinja", b"\xff\xfe\0"),
        "chat_template.jinja is cut short",
    ),
    "a template that fails": (holding("chat_template.jinja", "{{ 1 / 0 }}"), r"chat template .*\(division by zero\)"),
    "a template that refuses all": (template("{{ raise_exception('not\n here') }}"), r"chat template .*\(not\)"),
    "a template that says nothing": (holding("chat_template.jinja", "hello"), "leaves out a part of a conversation"),
    "half a configuration": (cut("config.json", 100), "config.json is not valid JSON"),
    "an empty configuration": (cut("config.json", 0), "config.json is not valid JSON"),
    "a configuration that is no text": (holding("config.json", b"\xff\xfe"), "config.json is not valid JSON"),
    "a bottomless configuration": (holding("config.json", "[" * 100_000), "config.json is not valid JSON"),
    "a configuration that is a list": (holding("config.json", "[]"), "config.json is not a JSON object"),
    "a configuration that is null": (holding("config.json", "null"), "config.json is not a JSON object"),
    "no model type": (changed("config.json", lambda one: one.pop("model_type")), "names no model type; supported are"),
    "a model type that is a number": (config(model_type=3), "names no model type; supported are"),
    "a part that is a text": (config(text_config="x"), "config.json cannot be used: .*'text_config'"),
    "a width that is a text": (config("text_config", hidden_size="x"), "config.json cannot be used: .*'hidden_size'"),
    "no width": (config("text_config", hidden_size=0), "no network can be made from its config.json"),
    "an unknown activation": (config("text_config", hidden_act="loud"), "no network can be made from its config.json"),
    "the default network, of 72B": (config(text_config=None), "config.json and weights do not belong together"),
    "a window of attention": (
        config("text_config", sliding_window=64, layer_types=["sliding_attention"] * 3),
        "sliding-window attention .* is not supported",
    ),
    "a rotation that depends on the prompt": (
        config("text_config", rope_parameters={"rope_type": "dynamic", "factor": 2.0, **ROPE}),
        "uses 'dynamic' rotary scaling",
    ),
    "another width": (config("text_config", hidden_size=96), r"do not belong together: .* is \[.*\], not \[.*96.*\]"),
    "another vocabulary": (config("text_config", vocab_size=500), r"embed_tokens.weight is \[468, .*not \[500"),
    "another family": (config(model_type="qwen2_vl"), "config.json and weights do not belong together"),
    "more layers than weights": (
        config("text_config", num_hidden_layers=9, layer_types=["full_attention"] * 9),
        "lacks .* weights, .*layers.3.* among them: copy or download",
    ),
    "a weight too few": (weights(lambda held: held.pop(WEIGHT)), f"lacks 1 weights, .*{WEIGHT[6:]} among them"),
    "a weight of another shape": (
        weights(lambda held: held.update({WEIGHT: held[WEIGHT][:-1].contiguous()})),
        rf"do not belong together: .*{WEIGHT[6:]} is \[127, .*\], not \[128, ",
    ),
    "no weights": (without("model.safetensors"), "weights cannot be loaded: .*model.safetensors"),
    "half the weights": (cut("model.safetensors", 100_000), "model.safetensors is cut short or damaged .*download"),
    "a header cut short": (cut("model.safetensors", 5), "model.safetensors is cut short or damaged .*download"),
    "a pointer for weights": (
        holding("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "model.safetensors only says where Git LFS keeps it: run git lfs pull",
    ),
    "weights that a link leads nowhere to": (
        lambda folder: (without("model.safetensors")(folder), (folder / "model.safetensors").symlink_to("gone")),
        "model.safetensors cannot be opened .*No such file.*download it again",
    ),
    "a folder for weights": (
        lambda folder: (without("model.safetensors")(folder), (folder / "model.safetensors").mkdir()),
        "model.safetensors cannot be opened .*download it again",
    ),
    "half an index": (
        lambda folder: (without("model.safetensors")(folder), holding("model.safetensors.index.json", "{")(folder)),
        "model.safetensors.index.json is cut short or damaged",
    ),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_what_is_wrong_with_a_checkpoint_is_one_line_before_its_weights_are_read(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, said = SPOILT[kind]
    spoil(folder)
    monkeypatch.setattr(Checkpoint, "network", lambda *_, **__: pytest.fail("weights were read"))
    with pytest.raises(ModelError, match=said) as caught:
        infinipot.load(folder)
    assert str(caught.value).startswith(f"{folder}: ")
    assert "\n" not in str(caught.value)


def test_what_has_no_skeleton_is_checked_once_it_is_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of quantized weights only their library knows how they lie."""
    monkeypatch.setattr(Checkpoint, "skeleton", lambda *_, **__: None)
    infinipot.load(folder)
    changed("tokenizer.json", renumbered)(folder)
    with pytest.raises(ModelError, match=r"the number 46., and the model 46."):
        infinipot.load(folder)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_checkpoint_of_every_family_is_taken_as_it_is(name: str, tmp_path: Path) -> None:
    with infinipot.load(save(tmp_path, name)).stream(memory=700) as stream:
        assert stream.stats().cap == 700


@pytest.mark.parametrize("name", ["llava_next_video", "qwen2_5_omni_thinker"])
def test_a_processor_may_lie_in_files_of_its_parts_that_do_not_name_it(name: str, tmp_path: Path) -> None:
    """As in checkpoints of 2024, whose file of the part for pictures serves the one for videos, too."""
    folder = save(tmp_path, name)
    settings = json.loads((folder / "processor_config.json").read_text())
    parts = [settings.pop(part, {}) for part in ("video_processor", "feature_extractor", "image_processor")]
    changed("tokenizer_config.json", lambda one: one.pop("processor_class"))(folder)
    del parts[0]["video_processor_type"], settings["processor_class"]
    holding("preprocessor_config.json", json.dumps({**parts[0], **parts[1], **parts[2]}))(folder)
    holding("processor_config.json", json.dumps(settings))(folder)
    loaded, given = infinipot.load(folder).adapter.processor.video_processor, BUILDERS[name]()[1].video_processor
    assert (type(loaded), loaded.size, loaded.image_mean) == (type(given), given.size, given.image_mean)


def test_a_template_without_room_for_a_system_message_is_an_error_only_where_there_is_one(folder: Path) -> None:
    template(NO_SYSTEM)(folder)
    model = infinipot.load(folder)
    model.stream(memory=512).close()
    with pytest.raises(ModelError, match=r"takes no system message \(no system, please\): leave it out") as caught:
        model.stream(memory=512, system="Be brief.")
    assert "\n" not in str(caught.value)


def test_a_template_that_drops_a_system_message_is_an_error_where_there_is_one(folder: Path) -> None:
    template("{% set messages = messages[1:] if messages[0].role == 'system' else messages %}")(folder)
    model = infinipot.load(folder)
    model.stream(memory=512).close()
    with pytest.raises(ModelError, match="does not render a system message"):
        model.stream(memory=512, system="Be brief.")


@pytest.mark.parametrize(
    ("failure", "kind", "said"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to"),
            CapError,
            "but the device has too little free memory: give a smaller memory",
        ),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried"),
            CapError,
            "but the device has too little free memory: give a smaller memory",
        ),
        (RuntimeError("CUDA error: an illegal memory access\nmore"), InfinipotError, "cannot be allocated: CUDA error"),
    ],
)
def test_only_a_lack_of_memory_is_called_one(
    failure: RuntimeError, kind: type, said: str, qwen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise failure

    monkeypatch.setattr(Memory, "__init__", fail)
    with pytest.raises(kind, match=said) as caught:
        qwen.stream(memory=512)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
