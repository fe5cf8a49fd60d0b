"""Two processes that train together end with the same weights, each with a whole model or with half of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

HERE = Path(__file__).parent
PROGRAM = """
import json, os, sys
from pathlib import Path
import torch
from sharded_on_cpus import allow_sharding_on_cpus
from tiny_models import byte_tokenizer, tiny_model
from toy import CONFIG, Early
from memory_r1.train.config import changed
from memory_r1.train.learn import learn, prepared
from memory_r1.train.runs import Run
from memory_r1.train.sharding import is_main, learned_weights, main_first

allow_sharding_on_cpus()
folder = Path(sys.argv[1])
config = changed(CONFIG, {"groups": 4, **json.loads(sys.argv[2])})
run = Run(folder / "run")
with main_first():
    run.claim(config, {})
model, critic = prepared(tiny_model(), config)
learn(config, run, model, byte_tokenizer(), Early(flat=(0, 1), uneven=True), {}, critic=critic, use_cpu=True)
learned = {}
for name, part in (("model", model), ("critic", critic)):
    if part is not None:
        learned |= {f"{name}.{weight}": value for weight, value in learned_weights(part).items()}
torch.save(learned, folder / f"{os.environ['RANK']}.pt")
"""
SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
}


def together(command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(HERE), *sys.path])
    launched = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launched, "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0", *command],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def trained(folder: Path, settings: Mapping[str, Any], environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """The weights that each of two processes ended with."""
    folder.mkdir(exist_ok=True)
    program = folder / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    together([str(program), str(folder), json.dumps(settings)], environment)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("algo", ["grpo", "ppo"])
def test_both_processes_learn_the_same_from_a_whole_model_each_and_from_half_of_one(tmp_path: Path, algo: str) -> None:
    """Two of the four samples teach nothing: a process may skip a group while the other learns from one.

    All have other numbers of prompts: a process may go through the model more often than the other.
    """
    settings = {"algo": algo, "steps": 3}
    one, other = trained(tmp_path / "whole", settings, {})
    assert any(tensor.any() for name, tensor in one.items() if "lora_B" in name)
    assert same(one, other)
    half, other_half = trained(tmp_path / "half", settings, SHARDED)
    assert same(half, other_half)
    assert half.keys() == one.keys()
    for name in one:  # sums in another order
        torch.testing.assert_close(half[name], one[name], atol=2e-3, rtol=1e-3)


def test_a_model_that_is_shared_out_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path: Path) -> None:
    whole_run, _ = trained(tmp_path / "whole", {"algo": "ppo", "steps": 4}, SHARDED)
    trained(tmp_path / "resumed", {"algo": "ppo", "steps": 2}, SHARDED)
    resumed, _ = trained(tmp_path / "resumed", {"algo": "ppo", "steps": 4}, SHARDED)
    assert any("critic" in name for name in resumed)
    assert same(resumed, whole_run)
    adapters = [(tmp_path / name / "run" / "adapter" / "adapter_model.safetensors") for name in ("whole", "resumed")]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()
