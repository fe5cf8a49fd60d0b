"""`memory-r1 bench train` at toy size: what it says, and that both variants do the same work."""

from __future__ import annotations

import json
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from tiny_models import byte_tokenizer, tiny_model

from memory_r1.errors import InvalidInput, TrainingError
from memory_r1.train import bench
from memory_r1.train.bench_report import goals
from memory_r1.train.bench_worker import Clock, measure, prompt_of
from memory_r1.train.policy import chat_ids

TOKENS = 500


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> bench.Job:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return bench.Job(str(folder), prompt_tokens=TOKENS, group_size=4, reply_tokens=6, rank=4, kl=0.1)


@pytest.fixture(scope="module")
def result(base: bench.Job, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Measured in this process, so that peaks of memory are those of all that was measured before."""
    out = tmp_path_factory.mktemp("out")
    result = bench.run(base, repeats=2, rows=2, out=out, launch=measure)
    assert (out / "train.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "train.json").read_text(encoding="utf-8")) == result
    return result


def test_both_variants_have_the_same_losses_and_gradients(result: dict[str, Any]) -> None:
    for algo in bench.ALGOS:
        ours, stock = (result[algo]["runs"][variant][0]["compared"] for variant in ("ours", "stock"))
        assert ours == pytest.approx(stock, rel=1e-4)
        assert all((ours[name] != 0) == (algo == "ppo" or "value" not in name) for name in ours)
        assert result[algo]["differs_by"] < 1e-4


def test_every_step_has_its_time_by_parts(result: dict[str, Any]) -> None:
    for algo in bench.ALGOS:
        for variant in ("ours", "stock"):
            runs = result[algo]["runs"][variant]
            assert [len(one["steps"]) for one in runs] == [1, 1]
            assert [(one["prompt_tokens"], one["reply_tokens"]) for one in runs] == [(TOKENS, 6.0)] * 2
            for step in (one["steps"][0] for one in runs):
                assert sum(step[part] for part in bench.PARTS) == pytest.approx(step["wall"])
                assert all(step[part] > 0 for part in bench.PARTS)
            assert 0 < runs[0]["loaded_mb"] <= runs[0]["peak_mb"]


def test_the_result_says_where_it_comes_from_and_the_table_what_it_means(result: dict[str, Any]) -> None:
    assert set(bench.PACKAGES) < set(result["versions"])
    assert result["config"]["memory_gb"] == 24.0
    assert [one["what"] for one in result["goals"]] == [
        "grpo step, times faster",
        "grpo step, share of the peak memory",
        "grpo, losses and gradients differ by",
        "ppo step, times faster",
        "ppo, losses and gradients differ by",
    ]
    shown = bench.table(result)
    assert "grpo, stock / ours" in shown
    assert "ppo, shared prefix" in shown


def test_a_goal_says_what_was_measured_and_whether_it_is_met() -> None:
    ratios = {"times_faster": 4.5, "peak_memory": 0.6}
    found = goals({"config": {"bf16": False}, "grpo": {"ratios": ratios, "differs_by": 2e-5}})
    assert [(one["value"], one["met"]) for one in found] == [(4.5, True), (0.6, False), (2e-5, True)]


def test_stock_trl_has_its_fastest_micro_batch_that_fits(base: bench.Job) -> None:
    """Four rows do not fit, two are fastest; every job is noted as it comes."""
    jobs: list[bench.Job] = []

    def launch(job: bench.Job) -> dict[str, Any]:
        jobs.append(job)
        seconds = {1: 3.0, 2: 2.0}.get(job.rows, 1.0)
        step = dict.fromkeys(("wall", "cpu", *bench.PARTS), 0.5 if job.variant == "ours" else seconds)
        about = {"device": "cpu", "threads": 1, "prompt_tokens": TOKENS, "reply_tokens": 6.0, "compared": {"loss": 1.0}}
        peak = {"ours": 100.0, "stock": 400.0}[job.variant]
        return {"fits": job.rows < 4, "warm_up": step, "steps": [step] * job.steps, "peak_mb": peak, **about}

    found = bench.run(base, ("grpo",), repeats=2, launch=launch)["grpo"]
    tried = [(job.variant, job.rows, job.steps) for job in jobs[:3]]
    assert tried == [("stock", 4, 0), ("stock", 2, 0), ("stock", 1, 0)]
    assert [(job.variant, job.seed, job.rows) for job in jobs[3:]] == [
        ("stock", 0, 2),
        ("ours", 0, 2),
        ("ours", 1, 2),
        ("stock", 1, 2),
    ]
    assert found["stock_tried_s"] == {"4": None, "2": 2.0, "1": 3.0}
    assert found["ratios"] == {
        "times_faster": 4.0, "times_faster_each": [4.0, 4.0], "times_less_cpu": 4.0, "peak_memory": 0.25,
    }  # fmt: skip
    with pytest.raises(TrainingError, match="does not fit in memory with a single row"):
        bench.run(base, ("grpo",), launch=lambda _: {"fits": False})
    with pytest.raises(InvalidInput, match="3 rows do not divide a group of 4"):
        bench.run(base, rows=3, launch=launch)


def test_a_measurement_runs_in_a_process_of_its_own(base: bench.Job) -> None:
    found = bench.launched(base)
    assert found["fits"]
    assert [set(step) for step in found["steps"]] == [{"wall", "cpu", *bench.PARTS}]


def test_a_prompt_has_as_many_tokens_as_asked_for() -> None:
    tokenizer = byte_tokenizer()
    one, other = (prompt_of(tokenizer, 600, 6, seed) for seed in (0, 1))
    assert len(chat_ids(tokenizer, one)) == len(chat_ids(tokenizer, other)) == 600
    assert one != other
    with pytest.raises(InvalidInput, match="a prompt of 20 tokens has no room for a memory; the shortest takes"):
        prompt_of(tokenizer, 20, 6, 0)
    assert one.messages[1].content.endswith("\nQuestion: Where does Ann live?")


def test_a_clock_gives_each_moment_to_the_innermost_part() -> None:
    clock = Clock()
    with clock("backward"), clock("scoring"):
        sum(range(10_000))
    spent = clock.take()
    assert spent["scoring"] > spent["backward"] > 0
    assert spent["sampling"] == 0
    assert clock.take()["scoring"] == 0
