"""Mem0's paths over HTTP, and what comes beyond them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from serving import Switch, events, serving

from memory_r1 import Memory
from memory_r1.testing import HashEmbedder
from memory_r1.types import Prompt


@pytest.fixture
def client() -> Iterator[TestClient]:
    with serving() as client:
        yield client


def added(client: TestClient, text: str, user: str = "alice") -> dict[str, Any]:
    reply = client.post("/memories", json={"messages": text, "user_id": user, "infer": False})
    assert reply.status_code == 200, reply.text
    (result,) = reply.json()["results"]
    return dict(result)


def texts(client: TestClient, user: str = "alice") -> list[str]:
    return [entry["memory"] for entry in client.get("/memories", params={"user_id": user}).json()["results"]]


def test_the_calls_that_mem0_documents_for_its_server_work(client: TestClient) -> None:
    body = {
        "messages": [
            {"role": "user", "content": "I love fresh vegetable pizza."},
            {"role": "assistant", "content": "Noted, vegetables it is!"},
        ],
        "user_id": "alice",
        "metadata": {"source": "chat"},
    }
    created = client.post("/memories", json=body).json()
    assert [(one["event"], one["memory"]) for one in created["results"]] == [
        ("ADD", "I love fresh vegetable pizza."),
        ("ADD", "Noted, vegetables it is!"),
    ]
    memory_id = created["results"][0]["id"]

    listed = client.get("/memories?user_id=alice").json()["results"]
    assert [entry["id"] for entry in listed] == [one["id"] for one in created["results"]]
    entry = client.get(f"/memories/{memory_id}").json()
    assert entry == listed[0]
    assert {"id", "memory", "hash", "metadata", "created_at", "updated_at", "user_id"} <= set(entry)
    assert entry["metadata"] == {"source": "chat"}

    found = client.post("/search", json={"query": "vegetable pizza", "user_id": "alice"}).json()["results"]
    assert (found[0]["id"], found[0]["score"] > 0) == (memory_id, True)
    filtered = {"query": "pizza", "filters": {"user_id": "alice", "source": "mail"}, "top_k": 5}
    assert client.post("/search", json=filtered).json() == {"results": []}

    updated = client.put(f"/memories/{memory_id}", json={"text": "I love pizza with mushrooms."})
    assert updated.json()["message"] == "Memory updated successfully!"
    assert client.get(f"/memories/{memory_id}").json()["memory"] == "I love pizza with mushrooms."

    history = client.get(f"/memories/{memory_id}/history").json()
    assert [(one["event"], one["old_memory"], one["new_memory"]) for one in history] == [
        ("ADD", None, "I love fresh vegetable pizza."),
        ("UPDATE", "I love fresh vegetable pizza.", "I love pizza with mushrooms."),
    ]

    assert client.delete(f"/memories/{memory_id}").json()["message"] == "Memory deleted successfully!"
    assert client.get(f"/memories/{memory_id}").status_code == 404
    assert client.delete("/memories?user_id=alice").json()["count"] == 1
    assert texts(client) == []


@pytest.mark.parametrize("infer", [True, False])
def test_a_message_that_is_sent_again_with_its_id_costs_nothing(client: TestClient, infer: bool) -> None:
    message = {"role": "user", "content": "I moved to Oslo", "id": "m1"}
    body = {"messages": [message], "user_id": "alice", "infer": infer}
    first, again = (client.post("/memories", json=body) for _ in range(2))
    assert [one["event"] for one in first.json()["results"]] == ["ADD"]
    assert (again.status_code, again.json()) == (200, {"results": [], "unreadable": 0})
    assert texts(client) == ["I moved to Oslo"]


def test_a_reset_erases_one_scope_and_says_so_where_none_is_named(client: TestClient) -> None:
    added(client, "Alice likes tea")
    bobs = added(client, "Bob likes tea", "bob")
    assert client.post("/reset").json()["error"]["code"] == "missing_scope"
    assert client.post("/reset?user_id=alice").json() == {"message": "Memories erased for good.", "count": 1}
    assert texts(client) == []
    logged = client.get("/operations?user_id=alice").json()["results"]
    assert [(one["event"], one["new_memory"], one["fact"]) for one in logged] == [
        ("PURGE", None, None),
        ("ADD", None, None),
    ]
    assert client.get(f"/memories/{bobs['id']}").status_code == 200


def test_operations_come_latest_first_and_one_is_undone(client: TestClient) -> None:
    first, second = added(client, "Alice likes tea"), added(client, "Alice likes jazz")
    latest = client.get("/operations?user_id=alice&top_k=1").json()["results"]
    assert [one["id"] for one in latest] == [second["operation"]]
    (older,) = client.get(f"/operations?user_id=alice&before={second['operation']}").json()["results"]
    assert older["id"] == first["operation"]
    undone = client.post("/undo", json={"operation": second["operation"]})
    assert (undone.json()["event"], undone.json()["undoes"]) == ("DELETE", second["operation"])
    assert texts(client) == ["Alice likes tea"]
    assert client.post("/undo", json={"operation": 999}).json()["error"]["code"] == "not_found"
    client.put(f"/memories/{first['id']}", json={"text": "Alice likes coffee"})
    conflict = client.post("/undo", json={"operation": first["operation"]})
    assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "conflict")


def test_a_question_is_answered_with_what_was_kept(client: TestClient) -> None:
    added(client, "Alice likes tea")
    answer = client.post("/ask", json={"question": "What does Alice like?", "user_id": "alice"}).json()
    assert (answer["answer"], answer["known"], answer["dropped"]) == ("yes", True, 0)
    assert [entry["memory"] for entry in answer["used"]] == ["Alice likes tea"]
    assert [entry["memory"] for entry in answer["retrieved"]] == ["Alice likes tea"]


def test_context_is_fenced_data(client: TestClient) -> None:
    added(client, "Alice likes tea")
    text = client.post("/context", json={"query": "tea", "user_id": "alice"}).json()["context"]
    assert text.startswith("<recalled-memory ")
    assert "Alice likes tea" in text
    assert client.post("/context", json={"query": "tea", "user_id": "bob"}).json() == {"context": ""}


def test_a_listing_takes_a_filter_and_begins_at_either_end(client: TestClient) -> None:
    for topic, text in (("pets", "I have a dog"), ("food", "I like tea"), ("pets", "I have a cat")):
        body = {"messages": text, "user_id": "alice", "infer": False, "metadata": {"topic": topic}}
        assert client.post("/memories", json=body).status_code == 200

    def listed(**query: str) -> list[str]:
        reply = client.get("/memories", params={"user_id": "alice", **query})
        return [entry["memory"] for entry in reply.json()["results"]]

    assert listed(order="newest") == ["I have a cat", "I like tea", "I have a dog"]
    assert listed(order="newest", skip="1", top_k="1") == ["I like tea"]
    assert listed(order="newest", filters='{"topic": "pets"}') == ["I have a cat", "I have a dog"]
    assert listed(filters='{"topic": {"in": ["food"]}}', as_of="2200-01-01") == ["I like tea"]
    for bad in ("{", "[" * 10_000, '"topic"', '{"user_id": {"ne": "alice"}}'):
        reply = client.get("/memories", params={"user_id": "alice", "filters": bad})
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "bad_filter"), bad


def test_an_audit_of_many_is_counted_whole_and_listed_in_part(client: TestClient) -> None:
    for text in ("I like tea", "I like tea", "I have a dog"):
        added(client, text)
    found = client.get("/audit", params={"user_id": "alice", "top_k": 2}).json()
    assert found["counts"] == {"exact duplicate": 1, "never recalled": 3}
    assert [one["kind"] for one in found["findings"]] == ["exact duplicate", "never recalled", "never recalled"]


def test_audit_scopes_and_export_show_what_is_there(client: TestClient) -> None:
    added(client, "Alice likes tea")
    added(client, "alice likes tea.")
    added(client, "Bob likes tea", "bob")
    kinds = [one["kind"] for one in client.get("/audit?user_id=alice").json()["findings"]]
    assert kinds == ["exact duplicate", "never recalled", "never recalled"]
    assert client.get("/scopes").json()["results"] == [
        {"user_id": "alice", "memories": 2},
        {"user_id": "bob", "memories": 1},
    ]
    exported = client.get("/export?user_id=bob")
    assert exported.headers["content-type"].startswith("application/x-ndjson")
    with Memory(":memory:", embedder=HashEmbedder()) as other:
        assert other.import_(exported.text.splitlines()) == 1
        assert [entry["memory"] for entry in other.get_all(user_id="bob")["results"]] == ["Bob likes tea"]
    assert len(client.get("/export").text.splitlines()) == 4


def test_memories_are_listed_in_pages(client: TestClient) -> None:
    for n in range(5):
        added(client, f"number {n}")
    page = client.get("/memories", params={"user_id": "alice", "skip": 2, "top_k": 2}).json()["results"]
    assert [entry["memory"] for entry in page] == ["number 2", "number 3"]


def test_a_dry_run_changes_nothing(client: TestClient) -> None:
    body = {"messages": "I have a dog", "user_id": "alice", "dry_run": True}
    assert [one["event"] for one in client.post("/memories", json=body).json()["results"]] == ["ADD"]
    assert texts(client) == []


@pytest.mark.parametrize("how", [{"params": {"stream": "true"}}, {"headers": {"Accept": "text/event-stream"}}])
def test_a_long_add_streams_its_operations(client: TestClient, how: dict[str, Any]) -> None:
    turns = [{"role": "user", "content": f"fact number {n}"} for n in range(3)]
    reply = client.post("/memories", json={"messages": turns, "user_id": "alice"}, **how)
    assert reply.headers["content-type"].startswith("text/event-stream")
    found = events(reply.text)
    assert [name for name, _ in found] == ["operation", "operation", "operation", "done"]
    assert [data["memory"] for _, data in found[:3]] == ["fact number 0", "fact number 1", "fact number 2"]
    assert found[3][1]["results"] == [data for _, data in found[:3]]


def test_a_stream_that_fails_ends_with_the_error() -> None:
    with serving(Switch()) as client:
        bad = client.post("/memories?stream=true", json={"messages": [{"content": ""}], "user_id": "alice"})
        assert (bad.status_code, bad.json()["error"]["code"]) == (400, "invalid_input")
    switch = Switch()
    switch.down = True
    with serving(switch) as client:
        reply = client.post("/memories?stream=true", json={"messages": "hello there", "user_id": "alice"})
        ((name, data),) = events(reply.text)
        assert (name, data["error"]["code"]) == ("error", "model_unavailable")


def test_while_the_model_is_down_adds_are_refused_with_what_was_done() -> None:
    asked: list[Prompt] = []
    switch = Switch()

    def down_at_the_second(prompt: Prompt) -> str:
        asked.append(prompt)
        switch.down = len(asked) > 1
        return switch(prompt)

    with serving(down_at_the_second) as client:
        body = {"messages": [{"content": "Alice likes tea"}, {"content": "Alice likes jazz"}], "user_id": "alice"}
        reply = client.post("/memories", json=body)
        assert reply.status_code == 503
        assert reply.headers["retry-after"] == "5"
        assert set(reply.json()["error"]) == {"code", "message", "remedy"}
        assert [one["memory"] for one in reply.json()["results"]] == ["Alice likes tea"]
        assert added(client, "stored as it is")["event"] == "ADD"
        assert client.post("/ask", json={"question": "tea?", "user_id": "alice"}).status_code == 503


RESERVED = [{"role": "user", "content": "hi", "id": "quarantine-1"}]
REFUSED = [
    ("POST", "/memories", {"messages": "hi"}, 400, "missing_scope"),
    ("POST", "/memories", {"messages": "", "user_id": "a"}, 400, "invalid_input"),
    ("POST", "/memories", {"messages": "hi", "user_id": "*"}, 400, "invalid_input"),
    ("POST", "/memories", {"messages": "hi", "user_id": "a", "timestamp": "soon"}, 400, "invalid_input"),
    ("POST", "/memories", {"messages": RESERVED, "user_id": "a"}, 400, "invalid_input"),
    ("POST", "/memories", {"messages": RESERVED, "user_id": "a", "infer": False}, 400, "invalid_input"),
    ("POST", "/memories", {"messages": "hi", "usr": "a"}, 422, "invalid_request"),
    ("POST", "/memories", {"messages": [{"role": "user"}], "user_id": "a"}, 422, "invalid_request"),
    ("POST", "/search", {"query": "x", "user_id": "a", "filters": {"n": {"near": 3}}}, 400, "bad_filter"),
    ("POST", "/search", {"query": "x", "user_id": "a", "filters": {"OR": [{"user_id": "b"}]}}, 400, "bad_filter"),
    ("POST", "/search", {"query": " ", "user_id": "a"}, 400, "invalid_input"),
    ("POST", "/search", {"query": "x", "user_id": "a", "top_k": 0}, 422, "invalid_request"),
    ("GET", "/memories", None, 400, "missing_scope"),
    ("GET", "/memories/none", None, 404, "not_found"),
    ("GET", "/memories/none/history", None, 404, "not_found"),
    ("PUT", "/memories/none", {"text": "x"}, 404, "not_found"),
    ("DELETE", "/memories/none", None, 404, "not_found"),
    ("DELETE", "/memories", None, 400, "missing_scope"),
    ("POST", "/undo", {"operation": 2**70}, 422, "invalid_request"),
    ("GET", "/nowhere", None, 404, "unknown_path"),
    ("PATCH", "/memories", None, 405, "unknown_method"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "code"), REFUSED)
def test_what_cannot_be_meant_is_refused_with_a_code_and_a_remedy(
    client: TestClient, method: str, path: str, body: Any, status: int, code: str
) -> None:
    reply = client.request(method, path, json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert all(reply.json()["error"].values())


def test_half_a_surrogate_pair_is_refused_and_not_an_accident(client: TestClient) -> None:
    for body in (r'{"messages": "\ud800", "user_id": "a"}', r'{"messages": "x", "user_id": "\ud800"}'):
        reply = client.post("/memories", content=body, headers={"Content-Type": "application/json"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_input")


def test_a_refused_body_is_not_repeated(client: TestClient) -> None:
    reply = client.post("/memories", json={"messages": {"secret": "hunter2"}, "user_id": "alice"})
    assert reply.status_code == 422
    assert "hunter2" not in reply.text


def test_health_readiness_metrics_and_the_openapi_page_are_there(client: TestClient) -> None:
    client.post("/memories", json={"messages": "I like tea", "user_id": "alice"})
    client.get("/memories/none")
    assert client.get("/health").json()["status"] == "ok"
    assert client.get("/ready").json() == {"status": "ready", "waiting": 0}
    lines = client.get("/metrics").text.splitlines()
    assert 'memory_r1_requests_total{method="GET",route="/memories/{memory_id}",status="404"} 1.0' in lines
    assert 'memory_r1_operations_total{kind="ADD"} 1.0' in lines
    assert 'memory_r1_refused_total{code="not_found"} 1.0' in lines
    assert 'memory_r1_model_calls_total{step="extract"} 1.0' in lines
    assert "memory_r1_entries 1.0" in lines
    assert client.get("/docs").status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/memories", "/search", "/memories/{memory_id}/history", "/undo", "/v1/chat/completions"} <= set(paths)


def test_a_server_whose_bank_is_closed_is_not_ready() -> None:
    memory = Memory(":memory:", embedder=HashEmbedder())
    with serving(memory=memory) as client:
        memory.close()
        assert client.get("/health").status_code == 200
        assert client.get("/ready").json()["error"]["code"] == "not_ready"


def test_unknown_paths_are_counted_under_one_name() -> None:
    with serving() as client:
        for n in range(3):
            client.get(f"/unknown/{n}")
        found = [line for line in client.get("/metrics").text.splitlines() if "requests_total{" in line]
    assert found == ['memory_r1_requests_total{method="GET",route="unmatched",status="404"} 3.0']
