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
from memory_r1.train.sft import Pair, clone
from memory_r1.train.sharding import is_main, main_first, whole
from memory_r1.types import Message, Prompt

allow_sharding_on_cpus()
folder, cases = Path(sys.argv[1]), json.loads(sys.argv[2])
pairs = [Pair(Prompt("manage", (Message("user", f"{n}"),), max_tokens=8), "a" * n) for n in range(1, 17)]
for name, (settings, task) in cases.items():
    config, run = changed(CONFIG, {"groups": 4, "steps": 3, **settings}), Run(folder / name)
    with main_first():
        if is_main():
            run.claim(config, {})
    model, critic = prepared(tiny_model(), config)
    if config.algo == "sft":
        clone(config, run, model, byte_tokenizer(), pairs, use_cpu=True)
    else:
        learn(config, run, model, byte_tokenizer(), Early(**task), {}, critic=critic, use_cpu=True)
    parts = {"model": model, "critic": critic}
    weights = {f"{part}.{n}": p for part, one in parts.items() if one is not None for n, p in one.named_parameters()}
    learned = {name: whole(weight.detach()) for name, weight in weights.items() if weight.requires_grad}
    torch.save(learned, folder / f"{name}-{os.environ['RANK']}.pt")
"""
SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
}
# Two of the four samples teach nothing: a process may skip a group while the other learns from one. All have other
# numbers of prompts: a process may go through the model more often than the other.
UNEVEN = {"flat": [0, 1], "uneven": True}
CASES: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "grpo": ({"algo": "grpo", "kl": 0.01}, UNEVEN),
    "ppo": ({"algo": "ppo"}, UNEVEN),
    "ppo-silent": ({"algo": "ppo"}, {"silent": [1, 2]}),  # of which one process has both at first
    "ppo-of-the-whole-model": ({"algo": "ppo", "kl": 0.0, "lora": {"rank": 0}, "learning_rate": 3e-3}, UNEVEN),
    "ppo-in-bfloat16": ({"algo": "ppo", "bf16": True}, UNEVEN),
    "sft": ({"algo": "sft", "groups": 2}, {}),
}


def together(folder: Path, cases: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """By case the weights that each of two processes ended with."""
    folder.mkdir(exist_ok=True)
    program = folder / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    launched = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv_backend", "c10d"]
    done = subprocess.run(
        [*launched, "--rdzv_endpoint", "localhost:0", str(program), str(folder), json.dumps(cases)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return {name: [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in range(2)] for name in cases}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    return together(tmp_path_factory.mktemp("whole"), CASES, {})


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    return together(tmp_path_factory.mktemp("halves"), CASES, SHARDED)


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("case", CASES)
def test_both_processes_end_with_the_same_weights(whole: dict[str, list[dict[str, Any]]], case: str) -> None:
    one, other = whole[case]
    assert same(one, other)
    assert any(tensor.any() for name, tensor in one.items() if "lora_B" in name or "lora" not in name)


@pytest.mark.parametrize("case", CASES)
def test_a_model_that_is_shared_out_learns_what_a_whole_one_does(
    whole: dict[str, list[dict[str, Any]]], halves: dict[str, list[dict[str, Any]]], case: str
) -> None:
    one, other = halves[case]
    assert same(one, other)
    expected = whole[case][0]
    assert one.keys() == expected.keys()
    if case != "ppo-in-bfloat16":  # where replies are sampled by other roundings, and so are others
        for name in one:  # sums in another order
            torch.testing.assert_close(one[name], expected[name], atol=2e-3, rtol=1e-3)


def test_a_model_that_is_shared_out_goes_on_from_its_checkpoint_to_the_same_bits(
    halves: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    settings, task = CASES["ppo"]
    together(tmp_path / "resumed", {"ppo": ({**settings, "steps": 2}, task)}, SHARDED)
    resumed = together(tmp_path / "resumed", {"ppo": (settings, task)}, SHARDED)["ppo"]
    assert any("critic" in name for name in resumed[0])
    assert same(resumed[0], halves["ppo"][0])


def test_ways_of_sharing_out_that_training_does_not_know_are_refused(tmp_path: Path) -> None:
    asked = {**SHARDED, "FSDP_OFFLOAD_PARAMS": "true", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}
    with pytest.raises(
        AssertionError, match="offload_params must be false, and fsdp_cpu_ram_efficient_loading must be"
    ):
        together(tmp_path, {"sft": CASES["sft"]}, asked)
