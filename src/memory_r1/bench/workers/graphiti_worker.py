"""Graphiti, Zep's open engine: a graph of entities and facts that expire. Run by the Python of its own environment."""

from __future__ import annotations

import asyncio
import logging
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from channel import Endpoint, Tally, serve, share, versions

GROUP = "dialogue"
REPLY = 2048  # tokens: a small model that rambles would fill its context

DEVIATIONS = [
    "the open-source engine (graphiti-core), not Zep's service",
    "on Kuzu, the one graph database that runs inside a process; Graphiti calls this backend deprecated",
    "two faults of that backend in 0.31.1 are mended in the worker: every add_episode raised for want of a database's "
    "name, and every search for want of full-text indices",
    "facts and entities are ranked by reciprocal rank fusion of vectors and full text: the default cross-encoder asks "
    "the language model once per passage",
    f"replies are cut at {REPLY} tokens instead of 16384",
    "temperature 0, as for every system",
]


class Graphiti:
    def __init__(self, config: Mapping[str, Any]) -> None:
        os.environ.update(
            GRAPHITI_TELEMETRY_ENABLED="false", OPENAI_API_KEY="none", EMBEDDING_DIM=str(config["dimension"])
        )
        warnings.simplefilter("ignore", DeprecationWarning)
        from graphiti_core import Graphiti as Engine
        from graphiti_core.cross_encoder.client import CrossEncoderClient
        from graphiti_core.driver.kuzu_driver import KuzuDriver
        from graphiti_core.embedder.client import EmbedderClient
        from graphiti_core.llm_client.config import LLMConfig
        from graphiti_core.llm_client.openai_generic_client import OpenAIGenericClient

        endpoint = Endpoint(config)

        worker = self
        self.asking = False  # Graphiti does not tell the embedder what a text is for
        self.dated = True

        class Shared(EmbedderClient):
            async def create(self, input_data: str | list[str]) -> list[float]:
                texts = [input_data] if isinstance(input_data, str) else input_data
                return endpoint.embed(texts, query=worker.asking)[0]

            async def create_batch(self, input_data_list: list[str]) -> list[list[float]]:
                return endpoint.embed(input_data_list)

        class Unused(CrossEncoderClient):
            async def rank(self, query: str, passages: list[str]) -> list[tuple[str, float]]:
                raise NotImplementedError(query, passages)

        model = config["model"]
        self.loop = asyncio.new_event_loop()
        self.engine = Engine(
            llm_client=OpenAIGenericClient(
                LLMConfig(api_key="none", base_url=config["base_url"], model=model, small_model=model, temperature=0),
                max_tokens=REPLY,
            ),
            embedder=Shared(),
            cross_encoder=Unused(),
            graph_driver=KuzuDriver(f"{config['folder']}/graph.kuzu"),
            max_coroutines=1,
        )
        self.tally = Tally(endpoint)
        self.prepare()
        logging.getLogger("graphiti_core").addHandler(Listener(self.tally))

    def prepare(self) -> None:
        """What 0.31.1 leaves out for Kuzu: the database's name, and the full-text indices that its searches name."""
        from graphiti_core.driver.driver import GraphProvider
        from graphiti_core.graph_queries import get_fulltext_indices

        self.engine.driver._database = GROUP
        for query in get_fulltext_indices(GraphProvider.KUZU):
            self.wait(self.engine.driver.execute_query(query))

    def wait(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def read(self, dialogue: Mapping[str, Any], done: Callable[[int], None]) -> None:
        for n, turn in enumerate(dialogue["turns"], 1):
            with self.tally.attempt("add_episode"):
                self.add(n, turn)
            done(n)

    def add(self, n: int, turn: Mapping[str, Any]) -> None:
        from graphiti_core.nodes import EpisodeType

        before = self.facts()
        self.dated &= turn["time"] is not None  # else Graphiti dates facts by the clock
        self.wait(
            self.engine.add_episode(
                name=turn["id"] or f"turn {n}",
                episode_body=f"{turn['speaker']}: {turn['text']}",
                source=EpisodeType.message,
                source_description="a conversation",
                reference_time=moment(turn["time"]) or datetime.now(UTC),
                group_id=GROUP,
            )
        )
        after = self.facts()
        changes = Counter("ADD" for key in after.keys() - before.keys())
        changes["DELETE"] = sum(ended(after[key]) and not ended(before[key]) for key in after.keys() & before.keys())
        changes["UPDATE"] = sum(after[key].fact != before[key].fact for key in after.keys() & before.keys())
        self.tally.operations.update(changes if changes.total() else {"NOOP": 1})

    def facts(self) -> dict[str, Any]:
        from graphiti_core.edges import EntityEdge
        from graphiti_core.errors import GroupsEdgesNotFoundError

        try:
            found = self.wait(EntityEdge.get_by_group_ids(self.engine.driver, [GROUP]))
        except GroupsEdgesNotFoundError:
            return {}
        return {edge.uuid: edge for edge in found}

    def entities(self) -> list[Any]:
        from graphiti_core.nodes import EntityNode

        return list(self.wait(EntityNode.get_by_group_ids(self.engine.driver, [GROUP])))

    def find(self, question: str, asked_at: str | None, k: int) -> list[dict[str, Any]]:
        """Half facts and half entities, as Zep's own evaluation shows 20 and 20; facts first."""
        del asked_at
        from graphiti_core.search import search_config_recipes as recipes

        edges = recipes.EDGE_HYBRID_SEARCH_RRF.model_copy(update={"limit": share(k, 2, 0)})
        nodes = recipes.NODE_HYBRID_SEARCH_RRF.model_copy(update={"limit": share(k, 2, 1)})
        self.asking = True
        facts = self.wait(self.engine.search_(question, edges, group_ids=[GROUP])).edges
        entities = self.wait(self.engine.search_(question, nodes, group_ids=[GROUP])).nodes
        self.asking = False
        return [{"text": told(edge), "time": valid(edge) if self.dated else None} for edge in facts] + [
            {"text": described(node), "time": None} for node in entities
        ]

    def stats(self) -> dict[str, Any]:
        facts, entities = self.facts().values(), self.entities()
        return {
            **self.tally.report(),
            "texts": [*map(told, facts), *map(described, entities)],
            "facts": len(facts),
            "ended_facts": sum(map(ended, facts)),
            "entities": len(entities),
            "deviations": DEVIATIONS,
            "versions": versions("graphiti-core", "kuzu", "openai"),
        }


class Listener(logging.Handler):
    """Graphiti retries replies that it cannot read, and logs each."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(logging.ERROR)
        self.tally = tally

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("Error in generating LLM response"):
            self.tally.unreadable += 1


def moment(time: str | None) -> datetime | None:
    if time is None:
        return None
    at = datetime.fromisoformat(time)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def ended(edge: Any) -> bool:
    return bool(edge.invalid_at or edge.expired_at)


def valid(edge: Any) -> str | None:
    return edge.valid_at.isoformat() if edge.valid_at else None


def told(edge: Any) -> str:
    until = f" (until {edge.invalid_at:%d %B %Y})" if edge.invalid_at else ""
    return f"{edge.fact}{until}"


def described(node: Any) -> str:
    return f"{node.name}: {node.summary}" if node.summary else str(node.name)


if __name__ == "__main__":
    serve(Graphiti)
