"""Rollouts by another engine, with one that answers as TRL's vLLM does; vLLM itself needs a GPU."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from tiny_models import byte_tokenizer, tiny_model
from toy import CONFIG, Early, train
from trl.generation.vllm_generation import VLLMGeneration

from memory_r1.errors import InvalidInput, ModelUnavailable
from memory_r1.flow import Roles
from memory_r1.train.config import changed
from memory_r1.train.learn import prepared
from memory_r1.train.policy import Policy, sample_group
from memory_r1.train.trainer import GroupGRPOTrainer, Seat
from memory_r1.train.vllm import importance_BT, merged_weights


class Elsewhere:
    """Samples from the model that it is given, as vLLM does: log-probabilities a list a token, a little off."""

    def __init__(self, model: Any) -> None:
        self.model, self.max_completion_length, self.synced = model, 0, 0
        self.asked: list[tuple[int, int]] = []

    def sync_weights(self) -> None:
        self.synced += 1

    def generate(self, *, prompts: list[list[int]], images: None, num_generations: int) -> tuple[Any, ...]:
        assert images is None
        self.asked.append((len(prompts), num_generations))
        sampled = [
            sample_group(self.model, prompt, 1, max_tokens=self.max_completion_length, end_ids=frozenset({0}))[0]
            for prompt in prompts
        ]
        logprobs = [[[logp + 0.1] for logp in one.logprobs] for one in sampled]
        return prompts, [one.token_ids for one in sampled], logprobs, None


def test_replies_come_from_the_engine_and_are_scored_by_the_trainer(tmp_path: Path) -> None:
    model, _ = prepared(tiny_model(), CONFIG)
    policy = Policy(model, byte_tokenizer())
    seat = Seat(policy, Roles(by_step={"manage": policy}))
    made = GroupGRPOTrainer(model, byte_tokenizer(), Early(), seat, CONFIG, tmp_path, use_cpu=True)
    engine = Elsewhere(model)
    made.use_engine(engine)
    made.current_gradient_accumulation_steps = 2
    batch = made._play([0, 1])[0]
    assert engine.synced == 1
    assert engine.asked == [(8, 1)]  # all groups' at once
    assert batch["completion_ids"].shape == (4, 6)
    kept = batch["completion_mask"].bool()
    torch.testing.assert_close(batch["old_per_token_logps"][kept], made._score(model, batch)[0][kept].detach())
    ratio = batch["importance_sampling_ratio"][kept]  # e ** -0.1
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.904837), atol=1e-3, rtol=0)
    assert not batch["old_per_token_logps"].requires_grad


def test_a_token_weighs_by_how_much_likelier_the_trainer_finds_it() -> None:
    ours, theirs = torch.tensor([[-1.0, -1.0, -1.0]]), torch.tensor([[-1.5, -9.0, float("nan")]])
    torch.testing.assert_close(importance_BT(ours, theirs, 3.0), torch.tensor([[1.6487213, 3.0, 1.0]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_engine_is_given_what_trl_would_give_it_and_no_weight_is_changed(dtype: torch.dtype) -> None:
    model, _ = prepared(tiny_model().to(dtype), CONFIG)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    ours = {name: weight.clone() for name, weight in merged_weights(model)}
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    trl = SimpleNamespace(model=model, _dist=SimpleNamespace(gather_params=lambda _: nullcontext(), is_fsdp=False))
    trl._fix_param_name_to_vllm = partial(VLLMGeneration._fix_param_name_to_vllm, trl)
    theirs = {name: weight.clone() for name, weight in VLLMGeneration._iter_named_params(trl)}
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_trls_engine_has_what_is_used_of_it() -> None:
    generate = inspect.signature(VLLMGeneration.generate).parameters
    assert {"prompts", "images", "num_generations"} <= set(generate)
    assert not inspect.signature(VLLMGeneration.sync_weights).parameters.keys() - {"self"}
    assert "self.max_completion_length" in inspect.getsource(VLLMGeneration.generate)


def test_without_vllm_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"pip install 'memory-r1\[gpu\]'|need a GPU"):
        train(tmp_path / "run", changed(CONFIG, {"vllm": True}))
    with pytest.raises(InvalidInput, match="sft samples none"):
        changed(CONFIG, {"vllm": True, "algo": "sft"})
