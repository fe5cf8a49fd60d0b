"""Two processes that train together end with the same weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
from tiny_models import byte_tokenizer, tiny_model
from toy import CONFIG, Early
from memory_r1.train.learn import learn, prepared
from memory_r1.train.runs import Run

folder, algo, rank = Path(sys.argv[1]), sys.argv[2], __import__("os").environ["RANK"]
config = replace(CONFIG, steps=3, groups=4, algo=algo)
run = Run(folder / "run")
if rank == "0":
    run.claim(config, {})
model, critic = prepared(tiny_model(), config)
learn(config, run, model, byte_tokenizer(), Early(flat=(0, 1), uneven=True), {}, critic=critic, use_cpu=True)
parts = [part for part in (model, critic) if part is not None]
named = [pair for part in parts for pair in part.named_parameters()]
learned = {name: parameter.detach() for name, parameter in named if parameter.requires_grad}
torch.save(learned, folder / f"{rank}.pt")
"""


@pytest.mark.parametrize("algo", ["grpo", "ppo"])
def test_both_processes_end_with_the_same_weights(tmp_path: Path, algo: str) -> None:
    """Two of the four samples teach nothing: a process may skip a group while the other learns from one.

    All have other numbers of prompts: a process may go through the model more often than the other.
    """
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, *sys.path]), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command = [*torchrun, "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0", str(program), str(tmp_path), algo]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert one.keys() == other.keys()
    assert any(tensor.any() for name, tensor in one.items() if "lora_B" in name)
    assert all(torch.equal(one[name], other[name]) for name in one)
