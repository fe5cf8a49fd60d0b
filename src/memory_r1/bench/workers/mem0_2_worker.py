"""Mem0 2.x: one call extracts, and only ever adds. Run by the Python of its own environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from channel import serve, versions
from mem0_1_worker import Mem0

DEVIATIONS = [
    "the observation date is patched to the session's (mem0.configs.prompts._resolve_dates): the open-source add() "
    "refuses a timestamp and would take the wall clock; the current date too",
    "without its [nlp] extra, whose models are downloaded at run time: search is by vectors only, and no entities "
    "are linked",
    "temperature 0 instead of 0.1, as for every system",
]


class Mem02(Mem0):
    store_each = False  # one, whose user is the first speaker: 2.x remembers what both say, each by name

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        from mem0.configs import prompts

        self.prompts = prompts

    def date(self, time: str | None) -> None:
        if time:
            self.prompts._resolve_dates = lambda *_: (time[:10], time[:10])

    def search(self, question: str, owner: str, k: int) -> list[Mapping[str, Any]]:
        return list(self.memory.search(question, filters={"user_id": owner}, top_k=k)["results"])

    def kept(self, owner: str) -> list[Mapping[str, Any]]:
        return list(self.memory.get_all(filters={"user_id": owner}, top_k=1_000_000)["results"])

    def about(self) -> dict[str, Any]:
        return {"deviations": DEVIATIONS, "seen": [], "versions": versions("mem0ai", "qdrant-client", "openai")}


if __name__ == "__main__":
    serve(Mem02)
