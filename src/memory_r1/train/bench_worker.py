"""One measurement of `memory-r1 bench train`, in a process of its own so that its peak of memory is its own.

    python -m memory_r1.train.bench_worker '{"variant": "ours", "algo": "grpo", ...}'

prints what was measured as one line of JSON.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
from transformers.trainer_utils import SaveStrategy

from memory_r1.answer import answer_prompt
from memory_r1.errors import InvalidInput
from memory_r1.flow import Flow, Roles
from memory_r1.train.bench import PARTS, Job
from memory_r1.train.config import TrainConfig
from memory_r1.train.learn import prepared
from memory_r1.train.material import memories
from memory_r1.train.objectives import clipped_value_loss
from memory_r1.train.policy import Policy, chat_ids
from memory_r1.train.rewards import Reward
from memory_r1.train.stock import StockGRPOTrainer, StockPPOTrainer
from memory_r1.train.trainer import GroupGRPOTrainer, PPOTrainer, Seat
from memory_r1.types import Message, Prompt, Step


class Clock:
    """Where a step's wall clock goes: each moment to the innermost part that is being worked on."""

    def __init__(self) -> None:
        self._parts = ["other"]
        self._spent: dict[str, float] = {}
        self._last = time.perf_counter()

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        self._charge()
        self._parts.append(part)
        try:
            yield
        finally:
            self._charge()
            self._parts.pop()

    def take(self) -> dict[str, float]:
        """Seconds by part since the last time."""
        self._charge()
        spent, self._spent = self._spent, {}
        return {part: spent.get(part, 0.0) for part in PARTS}

    def _charge(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self._spent[self._parts[-1]] = self._spent.get(self._parts[-1], 0.0) + now - self._last
        self._last = now


class Timed:
    """A mixin that stands before a trainer: says which part of a step is being worked on."""

    clock: Clock

    def _prepare_inputs(self, *given: Any) -> Any:
        with self.clock("other"):
            return super()._prepare_inputs(*given)  # type: ignore[misc]

    def _groups(self, places: Any) -> Any:
        with self.clock("sampling"):
            return super()._groups(places)  # type: ignore[misc]

    def _generate_single_turn(self, *given: Any, **more: Any) -> Any:
        with self.clock("sampling"):
            return super()._generate_single_turn(*given, **more)  # type: ignore[misc]

    def compute_loss(self, *given: Any, **more: Any) -> Any:
        with self.clock("scoring"):
            return super().compute_loss(*given, **more)  # type: ignore[misc]

    def _get_per_token_logps_and_entropies(self, *given: Any, **more: Any) -> Any:
        with self.clock("scoring"):
            return super()._get_per_token_logps_and_entropies(*given, **more)  # type: ignore[misc]

    def _values(self, *given: Any) -> Any:
        with self.clock("scoring"):
            return super()._values(*given)  # type: ignore[misc]

    def training_step(self, *given: Any, **more: Any) -> Any:
        with self.clock("backward"):
            return super().training_step(*given, **more)  # type: ignore[misc]


class Watch(TrainerCallback):  # type: ignore[misc]
    """Notes what each step took, and how long its replies were."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._cpu = clock, 0.0
        self.steps: list[dict[str, float]] = []
        self.reply_tokens: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._clock.take()
        self._cpu = time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        spent = self._clock.take()
        cpu = time.process_time() - self._cpu
        self.steps.append({"wall": sum(spent.values()), "cpu": cpu, **spent})

    def on_log(self, *_: Any, logs: Mapping[str, Any], **__: Any) -> None:
        self.reply_tokens += [logs[name] for name in ("replies/tokens", "completions/mean_length") if name in logs]


@dataclass
class OneReply:
    """A task whose episodes are one exchange each, worth what `worth` says of the reply's tokens."""

    prompts: Sequence[Prompt]
    worth: Callable[[Sequence[int]], float]
    step: Step = "answer"

    def __len__(self) -> int:
        return len(self.prompts)

    def name(self, place: int) -> str:
        return str(place)

    def maker(self, place: int) -> Callable[[], Flow[Reward]]:
        def episode() -> Flow[Reward]:
            reply = yield self.prompts[place]
            return Reward(self.worth(reply.token_ids or ()), {})

        return episode


def prompt_of(tokenizer: Any, tokens: int, reply_tokens: int, seed: int) -> Prompt:
    """An Answer Agent's prompt of so many tokens, as its chat template writes it; the last memory is cut to fit."""
    rng = random.Random(f"bench {seed}")
    texts = list(memories(rng, tokens // 4))
    asked = answer_prompt("Where does Ann live?", [])
    system, tail = asked.messages[0], "\nQuestion: " + asked.messages[1].content.partition("\nQuestion: ")[2]
    day = datetime(2026, 1, 1, tzinfo=UTC)
    lines = [f"{i}. ({day + timedelta(days=i):%d %B %Y}) {text}" for i, text in enumerate(texts, 1)]
    text = "Memories:\n" + "\n".join(lines)

    def prompt(length: int) -> Prompt:
        return Prompt("answer", (system, Message("user", text[:length] + tail)), max_tokens=reply_tokens)

    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(chat_ids(tokenizer, prompt(middle))) <= tokens else (low, middle - 1)
    if low == 0:
        least = len(chat_ids(tokenizer, prompt(0)))
        raise InvalidInput(f"a prompt of {tokens} tokens has no room for a memory; the shortest takes {least}")
    return prompt(low)


def measure(job: Job) -> dict[str, Any]:
    """Run the job's steps in this process. Peak memory is the process's own, or the GPU's where there is one."""
    config = job.config
    dtype = torch.bfloat16 if job.bf16 else torch.float32
    tokenizer = AutoTokenizer.from_pretrained(job.model)
    model, critic = prepared(AutoModelForCausalLM.from_pretrained(job.model, dtype=dtype), config)
    if critic is not None:  # begins at 0, which would hide a mistake from the comparison
        torch.nn.init.normal_(critic.head.weight, std=0.1, generator=torch.Generator().manual_seed(job.seed))
    prompts = [
        prompt_of(tokenizer, job.prompt_tokens, job.reply_tokens, 1000 * job.seed + place)
        for place in range(1 + job.steps)
    ]
    half = model.config.get_text_config().vocab_size // 2
    task = OneReply(prompts, lambda ids: sum(one < half for one in ids) / max(1, len(ids)))
    clock = Clock()
    watch = Watch(clock)
    with tempfile.TemporaryDirectory(prefix="memory-r1-bench-") as folder:
        trainer = _trainer(job, config, model, tokenizer, task, critic, Path(folder), clock)
        trainer.args.save_strategy = SaveStrategy.NO
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(watch)
        loaded = resident_mb()
        checked = compared(trainer, job, chat_ids(tokenizer, prompts[0]))
        trainer.train()
    return {
        "fits": True,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "prompt_tokens": len(chat_ids(tokenizer, prompts[0])),
        "reply_tokens": sum(watch.reply_tokens) / len(watch.reply_tokens),
        "loaded_mb": loaded,
        "peak_mb": peak_mb(),
        "warm_up": watch.steps[0],
        "steps": watch.steps[1:],
        "compared": checked,
    }


def _trainer(
    job: Job, config: TrainConfig, model: Any, tokenizer: Any, task: OneReply, critic: Any, folder: Path, clock: Clock
) -> Any:
    more = {"critic": critic} if critic is not None else {}
    if job.variant == "ours":
        policy = Policy(model, tokenizer, temperature=config.temperature)
        policy.end_ids = frozenset()  # every reply has its full length
        seat = Seat(policy, Roles(by_step={task.step: policy}))
        kind: type = PPOTrainer if critic is not None else GroupGRPOTrainer
        return _timed(kind, clock)(model, tokenizer, task, seat, config, folder, **more)
    kind = StockPPOTrainer if critic is not None else StockGRPOTrainer
    more |= {"rows": job.rows, "reply_tokens": job.reply_tokens}
    return _timed(kind, clock)(model, tokenizer, task.prompts, task.worth, config, folder, **more)


def _timed(kind: type, clock: Clock) -> Any:
    return type(f"Timed{kind.__name__}", (Timed, kind), {"clock": clock})


def compared(trainer: Any, job: Job, prompt_ids: Sequence[int]) -> dict[str, float]:
    """What both variants must agree on: losses and gradients of the first weights on replies that were given.

    The replies are random tokens, of different lengths so that their advantages do not cancel out.
    """
    G, T = job.group_size, job.reply_tokens
    rng, device = torch.Generator().manual_seed(job.seed), trainer.args.device
    mask = torch.arange(T)[None] < T - torch.arange(G)[:, None] % T
    ids = torch.randint(trainer.model.config.get_text_config().vocab_size, (G, T), generator=rng) * mask
    given: dict[str, Tensor] = {
        "prompt_ids": torch.tensor([list(prompt_ids)] * G),
        "prompt_mask": torch.ones(G, len(prompt_ids), dtype=torch.long),
        "completion_ids": ids,
        "completion_mask": mask.long(),
        "advantages": torch.randn(G, generator=rng),
        "returns": torch.rand(G, T, generator=rng),
        "old_values": torch.zeros(G, T),
    }
    given = {name: tensor.to(device) for name, tensor in given.items()}
    shared = {"num_items_in_batch": given["completion_mask"].sum(), "active": True}
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    rows = trainer.args.per_device_train_batch_size
    found = dict.fromkeys(("logp", "loss", "value_loss"), 0.0)
    trainer.model.train()
    for start in range(0, G, rows):
        batch: dict[str, Any] = {name: tensor[start : start + rows] for name, tensor in given.items()} | shared
        logp, kept = _logps(trainer, batch), batch["completion_mask"]
        found["logp"] += float((logp * kept).sum() / shared["num_items_in_batch"])
        if job.kl:
            batch["ref_per_token_logps"] = logp
        loss = trainer._compute_loss(trainer.model, batch)
        loss.backward()
        found["loss"] += loss.item()
        if job.algo == "ppo":
            value_loss = clipped_value_loss(trainer._values(batch), batch["old_values"], batch["returns"], kept)
            value_loss = value_loss * kept.sum() / shared["num_items_in_batch"]
            value_loss.backward()
            found["value_loss"] += value_loss.item()
    found["gradient_norm"] = _gradient_norm(trainer.model)
    if job.algo == "ppo":
        found["critic_gradient_norm"] = _gradient_norm(trainer.critic)
    trainer._metrics["train"].clear()
    return found


@torch.no_grad()  # type: ignore[untyped-decorator]
def _logps(trainer: Any, batch: Mapping[str, Any]) -> Tensor:
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    T = batch["completion_ids"].shape[1]
    logps: Tensor = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, T)[0]
    return logps


def _gradient_norm(model: Any) -> float:
    """Of all gradients, which are then forgotten."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(one.float()) for one in gradients]))
    model.zero_grad()
    return float(norm)


def peak_mb() -> float:
    """The most memory held at once. A process's own count of it is inherited from the one that started it; Linux's
    high-water mark is not."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated() / 1e6)
    return _status("VmHWM") or _maximum_resident()


def resident_mb() -> float | None:
    """What is held now; None where the system does not say."""
    return torch.cuda.memory_allocated() / 1e6 if torch.cuda.is_available() else _status("VmRSS")


def _status(name: str, file: str = "/proc/self/status") -> float | None:
    """A line of Linux's account of a process, or of the whole memory, in MB."""
    try:
        lines = Path(file).read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{name}:")), None)


def _maximum_resident() -> float:
    import resource

    maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return maximum / 1e6 if sys.platform == "darwin" else maximum * 1024 / 1e6


def limit_memory(gigabytes: float) -> None:
    """Allocations beyond it, or beyond what the machine has left, fail, so that nobody's process is killed for them."""
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gigabytes * 1e9 / total))
    elif sys.platform == "linux":
        import resource

        left = (_status("MemAvailable", "/proc/meminfo") or 1e9) / 1e3
        resource.setrlimit(resource.RLIMIT_DATA, (int(min(gigabytes, 0.95 * left) * 1e9),) * 2)


def main(given: str) -> None:
    job = Job(**json.loads(given))
    limit_memory(job.memory_gb)
    try:
        found = measure(job)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        found = {"fits": False}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
