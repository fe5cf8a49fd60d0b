"""`kill -9` in the middle of a run, and the same run again: bit for bit what it would have been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from safetensors.torch import load_file
from toy import CONFIG, train

from memory_r1.train.runs import Run

PROGRAM = """
import sys, time
from pathlib import Path
from test_kill import LONG
from toy import train

train(Path(sys.argv[1]), LONG, progress=lambda step, _: time.sleep(0.1))
"""
LONG = replace(CONFIG, algo="ppo", steps=24)


def timeless(run: Run) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if "time" not in k and "second" not in k} for row in run.metrics()]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_run_that_was_killed_with_9_ends_as_one_that_was_not(tmp_path: Path) -> None:
    program, folder = tmp_path / "program.py", tmp_path / "killed"
    program.write_text(PROGRAM, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, str(program), str(folder)], env=environment, stderr=log, stdout=log)
        metrics, deadline = folder / "metrics.jsonl", time.monotonic() + 300
        while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 7):
            assert process.poll() is None, (tmp_path / "log").read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert len(Run(folder).metrics()) < LONG.steps
    assert not Run(folder).adapter.exists()
    killed, whole = train(folder, LONG), train(tmp_path / "whole", LONG)
    one, other = (load_file(run.adapter / "adapter_model.safetensors") for run in (killed, whole))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    critics = [
        torch.load(run.checkpoints / "checkpoint-24" / "critic.pt", weights_only=True) for run in (killed, whole)
    ]
    assert all(torch.equal(critics[0]["critic"][name], critics[1]["critic"][name]) for name in critics[0]["critic"])
    assert timeless(killed) == timeless(whole)
    assert (folder / "transcripts.jsonl").read_bytes() == (whole.folder / "transcripts.jsonl").read_bytes()
