"""`memory-r1 train export` and `train parity`, on a tiny model."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from memory_r1.cli.output import operation_lines
from memory_r1.flow import run
from memory_r1.llm.embedded import EmbeddedLLM
from memory_r1.llm.gguf import adapter_name
from memory_r1.manager import decide_and_apply
from memory_r1.memory import Memory
from memory_r1.results import operation_dict
from memory_r1.testing import HashEmbedder
from memory_r1.types import Fact, Message, Prompt, Scope, Turn
from memory_r1.weights import find

torch = pytest.importorskip("torch")
for package in ("transformers", "peft", "gguf", "safetensors"):
    pytest.importorskip(package)

import tiny
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer

from memory_r1.cli import main
from memory_r1.train.base import load_base, trainable
from memory_r1.train.config import TrainConfig
from memory_r1.train.export import to_gguf
from memory_r1.train.material import product_prompts
from memory_r1.train.policy import chat_ids
from memory_r1.train.runs import Run

DIALOGUE = {
    "id": "d1",
    "speakers": ["Ann", "Bo"],
    "sessions": [{"time": "2023-05-08", "turns": [{"speaker": "Ann", "text": "I adopted a dog, Rex.", "id": "1:1"}]}],
    "questions": [
        {"question": "Which dog did Ann adopt?", "answer": "Rex", "category": "single-hop", "evidence": ["1:1"]},
        {"question": "Which cat did Ann adopt?", "answer": None, "evidence": ["1:1"]},
    ],
}


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, Path]:
    """A tiny model and an adapter of it, which does nothing yet."""
    base = tiny.write_gguf(tiny.model("llama"), tmp_path / "base.gguf")
    model, _ = load_base(base, cache=tmp_path)
    get_peft_model(model, LoraConfig(r=4, target_modules="all-linear")).save_pretrained(tmp_path / "adapter")
    return base, tmp_path / "adapter"


def test_export_writes_a_file_that_loads_and_says_how_to_use_it(trained: tuple[Path, Path]) -> None:
    base, adapter = trained
    done = CliRunner().invoke(main, ["train", "export", str(adapter), "--base", str(base)])
    assert (done.exit_code, done.output) == (
        0,
        f"{adapter}/adapter.gguf: 0.0 MB. Use it: --adapter manage={adapter}/adapter.gguf (or extract, answer)\n",
    )
    EmbeddedLLM(base, adapters={"manage": adapter / "adapter.gguf"}, context_tokens=64).close()


def test_the_log_tells_which_adapter_decided(trained: tuple[Path, Path], tmp_path: Path) -> None:
    base, adapter = trained
    done = CliRunner().invoke(main, ["train", "export", str(adapter), "--base", str(base), "--name", "my-manager"])
    assert done.exit_code == 0
    llm = EmbeddedLLM(base, adapters={"manage": adapter / "adapter.gguf"}, context_tokens=4096)
    with llm, Memory(tmp_path / "memory.db", llm=llm, embedder=HashEmbedder()) as memory:
        memory.add("Ann has a dog.", user_id="me", infer=False)
        scope, fact = Scope(user_id="me"), Fact("Ann has a dog called Rex.", "user")
        logged = run(decide_and_apply(fact, Turn("user", fact.text), memory.bank, scope, k=3), memory.llm)
    how = logged.provenance
    assert (how.model, how.adapter) == ("base", adapter_name(adapter / "adapter.gguf"))
    assert re.fullmatch("my-manager [0-9a-f]{12}", str(how.adapter))
    lines = list(operation_lines(operation_dict(logged)))
    assert f"base with {how.adapter}" in lines[0]


def test_a_runs_folder_is_exported_by_the_model_that_its_settings_name(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    base, adapter = trained
    run = Run(tmp_path / "my-run")
    run.claim(TrainConfig(model=str(base)), {})
    shutil.copytree(adapter, run.adapter)
    shutil.copytree(adapter, run.checkpoints / "checkpoint-10")
    for given, folder in (
        (run.folder, run.adapter),
        (run.checkpoints / "checkpoint-10", run.checkpoints / "checkpoint-10"),
    ):
        done = CliRunner().invoke(main, ["train", "export", str(given)])
        assert done.exit_code == 0, done.output
        assert (folder / "adapter.gguf").is_file()
    assert adapter_name(run.adapter / "adapter.gguf").startswith("my-run ")


def test_an_adapter_whose_base_is_not_known_or_no_file_is_refused_with_the_remedy(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    _, adapter = trained
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")  # of a model, and of no run
    outside = CliRunner().invoke(main, ["train", "export", str(adapter)])
    assert outside.output == (
        f"Error: {adapter} lies in no run that says what it was trained from: give its GGUF model as --base\n"
    )
    run = Run(tmp_path / "run")
    run.claim(TrainConfig(model="Qwen/Qwen2.5-3B-Instruct"), {})
    shutil.copytree(adapter, run.adapter)
    hub = CliRunner().invoke(main, ["train", "export", str(run.folder)])
    assert hub.exit_code == 1
    assert hub.output.startswith(
        "Error: no model 'Qwen/Qwen2.5-3B-Instruct': give a GGUF file that is there, or one of "
    )
    assert hub.output.endswith("; give as --base the GGUF file of the model that the adapter was trained from\n")


@pytest.mark.models
@pytest.mark.usefixtures("needs_e5_small")
def test_evaluate_says_which_adapters_played(trained: tuple[Path, Path], tmp_path: Path) -> None:
    base, adapter = trained
    file = to_gguf(adapter, base, tmp_path / "manager.gguf", name="my-manager")
    graded = ["train", "evaluate", "--model", str(base), "--step", "manage", "--dialogues", "1", "--limit", "1"]
    for more, adapters in ((["--adapter", f"manage={file}"], [f"manage={adapter_name(file)}"]), ([], [])):
        done = CliRunner().invoke(main, [*graded, *more, "--out", str(tmp_path / "graded.json")])
        assert done.exit_code == 0, done.output
        assert json.loads((tmp_path / "graded.json").read_text(encoding="utf-8"))["adapters"] == adapters


def test_an_error_is_one_line(trained: tuple[Path, Path]) -> None:
    base, adapter = trained
    (adapter / "adapter_config.json").unlink()
    done = CliRunner().invoke(main, ["train", "export", str(adapter), "--base", str(base)])
    assert done.exit_code == 1
    assert done.output == (
        f"Error: {adapter} holds no PEFT adapter: there is no adapter_config.json in it; "
        "give a run's folder, or the adapter/ in it, which a run has when it has ended\n"
    )


def test_parity_shows_the_figures_and_writes_every_reply(trained: tuple[Path, Path], tmp_path: Path) -> None:
    base, adapter = trained
    out = tmp_path / "parity.json"
    arguments = ["--base", str(base), "--prompts", "1", "--step", "manage", "--step", "answer", "--out", str(out)]
    environment = {"MEMORY_R1_MODELS": str(tmp_path)}
    done = CliRunner().invoke(main, ["train", "parity", str(adapter), *arguments, "--json"], env=environment)
    assert done.exit_code == 0
    written = json.loads(out.read_text(encoding="utf-8"))
    assert json.loads(done.stdout) == written["steps"]
    assert {step: (f["prompts"], f["same_prompt"], f["readable"]) for step, f in written["steps"].items()} == {
        "manage": (1, 1.0, 0.0),
        "answer": (1, 1.0, 0.0),
    }
    assert [reply["step"] for reply in written["replies"]] == ["manage", "answer"]
    assert written["base"] == "base.gguf"


@pytest.mark.models
@pytest.mark.usefixtures("needs_smollm2")
def test_both_runtimes_cut_prompts_alike_for_the_real_model() -> None:
    file = find("smollm2")
    tokenizer = AutoTokenizer.from_pretrained(trainable(file))
    prompts = [product_prompts(step, 1)[0] for step in ("extract", "manage", "answer")]
    # Where transformers alone cuts otherwise: several spaces before a digit.
    prompts.append(Prompt("extract", (Message("user", "Pi is   3.14159, don't  say 22/7;\n\n x² ≈ 日本 🦊"),)))
    with EmbeddedLLM(file, context_tokens=2048) as llm:
        counted = [reply.prompt_tokens for reply in llm.complete([_short(prompt) for prompt in prompts])]
    assert counted == [len(chat_ids(tokenizer, prompt)) for prompt in prompts]


def _short(prompt: Prompt) -> Prompt:
    return Prompt(prompt.step, prompt.messages, max_tokens=1, logprobs=False)


@pytest.mark.models
@pytest.mark.usefixtures("needs_e5_small")
def test_a_run_of_the_benchmark_is_played_by_the_trainer_under_a_runs_adapter(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    base, adapter = trained
    data = tmp_path / "toy.json"
    data.write_text(json.dumps({"name": "toy", "dialogues": [DIALOGUE]}), encoding="utf-8")
    words = [
        "bench",
        "run",
        "full-context",
        "--torch",
        "--together",
        "2",
        "--model",
        str(base),
        "--data",
        f"json:{data}",
    ]
    done = CliRunner().invoke(main, [*words, "--adapter", f"answer={adapter}", "--out", str(tmp_path / "runs")])
    assert done.exit_code == 0, done.output
    config = json.loads((tmp_path / "runs" / "full-context" / "result.json").read_text(encoding="utf-8"))["config"]
    assert (config["model"], config["about"]["adapters"], config["about"]["together"]) == (
        "base",
        [f"answer={tmp_path.name}"],
        2,
    )
    refused = CliRunner().invoke(main, [*(word.replace("full-context", "mem0-1") for word in words), "--out", "other"])
    assert "--torch answers memory-r1's own prompts alone: mem0-1 asks a server" in refused.output
