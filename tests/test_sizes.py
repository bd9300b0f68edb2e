"""What memories are said to cost, against what streams of real models allocate."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import infinipot
from infinipot import policies
from infinipot.cli import main
from infinipot.models import ADAPTERS
from infinipot.sizes import PUBLISHED, published_sizes, size_of
from perf.shapes import SHAPES
from support.adapters import BUILDERS

CAPS = (400, 700)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "qwen3_5", "internvl", "qwen2_5_omni_thinker"])
@pytest.mark.parametrize("policy", ["infinipot-v", "full", "merged"])
def test_a_size_told_of_a_configuration_is_what_a_stream_allocates(tmp_path: Path, name: str, policy: str) -> None:
    network, processor = BUILDERS[name]()
    network.config.save_pretrained(tmp_path)
    told = size_of(str(tmp_path), CAPS, policies.make(policy))
    adapter = next(adapter for adapter in ADAPTERS if network.config.model_type in adapter.model_types)
    model = infinipot.Model(name, adapter(network, processor))
    assert told.memories == tuple(model.stream_bytes(cap, policy) for cap in CAPS)
    assert told.weights == sum(weight.nbytes for weight in network.parameters())


@pytest.mark.parametrize("named", ["dtype", "torch_dtype"])
def test_the_type_of_weights_may_stand_with_the_decoder_alone(tmp_path: Path, named: str) -> None:
    network, _ = BUILDERS["qwen3_vl"]()
    config = network.config.to_dict()
    config.pop("dtype", None)
    config["text_config"].pop("dtype", None)
    config["text_config"][named] = "bfloat16"  # as in the configurations of Qwen3-VL on the hub
    (tmp_path / "config.json").write_text(json.dumps(config))
    told = size_of(str(tmp_path), CAPS, policies.make("full"))
    assert told.weights == sum(2 * weight.numel() for weight in network.parameters())


def test_quantized_weights_are_not_counted_as_if_they_were_not(tmp_path: Path) -> None:
    network, _ = BUILDERS["qwen2_5_vl"]()
    quantized = network.config.to_dict() | {"quantization_config": {"quant_method": "awq", "bits": 4}}
    (tmp_path / "config.json").write_text(json.dumps(quantized))
    assert size_of(str(tmp_path), CAPS, policies.make("full")).weights is None
    told = CliRunner().invoke(main, ["models", "--memory", "400", "--model", str(tmp_path)])
    assert told.stdout.rstrip().endswith("quantized")


@pytest.mark.parametrize(
    ("shape", "name"),
    [("qwen2.5-vl-7b", "Qwen/Qwen2.5-VL-7B-Instruct"), ("qwen3-vl-8b", "Qwen/Qwen3-VL-8B-Instruct")],
)
def test_published_sizes_are_those_of_the_published_shapes(shape: str, name: str) -> None:
    policy = policies.make("infinipot-v")
    told = next(size for size in published_sizes(CAPS, policy) if size.name == name)
    model = SHAPES[shape]("meta", torch.bfloat16)
    assert told.memories == tuple(model.stream_bytes(cap) for cap in CAPS)


def test_the_command_tells_every_published_size_and_refuses_what_is_no_cap() -> None:
    def run(*args: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["models", *args])
        return result.exit_code, result.output

    code, table = run("--memory", "4096, 8192")
    assert code == 0
    assert all(each.name in table for each in PUBLISHED)
    listed = json.loads(run("--memory", "4096", "--json")[1])
    assert [size["name"] for size in listed] == [each.name for each in PUBLISHED]
    assert all(size["memories"]["4096"] >= 4096 * size["token"] for size in listed)
    for args in (("--memory", "4k"), ("--memory", "0"), ("--model", "embedded"), ("--policy", "uniform")):
        assert run(*args)[0] == 2
    assert run("--memory", "4096", "--model", "no/such/folder")[0] == 1
