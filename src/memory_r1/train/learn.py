"""One training run from its parts to its adapter: what the command and the tests call."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import Tensor
from transformers import PrinterCallback, TrainerCallback

from memory_r1.errors import AdapterMismatch, CheckpointFailed, Diverged, InvalidInput
from memory_r1.flow import LLM, Roles
from memory_r1.train.base import vllm_extra
from memory_r1.train.config import TrainConfig
from memory_r1.train.critic import Critic, critic_of
from memory_r1.train.episodes import Group, Task
from memory_r1.train.logo import LoGoTrainer
from memory_r1.train.policy import Policy
from memory_r1.train.runs import Progress, Run, transcript
from memory_r1.train.sharding import anywhere, learned_weights, main_first
from memory_r1.train.trainer import GroupGRPOTrainer, PPOTrainer, Seat
from memory_r1.types import Step

PASSED_OVER = 3
"""Steps in a row with a gradient that is no number, at which a run ends."""


def prepared(base: Any, config: TrainConfig, start: Path | None = None) -> tuple[Any, Critic | None]:
    """(the model that learns, PPO's critic). `start` is the folder of an adapter to begin from.

    Raises AdapterMismatch when that adapter is not of this model, InvalidInput when its settings are not `config.lora`.
    """
    torch.manual_seed(config.seed)
    lora = lora_config(config)
    critic = critic_of(base, lora) if config.algo == "ppo" else None
    if start is not None and lora is None and not (start / "adapter_config.json").is_file():
        raise InvalidInput(
            "lora.rank=0 trains the whole model, which begins from no adapter: give the folder as --model"
        )
    if start is not None:
        try:
            learner = PeftModel.from_pretrained(base, start, is_trainable=True)
        except (ValueError, RuntimeError, OSError, KeyError) as error:
            raise AdapterMismatch(f"the adapter {start} cannot be trained on {config.model}: {error}") from error
        _check_lora(learner.peft_config["default"], config)
        return learner, critic
    return (get_peft_model(base, lora) if lora else base), critic


def greedy(base: Any, tokenizer: Any, adapters: Mapping[Step, Path], **limits: Any) -> Roles:
    """What was trained, as it is at its likeliest: each step under its adapter's folder, the others without any.

    `limits` are Policy's. Raises AdapterMismatch when an adapter is not of this model.
    """
    model = base
    for step, folder in adapters.items():
        try:
            if model is base:
                model = PeftModel.from_pretrained(base, folder, adapter_name=step)
            else:
                model.load_adapter(folder, step)
        except (ValueError, RuntimeError, OSError, KeyError) as error:
            raise AdapterMismatch(f"the adapter {folder} does not fit the model: {error}") from error
    players: dict[Step, LLM] = {
        step: Policy(model, tokenizer, temperature=0, adapter=step, name="trained", **limits) for step in adapters
    }
    return Roles(Policy(model, tokenizer, temperature=0, adapter="", name="trained", **limits), players)


def _check_lora(begun: Any, config: TrainConfig) -> None:
    """Raises InvalidInput when the settings are not those of the adapter that training begins from."""
    settings = config.lora
    if (begun.r, begun.lora_alpha, set(begun.target_modules)) != (settings.rank, settings.alpha, set(settings.targets)):
        targets = json.dumps(sorted(begun.target_modules))
        raise InvalidInput(
            "the adapter to begin from has other settings; give "
            f"--set lora.rank={begun.r} --set lora.alpha={begun.lora_alpha} --set 'lora.targets={targets}'"
        )


def lora_config(config: TrainConfig) -> LoraConfig | None:
    settings = config.lora
    if settings.rank == 0:
        return None
    return LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, target_modules=list(settings.targets), lora_dropout=0.0, bias="none"
    )


def learn(
    config: TrainConfig,
    run: Run,
    model: Any,
    tokenizer: Any,
    task: Task,
    frozen: Mapping[Step, LLM],
    *,
    critic: Critic | None = None,
    progress: Progress = lambda _step, _metrics: None,
    use_cpu: bool | None = None,
) -> Path:
    """Train by GRPO or PPO until `config.steps`, from the run's last whole checkpoint on; returns the adapter's folder.

    `frozen` plays the steps that are not trained. Ctrl-C ends the step that runs, saves, and raises KeyboardInterrupt;
    a second one stops at once. Raises Diverged and CheckpointFailed; the last whole checkpoint is then intact.
    """
    if not len(task):
        raise InvalidInput("there is no sample to learn from; data without questions cannot train")
    if config.algo == "sft" or (config.algo == "ppo") != (critic is not None):
        raise InvalidInput("PPO needs a critic, GRPO has none, and sft is train/sft.py's")
    if config.vllm:
        vllm_extra()
    limits: dict[str, Any] = {"context_tokens": config.context, "batch_tokens": config.batch_tokens}
    policy = Policy(model, tokenizer, temperature=config.temperature, **limits)
    seat = Seat(policy, Roles(by_step={**frozen, task.step: policy}))

    def tell(step: int, groups: Sequence[Group]) -> None:
        told = [one for group in groups for one in (group, *group.local)]
        run.tell(transcript(step + 1, one.sample, one.rollouts) for one in told)

    options: dict[str, Any] = {"on_rollouts": tell, "use_cpu": use_cpu}
    arguments = (model, tokenizer, task, seat, config, run.checkpoints)
    if critic is not None:
        return fit(PPOTrainer(*arguments, critic=critic, **options), run, config, progress)
    trainer = (LoGoTrainer if config.segmented else GroupGRPOTrainer)(*arguments, **options)
    return fit(trainer, run, config, progress)


def fit(trainer: Any, run: Run, config: TrainConfig, progress: Progress) -> Path:
    """Let a trainer go on from the run's last whole checkpoint to `config.steps`; returns the adapter's folder."""
    keeper = Keeper(run, progress, config.epochs)
    trainer.add_callback(keeper)
    trainer.remove_callback(PrinterCallback)
    with main_first():
        checkpoint, step = run.resume()
    if step < config.steps:
        with keeper.stopping():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    elif checkpoint:
        trainer._load_from_checkpoint(str(checkpoint))
    if keeper.stopped:
        raise KeyboardInterrupt
    trained = trainer.accelerator.unwrap_model(trainer.model)
    weights = learned_weights(trained)  # of all processes
    if trainer.accelerator.is_main_process:
        _save(trained, weights, trainer.processing_class, run.adapter)
    trainer.accelerator.wait_for_everyone()  # what comes next may read it
    return run.adapter


def _save(trained: Any, weights: Mapping[str, Tensor], tokenizer: Any, folder: Path) -> None:
    """Whole, or not at all."""
    partial = folder.with_name(folder.name + ".partial")
    adapters = {"selected_adapters": ["default"]} if hasattr(trained, "peft_config") else {}
    try:
        shutil.rmtree(partial, ignore_errors=True)
        trained.save_pretrained(partial, state_dict=dict(weights), **adapters)
        tokenizer.save_pretrained(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointFailed(
            f"{folder} could not be written ({error}); make room on the disk and run the same command again: training "
            "is done, and its last checkpoint whole"
        ) from error


class Keeper(TrainerCallback):  # type: ignore[misc]
    """Writes what a trainer logs into the run's folder, and ends training in good order on Ctrl-C."""

    def __init__(self, run: Run, progress: Progress, epochs: int) -> None:
        self._run, self._progress, self._epochs = run, progress, epochs
        self.stopped = False
        self._passed_over = self._in_a_row = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint has the interval of the run that wrote it, which would win over this run's."""
        del control
        state.save_steps = args.save_steps

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        del args, control
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            logs = {**logs, "passed_over": self._passed_over} if self._passed_over else logs
            self._run.log(state.global_step, logs)
            self._progress(state.global_step, logs)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """A finite loss can have a gradient that is no number; applied, it would be in every checkpoint after.

        One of a large model in bfloat16 now and then is passed over, and counted: nothing is changed by that step.
        """
        del args, control
        learned = [p for p in model.parameters() if p.grad is not None]
        gradients = [p.grad for p in learned if p.grad is not None]
        if torch.isfinite(torch.nn.utils.get_total_norm(gradients)):  # one number: a GPU is waited for once
            self._in_a_row = 0
            return
        self._passed_over += 1
        self._in_a_row += 1
        if self._in_a_row == PASSED_OVER:
            raise Diverged(
                f"the gradients of {PASSED_OVER} steps in a row are no numbers, the last of step "
                f"{state.global_step + 1}; nothing was changed by them: " + self._run.begun_anew("learning_rate")
            )
        for parameter in learned:
            parameter.grad = None  # which an optimiser leaves as it is

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        del args
        self.stopped = anywhere(self.stopped)  # a checkpoint is written by all together
        if self.stopped and state.global_step % self._epochs == 0:
            control.should_save = control.should_training_stop = True

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Within, the first Ctrl-C asks to stop after the step that runs."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def stop(*_: Any) -> None:
            self.stopped = True
            signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
