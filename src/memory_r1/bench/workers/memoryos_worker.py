"""MemoryOS: recent pages, topic segments, and a profile with knowledge drawn from the segments that run hot."""

from __future__ import annotations

import os
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from channel import Endpoint, Tally, serve, share, versions

USER, ASSISTANT = "user", "assistant"
NOTHING = "..."  # said by one who did not answer: a page with an empty side is dropped when it grows old
SIMILAR = 0.85  # for the same topic: its 0.6 was set for another embedder, by e5-small anything is that similar
FAILED = "Error: Could not get response from LLM."

DEVIATIONS = [
    "the embedder is everybody's instead of all-MiniLM-L6-v2: the module sentence_transformers is replaced by one "
    "that asks the endpoint",
    "the first speaker is the user and the second the assistant, as in its own evaluation, and called by their names "
    "in knowledge and profile; a turn without an answer in its session is answered by '...'",
    f"pages are of one topic from a similarity of {SIMILAR} on, not 0.6",
    "faiss-cpu instead of the faiss-gpu it asks for",
    "what its get_response() would show is shown to the shared Answer Agent instead, within its budget: the profile, "
    "the last page, and of what is left half pages found and half knowledge (not 7 pages and 20 of each kind of "
    "knowledge); one page is kept as recent, as in its own evaluation, so that all others can be found",
    "temperature 0, as for every system",
]
SEEN = ["knowledge and the profile carry the wall clock's time: when it was said is lost, and no time is shown"]


class MemoryOS:
    def __init__(self, config: Mapping[str, Any]) -> None:
        endpoint = Endpoint(config)
        os.environ["OPENAI_API_KEY"] = "none"
        worker = self
        self.asking = False  # MemoryOS does not tell the embedder what a text is for
        self.tally = tally = Tally(endpoint)

        class SentenceTransformer:
            def __init__(self, name: str) -> None:
                del name

            def encode(self, texts: list[str]) -> list[list[float]]:
                return endpoint.embed(texts, query=worker.asking)

        module = types.ModuleType("sentence_transformers")
        module.__dict__["SentenceTransformer"] = SentenceTransformer
        sys.modules["sentence_transformers"] = module
        sys.path.insert(0, str(Path(sys.prefix) / "source" / "memoryos-pypi"))
        import utils
        from memoryos import Memoryos

        complete = utils.OpenAIClient.chat_completion

        def greedy(self: Any, model: str, messages: Any, temperature: float = 0.0, max_tokens: int = 2000) -> Any:
            del temperature
            reply = complete(self, model, messages, 0.0, max_tokens)
            if reply == FAILED:  # which MemoryOS then takes for the model's words
                endpoint.check()
                tally.failed["chat"] += 1
            return reply

        utils.OpenAIClient.chat_completion = greedy
        self.memory = Memoryos(
            user_id=USER,
            assistant_id=ASSISTANT,
            openai_api_key="none",
            openai_base_url=config["base_url"],
            data_storage_path=config["folder"],
            llm_model=config["model"],
            embedding_model_name="shared",
            short_term_capacity=1,
            mid_term_similarity_threshold=SIMILAR,
        )
        self.owners: list[str] = []
        self.dated = True

    def read(self, dialogue: Mapping[str, Any], done: Callable[[int], None]) -> None:
        self.owners = list(dialogue["speakers"])
        turns = 0
        for page in pages(dialogue["turns"], self.owners[0]):
            with self.tally.attempt("add_memory"):
                self.add(page)
            turns += len(page)
            done(turns)

    def add(self, page: list[Mapping[str, Any]]) -> None:
        said = {turn["speaker"] == self.owners[0]: f"{turn['speaker']}: {turn['text']}" for turn in page}
        time = page[0]["time"]
        self.dated &= time is not None
        stamp = datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M:%S") if time else None
        profile, known = self.profile(), len(self.knowledge())
        self.memory.add_memory(said.get(True, NOTHING), said.get(False, NOTHING), stamp)
        self.tally.operations["ADD"] += 1 + max(0, len(self.knowledge()) - known)
        self.tally.operations["UPDATE"] += profile != self.profile()

    def profile(self) -> str:
        return str(self.memory.get_user_profile_summary())

    def knowledge(self) -> list[Mapping[str, Any]]:
        return [
            *self.memory.user_long_term_memory.get_user_knowledge(),
            *self.memory.assistant_long_term_memory.get_assistant_knowledge(),
        ]

    def find(self, question: str, asked_at: str | None, k: int) -> list[dict[str, Any]]:
        del asked_at
        self.asking = True
        self.memory.retriever.retrieval_queue_capacity = k
        found = self.memory.retriever.retrieve_context(question, USER)
        self.asking = False
        facts = [*found["retrieved_user_knowledge"], *found["retrieved_assistant_knowledge"]]
        first = [*self.described(), *map(self.told, reversed(self.memory.short_term_memory.get_all()))][:k]
        pages = [self.told(page) for page in found["retrieved_pages"]]
        known = [{"text": self.by_name(fact["knowledge"])} for fact in facts]
        return [*first, *halves(pages, known, k - len(first))]

    def told(self, page: Mapping[str, Any]) -> dict[str, Any]:
        """A page, with its time where the dialogue has any: MemoryOS gives one without the clock's."""
        said = [one for one in (page["user_input"], page["agent_response"]) if one != NOTHING]
        said += [f"({page['meta_info']})"] if page.get("meta_info") else []
        when = {"said": datetime.fromisoformat(page["timestamp"]).isoformat()} if self.dated else {}
        return {"text": "\n".join(said), **when}

    def by_name(self, text: str) -> str:
        """As its own evaluation has it."""
        for role, owner in zip((USER, ASSISTANT), self.owners, strict=False):
            text = re.sub(rf"\b{role}\b", owner, text, flags=re.IGNORECASE)
        return text

    def described(self) -> list[dict[str, Any]]:
        profile = self.profile()
        return [] if profile.lower() == "none" else [{"text": f"Profile of {self.owners[0]}: {self.by_name(profile)}"}]

    def stats(self) -> dict[str, Any]:
        segments = self.memory.mid_term_memory.sessions.values()
        kept = [page for segment in segments for page in segment["details"]] + self.memory.short_term_memory.get_all()
        texts = [self.told(page)["text"] for page in kept] + [fact["knowledge"] for fact in self.knowledge()]
        return {
            **self.tally.report(),
            "texts": [*texts, *(item["text"] for item in self.described())],
            "segments": len(segments),
            "knowledge": len(self.knowledge()),
            "deviations": DEVIATIONS,
            "seen": SEEN,
            "versions": versions("faiss-cpu", "openai"),
        }


def pages(turns: list[Mapping[str, Any]], user: str) -> Iterator[list[Mapping[str, Any]]]:
    """A turn of the user's with the answer right after it; any other turn alone."""
    waiting: list[Mapping[str, Any]] = []
    for turn in turns:
        if waiting and turn["speaker"] != user and turn["session"] == waiting[0]["session"]:
            yield [*waiting, turn]
            waiting = []
            continue
        if waiting:
            yield waiting
        waiting = [turn] if turn["speaker"] == user else []
        if not waiting:
            yield [turn]
    if waiting:
        yield waiting


def halves(pages: list[dict[str, Any]], known: list[dict[str, Any]], k: int) -> list[dict[str, Any]]:
    """k in all, half of each: of one there are too few of, as many more of the other."""
    facts = min(len(known), max(share(k, 2, 1), k - len(pages)))
    return [*pages[: k - facts], *known[:facts]]


if __name__ == "__main__":
    serve(MemoryOS)
