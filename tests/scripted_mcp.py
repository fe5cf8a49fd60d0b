"""An MCP server over stdio whose model is a script: its arguments are the bank's file, the user, and `--raw`."""

from __future__ import annotations

import json
import sys

from memory_r1 import Memory
from memory_r1.mcp import MemoryServer
from memory_r1.scoped import ScopedMemory
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.tools import MemoryTools, RawMemoryTools
from memory_r1.types import Prompt, Scope


def reply(prompt: Prompt) -> str:
    """Takes a message for one fact, updates the first related memory, and answers with the first one retrieved."""
    said = prompt.messages[-1].content
    if prompt.step == "extract":
        fact = said.partition(": ")[2]
        return json.dumps({"facts": [] if fact == "Thanks!" else [fact]})
    if prompt.step == "manage":
        return json.dumps({"operation": "UPDATE", "index": 1, "text": "Ann has two dogs, Biscuit and Pepper"})
    return json.dumps({"keep": [1], "answer": "Biscuit and Pepper"})


if __name__ == "__main__":
    path, user, *raw = sys.argv[1:]
    with Memory(path, llm=ScriptedLLM(reply), embedder=HashEmbedder()) as memory:
        scoped = ScopedMemory(memory, Scope(user_id=user))
        MemoryServer(RawMemoryTools(scoped) if raw else MemoryTools(scoped)).run("stdio")
