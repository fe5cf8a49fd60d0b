"""What every trainer here does on top of Hugging Face's: checkpoints that are whole, and no step on a broken loss."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from memory_r1.errors import CheckpointFailed, Diverged, InvalidInput
from memory_r1.train.config import TrainConfig
from memory_r1.train.runs import COMPLETE, Run
from memory_r1.train.sharding import add_up_exactly, check, processes, sharded


class Guarded:
    """A mixin that stands before a Trainer."""

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()  # type: ignore[misc]
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)  # type: ignore[attr-defined]
        if plugin is not None:
            check(plugin)
            add_up_exactly(plugin)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        step = self.state.global_step + 1  # type: ignore[attr-defined]
        if not torch.isfinite(loss):
            run = Run(Path(self.args.output_dir).parent)  # type: ignore[attr-defined]
            raise Diverged(
                f"the loss of step {step} is {loss.item()}; nothing was changed by it: "
                + run.begun_anew("learning_rate")
            )
        return loss

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Whole, or not at all: a checkpoint without its last file is none."""
        step, args = self.state.global_step, self.args  # type: ignore[attr-defined]
        path = Path(args.output_dir) / f"checkpoint-{step}"
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            self._save_more(path)
            self.accelerator.wait_for_everyone()  # type: ignore[attr-defined]  # each process writes a part
            if args.should_save:
                (path / COMPLETE).write_text(json.dumps({"step": step}), encoding="utf-8")
        except (OSError, RuntimeError, SafetensorError, CheckpointException) as error:
            shutil.rmtree(path, ignore_errors=True)
            raise CheckpointFailed(
                f"{path} could not be written ({error}); make room on the disk and run the same command again: it goes "
                "on from the checkpoint before"
            ) from error

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """transformers 5.19 leaves "default" as it is where adapters of other names lie beside it, in folders."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
        learner = self.model if model is None else model  # type: ignore[attr-defined]
        if hasattr(learner, "peft_config") and not self.is_fsdp_enabled:  # type: ignore[attr-defined]
            learner.load_adapter(resume_from_checkpoint, "default", is_trainable=True)
            learner.set_adapter("default")

    def _save_more(self, path: Path) -> None:
        """What a checkpoint holds besides."""


def shared_settings(config: TrainConfig, folder: Path, use_cpu: bool | None) -> dict[str, Any]:
    """Hugging Face's training arguments that every algorithm takes from our config."""
    if config.groups % processes():
        raise InvalidInput(f"groups ({config.groups}) must be a multiple of the processes ({processes()})")
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": config.group_size,
        "gradient_accumulation_steps": config.groups // processes(),
        "max_steps": config.steps,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": {"constant": "constant_with_warmup", "cosine": "cosine"}[config.schedule],
        "warmup_steps": config.warmup,
        "weight_decay": 0.0,
        "max_grad_norm": config.max_grad_norm,
        "seed": config.seed,
        "use_cpu": not torch.cuda.is_available() if use_cpu is None else use_cpu,
        "bf16": config.bf16,
        "gradient_checkpointing": config.checkpointing,
        "save_strategy": "steps",
        "save_steps": config.save_every,
        "save_total_limit": config.keep,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": list(config.report),
        "run_name": folder.parent.name,
        "remove_unused_columns": False,
        # Unless they are summed after each micro-batch, a process holds whole gradients until the step's last.
        "accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": sharded()}},
        "ddp_broadcast_buffers": False,  # they never change, and processes may score unequally many prompts in a pass
        "disable_tqdm": True,
    }


def epochs(samples: int, seed: int) -> Iterator[list[int]]:
    """The orders in which a run takes its samples: all of them in one, all in another, and so on without end.

    Samplers with a state of their own forget, when a run goes on, which order they had come to.
    """
    for epoch in count():
        yield random.Random(f"{seed} {epoch}").sample(range(samples), samples)


def order(samples: int, total: int, seed: int) -> list[int]:
    """The first `total` samples that a run takes."""
    return list(islice(chain.from_iterable(epochs(samples, seed)), total))
