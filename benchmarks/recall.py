"""What each policy remembers: the embedded model's answers over streams that a full cache would pass many times over.

    python benchmarks/recall.py
    python benchmarks/recall.py --memory 256 --streams 20 --policies "infinipot-v;infinipot-v:combine=two-stage"

Every policy watches the same streams of the synthetic world and is asked the same questions. Prints the share of
exactly right answers with a 95% interval (bootstrap over streams), and the paired difference to the first policy.
Streams are of the development seeds; `--first-seed 10000` and above are those to report. A small still world: it
tells policies that forget from those that remember, and no more.
"""

import argparse

import numpy as np

import infinipot
from infinipot import policies
from infinipot.embedded import demo


def interval(values: np.ndarray, draws: np.random.Generator) -> tuple[float, float]:
    """The 95% bootstrap interval of the mean over streams, `values` being one share per stream."""
    means = draws.choice(values, (2000, len(values))).mean(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--memory", type=int, default=512)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument(
        "--policies",
        default="infinipot-v;infinipot-v:reference=recent;infinipot-v:combine=two-stage;infinipot-v-reference;"
        "tar;van;uniform;sliding-window;streaming-llm;random",
        help="separated by ';' (options have commas of their own), or by ',' where there are no options",
    )
    arguments = parser.parse_args()
    separator = ";" if ";" in arguments.policies else ","
    specs = arguments.policies.split(separator)

    model = infinipot.load("embedded")
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.streams)
    shares, chances = [], []
    for done, seed in enumerate(seeds, 1):
        shown = demo.run(
            model,
            [policies.make(spec) for spec in specs],
            memory=arguments.memory,
            minutes=arguments.minutes,
            seed=seed,
        )
        shares.append(np.mean([reply.right for reply in shown.replies], axis=0))
        chances.append(np.mean([reply.question.chance for reply in shown.replies]))
        print(f"stream {done} of {len(seeds)}: {len(shown.replies)} questions", flush=True)
    full, cap = shown.stats[0].full_tokens, arguments.memory
    table = np.array(shares)  # [streams, policies]
    draws = np.random.default_rng(0)
    print(f"\n{len(seeds)} streams of {arguments.minutes:g} minutes, memory {cap}, a full cache {full} tokens")
    print(f"guessing: {100 * np.mean(chances):.0f}%\n")
    print(f"{'policy':58s} right   95% interval   against the first")
    for column, spec in enumerate(specs):
        low, high = interval(table[:, column], draws)
        difference = table[:, column] - table[:, 0]
        least, most = interval(difference, draws)
        against = f"{100 * difference.mean():+5.1f} [{100 * least:+.1f}, {100 * most:+.1f}]" if column else ""
        right = 100 * table[:, column].mean()
        print(f"{spec:58s} {right:4.0f}%    {100 * low:3.0f} to {100 * high:3.0f}     {against}")


if __name__ == "__main__":
    main()
