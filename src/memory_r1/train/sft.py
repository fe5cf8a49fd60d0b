"""Cloning a teacher's replies: the warm start of reinforcement learning, and the paper's Memory-SFT baseline.

Only the reply's tokens, the one that ends it among them, carry loss; prompts are tokenised as the policy's are. What
the prompts of a micro-batch begin with alike, such as the manager's instructions, is read once for all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset
from torch import Tensor
from trl import SFTConfig, SFTTrainer

from memory_r1.errors import InvalidInput
from memory_r1.flow import LLM
from memory_r1.replies import json_object
from memory_r1.train.checkpoints import Guarded, epochs, shared_settings
from memory_r1.train.config import TrainConfig
from memory_r1.train.episodes import Task, play
from memory_r1.train.examples import Placed, read_examples, write_examples
from memory_r1.train.learn import fit
from memory_r1.train.policy import chat_ids, score_group, shared_length
from memory_r1.train.runs import Progress, Run
from memory_r1.train.teacher import Example
from memory_r1.types import Prompt


class Pair(NamedTuple):
    """What was asked, and the text that is to be learned as the reply."""

    prompt: Prompt
    reply: str


class CloneTrainer(Guarded, SFTTrainer):  # type: ignore[misc]
    """TRL's trainer on pairs that are tokenised already, and its loss, from one encoding of what they share."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Tensor | None = None
    ) -> Any:
        inputs = {name: value.cpu() for name, value in inputs.items()}  # at once: rows are cut by their masks
        rows = [
            ids[mask.bool()].tolist() for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
        ]
        learned_B = (inputs["labels"] != -100).sum(dim=1)
        shared = shared_length(rows, learned_B.tolist())
        with self.accelerator.autocast():
            scored = score_group(model, rows[0][:shared], [row[shared:] for row in rows], last=learned_B.tolist())
        self._metrics["train"]["entropy"].append(scored.entropy_GT.sum().item() / learned_B.sum().item())
        everywhere = self.accelerator.num_processes  # DDP takes the mean of the gradients
        tokens = learned_B.sum() if num_items_in_batch is None else num_items_in_batch / everywhere
        loss = -scored.logp_GT.sum() / tokens
        return (loss, scored) if return_outputs else loss


def teacher_pairs(
    task: Task, teacher: LLM, *, at_least: float | None = None, skipped: Counter[str] | None = None
) -> Iterator[Pair]:
    """Every exchange of the trained step when a teacher plays each sample once.

    `at_least` keeps only episodes with such a reward: what the teacher got wrong is not learned. Nor is a reply that
    was cut off, or is no JSON, or that there was no room for: `skipped` counts those by why.
    """
    skipped = Counter() if skipped is None else skipped
    for place in range(len(task)):
        [rollout] = play(task.maker(place), 1, teacher, task.step)
        if at_least is None or rollout.reward.total >= at_least:
            for prompt, reply in rollout.exchanges:
                if reply.stop == "end" and json_object(reply.text) is not None:
                    yield Pair(prompt, reply.text)
                else:
                    skipped["unreadable" if reply.stop == "end" else reply.stop] += 1


def kept_pairs(
    kept: Path, task: Task, teacher: LLM, skipped: Callable[[Counter[str]], None] = lambda _: None
) -> list[Pair]:
    """A teacher's pairs, asked for once and then read from the file `kept`, which can be cloned from like any examples.

    `skipped` is told, when the teacher was asked, what is not learned.
    """
    if not kept.exists():
        left_out: Counter[str] = Counter()
        found = teacher_pairs(task, teacher, skipped=left_out)
        count = write_examples(kept, (Placed("", Example(pair.prompt, pair.reply, "")) for pair in found))
        skipped(left_out)
        if not count:
            kept.unlink()
            raise InvalidInput("the teacher replied nothing that can be learned: give another --teacher")
    return [Pair(*one.example[:2]) for one in read_examples(kept, [task.step])]


def balanced(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs in which each operation is decided as often as the most frequent one: the others' are repeated in turn.

    Most facts are to be added, and few merged with a memory; a small model clones what is frequent first.
    """
    by_operation: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_operation.setdefault(str((json_object(pair.reply) or {}).get("operation")), []).append(pair)
    most = max(map(len, by_operation.values()), default=0)
    return [pair for group in by_operation.values() for pair in islice(cycle(group), most)]


def tokenised(pair: Pair, tokenizer: Any) -> dict[str, list[int]]:
    """Token ids with a mask of the reply."""
    prompt_ids = chat_ids(tokenizer, pair.prompt)
    reply_ids = [*tokenizer(pair.reply, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    mask = [0] * len(prompt_ids) + [1] * len(reply_ids)
    return {"input_ids": prompt_ids + reply_ids, "completion_mask": mask}


def rows_of(pairs: Sequence[Pair], tokenizer: Any, context: int, count: int, seed: int) -> list[dict[str, list[int]]]:
    """`count` pairs tokenised, in the order in which a run takes them, those left out that do not fit `context`.

    Of many pairs only those that are taken are tokenised.
    """
    known: dict[int, dict[str, list[int]]] = {}
    rows: list[dict[str, list[int]]] = []
    for epoch in epochs(len(pairs), seed) if pairs else ():
        before = len(rows)
        for place in epoch:
            if place not in known:
                known[place] = tokenised(pairs[place], tokenizer)
            row = known[place]
            if len(row["input_ids"]) <= context:
                rows.append(row)
            if len(rows) == count:
                return rows
        if len(rows) == before:
            break
    raise InvalidInput(f"there is no pair of prompt and reply to clone within {context} tokens")


def clone(
    config: TrainConfig,
    run: Run,
    model: Any,
    tokenizer: Any,
    pairs: Sequence[Pair],
    *,
    progress: Progress = lambda _step, _metrics: None,
    use_cpu: bool | None = None,
) -> Path:
    """Train on pairs, `groups` micro-batches of `group_size` a step; returns the adapter's folder. As `learn` else."""
    count = config.steps * config.groups * config.group_size
    rows = rows_of(pairs, tokenizer, config.context, count, config.seed)
    args = SFTConfig(
        **shared_settings(config, run.checkpoints, use_cpu),
        train_sampling_strategy="sequential",
        completion_only_loss=True,
        max_length=None,
    )
    trainer = CloneTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    return fit(trainer, run, config, progress)
