"""Does the embedded runtime do what the trainer's model does? Two numbers on the product's own prompts.

decisions   the trainer's model replies greedily and freely, the embedded one greedily and as it serves (with the
            prompt's schema): do both replies mean the same?
tokens      the embedded model is led along the trainer's greedy reply: at how many of its positions, the one that
            ends it included, is its most likely token the trainer's?
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory_r1.bench.results import provenance
from memory_r1.llm.embedded import EmbeddedLLM
from memory_r1.manager import parse_facts
from memory_r1.replies import json_object
from memory_r1.train.base import load_base, train_extra
from memory_r1.train.export import to_gguf
from memory_r1.train.material import product_prompts
from memory_r1.types import Prompt, Step
from memory_r1.weights import to_terminal

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SAME_DECISIONS, SAME_TOKENS = 0.95, 0.98  # what an export must reach


@dataclass(frozen=True, slots=True)
class Compared:
    """One prompt. `same_prompt`: as many tokens in both; `readable`: the trainer's reply is the JSON asked for."""

    step: Step
    same_prompt: bool
    readable: bool
    same_decision: bool
    tokens: int
    same_tokens: int
    trained: str
    served: str


def compare(
    prompts: Sequence[Prompt], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, llm: EmbeddedLLM
) -> Iterator[Compared]:
    """Each prompt in order. `model` carries the adapter that `llm` has for the prompts' steps."""
    with train_extra():
        from memory_r1.train.policy import Policy
    policy = Policy(model, tokenizer, temperature=0)
    for prompt in prompts:
        said = policy.complete([prompt])[0]
        prompt_ids, reply, trained = said.prompt_ids or (), said.token_ids or (), said.text
        served = llm.complete([replace(prompt, temperature=0.0, logprobs=False)])[0]
        ours = decision(prompt.step, trained)
        yield Compared(
            step=prompt.step,
            same_prompt=served.prompt_tokens == said.prompt_tokens,
            readable=ours is not None,
            same_decision=ours == decision(prompt.step, served.text) if ours is not None else trained == served.text,
            tokens=len(reply),
            same_tokens=agreeing(partial(llm.follow, prompt.step), prompt_ids, reply),
            trained=trained,
            served=served.text,
        )


def summary(compared: Sequence[Compared]) -> Mapping[str, Any]:
    """The shares over all prompts, and whether they reach what an export must reach."""
    tokens = sum(one.tokens for one in compared)
    shares = {
        "same_prompt": sum(one.same_prompt for one in compared) / len(compared),
        "readable": sum(one.readable for one in compared) / len(compared),
        "same_decision": sum(one.same_decision for one in compared) / len(compared),
        "same_token": sum(one.same_tokens for one in compared) / tokens,
    }
    reached = shares["same_decision"] >= SAME_DECISIONS and shares["same_token"] >= SAME_TOKENS
    return {"prompts": len(compared), "tokens": tokens, **shares, "reached": reached}


def agreeing(follow: Callable[[list[int], int], Sequence[int]], prompt: Sequence[int], reply: Sequence[int]) -> int:
    """At how many positions of `reply` a greedy runtime, led along it, chooses its token.

    `follow(ids, n)` gives up to n tokens that the runtime puts after `ids`. It is asked once, and again after each
    position where it chose otherwise or stopped.
    """
    done = same = 0
    while done < len(reply):
        rest = list(reply[done:])
        chosen = list(follow([*prompt, *reply[:done]], len(rest)))
        equal = common(rest, chosen)
        same += equal
        stopped = 0 < equal == len(chosen)  # it ends at more tokens than the trainer: nothing it would choose otherwise
        done += equal if stopped else equal + 1
    return same


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def decision(step: Step, text: str) -> tuple[Any, ...] | None:
    """What a reply decides: (operation, position), the facts, or (kept positions, answer). None: not to be read."""
    if step == "extract":
        facts, readable = parse_facts(text)
        return tuple(facts) if readable else None
    found = json_object(text)
    if found is None:
        return None
    if step == "manage":
        kind = str(found.get("operation")).strip().upper()
        if kind not in ("ADD", "UPDATE", "DELETE", "NOOP"):
            return None
        return (kind, found.get("index") if kind in ("UPDATE", "DELETE") else None)
    keep = found.get("keep")
    return (tuple(map(str, keep)) if isinstance(keep, list) else (), str(found.get("answer")).strip())


def measure(
    adapter: Path,
    base: Path,
    steps: Sequence[Step],
    count: int,
    seed: int = 0,
    progress: Callable[[str], None] = to_terminal,
) -> dict[str, Any]:
    """Export the PEFT folder `adapter` and compare it with itself on `count` product prompts for each step.

    {"steps": {step: `summary`}, "replies": every Compared as a dict, …}: what a results file holds.
    """
    with train_extra():
        from peft import PeftModel
    model, tokenizer = load_base(base)
    model = PeftModel.from_pretrained(model, adapter)
    compared: dict[Step, list[Compared]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = to_gguf(adapter, base, Path(folder) / "adapter.gguf")
        size = file.stat().st_size
        with EmbeddedLLM(base, adapters=dict.fromkeys(steps, file), context_tokens=4096) as llm:
            for step in steps:
                done = compared[step] = []
                for one in compare(product_prompts(step, count, seed), model, tokenizer, llm):
                    done.append(one)
                    if len(done) % 20 == 0:
                        progress(f"{step}: {len(done)} of {count}")
    origin = provenance()
    origin["versions"] |= {name: version(name) for name in ("torch", "transformers", "peft", "xllamacpp")}
    return {
        **origin,
        "adapter": adapter.name,
        "adapter_bytes": size,
        "base": base.name,
        "seed": seed,
        "steps": {step: summary(done) for step, done in compared.items()},
        "replies": [asdict(one) for done in compared.values() for one in done],
    }
