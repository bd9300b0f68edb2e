"""Tensor parallelism: two processes that share the heads of a model hold and say together what one does alone."""

import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

import infinipot
from infinipot import SettingError, embedded
from infinipot.config import LoadConfig
from infinipot.memory import ALONE, LayerShape, Memory, PositionRule, Rotary
from infinipot.policies import Policy
from infinipot.policies.scoring.ranking import highest
from infinipot.tokens import VideoTokens
from support.adapters import BUILDERS
from support.memories import slots, view
from support.models import pictures
from support.once import made_once
from support.processes import FRAMES, POLICIES, QUESTIONS, launch_two, play
from support.video_files import encode


def run_two(folder: Path) -> None:
    """Writes checkpoints, and what two processes make of them."""
    for name in FRAMES:
        network, processor = BUILDERS[name]()
        network.config.get_text_config().max_position_embeddings = 432  # soon left, so that streams re-base
        network.save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
    shutil.copytree(embedded.path(), folder / "uneven")
    config = json.loads((folder / "uneven" / "config.json").read_text())
    config["text_config"]["num_key_value_heads"] = 1
    (folder / "uneven" / "config.json").write_text(json.dumps(config))
    encode(folder / "video.mp4", pictures(20), rate=2)
    child = os.fork()
    if not child:
        launch_two(folder)
    assert os.waitpid(child, 0)[1] == 0, (folder / "errors").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "parallel", run_two)


@pytest.fixture(scope="module")
def processes(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"process-{number}.pt") for number in range(2)]


def test_processes_leave_their_group_before_python_ends(folder: Path) -> None:
    assert [(folder / f"left-{number}").read_text() for number in range(2)] == ["False", "False"]


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", FRAMES)
def test_two_processes_hold_and_say_what_one_does(folder, processes, name, policy):
    alone = play(infinipot.load(folder / name, device="cpu"), policy, FRAMES[name])
    assert alone["compressions"] > 3
    assert alone["rebases"] > 0
    assert bool(alone["captions"]) == (name == "qwen3_vl")
    first, second = (results[f"{name} {policy}"] for results in processes)
    # [layers, kv_heads, held, 4]: patch, cell and positions of every token that a head holds
    torch.testing.assert_close(first.pop("logits"), expected := alone.pop("logits"), atol=1e-4, rtol=0)
    torch.testing.assert_close(second.pop("logits"), expected, atol=1e-4, rtol=0)
    assert torch.equal(torch.cat([first.pop("origins"), second.pop("origins")], 1), alone.pop("origins"))
    assert first == second == alone


@dataclass(frozen=True)
class Parity(Policy):
    """Each head wants patches of its own: even ones, or odd ones."""

    name: ClassVar[str] = "parity"

    def select(self, tokens: VideoTokens, budget: int) -> torch.Tensor:
        head = torch.tensor(tokens.head).unsqueeze(1)
        return highest((tokens.patch % 2 == head % 2).float(), budget, tokens.arrival)


class Peer:
    """One of two that hold one head each, in threads of one process."""

    def __init__(self, number: int, table: list[torch.Tensor], barrier: threading.Barrier) -> None:
        self.number, self.table, self.barrier = number, table, barrier

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        self.table[self.number] = tensor
        self.barrier.wait()
        gathered = torch.stack(self.table)
        self.barrier.wait()
        return gathered


def compressed(heads: int, tp_group: Any) -> Memory:
    shape = LayerShape(heads, 4, torch.device("cpu"), torch.float32)
    memory = Memory(400, [shape], Rotary(torch.ones(2), axes=[0, 1]), PositionRule(), tp_group=tp_group)
    grid = memory.use_grid(8, 8)
    with memory.transaction() as transaction:
        for time in range(4):
            transaction.video(grid, [time], before=2)
        memory.step(transaction).store(0, *torch.zeros(2, heads, transaction.tokens, 4))
        memory.commit(transaction, policy=Parity(), budget_for=lambda text, video: 150)
    return memory


def test_a_caption_stays_in_all_processes_if_one_holds_cells_of_its_patch():
    table, barrier = [torch.empty(0)] * 2, threading.Barrier(2, timeout=30)
    with ThreadPoolExecutor(2) as threads:
        peers = list(threads.map(lambda number: compressed(1, Peer(number, table, barrier)), range(2)))
    alone = compressed(2, ALONE)
    cells = [set(view(peer).patch.unique().tolist()) for peer in peers]
    assert cells == [{0, 2, 3}, {1, 2, 3}]
    assert sorted(set(alone.state.captions)) == [0, 1, 2, 3]
    assert [peer.state.captions for peer in peers] == [alone.state.captions] * 2
    held = [slots(memory) for memory in (*peers, alone)]
    for name in ("patch", "cell", "temporal", "base"):
        first, second, both = (getattr(own, name) for own in held)
        assert torch.equal(torch.cat([first, second]), both)


def test_heads_that_processes_cannot_share_are_an_error_before_any_work(processes):
    for results in processes:
        assert "has 1 KV heads a layer, which 2 processes cannot share: start one of 1" in results["uneven"]


def test_of_several_processes_one_prints(folder):
    alone = infinipot.load("embedded")
    with alone.stream() as stream, infinipot.open_video(folder / "video.mp4") as video:
        for frame in video:
            stream.watch(frame)
        answer = stream.ask(QUESTIONS[0])
    printed = [line for number in range(2) for line in (folder / f"printed-{number}").read_text().splitlines()]
    records = [json.loads(line) for line in printed]
    assert [record["type"] for record in records] == ["answer", "summary"]
    assert records[0]["answer"] == answer


@pytest.mark.parametrize("policy", ["fastv:question=What?", "merged:of=[fastv:question=What?]", "adakv"])
def test_a_policy_that_compares_heads_is_refused_where_processes_share_them(policy, qwen, monkeypatch):
    qwen.stream(memory=512, policy=policy).close()
    group = SimpleNamespace(count=2, number=0)
    with monkeypatch.context() as patch:
        patch.setattr(qwen.adapter, "tp_group", group)
        with pytest.raises(SettingError, match="compares the heads of a layer, which 2 processes share"):
            qwen.stream(memory=512, policy=policy)


def test_processes_are_torchruns_and_choose_their_devices(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(SettingError, match="torchrun --nproc-per-node"):
        infinipot.load("embedded", tp_plan="auto")
    with pytest.raises(SettingError, match="leave device"):
        LoadConfig(tp_plan="auto", device_map="auto")
    with pytest.raises(SettingError, match="only 'auto' is possible"):
        LoadConfig(tp_plan="rowwise")


def test_a_process_alone_loads_as_ever(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    model = infinipot.load("embedded", tp_plan="auto")
    assert model.adapter.tp_group == ALONE
    shape = model.adapter.layer_shapes()[0]
    assert isinstance(shape, LayerShape)
    assert shape.kv_heads == 2
