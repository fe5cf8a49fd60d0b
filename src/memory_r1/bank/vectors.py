"""The unit vectors of one home, and their cosines with a query."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# OpenBLAS divides a product of more than 460,800 numbers among threads and waits for the slowest of them: on a machine
# whose cores are busy, with a language model for one, a search then took 7 to 16 ms instead of 0.3. So a block is
# multiplied in pieces below that.
_PIECE = 400_000
_BLOCK_ROWS = 4_096  # the last block grows up to it


class Vectors:
    """Vectors in rows 0, 1, 2, …, only ever appended.

    They lie in blocks of (dimension, rows), which are read in runs of up to 16 KB: almost twice as fast as (rows,
    dimension) when they come from memory and not from a cache. A full block is never copied again.
    """

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
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
            used = self._count % _BLOCK_ROWS
            if used == 0:
                self._blocks.append(np.zeros((self._dimension, 0), dtype=np.float32))
            fitting = vectors[: _BLOCK_ROWS - used]
            end = used + len(fitting)
            self._grow(used, end)
            self._blocks[-1][:, used:end] = fitting.T
            self._count += len(fitting)
            vectors = vectors[len(fitting) :]

    def _grow(self, used: int, needed: int) -> None:
        last = self._blocks[-1]
        if needed > last.shape[1]:
            capacity = min(_BLOCK_ROWS, max(needed, 2 * last.shape[1]))
            self._blocks[-1] = np.zeros((self._dimension, capacity), dtype=np.float32)
            self._blocks[-1][:, :used] = last[:, :used]

    def cosines(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """(rows,) of a unit vector with every row."""
        vector = np.ascontiguousarray(vector, dtype=np.float32)
        cosines = np.zeros(self._count, dtype=np.float32)
        for number, block in enumerate(self._blocks):
            some = cosines[number * _BLOCK_ROWS : (number + 1) * _BLOCK_ROWS]
            width = max(1, _PIECE // len(some))
            for low in range(0, self._dimension, width):
                some += vector[low : low + width] @ block[low : low + width, : len(some)]
        return cosines
