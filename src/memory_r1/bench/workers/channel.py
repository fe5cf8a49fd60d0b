"""The worker's end of the pipe: one JSON object a line, requests in and replies out.

Workers run by the Python of an environment of their own. They import nothing of memory_r1, so this file, the one
that they share, is plain standard library.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from typing import Any

HOPELESS = 20  # failures with nothing between them: the system does not work at all

# Taken when this module is imported, before any library can print or read: whatever is printed from here on goes
# to the log, and whoever reads standard input finds it empty.
_REQUESTS = os.fdopen(os.dup(0), encoding="utf-8")
_REPLIES = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(2, 1)


def serve(make: Callable[[Mapping[str, Any]], Any]) -> None:
    """Answers requests until there are no more. `make(config)` gives an object with these methods:

    read(dialogue, done)       done(turns) tells how far it is
    find(question, asked_at, k) -> [{"text", "said", "time", "speaker", "turn", "score"}], best first; all but text
                               optional. "said": when that was said; or "time", when it happened
    stats() -> {"texts": [every memory's text], "operations", ...}
    """
    system: Any = None
    for line in _REQUESTS:
        request = json.loads(line)
        try:
            match request.pop("do"):
                case "open":
                    system = make(request)
                    ok: dict[str, Any] = {}
                case "read":
                    system.read(request["dialogue"], lambda turns: _reply({"done": turns}))
                    ok = {}
                case "find":
                    ok = {"memories": system.find(**request)}
                case "stats":
                    ok = system.stats()
                case other:
                    raise ValueError(f"unknown request {other!r}")
        except Exception as error:  # noqa: BLE001 - the other end raises it
            traceback.print_exc()
            _reply({"error": f"{type(error).__name__}: {error}"})
        else:
            _reply({"ok": ok})


def _reply(message: Mapping[str, Any]) -> None:
    _REPLIES.write(json.dumps(message) + "\n")
    _REPLIES.flush()


class Endpoint:
    """The language model and the embedder that all systems share."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.url = config["base_url"]
        self.embedder = config["embedder"]

    def embed(self, texts: Iterable[str], query: bool = False) -> list[list[float]]:
        """One vector per text. The embedder tells questions (`query`) from what is searched."""
        kind = "query" if query else "passage"
        body = {"model": self.embedder, "input": [text or " " for text in texts], "input_type": kind}
        request = urllib.request.Request(
            f"{self.url}/embeddings", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as reply:
            data = json.load(reply)["data"]
        return [row["embedding"] for row in sorted(data, key=lambda row: int(row["index"]))]

    def check(self) -> None:
        """Raises when nothing answers any more: a failure is then not the memory system's."""
        try:
            urllib.request.urlopen(f"{self.url}/models").close()
        except urllib.error.URLError as error:
            raise ConnectionError(f"the endpoint {self.url} does not answer ({error}); is it still running?") from error


class Tally:
    """What reading took: operations, replies that the system could not read, and its own failures by kind."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.operations = Counter({"ADD": 0, "UPDATE": 0, "DELETE": 0, "NOOP": 0})
        self.unreadable = 0
        self.failed: Counter[str] = Counter()
        self._endpoint = endpoint
        self._worked = 0

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Counts what the system raises for one piece of the dialogue, and lets the reading go on.

        Unless nothing has worked yet and HOPELESS pieces failed: then it raises.
        """
        try:
            yield
        except Exception as error:  # a system under test may raise anything; it is counted and told in the results
            traceback.print_exc()
            self._endpoint.check()
            self.failed[f"{what}: {type(error).__name__}"] += 1
            if not self._worked and self.failed.total() >= HOPELESS:
                raise
        else:
            self._worked += 1

    def report(self) -> dict[str, Any]:
        return {
            "operations": dict(self.operations),
            "unreadable": self.unreadable,
            "failed": sum(self.failed.values()),
            "failures": dict(self.failed),
        }


def versions(*names: str) -> dict[str, str]:
    return {"python": sys.version.split()[0], **{name: version(name) for name in names}}


def batches(turns: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    """Up to `size` turns of one session together, in order."""
    batch: list[Mapping[str, Any]] = []
    for turn in turns:
        if batch and (len(batch) == size or turn["session"] != batch[0]["session"]):
            yield batch
            batch = []
        batch.append(turn)
    if batch:
        yield batch


def bracketed(time: str | None) -> str:
    """A turn's time as it stands before its text where a system has no field for it: "[8 May 2023, 13:56] "."""
    if time is None:
        return ""
    moment = datetime.fromisoformat(time)
    return f"[{moment.day} {moment:%B %Y, %H:%M}] "


def as_told_to(owner: str, batch: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Turns as chat messages for a store that belongs to one speaker, who is its user; the others are its assistant."""
    return [
        {
            "role": "user" if turn["speaker"] == owner else "assistant",
            "content": f"{bracketed(turn['time'])}{turn['speaker']}: {turn['text']}",
        }
        for turn in batch
    ]


def named(speaker: str | None, text: str) -> str:
    """A memory of one speaker's, also where its own words do not say whose it is."""
    return text if speaker is None or speaker.casefold() in text.casefold() else f"{speaker}: {text}"


def share(k: int, parts: int, n: int) -> int:
    """The n-th of `parts` shares of k, which differ by at most one."""
    return k // parts + (n < k % parts)
