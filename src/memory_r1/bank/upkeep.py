"""Upkeep of a file that cannot be opened as a bank is: one whose vectors come from another embedder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memory_r1.bank import schema
from memory_r1.bank.sqlite import MemoryBank
from memory_r1.embed import Embedder
from memory_r1.errors import InvalidInput


class _Recorded:
    """Stands for the embedder a file records, so that the file can be opened; it embeds nothing."""

    def __init__(self, name: str, dimension: int) -> None:
        self.name, self.dimension = name, dimension

    def embed(self, texts: object, *, query: bool = False) -> NDArray[np.float32]:
        raise NotImplementedError(f"{self.name} is only known by name here")


def reembed_file(path: Path, embedder: Embedder, progress: Callable[[int, int], None] | None = None) -> int:
    """Compute every vector of a file anew, in one transaction, whatever embedder it records. Returns how many.

    Raises InvalidInput when there is no such file.
    """
    if not path.exists():
        raise InvalidInput(f"there is no bank at {path}")
    db = schema.connect(str(path))
    recorded = dict(db.execute("SELECT key, value FROM meta"))
    db.close()
    before = _Recorded(recorded["embedder"], int(recorded["dimension"])) if recorded else embedder
    with MemoryBank(path, embedder=before) as bank:
        return bank.reembed(embedder, progress=progress)
