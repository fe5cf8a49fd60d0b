"""Mem0 1.x: the model decides ADD, UPDATE, DELETE or NONE. Run by the Python of its own environment."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from channel import Endpoint, Tally, as_told_to, batches, named, serve, share, versions

BATCH = 2  # messages in one add(), as in Mem0's own evaluation

DEVIATIONS = [
    "the extraction prompt's 'Today's date' is the session's date instead of the wall clock (by the public "
    "custom_fact_extraction_prompt, otherwise Mem0's own text)",
    "the custom instructions of Mem0's own evaluation are left out, being its cloud's; whose store a memory is from is "
    "said before it, as that evaluation says it above the list",
    "temperature 0 instead of 0.1, as for every system",
]
UNREADABLE = (
    *("Error in new_retrieved_facts", "Invalid JSON response", "Empty response"),
    "Error parsing extraction response",  # 2.x
)
SEEN = ["an UPDATE replaces a memory's timestamp by that of the session that changed it: the first date is lost"]


class Mem0:
    store_each = True  # for each speaker: 1.x remembers what its user says, and nothing of the assistant's

    def __init__(self, config: Mapping[str, Any]) -> None:
        folder = config["folder"]
        os.environ.update(MEM0_TELEMETRY="False", MEM0_DIR=f"{folder}/home", OPENAI_API_KEY="none")
        from mem0 import Memory  # telemetry is decided when it is imported
        from mem0.configs import prompts
        from mem0.embeddings.base import EmbeddingBase

        endpoint = Endpoint(config)

        class Shared(EmbeddingBase):
            def embed(self, text: str, memory_action: str | None = None) -> list[float]:
                return endpoint.embed([text], query=memory_action == "search")[0]

        server = {"api_key": "none", "openai_base_url": config["base_url"]}
        self.memory = Memory.from_config(
            {
                "llm": {"provider": "openai", "config": {"model": config["model"], "temperature": 0.0, **server}},
                "embedder": {"provider": "openai", "config": server},  # replaced below
                "vector_store": {
                    "provider": "qdrant",
                    "config": {
                        "path": f"{folder}/qdrant",
                        "on_disk": True,
                        "collection_name": "memories",
                        "embedding_model_dims": config["dimension"],
                    },
                },
                "history_db_path": f"{folder}/history.db",
            }
        )
        self.memory.embedding_model = Shared()
        self.prompt = prompts.USER_MEMORY_EXTRACTION_PROMPT
        self.tally = Tally(endpoint)
        self.owners: list[str] = []
        log = logging.getLogger("mem0.memory.main")
        log.setLevel(logging.INFO)
        log.addHandler(Listener(self.tally))

    def read(self, dialogue: Mapping[str, Any], done: Callable[[int], None]) -> None:
        self.owners = list(dialogue["speakers"])[: None if self.store_each else 1]
        turns = 0
        for batch in batches(dialogue["turns"], BATCH):
            self.date(batch[0]["time"])
            for owner in self.owners:
                with self.tally.attempt("add"):
                    self.add(owner, batch)
            turns += len(batch)
            done(turns)

    def add(self, owner: str, batch: list[Mapping[str, Any]]) -> None:
        """In a store its owner is the user, and the other one the assistant."""
        messages = as_told_to(owner, batch)
        result = self.memory.add(messages, user_id=owner, metadata={"timestamp": batch[0]["time"]})
        self.tally.operations.update(item["event"] for item in result["results"])

    def find(self, question: str, asked_at: str | None, k: int) -> list[dict[str, Any]]:
        del asked_at  # Mem0 has no use for it
        hits = []
        for n, owner in enumerate(self.owners):
            for hit in self.search(question, owner, share(k, len(self.owners), n)):
                said = hit.get("metadata", {}).get("timestamp")
                speaker = owner if self.store_each else None
                text = named(speaker, hit["memory"])
                hits.append({"text": text, "said": said, "speaker": speaker, "score": hit["score"]})
        return sorted(hits, key=lambda hit: -float(hit["score"]))

    def stats(self) -> dict[str, Any]:
        texts = [item["memory"] for owner in self.owners for item in self.kept(owner)]
        return {**self.tally.report(), "texts": texts, **self.about()}

    # What differs in 2.x:

    def date(self, time: str | None) -> None:
        """The extraction prompt's day, which Mem0 sets to the wall clock's when it is imported."""
        if time:
            before, line, after = self.prompt.partition("Today's date is ")
            self.memory.config.custom_fact_extraction_prompt = before + line + time[:10] + after[len("2023-05-08") :]

    def search(self, question: str, owner: str, k: int) -> list[Mapping[str, Any]]:
        return list(self.memory.search(question, user_id=owner, limit=k)["results"])

    def kept(self, owner: str) -> list[Mapping[str, Any]]:
        return list(self.memory.get_all(user_id=owner, limit=1_000_000)["results"])

    def about(self) -> dict[str, Any]:
        return {"deviations": DEVIATIONS, "seen": SEEN, "versions": versions("mem0ai", "qdrant-client", "openai")}


class Listener(logging.Handler):
    """Mem0 logs what it does not raise: replies it cannot read, and operations it cannot carry out."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.tally = tally

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if isinstance(record.msg, dict):  # one operation, as the model wrote it
            event = record.msg.get("event")
            if event == "NONE":
                self.tally.operations["NOOP"] += 1
            elif event not in ("ADD", "UPDATE", "DELETE"):
                self.tally.failed["operation of an unknown kind"] += 1
            elif not record.msg.get("text"):
                self.tally.failed[f"{event} without a text"] += 1
        elif text.startswith(UNREADABLE):
            self.tally.unreadable += 1
        elif record.levelno >= logging.ERROR:
            # "Error processing memory action: ..., Error: 'old'": most often an id that the model made up
            self.tally.failed[text.partition(":")[0]] += 1


if __name__ == "__main__":
    serve(Mem0)
