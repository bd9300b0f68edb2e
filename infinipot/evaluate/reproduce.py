"""The tables of the InfiniPot-V paper as a list of runs, and what they cost. Runs nothing itself.

Settings are those of arXiv 2506.15745v2, appendix A.2 and B: at most 768 frames at even distances, 128 x 28 x 28
pixels each; 50K tokens without eviction, 6K with; |C| = 3/4 |M|, alpha = 0.5, r = 0.125, adaptive pooling.
"""

from dataclasses import dataclass

from infinipot.config import StreamConfig
from infinipot.evaluate.benchmarks import find_benchmark
from infinipot.evaluate.engines.base import RunConfig
from infinipot.evaluate.protocols import find_protocol

BESIDE = 1024
"""Slots beside the video's own, which the paper does not count: prompt, question and answer."""
PATCHES, CELLS = 384, 130  # of 768 frames, as the paper counts: 49,920 tokens
FULL, SMALL = PATCHES * CELLS + 10 * PATCHES, 6144  # frames of another shape may take some tokens more

_REFERENCE = "infinipot-v-reference:query_ratio=0.125"
_METHODS = (  # label, policy, the paper's name, the video's tokens
    ("full", "full", "FullKV", FULL),
    ("uniform", "uniform", "Uniform Select", SMALL),
    ("sliding-window", "sliding-window", None, SMALL),
    ("infinipot-v, published code", f"{_REFERENCE},adaptive_pooling=true", "InfiniPot-V", SMALL),
    ("infinipot-v", "infinipot-v", None, SMALL),
    ("unusual", "unusual", None, SMALL),
)
_ABLATION = (
    ("TaR alone", f"{_REFERENCE},tar_ratio=1.0", "TaR", SMALL),
    ("VaN alone", f"{_REFERENCE},tar_ratio=0.0", "VaN", SMALL),
    ("VaN, pooled", f"{_REFERENCE},tar_ratio=0.0,adaptive_pooling=true", "VaN + Pool", SMALL),
)
MOST_QUESTIONS = {"egoschema": 500, "mlvu": 2174, "video-mme": 2700, "longvideobench": 1337}
"""Multiple-choice questions of the variant that the paper reports; there are at most as many videos."""
_BENCHMARKS = ("mlvu", "video-mme", "longvideobench", "egoschema")


@dataclass(frozen=True, slots=True)
class PaperRun:
    """One run of the tables.

    Attributes:
        benchmark, variant: what is asked; its data lie in a folder of the benchmark's name.
        label: what is compared.
        published: what the paper calls it; None where it has no such row.
        setup: how it is asked.
        evicts: whether the memory is the small one.
    """

    benchmark: str
    variant: str
    label: str
    published: str | None
    setup: RunConfig
    evicts: bool

    @property
    def file(self) -> str:
        """Its result file's name."""
        label = self.label.replace(",", "").replace(" ", "-")
        return f"{self.benchmark}-{label}.jsonl"


def entries() -> list[PaperRun]:
    """Every run: six methods on four benchmarks, and the ablation on MLVU."""
    main = [_entry(benchmark, *method) for benchmark in _BENCHMARKS for method in _METHODS]
    return [*main, *(_entry("mlvu", *method) for method in _ABLATION)]


def _entry(benchmark: str, label: str, policy: str, published: str | None, tokens: int) -> PaperRun:
    setup = RunConfig(
        benchmark=benchmark,
        protocol="paper",
        sampling=find_protocol("paper").frames(find_benchmark(benchmark)),
        policy=policy,
        config=StreamConfig(
            memory=tokens + BESIDE,
            reserve=BESIDE - 32,  # what remains is the chat template's opening
        ),
    )
    return PaperRun(benchmark, find_benchmark(benchmark).variants[0], label, published, setup, policy != "full")


@dataclass(frozen=True, slots=True)
class Hardware:
    """The assumptions behind a computed cost.

    Attributes:
        decoder, encoder: parameters that a token of the decoder, and a patch of the vision encoder, go through.
        layers, width: of the decoder.
        patches: encoder patches of a decoder token.
        flops: of the accelerator a second, at its peak in the weights' type; share: how much of it is reached.
    """

    decoder: float = 6.5e9  # Qwen2.5-VL-7B without its embeddings
    encoder: float = 0.65e9
    layers: int = 28
    width: int = 3584
    patches: int = 4
    flops: float = 312e12  # A100, bfloat16
    share: float = 0.3


def gpu_hours(watches: int, questions: int, evicts: bool, hardware: Hardware | None = None) -> float:
    """Hours of one accelerator for a run: arithmetic, not a measurement; decoding the videos is not in it.

    A token costs 2 operations a parameter, and 4 x layers x width for each token that it attends to: half the
    video's on average in a full cache, the memory's in a bounded one. A question counts as 256 tokens.

    Args:
        watches: videos, at their longest.
        questions: asked about them.
        evicts: whether the memory is bounded.
    """
    one = hardware or Hardware()
    video = PATCHES * CELLS
    attended = SMALL if evicts else video / 2
    attention = 4 * one.layers * one.width
    watching = video * (2 * one.decoder + 2 * one.encoder * one.patches + attention * attended)
    asking = 256 * (2 * one.decoder + attention * (SMALL if evicts else video))
    return (watches * watching + questions * asking) / (one.flops * one.share) / 3600
