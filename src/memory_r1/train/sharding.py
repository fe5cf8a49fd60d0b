"""Several processes that train one model, as `torchrun` and `accelerate launch` start them.

With FSDP2 (`accelerate launch`, configs/fsdp2.yaml) each process holds a part of the model. A pass through it gathers
the weights from all processes, layer by layer, and so waits for a pass on each of the others. Episodes take as many
passes as their replies are long, on every process another number; what is learned from takes equally many on all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, distributed
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule
from torch.distributed.tensor import DTensor

from memory_r1.errors import InvalidInput

# What the first process makes before training may take hours, and so may another's episodes: a hang is noticed late.
PATIENCE = timedelta(days=1)


def processes() -> int:
    """How many train together, as torchrun and accelerate launch say."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that writes the run's folder, of all machines the first."""
    return os.environ.get("RANK", "0") == "0"


def sharded() -> bool:
    """Whether the model is to be shared out, as accelerate launch says."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


@contextmanager
def main_first() -> Iterator[None]:
    """The other processes come in when the main one has left, and find what it made."""
    if processes() == 1:
        yield
        return
    with PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE).main_process_first():
        yield


def anywhere(flag: bool) -> bool:
    """Whether it is so on any process. All have to ask."""
    if processes() == 1:
        return flag
    flags = torch.tensor(int(flag), device=PartialState().device)
    distributed.all_reduce(flags, distributed.ReduceOp.MAX)
    return bool(flags)


def check(plugin: Any) -> None:
    """Raises InvalidInput for ways of sharing a model out that training does not know."""
    wrong = [
        ("fsdp_version must be 2", plugin.fsdp_version != 2),
        ("fsdp_offload_params must be false", isinstance(plugin.cpu_offload, CPUOffloadPolicy)),
        ("fsdp_cpu_ram_efficient_loading must be false", plugin.cpu_ram_efficient_loading),
        ("torch must be newer (2.13 is)", not hasattr(FSDPModule, "reset_iter_state")),
    ]
    if found := [what for what, is_wrong in wrong if is_wrong]:
        raise InvalidInput(f"to share a model out among processes, {', and '.join(found)}: see configs/fsdp2.yaml")


def add_up_exactly(plugin: Any) -> None:
    """Gradients of several processes are summed in float32, as DDP does, and a model's results stay what they are."""
    if (policy := plugin.mixed_precision_policy) is not None:
        plugin.mixed_precision_policy = replace(policy, reduce_dtype=torch.float32, output_dtype=None)


@contextmanager
def gathered(model: Any) -> Iterator[None]:
    """Within, every process holds all weights of the model and waits for no other; no gradient may be taken.

    A model that is not shared out stays as it is. The memory is that of the whole model, in the type it computes in.
    """
    if not isinstance(model, FSDPModule):
        with torch.no_grad():
            yield
        return
    model._get_fsdp_state()._lazy_init()  # else done by a first pass, which a process may have none of here
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    groups = [group for part in parts for group in part._get_fsdp_state()._fsdp_param_groups]
    after = [group.post_forward_mesh_info for group in groups]
    model.set_reshard_after_forward(False)
    for part in parts:
        part.unshard()
    try:
        with torch.no_grad():
            yield
    finally:
        model.reset_iter_state()  # gives the weights back, and forgets which passes there were
        for group, mesh in zip(groups, after, strict=True):
            group.post_forward_mesh_info = mesh


def learned_weights(model: Any) -> dict[str, Tensor]:
    """Every weight that is trained, whole and on the CPU, for the main process; all have to ask."""
    kept: dict[str, Tensor] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            value = whole(weight.detach())
            if is_main():
                kept[name] = value.cpu()
    return kept


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or all of one that is shared out: then all processes have to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
