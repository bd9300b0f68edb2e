"""SmolLM2's decoder and tokenizer, read from a GGUF file. Knows llama.cpp's names and nothing of vision."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from infinipot import extras
from infinipot.errors import ModelError

_CONTROL = 3  # llama.cpp's type of a token that stands for no text
# The tensors of a layer: llama.cpp's name, transformers' name.
_OF_A_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def require_reader() -> Any:
    """The package that reads GGUF files.

    Raises:
        ModelError: it is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise ModelError(
            f"the witness's decoder is a GGUF file, which gguf reads: {extras.how_to_install('witness')}"
        ) from error
    return gguf


class Gguf:
    """An open GGUF file of a Llama decoder.

    Raises:
        ModelError: the package gguf is missing, or the file is no GGUF file of a Llama.
    """

    def __init__(self, path: Path) -> None:
        gguf = require_reader()
        self._dequantize = gguf.quants.dequantize
        try:
            self._reader = gguf.GGUFReader(path)
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: this is no GGUF file: {error}") from error
        if (kind := self.field("general.architecture")) != "llama":
            raise ModelError(f"{path}: the file holds a {kind!r} model; the witness is made of a 'llama' one")

    def field(self, name: str) -> Any:
        """One entry of the file's metadata.

        Raises:
            ModelError: there is none.
        """
        entry = self._reader.fields.get(name)
        if entry is None:
            raise ModelError(f"the GGUF file says nothing of {name!r}")
        return entry.contents()

    def weights(self) -> dict[str, Tensor]:
        """The decoder's weights in float32, by transformers' names within `Qwen2_5_VLTextModel`.

        llama.cpp stores the rows of query and key heads in pairs that rotate together; transformers stores first all
        first halves of the pairs, then all second halves, so rows are put back.
        """
        heads = {
            "attn_q": self.field("llama.attention.head_count"),
            "attn_k": self.field("llama.attention.head_count_kv"),
        }
        weights = {}
        for tensor in self._reader.tensors:
            values = np.asarray(self._dequantize(tensor.data, tensor.tensor_type), np.float32)
            name = _name(tensor.name)
            if (part := tensor.name.split(".")[-2]) in heads:
                values = values.reshape(heads[part], -1, 2, values.shape[-1]).swapaxes(1, 2).reshape(values.shape)
            weights[f"{name}.weight"] = torch.tensor(values)
        return weights

    def tokenizer(self, added: tuple[str, ...]) -> Tokenizer:
        """The byte-level BPE tokenizer, with `added` special tokens after the vocabulary.

        Raises:
            ModelError: the file holds a tokenizer of another kind.
        """
        kind = self.field("tokenizer.ggml.model"), self.field("tokenizer.ggml.pre")
        if kind != ("gpt2", "smollm"):
            raise ModelError(
                f"the GGUF file's tokenizer is {kind}; the witness reads that of SmolLM2, ('gpt2', 'smollm')"
            )
        tokens = self.field("tokenizer.ggml.tokens")
        merges = [tuple(merge.split(" ")) for merge in self.field("tokenizer.ggml.merges")]
        tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        types = self.field("tokenizer.ggml.token_type")
        special = [token for token, kind in zip(tokens, types, strict=True) if kind == _CONTROL]
        tokenizer.add_special_tokens(
            [AddedToken(token, special=True, normalized=False) for token in (*special, *added)]
        )
        return tokenizer


def _name(of_llama_cpp: str) -> str:
    """transformers' name of a tensor."""
    match of_llama_cpp.split("."):
        case ["token_embd", "weight"]:
            return "embed_tokens"
        case ["output_norm", "weight"]:
            return "norm"
        case ["blk", layer, part, "weight"] if part in _OF_A_LAYER:
            return f"layers.{layer}.{_OF_A_LAYER[part]}"
    raise ModelError(f"the GGUF file holds {of_llama_cpp!r}, which SmolLM2's decoder does not have")
