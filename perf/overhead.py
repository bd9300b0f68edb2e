"""What a stream costs beside transformers' own path: the same decoder, blocks and cache length.

    python perf/overhead.py                      # a model of 55 M parameters, and the embedded one
    python perf/overhead.py --model middle --blocks 40 --json

A stream watches pictures, with everything that belongs to it: the processor, vision, prefill, and a compression by the
policy whenever the memory is full. Beside it transformers' decoder runs over the embeddings of the same blocks with a
`DynamicCache`, whose oldest tokens are sliced off by hand to the length that a compression leaves; it is given what the
same processor and encoder made, timed too. Both take turns, block by block, so that what else runs on the machine
meets both; times are the process's own, medians over blocks once the memory is full. Of the larger model a token of an
answer is measured as well, with the keys that it reads kept from token to token (`token_ratio`) and turned for each
(`turning_token_ratio`), and the profiler counts the kernels that it starts, by the layers: `launches_a_layer`,
`turning_launches_a_layer` and `transformers_launches_a_layer`.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from compression import profiled
from shapes import SHAPES
from transformers import DynamicCache

import infinipot
from infinipot import Model, Stream
from infinipot.config import POLICY

CAP = {"middle": 4096, "embedded": 512}
SIZE = {"middle": (8 * 28, 16 * 28), "embedded": (64, 64)}  # of frames: 128 tokens a patch, and 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=(*CAP, "both"), default="both")
    parser.add_argument("--policy", default=POLICY)
    parser.add_argument("--blocks", type=int, default=24, help="that are timed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in CAP if arguments.model == "both" else [arguments.model]:
        row = {"model": name, "policy": arguments.policy, **measure(name, arguments.policy, arguments.blocks)}
        told = "  ".join(
            f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items()
        )
        print(json.dumps(row) if arguments.json else told, flush=True)


@torch.inference_mode()
def measure(name: str, policy: str, blocks: int) -> dict[str, float | int]:
    """Ratios of a stream's time to transformers', for a block of frames and for a token of an answer."""
    model = infinipot.load("embedded") if name == "embedded" else SHAPES[name]("cpu", torch.float32)
    height, width = SIZE[name]
    pictures = np.random.default_rng(0).integers(0, 256, (64, height, width, 3), dtype=np.uint8)
    with model.stream(CAP[name], policy, pixels=(height * width, height * width)) as stream:
        theirs, ours, sizes = Plain(model, stream, pictures), [], []
        given = frames(pictures)
        while not stream.stats().compressions:
            watched(stream, given)
        plain: list[float] = []
        for _ in range(blocks):
            ours.append(watched(stream, given))
            sizes.append(theirs.tokens)
            plain.append(seconds(theirs.block))
        row: dict[str, float | int] = {}
        if name != "embedded":  # whose answers are a token or two
            row = tokens(model, stream, theirs)
        return {
            "cap": CAP[name],
            "block_tokens": sizes[0],
            "stream_ms": 1000 * statistics.median(ours),
            "transformers_ms": 1000 * statistics.median(plain),
            "ratio": statistics.median(one / other for one, other in zip(ours, plain, strict=True)),
        } | row


def tokens(model: Model, stream: Stream, theirs: "Plain") -> dict[str, float]:
    """Of a token of an answer the ratio to transformers' time, and the kernels a layer."""
    scratch, layers = model.adapter.scratch, len(model.adapter.language_model.layers)
    spent: dict[int, list[float]] = {scratch.limit: [], 0: []}
    plain: list[float] = []
    row: dict[str, float] = {}
    for _ in range(3):
        for scratch.limit, taken in spent.items():
            taken.append(a_token(stream, seconds))
        plain += [seconds(theirs.token) for _ in range(24)]
    for (scratch.limit, taken), name in zip(spent.items(), ("", "turning_"), strict=True):
        row[f"{name}token_ratio"] = statistics.median(taken) / statistics.median(plain)
        row[f"{name}launches_a_layer"] = a_token(stream, lambda work: profiled(work)[0]) / layers
    scratch.limit = max(spent)
    return row | {"transformers_launches_a_layer": profiled(theirs.token)[0] / layers}


def frames(pictures: np.ndarray) -> Iterator[np.ndarray]:
    while True:
        yield from pictures


def watched(stream: Stream, given: Iterator[np.ndarray]) -> float:
    """Seconds of one block: frames up to the one that fills it."""
    patches = stream.stats().patches
    start = time.process_time()
    while stream.stats().patches == patches:
        stream.watch(next(given))
    return time.process_time() - start


def a_token(stream: Stream, measured: Callable[[Callable[[], object]], float]) -> float:
    """Of a token of an answer: what is measured of a long answer less a short one, by the tokens between."""
    short, long = (
        measured(partial(stream.ask, "What happened?", max_new_tokens=count, temperature=0)) for count in (2, 26)
    )
    return (long - short) / 24


class Plain:
    """Transformers' own decoder, as one would write the stream by hand: no policy, no positions of a stream's own."""

    def __init__(self, model: Model, stream: Stream, pictures: np.ndarray) -> None:
        self._adapter, self._pictures = model.adapter, pictures
        config = copy.deepcopy(model.adapter.model.config.get_text_config())  # which says whose attention is called
        config._attn_implementation = "sdpa"
        self._decoder = type(model.adapter.language_model)(config)
        self._decoder.load_state_dict(model.adapter.language_model.state_dict())
        self._decoder.eval()
        setup = stream._setup
        grid = setup.gatherer.grid(infinipot.Frame(pictures[0], 0.0))
        self._patches = setup.budget.block_patches(grid[0] * grid[1])
        self.tokens = self._patches * grid[0] * grid[1]
        self._kept = setup.budget.target(len(setup.prompt_ids), grid[0] * grid[1])
        self._pixels, self._next = setup.pixels, 0
        self._cache = DynamicCache(config=config)
        while self._cache.get_seq_length() < self._kept:
            self.block()

    def block(self) -> None:
        """Frames of one block through processor, encoder and decoder, and the cache back to its length."""
        patches = [
            self._adapter.patch_of(list(self._pictures[2 * n : 2 * n + 2]), [0.0, 0.5], self._pixels)
            for n in range(self._patches)
        ]
        self._run(self._adapter.encode(patches))
        layers: Any = self._cache.layers
        for layer in layers:
            layer.keys, layer.values = (part[:, :, -self._kept :].contiguous() for part in (layer.keys, layer.values))

    def token(self) -> None:
        """One token behind the cache."""
        self._run(self._adapter.embed([5]))

    def _run(self, embeddings: torch.Tensor) -> None:
        count, length = len(embeddings), self._cache.get_seq_length()
        places = torch.arange(length, length + count).expand(3, 1, -1)
        hidden = self._decoder(inputs_embeds=embeddings[None], position_ids=places, past_key_values=self._cache)
        self._adapter.model.lm_head(hidden.last_hidden_state[0, -1:])


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
