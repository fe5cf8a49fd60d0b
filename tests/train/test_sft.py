"""Cloning a teacher: which tokens are learned, and that a small model learns them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from datasets import Dataset
from dialogues import ADD, DATA, EMBEDDER, UPDATE, teacher
from safetensors.torch import load_file
from tiny_models import byte_tokenizer, tiny_model
from toy import CONFIG
from trl import SFTConfig, SFTTrainer

from memory_r1.errors import InvalidInput, ModelUnavailable
from memory_r1.testing import ScriptedLLM
from memory_r1.train.checkpoints import shared_settings
from memory_r1.train.episodes import AnswerTask, ManagerTask
from memory_r1.train.learn import prepared
from memory_r1.train.policy import Policy
from memory_r1.train.runs import Run
from memory_r1.train.samples import answer_samples, manager_samples
from memory_r1.train.sft import CloneTrainer, Pair, balanced, clone, kept_pairs, rows_of, teacher_pairs, tokenised
from memory_r1.types import Message, Prompt, Reply

SFT = replace(CONFIG, algo="sft", steps=40, groups=1, group_size=2, learning_rate=2e-2, save_every=20)
ASKED = [Prompt("manage", (Message("user", text),), max_tokens=20) for text in "ab"]
PAIRS = [Pair(prompt, reply) for prompt, reply in zip(ASKED, ("one", "two"), strict=True)]


def cloned(folder: Path, config: Any = SFT, **options: Any) -> tuple[Run, Any]:
    run = Run(folder)
    run.claim(config, {})
    model, _ = prepared(tiny_model(), config)
    clone(config, run, model, byte_tokenizer(), PAIRS, use_cpu=True, **options)
    return run, model


def test_only_the_reply_and_its_end_are_learned() -> None:
    row = tokenised(PAIRS[0], byte_tokenizer())
    learned = [token for token, flag in zip(row["input_ids"], row["completion_mask"], strict=True) if flag]
    assert byte_tokenizer().decode(row["input_ids"]) == "<|user|>a<|end|><|assistant|>one<|end|>"
    assert byte_tokenizer().decode(learned) == "one<|end|>"


def test_a_pair_that_does_not_fit_is_left_out_and_the_others_taken_again_and_again() -> None:
    pairs = [*PAIRS, Pair(ASKED[0], "a longer reply")]
    short = [tokenised(pair, byte_tokenizer()) for pair in PAIRS]
    rows = rows_of(pairs, byte_tokenizer(), 8, 6, 0)
    assert [rows.count(row) for row in short] == [3, 3]
    assert sorted(len(row["input_ids"]) for row in rows_of(pairs, byte_tokenizer(), 100, 3, 0)) == [8, 8, 19]


def test_what_prompts_begin_with_alike_is_read_once_for_trls_own_loss_and_gradients(tmp_path: Path) -> None:
    rows = [tokenised(pair, byte_tokenizer()) for pair in (*PAIRS, Pair(ASKED[0], "a longer reply"))]
    losses, gradients = [], []
    for kind in (CloneTrainer, SFTTrainer):
        model, _ = prepared(tiny_model(), SFT)
        args = SFTConfig(**shared_settings(SFT, tmp_path, True), completion_only_loss=True, max_length=None)
        trainer = kind(model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=byte_tokenizer())
        inputs = trainer.data_collator(list(trainer.train_dataset))
        loss = trainer.compute_loss(trainer.model, inputs, num_items_in_batch=torch.tensor(40))
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad for name, p in trainer.model.named_parameters() if p.requires_grad})
    shared, stock = gradients
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert len(shared) > 0
    torch.testing.assert_close(shared, stock, rtol=1e-4, atol=1e-7)


def test_the_rarer_operations_are_repeated() -> None:
    add, update, noop = (Pair(ASKED[0], reply) for reply in ('{"operation": "ADD"}', UPDATE, '{"operation": "NOOP"}'))
    other = Pair(ASKED[1], '{"operation": "ADD"}')
    third = Pair(ASKED[1], '{"operation": "ADD"} ')
    assert balanced([add, update, other, noop, third]) == [add, other, third, update, update, update, noop, noop, noop]
    assert balanced([]) == []


def test_a_model_learns_the_replies(tmp_path: Path) -> None:
    run, model = cloned(tmp_path / "run")
    replies = Policy(model, byte_tokenizer(), temperature=0).complete(ASKED)
    assert [reply.text for reply in replies] == ["one", "two"]
    assert [reply.stop for reply in replies] == ["end", "end"]
    losses = [row["loss"] for row in run.metrics()]
    assert losses[-1] < losses[0] / 3


def test_cloning_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    config = replace(SFT, steps=4, save_every=2)
    whole, _ = cloned(tmp_path / "whole", config)

    def kill(step: int, _: Any) -> None:
        if step == 3:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        cloned(tmp_path / "killed", config, progress=kill)
    killed, _ = cloned(tmp_path / "killed", config)
    one, other = (load_file(run.adapter / "adapter_model.safetensors") for run in (whole, killed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_teacher_is_cloned_on_the_products_own_prompts() -> None:
    managing = ManagerTask(list(manager_samples(DATA, teacher(), EMBEDDER)), EMBEDDER)
    answering = AnswerTask(list(answer_samples(DATA, teacher(), EMBEDDER)))
    [operation] = teacher_pairs(managing, teacher(), at_least=1.0)
    assert (operation.reply, operation.prompt.step) == (UPDATE, "manage")
    assert [pair.reply for pair in teacher_pairs(answering, teacher())] == [
        '{"keep": [1], "answer": "two"}',
        '{"keep": [1], "answer": "Rome"}',
    ]


def test_what_the_teacher_got_wrong_is_not_learned() -> None:
    managing = ManagerTask(list(manager_samples(DATA, teacher(), EMBEDDER)), EMBEDDER)
    wrong = ScriptedLLM([ADD, '{"keep": [], "answer": "unknown"}'])
    assert list(teacher_pairs(managing, wrong, at_least=1.0)) == []


def test_what_a_teacher_did_not_finish_or_nobody_can_read_is_counted_and_not_learned() -> None:
    answering = AnswerTask(list(answer_samples(DATA, teacher(), EMBEDDER)))
    cut = Reply('{"keep": [1], "answer": "tw', stop="length")
    skipped: Counter[str] = Counter()
    assert list(teacher_pairs(answering, ScriptedLLM([cut, "two"]), skipped=skipped)) == []
    assert skipped == {"length": 1, "unreadable": 1}


def test_a_teacher_is_asked_once_and_what_it_replied_is_read_from_then_on(tmp_path: Path) -> None:
    kept, told = tmp_path / "examples.jsonl", []
    task = AnswerTask(list(answer_samples(DATA, teacher(), EMBEDDER)))
    first = kept_pairs(kept, task, ScriptedLLM(['{"keep": [1], "answer": "two"}', "Rome"]), told.append)
    assert [(pair.prompt.step, pair.reply) for pair in first] == [("answer", '{"keep": [1], "answer": "two"}')]
    assert kept_pairs(kept, task, ScriptedLLM([]), told.append) == first  # it would raise, were it asked
    assert told == [{"unreadable": 1}]
    assert [path.name for path in tmp_path.iterdir()] == ["examples.jsonl"]


def test_of_a_teacher_that_was_cut_off_nothing_is_kept(tmp_path: Path) -> None:
    task = AnswerTask(list(answer_samples(DATA, teacher(), EMBEDDER)))
    with pytest.raises(ModelUnavailable, match="no reply left"):
        kept_pairs(tmp_path / "examples.jsonl", task, ScriptedLLM(['{"keep": [1], "answer": "two"}']))
    with pytest.raises(InvalidInput, match="nothing that can be learned: give another --teacher"):
        kept_pairs(tmp_path / "examples.jsonl", task, ScriptedLLM(["two", "Rome"]))
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_clone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no pair of prompt and reply to clone within 5 tokens"):
        cloned(tmp_path / "run", replace(SFT, context=5))
