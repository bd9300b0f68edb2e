"""Prompts of one model from many threads: whether each is the one that it is alone, and how long threads take.

    python perf/threads.py [--threads 8] [--prompts 10000] [--model embedded]

Questions are words, letters of several scripts and special tokens spelt out, each asked in one of two ways: as text,
which cannot end its turn, and as part of a conversation. A thread's share is the time that one thread takes alone for
as many prompts, times the threads. Exits with 1 where a prompt is wrong, or a thread took twice its share.
"""

import argparse
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import infinipot
from infinipot.models import Adapter
from infinipot.models.chat import ChatFormat

WORDS = ("what", " who", " the", "  red", "é", "你好", "🙂", "\n", "12.5", " seconds", "<", "|>", "x" * 40)


def prompts(adapter: Adapter, chat: ChatFormat, seed: int, count: int) -> list[int]:
    """So many prompts of one seed, as a hash of each one's token ids."""
    drawn = random.Random(seed)
    special = [str(token) for token in adapter.processor.tokenizer.get_added_vocab()]
    made = []
    for _ in range(count):
        words = drawn.choices([*WORDS, *special[:8]], k=drawn.randint(1, 12))
        question = "".join(words)
        if drawn.random() < 0.5:
            ids = adapter.prompt(chat.before_question, question, chat.after_question, behind=adapter.placeholder)
        else:
            ids = adapter.tokenize(question)
        made.append(hash(tuple(ids)))
    return made


def timed(adapter: Adapter, chat: ChatFormat, seed: int, count: int) -> tuple[list[int], float]:
    begun = time.perf_counter()
    return prompts(adapter, chat, seed, count), time.perf_counter() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=10_000)
    parser.add_argument("--model", default="embedded")
    given = parser.parse_args()
    adapter = infinipot.load(given.model, device="cpu").adapter
    chat = adapter.chat()
    alone = [timed(adapter, chat, seed, given.prompts) for seed in range(given.threads)]
    with ThreadPoolExecutor(given.threads) as pool:
        jobs = [pool.submit(timed, adapter, chat, seed, given.prompts) for seed in range(given.threads)]
        together = [job.result() for job in jobs]
    wrong = sum(
        one != other
        for (here, _), (there, _) in zip(alone, together, strict=True)
        for one, other in zip(here, there, strict=True)
    )
    one = sum(seconds for _, seconds in alone) / given.threads
    slowest, share = max(seconds for _, seconds in together), one * given.threads
    print(
        f"{given.threads} threads, {given.prompts:,} prompts each: {wrong} of {given.threads * given.prompts:,} wrong"
    )
    print(f"one thread alone {one:.2f} s; a share of {given.threads} {share:.2f} s; the slowest {slowest:.2f} s")
    return int(wrong > 0 or slowest > 2 * share)


if __name__ == "__main__":
    sys.exit(main())
