"""The architecture as a test: imports go one way, and importing costs little."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import memory_r1

SOURCE = Path(memory_r1.__file__).parent

# Each layer may import itself and those before it.
LAYERS = (
    ("errors",),
    ("types",),
    ("flow",),
    ("dates", "weights", "quantize", "files"),
    ("replies", "prompts", "recall", "embed"),
    ("bank", "llm", "testing"),
    ("manager", "answer"),
    ("transfer", "config", "audit"),
    ("memory",),
    ("__init__",),
    ("bench", "formats", "demo"),
    ("cli", "__main__"),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def modules() -> list[tuple[str, Path]]:
    files = sorted(path for path in SOURCE.rglob("*.py"))
    return [(path.relative_to(SOURCE).parts[0].removesuffix(".py"), path) for path in files]


def imported(path: Path) -> set[str]:
    """The rooms of memory_r1 that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "memory_r1":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("memory_r1.")}
    return found


def test_every_module_has_its_layer() -> None:
    assert {room for room, _ in modules()} <= set(RANK)


def test_imports_go_one_way() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)} imports {other}"
        for room, path in modules()
        for other in imported(path)
        if other in RANK and other != room and RANK[other] > RANK[room]
    ]
    assert wrong == []


def test_importing_memory_r1_loads_no_model_runtime_and_opens_nothing() -> None:
    heavy = ("onnxruntime", "xllamacpp", "kitoken", "dateparser", "torch", "matplotlib", "huggingface_hub")
    code = f"import memory_r1, sys; print([name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_public_names_are_these() -> None:
    assert set(memory_r1.__all__) == {
        *("Memory", "AsyncMemory", "MemoryBank", "remember", "ask", "Flow", "run", "run_batch", "arun", "Roles", "LLM"),
        *("Turn", "Fact", "MemoryEntry", "Operation", "Logged", "Prompt", "Reply", "Answer", "Scope", "MemoryR1Error"),
    }
    assert all(hasattr(memory_r1, name) for name in memory_r1.__all__)
