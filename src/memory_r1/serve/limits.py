"""What one client may ask. Here and not in guard.py, so that the command line knows it without the server's extra."""

from __future__ import annotations

from dataclasses import dataclass

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection stays open: longer than clients keep theirs (httpx 5 s, which is uvicorn's default, too),
so that none is closed just as its next request is sent."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`rate`: requests a second for each key, or for each address without one, bursts of twice as many; 0: no limit."""

    body_bytes: int = 1 << 20
    rate: float = 100.0
