"""Small real doubles, public because users test with them too: ScriptedLLM and HashEmbedder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from memory_r1.errors import ModelUnavailable
from memory_r1.types import Prompt, Reply


class ScriptedLLM:
    """An LLM that replies from a script: a list of texts or Replies in order, or a function of the prompt.

    `prompts` keeps everything it was asked. A list that runs out raises ModelUnavailable.
    """

    def __init__(self, script: Iterable[str | Reply] | Callable[[Prompt], str | Reply]) -> None:
        if callable(script):
            self._next = script
        else:
            replies = iter(script)

            def in_order(prompt: Prompt) -> str | Reply:
                reply = next(replies, None)
                if reply is None:
                    raise ModelUnavailable(f"the script has no reply left for a {prompt.step!r} prompt")
                return reply

            self._next = in_order
        self.prompts: list[Prompt] = []

    def complete(self, prompts: Sequence[Prompt]) -> list[Reply]:
        replies = []
        for prompt in prompts:
            self.prompts.append(prompt)
            reply = self._next(prompt)
            replies.append(reply if isinstance(reply, Reply) else Reply(text=reply, model="scripted"))
        return replies


class HashEmbedder:
    """Bag-of-words vectors by feature hashing: deterministic, instant, similar texts share words."""

    def __init__(self, dimension: int = 64) -> None:
        self.name = f"hash-{dimension}"
        self.dimension = dimension

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        del query  # questions and passages are embedded alike
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.casefold()) or [text]:
                digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
                code = int.from_bytes(digest, "little")
                vectors[row, code % self.dimension] += 1.0 if code >> 63 else -1.0
            norm = float(np.linalg.norm(vectors[row]))
            vectors[row] = vectors[row] / norm if norm else np.eye(1, self.dimension, dtype=np.float32)[0]
        return vectors
