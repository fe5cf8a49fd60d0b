"""The bank and its embedder: passages embedded once, and vectors that are all one embedder's."""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from memory_r1.bank.writes import searched_text, write_vector
from memory_r1.embed import Embedder
from memory_r1.errors import EmbedderMismatch

_PASSAGES_KEPT = 256  # a fact is embedded to find what is related, and again when it is added


class Passages:
    """Embeds passages, and remembers the last ones. Thread-safe; embedding itself holds no lock."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self._lock = threading.Lock()
        self._known: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def embed(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """One vector a text."""
        with self._lock:
            known = {text: self._known[text] for text in texts if text in self._known}
        missing = list(dict.fromkeys(text for text in texts if text not in known))
        if missing:
            fresh = dict(zip(missing, self.embedder.embed(missing), strict=True))
            known.update(fresh)
            with self._lock:
                self._known.update(list(fresh.items())[-_PASSAGES_KEPT:])
                while len(self._known) > _PASSAGES_KEPT:
                    self._known.popitem(last=False)
        return [known[text] for text in texts]

    def copy(self) -> Passages:
        twin = Passages(self.embedder)
        with self._lock:
            twin._known = self._known.copy()
        return twin


def record_embedder(db: sqlite3.Connection, embedder: Embedder, *, replace: bool = False) -> None:
    """Note in the file whose vectors it holds; where it is noted already, only to `replace` it."""
    verb = "REPLACE" if replace else "IGNORE"
    values = [("embedder", embedder.name), ("dimension", str(embedder.dimension))]
    db.executemany(f"INSERT OR {verb} INTO meta VALUES (?, ?)", values)


def check_embedder(db: sqlite3.Connection, embedder: Embedder, path: str) -> None:
    """Before each use of vectors, since another process may have replaced them all. Raises EmbedderMismatch."""
    theirs = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('embedder', 'dimension')").fetchall())
    if theirs != {"embedder": embedder.name, "dimension": str(embedder.dimension)}:
        raise EmbedderMismatch(
            f"{path} holds vectors of {theirs['embedder']} ({theirs['dimension']} dimensions), but was opened "
            f"with {embedder.name} ({embedder.dimension}). Open it with the first, or convert the file with: "
            f"memory-r1 reembed --db {path}"
        )


def replace_vectors(
    db: sqlite3.Connection, embedder: Embedder, batch: int, progress: Callable[[int, int], None] | None
) -> int:
    """Give every entry a vector of `embedder`'s, and void every index built of the old ones. Returns how many."""
    rows = db.execute("SELECT key, text, speaker FROM entry ORDER BY key").fetchall()
    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        texts = [searched_text(row["text"], row["speaker"]) for row in some]
        for row, text, vector in zip(some, texts, embedder.embed(texts), strict=True):
            write_vector(db, row["key"], text, vector)
        if progress:
            progress(start + len(some), len(rows))
    db.execute("UPDATE home SET revision = revision + 1")
    db.execute("UPDATE home SET rebuilt = revision")
    record_embedder(db, embedder, replace=True)
    return len(rows)
