"""memory-r1: long-term memory for LLM agents whose policies are learned."""

from importlib import import_module
from typing import TYPE_CHECKING

from memory_r1.errors import MemoryR1Error
from memory_r1.flow import LLM, Flow, Roles, arun, run, run_batch
from memory_r1.types import Answer, Fact, Logged, MemoryEntry, Operation, Prompt, Reply, Scope, Turn

if TYPE_CHECKING:
    from memory_r1.answer import ask
    from memory_r1.async_memory import AsyncMemory
    from memory_r1.bank import MemoryBank
    from memory_r1.manager import remember
    from memory_r1.memory import Memory
else:
    # Whatever opens a bank needs numpy, which takes longer to import than all the rest: these load at first use.
    _LATER = {
        "AsyncMemory": "async_memory",
        "Memory": "memory",
        "MemoryBank": "bank",
        "ask": "answer",
        "remember": "manager",
    }

    def __getattr__(name):
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "LLM",
    "Answer",
    "AsyncMemory",
    "Fact",
    "Flow",
    "Logged",
    "Memory",
    "MemoryBank",
    "MemoryEntry",
    "MemoryR1Error",
    "Operation",
    "Prompt",
    "Reply",
    "Roles",
    "Scope",
    "Turn",
    "arun",
    "ask",
    "remember",
    "run",
    "run_batch",
]
