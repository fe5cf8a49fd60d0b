"""The unit vectors of one home, and their cosines with a query."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# OpenBLAS divides a product of more than 460,800 numbers among threads and waits for the slowest of them: on a machine
# whose cores are busy, with a language model for one, a search then took a scheduler's tick of 16 ms instead of 0.3.
_BLOCK_NUMBERS = 400_000


class Vectors:
    """Vectors in rows 0, 1, 2, …, only ever appended.

    They lie in blocks of (dimension, rows). Such a block is read in long runs, three times faster than one of (rows,
    dimension) once the vectors are too many for the processor's nearest caches, and a full block is never copied again.
    """

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._rows = max(1, _BLOCK_NUMBERS // dimension)  # of a full block; the last one grows up to it
        self._blocks: list[NDArray[np.float32]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        return sum(block.nbytes for block in self._blocks)

    def append(self, vectors: NDArray[np.float32]) -> None:
        """`vectors`: (rows, dimension)."""
        while len(vectors):
            used = self._count % self._rows
            if used == 0:
                self._blocks.append(np.zeros((self._dimension, 0), dtype=np.float32))
            fitting = vectors[: self._rows - used]
            end = used + len(fitting)
            self._grow(used, end)
            self._blocks[-1][:, used:end] = fitting.T
            self._count += len(fitting)
            vectors = vectors[len(fitting) :]

    def _grow(self, used: int, needed: int) -> None:
        last = self._blocks[-1]
        if needed > last.shape[1]:
            capacity = min(self._rows, max(needed, 2 * last.shape[1]))
            self._blocks[-1] = np.zeros((self._dimension, capacity), dtype=np.float32)
            self._blocks[-1][:, :used] = last[:, :used]

    def cosines(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """(rows,) of a unit vector with every row."""
        vector = np.ascontiguousarray(vector, dtype=np.float32)
        cosines = np.empty(self._count, dtype=np.float32)
        for number, block in enumerate(self._blocks):
            some = cosines[number * self._rows : (number + 1) * self._rows]
            np.matmul(vector, block[:, : len(some)], out=some)
        return cosines
