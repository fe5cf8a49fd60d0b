"""API keys: each opens one scope, or every scope. Only their hashes are kept."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from memory_r1.errors import EntryNotFound
from memory_r1.serve.database import Database
from memory_r1.types import Scope

PREFIX = "mr1_"  # so that secret scanners can tell what leaked

_TABLE = """key (
    id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
    user_id TEXT, agent_id TEXT, run_id TEXT, created_at REAL NOT NULL, revoked_at REAL
)"""
_COLUMNS = "id, name, user_id, agent_id, run_id, created_at, revoked_at"


@dataclass(frozen=True, slots=True)
class Key:
    """What a key opens: one scope, or with `scope=None` every scope."""

    id: str
    name: str
    scope: Scope | None
    created_at: datetime
    revoked_at: datetime | None = None


class Keys:
    """The keys in one file. A key made or revoked by another process counts at once."""

    def __init__(self, path: str | Path = ":memory:") -> None:
        self._database = Database(path, _TABLE)
        self._seen: int | None = None
        self._by_hash: dict[str, Key] = {}

    def create(self, scope: Scope | None, name: str = "") -> tuple[Key, str]:
        """A new key and its secret, which cannot be shown again."""
        secret = PREFIX + secrets.token_urlsafe(32)
        key = Key(secrets.token_hex(4), name, scope, datetime.now(UTC))
        ids = scope.ids if scope else {}
        row = (key.id, _hash(secret), name, ids.get("user_id"), ids.get("agent_id"), ids.get("run_id"))
        with self._database() as db:
            db.execute("INSERT INTO key VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", (*row, key.created_at.timestamp()))
            self._seen = None
        return key, secret

    def all(self) -> list[Key]:
        """Every key, revoked ones too, oldest first."""
        with self._database() as db:
            return [_key(row) for row in db.execute(f"SELECT {_COLUMNS} FROM key ORDER BY created_at, id")]

    def revoke(self, key_id: str) -> Key:
        """From now on the key opens nothing. Raises EntryNotFound for an id that no key has."""
        found = next((key for key in self.all() if key.id == key_id), None)
        if found is None:
            raise EntryNotFound(f"no key {key_id!r}; `memory-r1 keys list` shows the ids")
        if found.revoked_at is None:
            found = replace(found, revoked_at=datetime.now(UTC))
            assert found.revoked_at is not None
            with self._database() as db:
                db.execute("UPDATE key SET revoked_at = ? WHERE id = ?", (found.revoked_at.timestamp(), key_id))
                self._seen = None
        return found

    @property
    def exist(self) -> bool:
        """Whether a key was ever made: from then on requests need one, also when all are revoked."""
        return bool(self._current())

    def find(self, secret: str) -> Key | None:
        """The key with this secret, unless it was revoked."""
        key = self._current().get(_hash(secret))
        return key if key and key.revoked_at is None else None

    def _current(self) -> dict[str, Key]:
        with self._database() as db:
            (version,) = db.execute("PRAGMA data_version").fetchone()  # another process changes it
            if version != self._seen:
                rows = db.execute(f"SELECT hash, {_COLUMNS} FROM key").fetchall()
                self._by_hash = {row[0]: _key(row[1:]) for row in rows}
                self._seen = version
            return self._by_hash

    def close(self) -> None:
        self._database.close()


def _hash(secret: str) -> str:
    """SHA-256 is enough for 256 random bits: nothing can be guessed that a slow hash would hold up."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _key(row: Sequence[object]) -> Key:
    key_id, name, user_id, agent_id, run_id, created_at, revoked_at = row
    bound = user_id is not None or agent_id is not None or run_id is not None
    return Key(
        str(key_id),
        str(name),
        Scope(user_id, agent_id, run_id) if bound else None,  # type: ignore[arg-type]  # Scope checks them
        datetime.fromtimestamp(float(str(created_at)), UTC),
        None if revoked_at is None else datetime.fromtimestamp(float(str(revoked_at)), UTC),
    )
