"""Runs the embedded model on batches of clips and counts right answers, for training and for examining it."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from transformers import AttentionInterface, Qwen2_5_VLForConditionalGeneration

from infinipot.embedded.facts import PATCH, SIZE
from training.embedded.batch import Batch
from training.embedded.pixels import IGNORE, Pixels

CHUNK = 128  # queries at once
Counts = dict[str, tuple[int, int]]  # kind: right, asked


def look(model: Qwen2_5_VLForConditionalGeneration, pixels: Pixels, size: int = SIZE) -> torch.Tensor:
    """The visual tokens of the clips with frames of `size` pixels, one behind the other: `[T * C, hidden]`."""
    side = size // PATCH
    grid = torch.tensor([[len(pixels.patches) // side**2, side, side]])
    return model.model.visual(pixels.patches, grid_thw=grid).pooler_output


def answer(
    model: Qwen2_5_VLForConditionalGeneration, batch: Batch, visual: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
    """Run the language model on a batch and its visual tokens, with explicit positions.

    Returns:
        logits `[answer tokens, vocabulary]` that predict the answer tokens; the answer tokens; the hidden states,
        `[B, n, hidden]`, before the first layer and behind each.
    """
    embedded = model.model.language_model.embed_tokens(batch.ids)
    where = (batch.ids == model.config.video_token_id)[..., None].expand_as(embedded)
    output = model.model.language_model(
        inputs_embeds=embedded.masked_scatter(where, visual.to(embedded.dtype)),
        position_ids=batch.positions,
        attention_mask=batch.mask,
        use_cache=False,
        output_hidden_states=True,
    )
    learned = batch.answers[:, 1:] != IGNORE
    logits = model.lm_head(output.last_hidden_state[:, :-1][learned])
    return logits, batch.ids[:, 1:][learned], output.hidden_states


def attend_in_chunks(model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Makes the decoder skip the keys behind each chunk of queries, which a mask alone does not spare the CPU."""
    AttentionInterface.register("chunks", _chunked_attention)
    model.model.language_model.config._attn_implementation = "chunks"


def _chunked_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    **options: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention under a mask `[B, 1, n, n]`; query `[B, heads, n, dim]`, key and value with fewer heads."""
    shared = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(shared, 1) for part in (key, value))
    parts = [
        F.scaled_dot_product_attention(
            query[:, :, start:end], key[:, :, :end], value[:, :, :end], mask[:, :, start:end, :end]
        )
        for start in range(0, query.shape[2], CHUNK)
        for end in [min(start + CHUNK, query.shape[2])]
    ]
    return torch.cat(parts, 2).transpose(1, 2), None


def tally(logits: torch.Tensor, targets: torch.Tensor, batch: Batch) -> Counts:
    """Right and asked, by kind.

    Right is an answer whose every token, <|im_end|> too, is the likeliest one behind those before it: greedy
    decoding gives exactly this answer.
    """
    owners = batch.answers[:, 1:][batch.answers[:, 1:] != IGNORE]
    wrong = set(owners[logits.argmax(-1) != targets].tolist())
    return add(({kind: (int(number not in wrong), 1)} for number, kind in enumerate(batch.kinds)))


def add(counts: Iterable[Counts]) -> Counts:
    """The sum of counts."""
    total: Counts = {}
    for one in counts:
        for kind, (right, asked) in one.items():
            before = total.get(kind, (0, 0))
            total[kind] = (before[0] + right, before[1] + asked)
    return total
