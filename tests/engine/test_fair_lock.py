"""Threads that share a stream: who waits for whom, in which order, and what an interruption leaves."""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from infinipot import InfinipotError, Model, Stream
from infinipot.engine.fair_lock import FairLock
from support.models import pictures
from support.patience import until

QUESTION = "Is there a shape now?"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def queued(pool: ThreadPoolExecutor, lock: FairLock, work: Callable[[], Any]) -> Future[Any]:
    """Work of another thread, which stands in the lock's queue when this returns."""
    last, outcome = lock._last, pool.submit(work)
    assert until(lambda: lock._last is not last, every=0.001)
    return outcome


@contextmanager
def held(pool: ThreadPoolExecutor, lock: FairLock) -> Iterator[None]:
    """Inside, another thread has the lock."""
    has, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with lock.held():
            has.set()
            leave.wait()

    holding = pool.submit(hold)
    has.wait()
    try:
        yield
    finally:
        leave.set()
        holding.result()


def test_threads_get_the_lock_in_the_order_in_which_they_ask(pool: ThreadPoolExecutor) -> None:
    lock, order = FairLock(), []

    def note(number: int) -> None:
        with lock.held(), lock.held():
            order.append(number)

    with lock.held():
        waiting = [queued(pool, lock, lambda number=number: note(number)) for number in range(3)]  # type: ignore[misc]
        assert not order
    for each in waiting:
        each.result()
    assert order == [0, 1, 2]


@pytest.mark.usefixtures("ctrl_c")
def test_who_is_interrupted_while_it_waits_lets_nobody_in_early(pool: ThreadPoolExecutor) -> None:
    lock, here = FairLock(), threading.get_ident()
    last = lock._last

    def interrupt() -> None:
        until(lambda: lock._last not in (last, first), every=0.001)
        signal.pthread_kill(here, signal.SIGINT)

    with held(pool, lock):
        first = lock._last
        pressed = pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt), lock.held():
            pytest.fail("it is held elsewhere")
        pressed.result()
        behind = queued(pool, lock, lock.held().__enter__)
        assert not behind.done()
    behind.result()


def test_a_watcher_without_a_pause_and_an_asker_share_a_stream(qwen: Model, pool: ThreadPoolExecutor) -> None:
    with qwen.stream(memory=288, reserve=56) as stream:
        image, stop = pictures(1)[0], threading.Event()
        stream.watch(image)

        def watch() -> None:
            while not stop.is_set():
                stream.watch(image)

        watching = pool.submit(watch)
        for _ in range(3):
            with stream.lock():
                frames = stream.stats().frames
                stream.ask(QUESTION, max_new_tokens=1)
                assert stream.stats().frames == frames, "something was watched meanwhile"
        stop.set()
        watching.result()


def test_outside_of_the_lock_only_calls_that_meet_one_inside_wait(qwen: Model, pool: ThreadPoolExecutor) -> None:
    with qwen.stream(memory=288, reserve=56) as stream:
        image = pictures(1)[0]
        stream.watch(image)

        def meet(_: str) -> None:
            with pytest.raises(InfinipotError, match=r"inside `with stream.lock\(\):`"):
                pool.submit(stream.watch, image).result()

        stream.ask(QUESTION, max_new_tokens=1, on_text=meet)
        with stream.lock():
            waiting = queued(pool, stream._calls.lock, lambda: stream.watch(image))
            stream.ask(QUESTION, max_new_tokens=1)
            assert stream.stats().frames == 1
        waiting.result()
        assert stream.stats().frames == 2


def test_a_stream_that_is_closed_meanwhile_is_told_of(qwen: Model, pool: ThreadPoolExecutor) -> None:
    with qwen.stream(memory=288, reserve=56) as stream, stream.lock():
        waiting = queued(pool, stream._calls.lock, lambda: Stream.watch(stream, pictures(1)[0]))
        stream.close()
    with pytest.raises(InfinipotError, match="closed"):
        waiting.result()
    with pytest.raises(InfinipotError, match="closed"):
        stream.lock()
