"""The only place that runs a network: for the tasks of one stream or of many, packed into one step.

A step begins tasks that have not begun, prepares the frames and encodes the patches that tasks wait for, those of one
size together, and runs the decoder once over the tokens of all tasks that fit, each attending to its own stream's
memory. Knows no stream: a task is work that asks for one thing after the other.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from infinipot.engine.requests import Encode, Forward, Prepare, Request
from infinipot.engine.task import Task
from infinipot.models import Adapter, Patch

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
    for group in _groups(_asking(waiting, Prepare), _processor):
        _run(group, _prepare)
    turn = _fitting(waiting, max_tokens)
    decoded, encoded = _asking(turn, Forward), _asking(turn, Encode)
    tokens = _tokens(turn)
    for group in _groups(encoded, _encoder):
        _run(group, _encode)
    further = _asking(_fitting(encoded, None if max_tokens is None else max_tokens - tokens, first=False), Forward)
    tokens += _tokens(further)
    for group in _groups([*decoded, *further], _decoder):
        _run(group, _forward)
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
    """Tokens of what tasks wait for."""
    return sum(_request(task).tokens for task in tasks)


def _fitting(tasks: Sequence[Task[Any]], limit: int | None, *, first: bool = True) -> list[Task[Any]]:
    """Those tasks that wait for the encoder or the decoder and go together: see `step`.

    Args:
        tasks: in their order.
        limit: of tokens.
        first: whether the first one goes in any case.
    """
    asking = [task for task in tasks if isinstance(task.request, Encode | Forward)]
    if limit is None:
        return asking
    fitting = [task for task in asking if task.decoding]
    left = limit - len(fitting)
    for task in asking:
        if not task.decoding and (first or _request(task).tokens <= left):
            fitting.append(task)
            first, left = False, left - _request(task).tokens
    return fitting


def _groups(tasks: Sequence[Task[Any]], key: Callable[[Task[Any]], Any]) -> list[list[Task[Any]]]:
    """Tasks that the network can run together."""
    return [list(group) for _, group in groupby(sorted(tasks, key=key), key)]


def _processor(task: Task[Any]) -> tuple[object, ...]:
    """What frames have in common that are prepared together."""
    request = cast(Prepare, task.request)
    return id(request.adapter), request.clips[0][0].size, request.pixels or ()


def _encoder(task: Task[Any]) -> tuple[object, ...]:
    """What patches have in common that are encoded together."""
    request = cast(Encode, task.request)
    patch = request.patches[0]
    return id(request.adapter), patch.rows, patch.columns, patch.steps, tuple(patch.pixels.shape)


def _decoder(task: Task[Any]) -> tuple[object, ...]:
    """What tokens have in common that are run over together; of layers with a state there is one for each stream."""
    request = cast(Forward, task.request)
    return id(request.adapter), 0 if request.adapter.packs else id(request)


def _run(tasks: Sequence[Task[Any]], run: Callable[[Sequence[Any]], Sequence[Any]]) -> None:
    """Gives each task what the network makes of its request: where memory runs out for all of them, one by one."""
    try:
        made = _timed([_request(task) for task in tasks], run)
    except torch.OutOfMemoryError as error:
        if len(tasks) == 1:
            tasks[0].fail(error)
            return
    except Exception as error:
        for task in tasks:
            task.fail(error)
        return
    else:
        for task, part in zip(tasks, made, strict=True):
            task.give(part)
        return
    # Not where the error is handled: it holds all that had been computed until then.
    torch.cuda.empty_cache()
    for task in tasks:
        _run([task], run)


def _timed(requests: Sequence[Request], run: Callable[[Sequence[Any]], Sequence[Any]]) -> Sequence[Any]:
    """What the network makes of requests, to each of which a share of the time is written, by its tokens."""
    start = time.perf_counter()
    try:
        return run(requests)
    finally:
        taken, tokens = time.perf_counter() - start, sum(request.tokens for request in requests)
        for request in requests:
            request.stopwatch.add(request.phase, taken * request.tokens / tokens)


def _prepare(requests: Sequence[Prepare]) -> Sequence[list[Patch]]:
    """The patches of each. Frames that several streams were given are prepared once, and make one patch."""
    first = requests[0]
    clips = {tuple(map(id, clip)): clip for request in requests for clip in request.clips}
    made = dict(zip(clips, first.adapter.prepare(list(clips.values()), first.pixels), strict=True))
    return [[made[tuple(map(id, clip))] for clip in request.clips] for request in requests]


def _encode(requests: Sequence[Encode]) -> Sequence[Tensor]:
    """The embeddings of each. What several streams see is encoded once."""
    patches = [patch for request in requests for patch in request.patches]
    seen = {id(patch.pixels): patch for patch in patches}
    encoded = requests[0].adapter.encode(list(seen.values()))
    if len(seen) < len(patches):
        parts = dict(zip(seen, encoded.split([patch.tokens for patch in seen.values()]), strict=True))
        encoded = torch.cat([parts[id(patch.pixels)] for patch in patches])
    return encoded.split([request.tokens for request in requests])


def _forward(requests: Sequence[Forward]) -> Sequence[Tensor]:
    """The logits after each. What is the same for several streams, up to what they hold, is run over once."""
    adapter, alike = requests[0].adapter, dict[object, list[Forward]]()
    for request in requests:
        alike.setdefault(request.step.prefixes, []).append(request)
    rows = _rows(adapter, [first for first, *_ in alike.values()])
    embeddings = rows[0] if len(rows) == 1 else adapter.join(rows)
    for first, *others in alike.values():
        first.step.followers[:] = [other.step for other in others]
    made = adapter.forward(embeddings, *(first.step for first, *_ in alike.values()))
    logits = dict(zip(alike, made.unbind(), strict=True))
    return [logits[request.step.prefixes] for request in requests]


def _rows(adapter: Adapter, requests: Sequence[Forward]) -> Sequence[Tensor]:
    """Embeddings of what is run over, those of ids made at once: in one piece where there is nothing else."""
    texts = [request.content for request in requests if not isinstance(request.content, Tensor)]
    if not texts:
        return [cast(Tensor, request.content) for request in requests]
    embedded = adapter.embed([token for text in texts for token in text])
    if len(texts) == len(requests):
        return [embedded]
    parts = iter(embedded.split([len(text) for text in texts]))
    return [request.content if isinstance(request.content, Tensor) else next(parts) for request in requests]


def _request(task: Task[Any]) -> Request:
    assert task.request is not None, "only tasks that wait are run"
    return task.request
