"""What docs/serving.md shows, done to a server."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from serving import said, serving
from test_serve_chat import Upstream, listening

from memory_r1 import Memory
from memory_r1.serve.keys import Keys
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.types import Scope

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """The words of every curl command, in order."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def sent(client: TestClient, words: list[str]) -> httpx.Response:
    """A curl command as a request."""
    method, url, headers, data = "GET", "", {}, None
    rest = iter(words[1:])
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        elif word == "-d":
            data = next(rest)
        else:
            url = word.removeprefix("http://localhost:8888")
    return client.request(method, url, headers=headers, content=data)


def test_every_curl_command_works_and_shows_what_the_page_says() -> None:
    shown = commands()
    assert len(shown) == 17
    memory_id = ""
    with serving() as client:
        for words in shown:
            reply = sent(client, [word.replace("$ID", memory_id) for word in words])
            if not memory_id:
                memory_id = reply.json()["results"][0]["id"]
            if words[-1] == '{"operation": 1}':  # which was purged or changed since: the page's number is an example
                assert reply.status_code == 409
                continue
            assert reply.status_code == 200, (words, reply.text)


def test_the_page_names_every_code_and_path_that_there_is() -> None:
    source = Path(__file__).parents[2] / "src" / "memory_r1" / "serve"
    codes = set(re.findall(r'\d{3},\s+"(\w+)"', "".join(path.read_text() for path in source.glob("*.py"))))
    assert codes - {"internal", "failed", "bank_unusable", "no_upstream"} <= set(re.findall(r"`(\w+)`", PAGE))
    with serving() as client:
        paths = client.get("/openapi.json").json()["paths"]
    assert [path for path in paths if path.replace("{memory_id}", "$ID") not in PAGE] == ["/scopes", "/v1/models"]


def test_the_openai_client_has_a_memory(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)
    upstream = Upstream()
    with Memory(":memory:", llm=ScriptedLLM(said), embedder=HashEmbedder()) as memory:
        with listening(memory, Keys(), upstream) as url:
            exec(compile(code.replace("http://localhost:8888/v1", url), "serving.md", "exec"), {})
        assert capsys.readouterr().out == "Hello!\n"
        ((authorization, body),) = upstream.asked
        assert (authorization, body["model"]) == ("Bearer sk-your-key", "gpt-5-mini")
        assert memory.bank.count(Scope(user_id="alice")) in (0, 1)  # 0: the server ended before its turn came
    upstream.httpd.shutdown()
    upstream.httpd.server_close()
    assert json.dumps(body["messages"]).count("recalled-memory") == 0
