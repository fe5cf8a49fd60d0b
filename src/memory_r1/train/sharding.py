"""Several processes that train one model, as `torchrun` and `accelerate launch` start them.

With FSDP2 (`accelerate launch`, configs/fsdp2.yaml) each process holds a part of the model. A pass through it gathers
the weights from all processes, layer by layer, and so waits for a pass on each of the others. Episodes take as many
passes as their replies are long, on every process another number; what is learned from takes equally many on all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

PATIENCE = timedelta(days=1)  # what the first process makes before training may take hours; torch waits 10 minutes


def processes() -> int:
    """How many train together, as torchrun and accelerate launch say."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def main_first() -> Iterator[None]:
    """The other processes come in when the main one has left, and find what it made."""
    if processes() == 1:
        yield
        return
    with PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE).main_process_first():
        yield


@contextmanager
def gathered(*models: Any) -> Iterator[None]:
    """Within, every process holds all weights and waits for no other; no gradient may be taken.

    Models that are not shared out stay as they are. The memory is that of the whole model, in the type it computes in.
    """
    shared = [model for model in models if isinstance(model, FSDPModule)]
    for model in shared:
        model.set_reshard_after_forward(False)
        for part in _parts(model):
            part.unshard()
    try:
        with torch.no_grad():
            yield
    finally:
        for model in shared:
            model.reset_iter_state()  # gives the weights back, and forgets which passes there were
            model.set_reshard_after_forward(True)
            model.set_reshard_after_forward(False, recurse=False)  # its own, which the way back needs at once


def _parts(model: Any) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def learned_weights(model: Any) -> dict[str, Tensor]:
    """Every weight that is trained, whole and on the CPU. All processes have to ask."""
    return {name: whole(weight.detach()).cpu() for name, weight in model.named_parameters() if weight.requires_grad}


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or all of one that is shared out: then all processes have to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
