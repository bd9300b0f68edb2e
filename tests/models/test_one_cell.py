"""A grid of one cell, as sound has it: each token a temporal patch of its own, positions flat.

What listening with Qwen2.5-Omni rests on: the method, the memory and the audio encoder (docs/guides/sound.md).
"""

import pytest
import torch

from infinipot import policies
from infinipot.memory import PositionRule, Transaction
from infinipot.memory.positions import Cursor
from infinipot.tokens import Grid, VideoTokens
from support.bookkeeper import FLAT, Bookkeeper
from support.models import build
from support.video_tokens import reading, select

SOUNDS = [("silence", 30), ("word", 4), ("silence", 25), ("horn", 12), ("silence", 29)]


def heard(loudness: dict[str, float]) -> VideoTokens:
    """What a layer with one head holds of some sounds: keys say which sound it is, values how loud."""
    kinds = sorted(loudness)
    names = [name for name, tokens in SOUNDS for _ in range(tokens)]
    sound = torch.tensor([kinds.index(name) for name in names])
    generator = torch.Generator().manual_seed(3)
    raw = torch.randn(len(kinds), 16, generator=generator)[sound] + 0.01 * torch.randn(
        len(sound), 16, generator=generator
    )
    patch = torch.arange(len(sound), dtype=torch.int32).unsqueeze(0)
    values = torch.tensor([loudness[name] for name in names]).view(1, -1, 1).expand(1, -1, 16)
    return VideoTokens(
        patch=patch,
        cell=torch.zeros_like(patch),
        grids=(Grid(1, 1, 0),),
        newest_patch=len(sound) - 1,
        layer=[0],
        layers=1,
        head=[0],
        read=reading({"keys": raw.unsqueeze(0), "rotated": raw.unsqueeze(0), "values": values}),
    )


def test_tar_keeps_where_a_sound_begins():
    tokens = heard(dict.fromkeys(("silence", "word", "horn"), 1.0))
    kept = select("tar", tokens, len(SOUNDS))
    starts = torch.tensor([tokens for _, tokens in SOUNDS]).cumsum(0) - torch.tensor([n for _, n in SOUNDS])
    assert kept.sort().values.tolist() == [starts.tolist()]


def test_van_keeps_what_is_loud():
    kept = select("van", heard({"silence": 0.1, "word": 2.0, "horn": 3.0}), 16)
    assert kept.sort().values.tolist() == [[*range(30, 34), *range(59, 71)]]


@pytest.mark.parametrize(
    "policy",  # those that merge change what a token's value says
    [kind.name for kind in policies.available() if kind.evicts and not policies.make(kind.name).merges],
)
def test_every_token_of_an_endless_sound_knows_where_it_came_from(policy):
    book = Bookkeeper(policy=policy, rotary=FLAT, flat=True)
    for _ in range(12):
        book.watch(50, (1, 1), 0.0, keep=0.5)
        if book.memory.cursor.next > 160:
            book.memory.rebase(target=80, limit=160)
        book.check()
    assert book.memory.state.video < 110
    assert book.memory.state.rebases > 0
    assert book.memory.cursor.next <= 160


def test_positions_of_sound_are_those_that_the_thinker_gives_it():
    network = build("qwen2_5_omni_thinker").adapter.model
    config, tokens = network.config, 50
    sound = [config.audio_start_token_id, *[config.audio_token_id] * tokens, config.audio_end_token_id]
    video = [config.vision_start_token_id, *[config.video_token_id] * 4, 9]
    ids = torch.tensor([[5, 6, *sound, *video]])
    grid = torch.tensor([[1, 4, 4]])  # that positions are counted at all, transformers needs a picture
    positions, _ = network.get_rope_index(
        ids,
        video_grid_thw=grid,
        audio_seqlens=torch.tensor([4 * tokens]),
        second_per_grids=torch.tensor([1.0]),
        attention_mask=torch.ones_like(ids),
    )
    transaction = Transaction(Cursor(), PositionRule(flat=True))
    mine = [
        transaction.text(3),
        transaction.video(Grid(1, 1, 0), [0.04 * token for token in range(tokens)]),
        transaction.text(1),
    ]
    assert torch.equal(torch.cat(mine, 1), positions[:, 0, : tokens + 4])


def test_sound_is_encoded_two_seconds_at_a_time_with_nothing_between_them():
    network = build("qwen2_5_omni_thinker").adapter.model
    sound = torch.randn(1, 16, 600, generator=torch.Generator().manual_seed(4))  # 100 frames a second

    def encoded(part: torch.Tensor) -> torch.Tensor:
        everything = torch.ones(1, part.shape[2], dtype=torch.int64)
        return network.get_audio_features(part, feature_attention_mask=everything).last_hidden_state

    with torch.inference_mode():
        whole, parts = encoded(sound), [encoded(part) for part in sound.split(200, dim=2)]
    assert [len(part) for part in parts] == [50, 50, 50]  # a token each 0.04 s
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-4, rtol=0)
