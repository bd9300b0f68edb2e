"""What transformers' `generate` does to logits before it chooses a token. Knows no stream and no memory."""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from transformers import LogitsProcessorList

from infinipot.errors import ModelError

COLDEST = 1e-5  # below this temperature a draw is the likeliest token, or overflows: the bound of vLLM


class Scoring:
    """The processors of logits that `generate` would use.

    What the checkpoint's generation config comes to is worked out once, and again only where somebody has changed it.

    Args:
        network: of transformers.
    """

    def __init__(self, network: Any) -> None:
        self._network = network
        self._said: dict[str, Any] | None = None  # by the checkpoint's config, when it was worked out
        self._config: Any = None

    def of(
        self, asked: Mapping[str, Any], ids: Sequence[int], limit: int, stop: Collection[int], device: torch.device
    ) -> tuple[LogitsProcessorList, bool]:
        """The processors of one answer, and whether `generate` would draw tokens rather than take the best.

        By the checkpoint's generation config, where `asked` says nothing. What is no matter of the next token is left
        out: beams, and guidance by a second prompt. So is the least length that counts the prompt, which a video fills.

        Args:
            asked: what `generate` would be told.
            ids: the prompt.
            limit: tokens of the answer at the most.
            stop: tokens that end it.
            device: of the logits.

        Raises:
            ModelError: the checkpoint's generation config is of no use.
        """
        network = self._network
        try:
            config = self._checkpoints()
            config.update(**asked)
            config.update(guidance_scale=None, num_beams=1, num_return_sequences=1)
            config.update(min_length=0, max_length=len(ids) + limit)
            config.eos_token_id = sorted(stop) or None
            config.do_sample = bool(config.do_sample) and config.temperature > COLDEST and config.top_k != 1
            network._prepare_special_tokens(config, device=device)
            prompt = torch.tensor([ids], dtype=torch.int64, device=device)
            made = network._get_logits_processor(config, len(ids), prompt, device=device, model_kwargs={})
        except (ValueError, TypeError, AttributeError) as error:
            told = str(error).strip().partition("\n")[0]
            raise ModelError(f"the checkpoint's generation config cannot be used: {told}") from error
        return made, config.do_sample

    def _checkpoints(self) -> Any:
        """A copy of what the checkpoint's config comes to, whose fields may be set."""
        said = {name: each for name, each in vars(self._network.generation_config).items() if name[0] != "_"}
        if said != self._said:
            self._config, _ = self._network._prepare_generation_config(None)
            self._said = copy.deepcopy(said)
        return copy.copy(self._config)
