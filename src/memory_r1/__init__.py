"""memory-r1: long-term memory for LLM agents whose policies are learned."""

from memory_r1.answer import ask
from memory_r1.bank import MemoryBank
from memory_r1.errors import MemoryR1Error
from memory_r1.flow import LLM, Flow, Roles, arun, run, run_batch
from memory_r1.manager import remember
from memory_r1.memory import AsyncMemory, Memory
from memory_r1.types import Answer, Fact, Logged, MemoryEntry, Operation, Prompt, Reply, Scope, Turn

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
