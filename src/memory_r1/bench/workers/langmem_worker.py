"""LangMem's memory store manager: the model calls tools that insert, patch and delete. Run by the Python of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from channel import Endpoint, Tally, as_told_to, batches, serve, versions

SEEN = ["every prompt holds a random id, so that a run is not exactly repeatable even at temperature 0"]
BATCH = 2  # messages in one call of the manager, as for Mem0

DEVIATIONS = [
    "create_memory_store_manager, not the two ReAct agents of Mem0's evaluation, whose chat history leaks into what "
    "they retrieve",
    "deletes are enabled (off by default), since Memory-R1 compares systems that may delete",
    "the first memories too are asked for with tool_choice 'any', as LangMem itself asks once there are some: a small "
    "model otherwise answers in prose, and nothing is ever remembered",
    "tool calls are asked for by a schema and told in the system message, at most 4 in a reply of at most 2,048 tokens",
    "a memory has no field for a date: the worker notes the session in which each was written last",
    "temperature 0, as for every system",
]


class LangMem:
    def __init__(self, config: Mapping[str, Any]) -> None:
        os.environ.update(LANGSMITH_TRACING="false", LANGCHAIN_TRACING_V2="false", OPENAI_API_KEY="none")
        from langchain_core.callbacks import BaseCallbackHandler
        from langchain_core.embeddings import Embeddings
        from langchain_openai import ChatOpenAI
        from langgraph.store.memory import InMemoryStore
        from langmem import create_memory_store_manager

        endpoint = Endpoint(config)

        class Shared(Embeddings):
            def embed_documents(self, texts: list[str]) -> list[list[float]]:
                return endpoint.embed(texts)

            def embed_query(self, text: str) -> list[float]:
                return endpoint.embed([text], query=True)[0]

        self.store = InMemoryStore(
            index={"dims": config["dimension"], "embed": Shared(), "fields": ["content.content"]}
        )
        tally = Tally(endpoint)

        class MustCall(ChatOpenAI):
            def bind_tools(self, tools: Any, *, tool_choice: Any = None, **options: Any) -> Any:
                return super().bind_tools(tools, tool_choice=tool_choice or "any", **options)

        class Listener(BaseCallbackHandler):
            def on_llm_end(self, response: Any, **_: Any) -> None:
                tally.unreadable += not response.generations[0][0].message.tool_calls

        model = MustCall(model=config["model"], base_url=config["base_url"], temperature=0, seed=config["seed"])
        self.manager = create_memory_store_manager(
            model, namespace=("memories", "{owner}"), store=self.store, enable_inserts=True, enable_deletes=True
        )
        self.tally = tally
        self.options = {"callbacks": [Listener()]}
        self.owner = ""
        self.times: dict[str, str | None] = {}

    def read(self, dialogue: Mapping[str, Any], done: Callable[[int], None]) -> None:
        self.owner = dialogue["speakers"][0]
        turns = 0
        for batch in batches(dialogue["turns"], BATCH):
            with self.tally.attempt("manager"):
                self.add(batch)
            turns += len(batch)
            done(turns)

    def add(self, batch: list[Mapping[str, Any]]) -> None:
        """One namespace, whose user is the first speaker: LangMem remembers what both say."""
        messages, before = as_told_to(self.owner, batch), self.kept()
        self.manager.invoke({"messages": messages}, config={"configurable": {"owner": self.owner}, **self.options})
        after = self.kept()
        changes = {key: "UPDATE" if key in before else "ADD" for key in after if before.get(key) != after[key]}
        changes |= dict.fromkeys(before.keys() - after.keys(), "DELETE")
        self.times |= dict.fromkeys(changes, batch[0]["time"])
        self.tally.operations.update(changes.values() or ["NOOP"])

    def find(self, question: str, asked_at: str | None, k: int) -> list[dict[str, Any]]:
        del asked_at
        return [
            {"text": text(item.value), "said": self.times[item.key], "score": item.score}
            for item in self.store.search(("memories", self.owner), query=question, limit=k)
        ]

    def kept(self) -> dict[str, str]:
        return {item.key: text(item.value) for item in self.store.search(("memories", self.owner), limit=1_000_000)}

    def stats(self) -> dict[str, Any]:
        return {
            **self.tally.report(),
            "texts": list(self.kept().values()),
            "deviations": DEVIATIONS,
            "seen": SEEN,
            "versions": versions("langmem", "langgraph", "trustcall", "langchain-openai", "openai"),
        }


def text(value: Mapping[str, Any]) -> str:
    content = value["content"]
    return str(content["content"] if isinstance(content, dict) else content)


if __name__ == "__main__":
    serve(LangMem)
