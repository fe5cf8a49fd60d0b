"""The serving benchmark's server, by FILE and PORT: `memory-r1 serve` with an embedder that hashes, and no limits."""

from __future__ import annotations

import sys

import uvicorn

from memory_r1.memory import Memory
from memory_r1.serve.app import Settings, create_app
from memory_r1.serve.keys import Keys
from memory_r1.serve.limits import KEEP_ALIVE_SECONDS, Limits
from memory_r1.testing import HashEmbedder, ScriptedLLM


def main(file: str, port: int) -> None:
    with Memory(file, llm=ScriptedLLM([]), embedder=HashEmbedder(384)) as memory:
        app = create_app(memory, Keys(":memory:"), settings=Settings(limits=Limits(rate=0)))
        uvicorn.run(
            app,
            host="127.0.0.1",
            port=port,
            log_level="warning",
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
