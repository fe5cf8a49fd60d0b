"""A server in the test's own process, on small real doubles."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from memory_r1 import Memory
from memory_r1.errors import ModelUnavailable
from memory_r1.serve.app import Settings, create_app
from memory_r1.serve.chat import Upstream
from memory_r1.serve.keys import Keys
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.types import Prompt

Script = Callable[[Prompt], str]


def said(prompt: Prompt) -> str:
    """A model that takes what was said for a fact, always adds, and answers with the first memory."""
    told = prompt.messages[-1].content
    if prompt.step == "extract":
        return json.dumps({"facts": [told.partition(": ")[2]]})
    if prompt.step == "manage":
        return '{"operation": "ADD"}'
    return '{"keep": [1], "answer": "yes"}'


class Switch:
    """A model that can be down."""

    def __init__(self) -> None:
        self.down = False

    def __call__(self, prompt: Prompt) -> str:
        if self.down:
            raise ModelUnavailable("http://model.test cannot be reached; check that the server runs")
        return said(prompt)


@contextmanager
def serving(
    script: Script = said,
    *,
    keys: Keys | None = None,
    upstream: Upstream | None = None,
    settings: Settings | None = None,
    memory: Memory | None = None,
    headers: Mapping[str, str] | None = None,
    host: str = "localhost",
) -> Iterator[TestClient]:
    held = memory or Memory(":memory:", llm=ScriptedLLM(script), embedder=HashEmbedder())
    with (
        held,
        TestClient(
            create_app(held, keys or Keys(), upstream=upstream, settings=settings),
            base_url=f"http://{host}",
            headers=headers,
            raise_server_exceptions=False,
        ) as client,
    ):
        yield client


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """The application on a real port of this machine; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    (port,) = {each.getsockname()[1] for one in server.servers for each in one.sockets}
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def events(text: str) -> list[tuple[str, Any]]:
    """Server-sent events as (name, data)."""
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.splitlines()
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found
