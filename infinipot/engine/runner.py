"""The only place that runs a network: for the tasks of one stream or of many, packed into one step.

A step begins tasks that have not begun, prepares the frames and encodes the patches that tasks wait for, those of one
size together, and runs the decoder once over the tokens of all tasks that fit, each attending to its own stream's
memory. Knows no stream: a task is work that asks for one thing after the other.
"""

import time
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, TypeVar

import torch

from infinipot.engine.requests import Encode, Forward, Prepare, Request
from infinipot.engine.task import Task
from infinipot.memory import lacks_memory

T = TypeVar("T")


@torch.inference_mode()
def step(tasks: Iterable[Task[Any]], max_tokens: int | None = None) -> int:
    """Carries tasks on by one step: one forward for each that the step has room for.

    What goes wrong where the network runs is every packed task's error, each of whose streams is as before its call.
    Where the device has too little memory for them together, they run one after the other, and who fails fails alone.

    Args:
        tasks: of different streams; those that are done are passed over, and one that is named again goes once.
        max_tokens: that the encoder and the decoder are to run over at the most, together. Single tokens of answers
            always go, so that answers flow; beside them, in the order of the tasks, what there is room for, but the
            first of it in any case: a task that is named first never waits.

    Returns:
        The tokens that they ran over.
    """
    for task in (waiting := [task for task in dict.fromkeys(tasks) if not task.done]):
        task.begin()
    for group in _groups(_asking(waiting, Prepare)):
        _run(group)
    turn = _fitting(waiting, max_tokens)
    decoded, encoded = _asking(turn, Forward), _asking(turn, Encode)
    tokens = _tokens(encoded)
    for group in _groups(encoded):
        _run(group)
    left = None if max_tokens is None else max_tokens - tokens
    decoded += _asking(_fitting(encoded, left, beside=decoded), Forward)
    tokens += _tokens(decoded)
    for group in _groups(decoded):
        _run(group)
    return tokens


def run(task: Task[T]) -> T:
    """Carries one task on until it is done; returns its outcome, or raises what it raised."""
    finish(task)
    return task.result()


def finish(*tasks: Task[Any]) -> None:
    """Carries tasks on until all are done. What interrupts this cancels those that are not."""
    try:
        while waiting := [task for task in tasks if not task.done]:
            step(waiting)
    finally:
        for task in tasks:
            task.cancel()


def _asking(tasks: Sequence[Task[Any]], kind: type[Request]) -> list[Task[Any]]:
    """Those tasks that wait for something of this kind."""
    return [task for task in tasks if isinstance(task.request, kind)]


def _tokens(tasks: Sequence[Task[Any]]) -> int:
    """Tokens that the model runs over for tasks: once for those that want the same."""
    return sum({_work(request): request.tokens for request in map(_request, tasks)}.values())


def _work(request: Request) -> Hashable:
    """Equal for requests that the model runs once for all of them."""
    return type(request), request.group, request.once


def _fitting(
    tasks: Sequence[Task[Any]], limit: int | None, *, beside: Sequence[Task[Any]] | None = None
) -> list[Task[Any]]:
    """Those tasks that wait for the encoder or the decoder and go together: see `step`.

    Args:
        tasks: in their order.
        limit: of tokens, those of the tasks beside included.
        beside: what goes in the same step already; None where nothing has been chosen, and the first goes in any case.
    """
    asking = [task for task in tasks if isinstance(task.request, Encode | Forward)]
    if limit is None:
        return asking
    fitting, first = [task for task in asking if task.decoding], beside is None
    going = [*(beside or ()), *fitting]
    left, chosen = limit - _tokens(going), {_work(_request(task)) for task in going}
    for task in asking:
        request = _request(task)
        if task.decoding:
            continue
        if _work(request) in chosen:  # it costs nothing more
            fitting.append(task)
        elif first or request.tokens <= left:
            fitting.append(task)
            chosen.add(_work(request))
            first, left = False, left - request.tokens
    return fitting


def _groups(tasks: Sequence[Task[Any]]) -> list[list[Task[Any]]]:
    """Tasks whose requests the model takes together, in their order."""
    groups: dict[Hashable, list[Task[Any]]] = {}
    for task in tasks:
        request = _request(task)
        groups.setdefault((type(request), request.group), []).append(task)
    return list(groups.values())


def _run(group: Sequence[Task[Any]]) -> None:
    """Gives each task what the network makes of its request: where memory runs out for all of them, one by one."""
    try:
        made = _timed([_request(task) for task in group])
    except Exception as error:
        if len(group) == 1 or not lacks_memory(error):
            for task in group:
                task.fail(error)
            return
    else:
        for task, part in zip(group, made, strict=True):
            task.give(part)
        return
    # Not where the error is handled: it holds all that had been computed until then.
    torch.cuda.empty_cache()
    for task in group:
        _run([task])


def _timed(requests: Sequence[Request]) -> Sequence[Any]:
    """What the network makes of requests, to each of which a share of the time is written, by its tokens."""
    start = time.perf_counter()
    try:
        return requests[0].run(requests)
    finally:
        taken, tokens = time.perf_counter() - start, sum(request.tokens for request in requests)
        for request in requests:
            request.stopwatch.add(request.phase, taken * request.tokens / tokens)


def _request(task: Task[Any]) -> Request:
    assert task.request is not None, "only tasks that wait are run"
    return task.request
