"""What one client may ask. Here and not in guard.py, so that the command line knows it without the server's extra."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """`rate`: requests a second for each key, or for each address without one, bursts of twice as many; 0: no limit."""

    body_bytes: int = 1 << 20
    rate: float = 100.0
