"""Accelerate shares a model out among GPUs alone, though FSDP2 itself works on CPUs: this makes it do so there."""

from __future__ import annotations

import os
from typing import Any


def allow_sharding_on_cpus() -> None:
    """Where the environment asks for FSDP. It changes Accelerate's own state, and nothing of memory-r1's."""
    if os.environ.get("ACCELERATE_USE_FSDP") != "true":
        return
    from accelerate.state import AcceleratorState, DistributedType, PartialState

    made: Any = AcceleratorState.__init__

    def make(self: Any, *arguments: Any, fsdp_plugin: Any = None, **options: Any) -> None:
        made(self, *arguments, **options)
        if fsdp_plugin is not None:
            PartialState._shared_state["distributed_type"] = self.distributed_type = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin
            if self._mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(self._mixed_precision)

    AcceleratorState.__init__ = make
