"""Makes a store with the real Mem0, without a model: run by the Python of an environment that has it.

python make.py FOLDER, with mem0ai 1.0.11 for "mem0-1" and 2.2.1 for "mem0-2". Leaves what Mem0 leaves (its local Qdrant
folder and its history.db) and, as export.json, what its get_all returns.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

os.environ["MEM0_TELEMETRY"] = "False"

from mem0 import Memory
from mem0.embeddings.base import EmbeddingBase


class Hashed(EmbeddingBase):
    def embed(self, text, memory_action=None):
        return [byte / 255 - 0.5 for byte in hashlib.sha256(text.encode()).digest()[:4]]


folder = Path(sys.argv[1])
memory = Memory.from_config(
    {
        "vector_store": {
            "provider": "qdrant",
            "config": {
                "path": str(folder / "qdrant"),
                "on_disk": True,
                "collection_name": "mem0",
                "embedding_model_dims": 4,
            },
        },
        "history_db_path": str(folder / "history.db"),
        "llm": {"provider": "openai", "config": {"api_key": "none"}},
        "embedder": {"provider": "openai", "config": {"api_key": "none"}},
    }
)
memory.embedding_model = Hashed()


def add(messages, **scope):
    return [item["id"] for item in memory.add(messages, infer=False, **scope)["results"]]


(dog,) = add("Ann has a dog", user_id="ann", metadata={"topic": "pets"})
add(
    [{"role": "user", "name": "Bob", "content": "Bob likes tea, 緑茶"}, {"role": "assistant", "content": "Noted"}],
    user_id="bob",
    agent_id="helper",
    run_id="r1",
)
(gone,) = add("Ann lives in Berlin", user_id="ann")
memory.update(dog, "Ann has two dogs")
memory.update(dog, "Ann has three dogs")
memory.delete(gone)

export = []
for user in ("ann", "bob"):
    try:
        export += memory.get_all(user_id=user)["results"]
    except ValueError:  # 2.x
        export += memory.get_all(filters={"user_id": user})["results"]
(folder / "export.json").write_text(json.dumps({"results": export}, ensure_ascii=False, indent=1), encoding="utf-8")
