"""A-Mem: every turn is a note with keywords, context and tags, and a new note may rewrite those of its neighbours."""

from __future__ import annotations

import logging
import os
import sys
import types
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from channel import Endpoint, Tally, serve, versions

DEVIATIONS = [
    "the embedder is everybody's instead of all-MiniLM-L6-v2, patched into its Chroma retriever",
    "analyze_content() is called before add_note(): at this commit add_note() itself no longer asks for keywords, "
    "context and tags, which the paper's system has",
    "a note is embedded with its context, keywords and tags, as in the paper's code: at this commit add_note() embeds "
    "its content alone",
    "the endpoint is patched into its OpenAI client, which takes no base_url",
    "temperature 0 instead of 0.7, as for every system",
    "sentence-transformers and transformers are not installed: nothing of them is used with another embedder",
]
SEEN = [
    "update_neighbor takes a neighbour's rank for its position among all notes, so it rewrites the oldest notes "
    "instead of the nearest",
    "suggested connections are whatever the model writes, most often no note's id",
    "what was evolved reaches the search index only at every 100th evolution, when all notes are indexed anew",
]


class AMem:
    def __init__(self, config: Mapping[str, Any]) -> None:
        os.environ.update(ANONYMIZED_TELEMETRY="False", LITELLM_LOCAL_MODEL_COST_MAP="True", OPENAI_API_KEY="none")
        endpoint = Endpoint(config)
        for name, needed in (("sentence_transformers", ["SentenceTransformer"]), ("transformers", _TRANSFORMERS)):
            module = types.ModuleType(name)
            module.__dict__.update(dict.fromkeys(needed))
            sys.modules[name] = module
        from agentic_memory import retrievers
        from agentic_memory.llm_controller import OpenAIController
        from agentic_memory.memory_system import AgenticMemorySystem
        from chromadb import EmbeddingFunction
        from openai import OpenAI

        class Shared(EmbeddingFunction):
            def __init__(self, model_name: str = "") -> None:
                del model_name

            def __call__(self, input: list[str]) -> list[list[float]]:
                return endpoint.embed(input)

            def embed_query(self, input: list[str]) -> list[list[float]]:
                return endpoint.embed(input, query=True)

            @staticmethod
            def name() -> str:
                return "shared"

            def get_config(self) -> dict[str, Any]:
                return {}

        retrievers.SentenceTransformerEmbeddingFunction = Shared
        add = retrievers.ChromaRetriever.add_document

        def add_document(self: Any, document: str, metadata: Mapping[str, Any], doc_id: str) -> None:
            add(self, indexed(document, metadata), metadata, doc_id)

        retrievers.ChromaRetriever.add_document = add_document
        complete = OpenAIController.get_completion

        def greedy(self: Any, prompt: str, response_format: Any, *_: Any, **__: Any) -> Any:
            return complete(self, prompt, response_format, 0.0)

        OpenAIController.get_completion = greedy
        self.memory = AgenticMemorySystem(llm_backend="openai", llm_model=config["model"])
        self.memory.llm_controller.llm.client = OpenAI(api_key="none", base_url=config["base_url"])
        self.tally = Tally(endpoint)
        self.turns: dict[str, Mapping[str, Any]] = {}
        logging.getLogger("agentic_memory.memory_system").addHandler(Listener(self.tally))

    def read(self, dialogue: Mapping[str, Any], done: Callable[[int], None]) -> None:
        for n, turn in enumerate(dialogue["turns"], 1):
            with self.tally.attempt("add_note"):
                self.add(turn)
            done(n)

    def add(self, turn: Mapping[str, Any]) -> None:
        content = f"{turn['speaker']} says: {turn['text']}"  # as in A-Mem's own evaluation
        moment = datetime.fromisoformat(turn["time"]).strftime("%Y%m%d%H%M") if turn["time"] else None
        found = self.memory.analyze_content(content)
        if not found.get("keywords"):  # what it gives when the reply could not be read
            self.tally.unreadable += 1
        before = {note: (kept.context, str(kept.tags)) for note, kept in self.memory.memories.items()}
        wanted = {name: found[name] for name in ("keywords", "context", "tags") if name in found}
        note = self.memory.add_note(content, time=moment, **wanted)
        self.turns[note] = turn
        self.tally.operations["ADD"] += 1
        self.tally.operations["UPDATE"] += sum(
            (kept.context, str(kept.tags)) != before[old] for old, kept in self.memory.memories.items() if old in before
        )

    def find(self, question: str, asked_at: str | None, k: int) -> list[dict[str, Any]]:
        del asked_at
        if not self.turns:
            return []
        hits = self.memory.search_agentic(question, k=min(k, len(self.turns)))
        return [
            {
                "text": self.told(hit["id"]),
                "said": self.turns[hit["id"]]["time"],
                "speaker": self.turns[hit["id"]]["speaker"],
                "turn": self.turns[hit["id"]]["id"],
                "score": -hit["score"] if "score" in hit else None,
            }
            for hit in hits
        ]

    def told(self, note: str) -> str:
        """What A-Mem's own evaluation shows of a note, but for the date, which stands before every memory."""
        kept = self.memory.memories[note]
        return f"{kept.content} (context: {kept.context}; keywords: {kept.keywords}; tags: {kept.tags})"

    def stats(self) -> dict[str, Any]:
        return {
            **self.tally.report(),
            "texts": [self.told(note) for note in self.turns],
            "deviations": DEVIATIONS,
            "seen": SEEN,
            "versions": versions("agentic-memory", "chromadb", "litellm", "openai"),
        }


def indexed(content: str, about: Mapping[str, Any]) -> str:
    """What the paper's code embeds of a note."""
    keywords, tags = (", ".join(map(str, about.get(name) or ())) for name in ("keywords", "tags"))
    return f"content:{content} context:{about.get('context')} keywords: {keywords} tags: {tags}"


_TRANSFORMERS = ["AutoModel", "AutoTokenizer"]


class Listener(logging.Handler):
    """A-Mem logs what it does not raise: evolutions it cannot read."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(logging.ERROR)
        self.tally = tally

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("Error in memory evolution"):
            self.tally.unreadable += 1
        else:
            self.tally.failed[record.getMessage().partition(":")[0]] += 1


if __name__ == "__main__":
    serve(AMem)
