"""Keys, and what stands before every path."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from serving import serving

from memory_r1.errors import BankError, EntryNotFound
from memory_r1.serve.app import Settings
from memory_r1.serve.guard import OPEN, Limits
from memory_r1.serve.keys import Keys
from memory_r1.types import Scope

ANN, BOB = Scope(user_id="ann"), Scope(user_id="bob")


def test_a_key_is_found_by_its_secret_until_it_is_revoked(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.db")
    assert not keys.exist
    key, secret = keys.create(Scope("ann", run_id="r"), "laptop")
    assert keys.find(secret) == key
    assert keys.find(secret + "x") is None
    assert [(one.name, one.scope) for one in keys.all()] == [("laptop", Scope("ann", run_id="r"))]
    assert keys.revoke(key.id).revoked_at is not None
    assert keys.find(secret) is None
    assert keys.exist
    with pytest.raises(EntryNotFound, match="keys list"):
        keys.revoke("none")


def test_the_file_holds_no_secret_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    _, secret = Keys(path).create(ANN)
    assert secret.encode() not in path.read_bytes()
    assert os.name == "nt" or path.stat().st_mode & 0o077 == 0


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys.db").write_text("not a database, and longer than a header would be" * 30)
    with pytest.raises(BankError, match=r"keys\.db"):
        Keys(tmp_path / "keys.db")


def test_a_running_server_sees_keys_that_another_process_makes_and_revokes(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.db")
    with serving(keys=keys) as client:
        assert client.get("/memories?user_id=ann").status_code == 200
        other = Keys(tmp_path / "keys.db")
        key, secret = other.create(ANN)
        assert client.get("/memories?user_id=ann").status_code == 401
        bearer = {"Authorization": f"Bearer {secret}"}
        assert client.get("/memories", headers=bearer).status_code == 200
        other.revoke(key.id)
        assert client.get("/memories", headers=bearer).status_code == 401


def test_every_path_but_the_open_ones_needs_a_key() -> None:
    keys = Keys()
    keys.create(ANN)
    with serving(keys=keys) as client:
        described = client.get("/openapi.json").json()["paths"]
        for path, methods in described.items():
            for method in methods:
                reply = client.request(method, path.replace("{memory_id}", "x"))
                assert (reply.status_code == 401) == (path not in OPEN), (method, path)
        assert client.get("/no/such/path").status_code == 401
        assert client.get("/memories").headers["www-authenticate"] == "Bearer"


def test_either_header_carries_the_key_and_two_different_keys_are_none() -> None:
    keys = Keys()
    (_, ann), (_, bob) = keys.create(ANN), keys.create(BOB)
    with serving(keys=keys) as client:
        for headers in ({"X-API-Key": ann}, {"Authorization": f"bearer {ann}"}):
            assert client.get("/memories", headers=headers).status_code == 200
        same = {"X-API-Key": ann, "Authorization": f"Bearer {ann}"}
        assert client.get("/memories", headers=same).status_code == 200
        mixed = {"X-API-Key": bob, "Authorization": f"Bearer {ann}"}
        assert client.get("/memories", headers=mixed).status_code == 401
        assert client.get("/memories", headers={"Authorization": f"Basic {ann}"}).status_code == 401
        assert client.get(f"/memories?api_key={ann}").status_code == 401


def test_a_keys_scope_need_not_be_named_and_another_is_refused() -> None:
    keys = Keys()
    _, secret = keys.create(ANN)
    with serving(keys=keys, headers={"X-API-Key": secret}) as client:
        body = {"messages": "I like tea", "infer": False}
        assert client.post("/memories", json=body).status_code == 200
        assert client.post("/memories", json={**body, "run_id": "r"}).status_code == 200
        refused = client.post("/memories", json={**body, "user_id": "bob"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "other_scope")
        entries = client.get("/memories").json()["results"]
        assert [(entry["user_id"], entry.get("run_id")) for entry in entries] == [("ann", None), ("ann", "r")]
        assert client.get("/metrics").status_code == 403
        assert client.post("/reset").json()["count"] == 2


def test_a_key_for_everybody_names_whose_memory_it_means() -> None:
    keys = Keys()
    _, secret = keys.create(None)
    with serving(keys=keys, headers={"X-API-Key": secret}) as client:
        assert client.get("/memories").json()["error"]["code"] == "missing_scope"
        for user in ("ann", "bob"):
            body = {"messages": "I like tea", "infer": False, "user_id": user}
            assert client.post("/memories", json=body).status_code == 200
        scopes = client.get("/scopes").json()
        assert (len(scopes["results"]), scopes["bound"]) == (2, None)
        assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, "other_host"),
        ({"Host": "localhost.evil.example:8888"}, "other_host"),
        ({"Origin": "https://evil.example"}, "other_origin"),
        ({"Origin": "null"}, "other_origin"),
        ({"X-Forwarded-For": "203.0.113.9"}, "other_host"),
        ({"Forwarded": "for=203.0.113.9"}, "other_host"),
        ({"X-Real-IP": "203.0.113.9"}, "other_host"),
        ({"X-Forwarded-Host": "memory.example"}, "other_host"),
    ],
)
def test_without_keys_neither_another_sites_page_nor_a_proxys_client_reaches_the_memory(
    headers: dict[str, str], code: str
) -> None:
    with serving() as client:
        reply = client.post("/reset?user_id=ann", headers=headers)
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, code)


@pytest.mark.parametrize("host", ["localhost:8888", "127.0.0.1:8888", "[::1]:8888"])
def test_without_keys_this_machine_is_answered_under_its_own_names(host: str) -> None:
    with serving() as client:
        headers = {"Host": host, "Origin": f"http://{host}"}
        assert client.get("/memories?user_id=ann", headers=headers).status_code == 200


def test_a_server_that_requires_keys_has_none_to_begin_with() -> None:
    with serving(settings=Settings(keys_required=True, local=False), host="memory.example") as client:
        assert client.get("/health").status_code == 200
        assert client.get("/memories?user_id=ann").status_code == 401


def test_a_request_that_is_too_large_is_refused_with_and_without_a_length() -> None:
    settings = Settings(limits=Limits(body_bytes=1000))
    body = b'{"user_id": "ann", "infer": false, "messages": "' + b"x" * 2000 + b'"}'
    with serving(settings=settings) as client:
        json_type = {"Content-Type": "application/json"}
        for content in (body, iter([body[:500], body[500:]])):
            reply = client.post("/memories", content=content, headers=json_type)
            assert (reply.status_code, reply.json()["error"]["code"]) == (413, "too_large")
        assert client.get("/memories?user_id=ann").json() == {"results": []}


def test_a_key_that_asks_too_often_is_told_to_wait() -> None:
    keys = Keys()
    (_, ann), (_, bob) = keys.create(ANN), keys.create(BOB)
    with serving(keys=keys, settings=Settings(limits=Limits(rate=0.5))) as client:
        assert client.get("/memories", headers={"X-API-Key": ann}).status_code == 200
        reply = client.get("/memories", headers={"X-API-Key": ann})
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "too_many_requests")
        assert int(reply.headers["retry-after"]) >= 1
        assert client.get("/memories", headers={"X-API-Key": bob}).status_code == 200


def asked(client: TestClient, address: str, **headers: str) -> int:
    """The status of a request from an address."""
    transport = client._transport
    transport.client = (address, 50_000)  # type: ignore[attr-defined]
    return client.get("/memories?user_id=ann", headers=headers).status_code


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("203.0.113.7", "203.0.113.7", True),
        ("203.0.113.7", "203.0.113.8", False),
        ("::ffff:203.0.113.7", "203.0.113.7", True),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
    ],
)
def test_without_keys_an_address_that_asks_too_often_is_told_to_wait(first: str, second: str, same: bool) -> None:
    with serving(settings=Settings(limits=Limits(rate=0.5), local=False)) as client:
        assert asked(client, first) == 200
        assert asked(client, second) == (429 if same else 200)
        assert client.get("/health").status_code == 200


def test_who_guesses_keys_is_told_to_wait_and_holders_of_keys_are_not() -> None:
    keys = Keys()
    _, ann = keys.create(ANN)
    with serving(keys=keys, settings=Settings(limits=Limits(rate=0.5))) as client:
        guesses = [asked(client, "203.0.113.7", **{"X-API-Key": f"mr1_{n}"}) for n in range(3)]
        assert guesses == [401, 429, 429]
        assert asked(client, "203.0.113.7", **{"X-API-Key": ann}) == 200


def test_programs_of_this_machine_are_not_counted() -> None:
    with serving(settings=Settings(limits=Limits(rate=0.5))) as client:
        assert [asked(client, "127.0.0.1") for _ in range(5)] == [200] * 5


def test_refusals_do_not_tell_whether_another_scopes_entry_exists() -> None:
    keys = Keys()
    (_, ann), (_, bob) = keys.create(ANN), keys.create(BOB)

    def ask(client: TestClient, memory_id: str) -> list[tuple[int, str]]:
        headers = {"X-API-Key": ann}
        replies = [
            client.get(f"/memories/{memory_id}", headers=headers),
            client.put(f"/memories/{memory_id}", headers=headers, json={"text": "mine"}),
            client.delete(f"/memories/{memory_id}", headers=headers),
            client.get(f"/memories/{memory_id}/history", headers=headers),
        ]
        return [(reply.status_code, reply.text.replace(memory_id, "ID")) for reply in replies]

    with serving(keys=keys) as client:
        body = {"messages": "Bob's secret", "infer": False}
        (bobs,) = client.post("/memories", json=body, headers={"X-API-Key": bob}).json()["results"]
        assert ask(client, bobs["id"]) == ask(client, "00000000-0000-4000-8000-000000000000")
        undone = client.post("/undo", json={"operation": bobs["operation"]}, headers={"X-API-Key": ann})
        assert undone.status_code == 404
        kept = client.get(f"/memories/{bobs['id']}", headers={"X-API-Key": bob})
        assert kept.json()["memory"] == "Bob's secret"


def test_keys_survive_a_process_that_dies_while_writing(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.db")
    _, secret = keys.create(ANN)
    half_done = sqlite3.connect(tmp_path / "keys.db", isolation_level=None)
    half_done.execute("BEGIN IMMEDIATE")
    half_done.execute("DELETE FROM key")
    half_done.close()
    assert Keys(tmp_path / "keys.db").find(secret) is not None
