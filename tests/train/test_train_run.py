"""`memory-r1 train` and `memory-r1 runs` on a model of two layers."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("trl")

import tiny
import torch
from safetensors.torch import load_file
from tiny_models import byte_tokenizer, deciding_model, tiny_model

from memory_r1.cli import main
from memory_r1.train.runs import Run

pytestmark = [pytest.mark.models, pytest.mark.usefixtures("needs_e5_small")]

SMALL = ("--steps", "2", "--set", "groups=1", "--set", "group_size=2", "--set", "retrieved=4", "--set", "lora.rank=4")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.output


def few(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def test_a_warm_start_then_both_agents_then_a_table_of_the_runs(tmp_path: Path, model: Path) -> None:
    warm, pair = tmp_path / "warm", tmp_path / "pair"
    data = ("--data", "synthetic:1", "--model", str(model), *SMALL)
    invoke("train", "manager", "--algo", "sft", *data, "--out", str(warm))
    data += ("--set", "reward.size=0.05", "--set", "reward.support=0.05")  # of one agent each
    invoke("train", "both", "--algo", "ppo", *data, "--start", str(warm / "adapter"), "--out", str(pair))
    folders = [warm, pair / "manager-1", pair / "answer-1"]
    for folder in folders:
        assert (folder / "adapter" / "adapter_model.safetensors").exists()
        assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folders[1] / "config.json").read_text())["about"]["start"] == str(warm / "adapter")
    table = invoke("runs", *map(str, folders), "--plot", str(tmp_path / "all.png"))
    assert [line.split()[:4] for line in table.splitlines()[2:5]] == [
        ["warm", "manager", "sft", "2"],
        ["manager-1", "manager", "ppo", "2"],
        ["answer-1", "answer", "ppo", "2"],
    ]
    assert (tmp_path / "all.png").exists()


def test_an_extractor_is_cloned_from_a_file_of_examples_and_graded_as_it_was_trained(
    tmp_path: Path, model: Path
) -> None:
    examples, run, figures = tmp_path / "examples.jsonl", tmp_path / "run", tmp_path / "figures.json"
    said = invoke("train", "examples", "--dialogues", "1", "--step", "extract", "--out", str(examples))
    lines = [json.loads(line) for line in examples.read_text(encoding="utf-8").splitlines()]
    assert said.splitlines()[-1] == f"{examples}: {len(lines):,} examples"
    assert {line["step"] for line in lines} == {"extract"}
    data = ("--data", f"jsonl:{examples}", "--model", str(model))
    invoke("train", "extractor", *data, *SMALL, "--set", "schedule=cosine", "--out", str(run))
    rates = [json.loads(line)["learning_rate"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rates) == 2
    grade = ("--model", str(model), "--examples", str(examples), "--step", "extract", "--limit", "3")
    adapter = ("--adapter", f"extract={run / 'adapter'}")
    invoke("train", "evaluate", *grade, *adapter, "--free", "--out", str(figures))
    assert json.loads(figures.read_text())["steps"]["extract"]["examples"] == 3
    refused = CliRunner().invoke(main, ["train", "evaluate", *grade, *adapter])
    assert "give --free, and folders alone; or export it" in refused.output.replace("\n", " ")


def test_examples_of_real_talk_are_what_its_annotators_noted(tmp_path: Path) -> None:
    said = {"speaker": "Ann", "dia_id": "D1:1", "text": "I moved to Bern."}
    talk = {"speaker_a": "Ann", "speaker_b": "Bo", "session_1_date_time": "1:56 pm on 8 May, 2023", "session_1": [said]}
    notes = {"session_1_observation": {"Ann": [["Ann moved to Bern.", "D1:1"]]}}
    file, out = tmp_path / "locomo.json", tmp_path / "examples.jsonl"
    file.write_text(json.dumps([{"sample_id": "conv-1", "conversation": talk, "qa": [], "observation": notes}]))
    invoke("train", "examples", "--data", f"locomo:{file}", "--step", "extract", "--out", str(out))
    [line] = map(json.loads, out.read_text(encoding="utf-8").splitlines())
    assert (line["dialogue"], line["messages"][1][1]) == ("conv-1", "(8 May 2023) Ann: I moved to Bern.")
    assert line["reply"] == '{"facts": ["Ann moved to Bern."]}'
    refused = CliRunner().invoke(main, ["train", "examples", "--data", "bank:x.db", "--out", str(out)])
    assert "give synthetic, synthetic:DIALOGUES or locomo:FILE" in refused.output


def test_a_run_begins_from_an_export_and_goes_on_from_where_it_began(tmp_path: Path) -> None:
    base = tiny.write_gguf(tiny.model("llama"), tmp_path / "base.gguf")
    data = ("--data", "synthetic:1", "--model", str(base), *SMALL)
    invoke("train", "manager", "--algo", "sft", *data, "--out", str(tmp_path / "warm"))
    export = tmp_path / "export.gguf"
    adapter = str(tmp_path / "warm" / "adapter")
    invoke("train", "export", adapter, "--base", str(base), "--name", "warm", "--f32", "--out", str(export))
    again = ("train", "manager", "--algo", "sft", *data, "--start", str(export), "--out", str(tmp_path / "run"))
    invoke(*again)
    run = tmp_path / "run"
    assert re.fullmatch(r"warm [0-9a-f]{12}", json.loads((run / "config.json").read_text())["about"]["start"])
    begun = load_file(run / "start" / "adapter_model.safetensors")
    warm = load_file(tmp_path / "warm" / "adapter" / "adapter_model.safetensors")
    assert begun.keys() == warm.keys()
    assert all(torch.equal(begun[name], warm[name]) for name in warm)
    written = (run / "start" / "adapter_model.safetensors").stat().st_mtime_ns
    invoke(*again)
    assert (run / "start" / "adapter_model.safetensors").stat().st_mtime_ns == written


@pytest.mark.parametrize(("rank", "option"), [("4", "--start"), ("0", "--model")])
def test_another_run_learns_on_from_a_checkpoint_at_a_lower_rate(
    tmp_path: Path, model: Path, rank: str, option: str
) -> None:
    """As the error says when a loss is no number: the run itself keeps its rate."""
    run, other = Run(tmp_path / "run"), Run(tmp_path / "other")
    command = ["train", "answer", "--algo", "sft", "--data", "synthetic:1", "--model", str(model), *SMALL]
    command += few(f"lora.rank={rank}", "save_every=1")
    invoke(*command, "--out", str(run.folder))
    lower = CliRunner().invoke(main, [*command, "--set", "learning_rate=1e-6", "--out", str(run.folder)])
    assert "holds a run with another learning_rate; give another --out" in lower.output
    assert f"{option} {run.checkpoints}/checkpoint-2 --set learning_rate=LOWER" in run.begun_anew("learning_rate")
    first = run.checkpoints / "checkpoint-1"
    invoke(*command, option, str(first), "--set", "learning_rate=0.0", "--out", str(other.folder))
    kind = "adapter_model.safetensors" if option == "--start" else "model.safetensors"
    before, after, whole = (load_file(one / kind) for one in (first, other.adapter, run.adapter))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not all(torch.equal(before[name], whole[name]) for name in before)


def test_an_adapter_to_begin_from_that_is_not_there_is_said_before_anything_is_read(tmp_path: Path) -> None:
    data = ("--algo", "sft", "--data", "synthetic:1", "--out", str(tmp_path / "run"))
    for model, start, message in (
        ("smollm2", "nowhere", "--start nowhere is not there: give a run's adapter, its export, or shipped"),
        ("qwen2.5-coder-0.5b", "shipped", "no adapter comes with qwen2.5-coder-0.5b for the manager"),
    ):
        refused = CliRunner().invoke(main, ["train", "manager", *data, "--model", model, "--start", start])
        assert message in refused.output + str(refused.exception)
    assert not (tmp_path / "run").exists()


def test_a_frozen_agent_answers_by_the_embedded_runtime_where_its_export_is_given(tmp_path: Path) -> None:
    base = tiny.write_gguf(tiny.model("llama"), tmp_path / "base.gguf")
    data = ("--data", "synthetic:1", "--model", str(base), *SMALL, "--set", "guarded=0")
    invoke("train", "answer", "--algo", "sft", *data, "--out", str(tmp_path / "warm"))
    invoke("train", "export", str(tmp_path / "warm" / "adapter"), "--base", str(base))
    export = tmp_path / "warm" / "adapter" / "adapter.gguf"
    run = tmp_path / "run"
    invoke("train", "manager", *data, "--answer-adapter", str(export), "--out", str(run))
    assert json.loads((run / "config.json").read_text())["about"]["frozen"] == {"answer": str(export)}
    assert (run / "adapter" / "adapter_model.safetensors").exists()


def test_a_judge_grades_answers_by_a_model_of_its_own(tmp_path: Path, model: Path) -> None:
    judge = tiny.write_gguf(tiny.model("llama"), tmp_path / "judge.gguf")
    command = ["train", "answer", "--data", "synthetic:1", "--model", str(model), *SMALL]
    command += ["--set", "reward.metric=judge_lenient", "--judge", str(judge), "--out", str(tmp_path / "run")]
    invoke(*command)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["about"]["judge"] == str(judge)
    assert [row["step"] for row in Run(tmp_path / "run").metrics()] == [1, 2]
    other = CliRunner().invoke(
        main, [*command, "--judge", str(tiny.write_gguf(tiny.model("qwen2"), tmp_path / "2.gguf"))]
    )
    assert "holds a run made from another judge; give another --out" in other.output


def test_a_run_over_segments_that_begins_in_the_policys_own_bank(tmp_path: Path) -> None:
    model = tmp_path / "model"
    for part in deciding_model():
        part.save_pretrained(model)
    settings = few(
        "logo.turns=40", "logo.questions=1", "logo.snapshots=1", "logo.alternatives=2", "guarded=1", "replay=policy"
    )
    run = tmp_path / "run"
    invoke(
        "train",
        "manager",
        "--data",
        "synthetic:1",
        "--model",
        str(model),
        *SMALL,
        *settings,
        "--steps",
        "1",
        "--out",
        str(run),
    )
    samples = [json.loads(line) for line in (run / "samples.jsonl").open(encoding="utf-8", newline="\n")]
    assert {len(one["heard"]) for one in samples} >= {40}
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").open(encoding="utf-8", newline="\n")]
    assert [row["local/groups"] for row in metrics] == [1.0]


def test_mistakes_are_said_in_a_line_and_do_not_take_the_folder(tmp_path: Path, model: Path) -> None:
    cases = [
        (("--model", str(model), "--set", "lr=1"), "there is no setting 'lr'"),
        (("--model", str(model), "--vllm"), "rollouts by vLLM need"),
        (("--model", "no-such-model"), "no model 'no-such-model'"),
    ]
    for options, message in cases:
        refused(tmp_path, *options, message=message)


def spoilt(model: Path, folder: Path, name: str, text: bytes | None) -> Path:
    shutil.copytree(model, folder)
    (folder / name).unlink() if text is None else (folder / name).write_bytes(text)
    return folder


def refused(tmp_path: Path, *options: str, message: str) -> None:
    command = ["train", "answer", "--data", "synthetic:1", "--out", str(tmp_path / "run"), *SMALL, *options]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    last = result.output.splitlines()[-1]
    assert last.startswith("Error: ")
    assert message in last


def test_what_would_change_nothing_is_refused(tmp_path: Path, model: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    cases = [
        (
            ("--set", "reward.size=0.1"),
            "reward.size is for the manager's grpo and ppo: nothing here would change by it",
        ),
        (("--set", "reward.metric=judge_strict"), "reward.metric=judge_strict needs a judge: give --judge"),
        (("--judge", "smollm2"), "--judge is for a reward of its own"),
        (("--algo", "sft", "--manager-adapter", str(mine)), "nobody else plays while an agent is cloned"),
        (("--data", f"jsonl:{mine}", "--manager-adapter", str(mine)), "were made by their manager"),
        (("--data", "synthetic:many", "--algo", "sft"), "must be synthetic or synthetic:NUMBER"),
    ]
    for options, message in cases:
        refused(tmp_path, "--model", str(model), *options, message=message)
    for options, message in (
        (("both", "--algo", "sft", "--data", "synthetic:1"), "cloning has no other agent to alternate with"),
        (("both", "--data", f"jsonl:{mine}"), "from the manager just trained"),
        (("both", "--data", "synthetic:1", "--rounds", "2", "--set", "lora.rank=0"), "leave --rounds out"),
        (
            ("manager", "--algo", "sft", "--data", f"bank:{tmp_path}/no.db"),
            "no.db is not there: give the file of a bank",
        ),
        (("extractor", "--data", f"json:{mine}", "--teacher", "smollm2"), "the extractor is cloned from examples"),
    ):
        result = CliRunner().invoke(main, ["train", *options, "--model", str(model), "--out", str(tmp_path / "run")])
        assert (result.exit_code, message in result.output) == (1, True), result.output


def test_a_folder_without_a_run_does_not_hide_the_others(tmp_path: Path, model: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    other.mkdir()
    invoke(
        "train", "answer", "--data", "synthetic:1", "--model", str(model), *SMALL, "--algo", "sft", "--out", str(run)
    )
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 3, "lo')  # as a run that is writing, or was killed, leaves it
    table = invoke("runs", str(run), str(other))
    assert "other holds no run, and is left out" in table
    assert [line.split()[:4] for line in table.splitlines() if line.startswith("run ")][-1] == [
        "run",
        "answer",
        "sft",
        "2",
    ]
    result = CliRunner().invoke(main, ["runs", str(other)])
    assert (result.exit_code, "none of these folders holds a run" in result.output) == (1, True)


def test_a_run_that_was_begun_with_a_setting_of_no_use_goes_on(tmp_path: Path, model: Path) -> None:
    run = Run(tmp_path / "run")
    command = ["train", "answer", "--algo", "sft", "--data", "synthetic:1", "--model", str(model), *SMALL]
    invoke(*command, "--out", str(run.folder))
    settings = json.loads((run.folder / "config.json").read_text())
    settings["config"]["balance"] = True
    (run.folder / "config.json").write_text(json.dumps(settings))
    invoke(*command, "--set", "balance=true", "--set", "save_every=1", "--out", str(run.folder))
    assert run.config.balance


def test_a_model_that_cannot_be_loaded_is_said_in_a_line(tmp_path: Path, model: Path) -> None:
    weights = (model / "model.safetensors").read_bytes()
    cases: list[tuple[str, bytes | None]] = [
        ("model.safetensors", weights[:5000]),
        ("model.safetensors", b"x" * 5000),
        ("model.safetensors", None),
        ("config.json", (model / "config.json").read_bytes().replace(b'"hidden_size": 32', b'"hidden_size": 64')),
        ("config.json", b"{"),
        ("tokenizer.json", b"{"),
    ]
    for number, (name, text) in enumerate(cases):
        folder = spoilt(model, tmp_path / f"model-{number}", name, text)
        refused(tmp_path, "--model", str(folder), message=f"the model {folder} cannot be loaded: ")
    mute = spoilt(model, tmp_path / "mute", "chat_template.jinja", None)
    refused(tmp_path, "--model", str(mute), message="has no chat template; train an instruct model")
    windows = (model / "config.json").read_bytes().replace(b'"hidden_size"', b'"sliding_window": 16, "hidden_size"')
    windowed = spoilt(model, tmp_path / "windowed", "config.json", windows)
    refused(tmp_path, "--model", str(windowed), message="take one whose layers all attend to everything")
