"""`memory-r1 bench run`, `judge` and `publish`, whole, on a toy data set: a scripted model behind a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from memory_r1.adapters import shipped
from memory_r1.bench.endpoint import Endpoint
from memory_r1.cli import main
from memory_r1.cli.bench_run import Bars
from memory_r1.flow import Usage
from memory_r1.llm.gguf import adapter_name
from memory_r1.testing import HashEmbedder
from memory_r1.weights import CATALOGUE, DEFAULT

TOY = {
    "name": "toy",
    "dialogues": [
        {
            "id": "d1",
            "speakers": ["Ann", "Bo"],
            "sessions": [
                {"time": "2023-05-08", "turns": [{"speaker": "Ann", "text": "I adopted a dog, Rex.", "id": "1:1"}]},
                {"time": "2023-06-01", "turns": [{"speaker": "Bo", "text": "I moved to Bern.", "id": "2:1"}]},
            ],
            "questions": [
                {
                    "question": "Which dog did Ann adopt?",
                    "answer": "Rex",
                    "category": "single-hop",
                    "evidence": ["1:1"],
                },
                {"question": "Which cat did Ann adopt?", "answer": None, "evidence": ["1:1"]},
            ],
        }
    ],
}


class Model:
    """Extracts the turn as it is, adds everything, answers Rex where a dog is asked for, and grades all as right."""

    def __init__(self) -> None:
        self.calls = 0

    def chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.calls += 1
        said = body["messages"][-1]["content"]
        if "Reference answer" in said:
            text = '{"reason": "the same", "correct": true}'
        elif "Question:" in said:
            text = (
                '{"keep": [1], "answer": "Rex"}'
                if "dog" in said.rpartition("Question:")[2]
                else '{"answer": "unknown"}'
            )
        elif "Memories" in said:
            text = '{"operation": "ADD"}'
        else:
            text = json.dumps({"facts": [said.rpartition(": ")[2]]})
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return {"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def server(model: Model) -> Iterator[str]:
    with Endpoint(model, HashEmbedder(), "toy-model") as endpoint:
        yield endpoint.base_url


@pytest.mark.models
@pytest.mark.usefixtures("needs_e5_small")
def test_a_run_from_the_command_line_to_what_is_published(model: Model, server: str, tmp_path: Path) -> None:
    data = tmp_path / "toy.json"
    data.write_text(json.dumps(TOY), encoding="utf-8")
    runs = tmp_path / "runs"

    def memory_r1(*words: str) -> str:
        result = CliRunner().invoke(main, ["bench", *words])
        assert result.exit_code == 0, result.output
        return result.stdout

    common = ("--data", f"json:{data}", "--base-url", server, "--model", "toy-model")
    run = ("run", "memory-r1", "rag-hybrid-turns", *common, "--k", "5", "--out", str(runs))
    said = memory_r1(*run)
    assert said.splitlines()[0].startswith("memory-r1: 1 questions, f1 100.0 (100.0-100.0)")
    assert "abstained 100 %" in said
    calls = model.calls
    assert memory_r1(*run) == said
    assert model.calls == calls

    folders = [str(runs / name) for name in ("memory-r1", "rag-hybrid-turns")]
    judged = json.loads(memory_r1("judge", *folders, *common[2:], "--reading", "strict", "--json"))
    assert judged[folders[0]]["scores"]["metrics"]["judge_strict"]["micro"] == 1.0
    assert judged[folders[0]]["judge"]["judge_strict"].startswith("toy-model, judge_strict@")
    memory_r1("publish", *folders, "--to", str(tmp_path / "results"))
    published = (tmp_path / "results" / "memory-r1" / "records.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line)["question"] for line in published.splitlines()] == ["d1/0", "d1/1"]
    assert "adopt" not in published


@pytest.mark.models
@pytest.mark.usefixtures("needs_e5_small", "needs_smollm2")
def test_a_result_names_the_adapters_that_played_and_untrained_there_are_none(tmp_path: Path) -> None:
    data = tmp_path / "toy.json"
    data.write_text(json.dumps(TOY), encoding="utf-8")
    ours = [f"{step}={adapter_name(file)}" for step, file in shipped(CATALOGUE[DEFAULT]).items()]
    for more, adapters in (([], ours), (["--untrained"], [])):
        out = tmp_path / f"runs{len(more)}"
        words = ["bench", "run", "no-memory", "--data", f"json:{data}", "--context", "1024", "--out", str(out), *more]
        assert CliRunner().invoke(main, words).exit_code == 0
        config = json.loads((out / "no-memory" / "result.json").read_text(encoding="utf-8"))["config"]
        assert (config["model"], config["about"]) == (
            "SmolLM2-135M-Instruct.Q4_1",
            {"adapters": adapters, "context_tokens": 1024},
        )


def test_what_a_system_spends_is_told_while_it_reads() -> None:
    usage = {"answer": Usage(calls=1, prompt_tokens=900, completion_tokens=100)}
    bars = Bars(lambda: usage)
    assert bars.spent() is None  # of an earlier system
    usage |= {"chat": Usage(calls=1, prompt_tokens=20_000, completion_tokens=4_000)}
    assert bars.spent() == "24k tokens"


@pytest.mark.models
@pytest.mark.usefixtures("needs_e5_small")
def test_a_system_that_is_not_there_is_named_with_those_that_are(server: str, tmp_path: Path) -> None:
    data = tmp_path / "toy.json"
    data.write_text(json.dumps(TOY), encoding="utf-8")
    words = [
        "bench",
        "run",
        "memo",
        "--data",
        f"json:{data}",
        "--base-url",
        server,
        "--model",
        "x",
        "--out",
        str(tmp_path),
    ]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert (
        "no system is called 'memo'; there are memory-r1, memory-r1-turns, memory-r1-adds, no-memory" in result.stderr
    )
