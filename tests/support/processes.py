"""What the tests of tensor parallelism run in each of two processes, and once in one."""

import atexit
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import infinipot
from infinipot import Frame, Model, ModelError
from infinipot.cli import main
from support.memories import slots
from support.models import pictures

POLICIES = ("infinipot-v", "random")
FRAMES = {"qwen2_5_vl": 130, "qwen3_vl": 40}  # enough to compress and to re-base; without captions, and with
QUESTIONS = ("What colour was the circle?", "Which shape was red?", "How many shapes have appeared so far?")


def play(model: Model, policy: str, frames: int) -> dict[str, Any]:
    """Watches, asks and remembers: all logits, everything that was said, and where each held token comes from."""
    adapter, said, logits = model.adapter, [], []
    forward, detokenize = adapter.forward, adapter.detokenize
    adapter.forward = lambda *given: logits.append(forward(*given)[0]) or logits[-1][None]
    adapter.detokenize = lambda ids: said.append(list(ids)) or detokenize(ids)
    with model.stream(memory=320, policy=policy, reserve=56, dialogue=60, block=2) as stream:
        for number, image in enumerate(pictures(frames)):
            stream.watch(Frame(image, 4.0 * number))
            if number % (frames // 3) == 9:
                stream.ask(QUESTIONS[number % 3], max_new_tokens=3, remember=number > 15)
        memory, stats = stream._state.memory, stream.stats()
        layers = [slots(memory, layer) for layer in range(memory.layers)]
        origins = torch.stack([torch.stack([own.patch, own.cell, own.temporal, own.base], -1) for own in layers])
    del adapter.forward, adapter.detokenize
    counts = {"compressions": stats.compressions, "rebases": stats.rebases, "next": memory.cursor.next}
    return {
        "said": said,
        "logits": torch.stack(logits),
        "origins": origins,
        "captions": sorted(memory.state.captions),
        **counts,
    }


def run(folder: Path) -> None:
    """Plays every checkpoint in a folder; what came out goes to a file there, one a process."""
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for checkpoint in sorted(path for path in folder.iterdir() if path.is_dir()):
        if checkpoint.name == "uneven":
            try:
                infinipot.load(checkpoint, tp_plan="auto")
            except ModelError as error:
                results["uneven"] = str(error)
            continue
        model = infinipot.load(checkpoint, tp_plan="auto")
        for policy in POLICIES:
            results[f"{checkpoint.name} {policy}"] = play(model, policy, FRAMES[checkpoint.name])
    torch.save(results, folder / f"process-{os.environ['RANK']}.pt")
    video = ["watch", str(folder / "video.mp4"), "--model", "embedded", "--tp-plan", "auto", "--json"]
    main([*video, "--ask", QUESTIONS[0], "--no-progress"], standalone_mode=False)


def tell_of_group(folder: Path) -> None:
    """Writes down whether a process group is left at the very end."""
    (folder / f"left-{os.environ['RANK']}").write_text(str(torch.distributed.is_initialized()))


def begin(folder: Path) -> None:
    """One of the processes, from its start to its end, in place of what it would be a copy of."""
    atexit._clear()
    atexit.register(tell_of_group, folder)  # called after whatever is registered later
    with (folder / f"printed-{os.environ['RANK']}").open("w") as sys.stdout:
        run(folder)
        atexit._run_exitfuncs()


def launch_two(folder: Path) -> NoReturn:
    """In a process that was forked: what torchrun does, but that its two processes begin as copies of this one.

    They need not import anything, which is most of what two that begin from nothing take.
    """
    failed = 1
    try:
        signal.alarm(300)  # rather than to hang
        sys.stderr = (folder / "errors").open("w")
        os.dup2(sys.stderr.fileno(), 2)
        options: dict[str, Any] = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": "two"}
        options |= {"start_method": "fork", "max_restarts": 0, "monitor_interval": 0.05}
        elastic_launch(LaunchConfig(1, 1, nproc_per_node=2, **options), begin)(folder)
        failed = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(failed)
