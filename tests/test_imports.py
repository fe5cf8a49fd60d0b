"""The architecture as a test: imports go one way, and importing costs little."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import memory_r1

SOURCE = Path(memory_r1.__file__).parent

# Each layer may import itself and those before it.
LAYERS = (
    ("errors",),
    ("types",),
    ("flow",),
    ("dates", "weights", "quantize", "files", "spans"),
    ("adapters",),
    ("replies", "recall", "embed"),
    ("prompts", "suspicion", "scrub"),
    ("bank", "llm", "testing"),
    ("joining",),
    ("manager", "answer"),
    ("items", "transfer", "config", "audit", "messages", "results"),
    ("migration",),
    ("memory",),
    ("async_memory",),
    ("__init__",),
    ("bench", "formats", "demo", "scoped"),
    ("tools",),
    ("mcp", "integrations", "serve", "telemetry"),
    ("train",),
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


RUNTIMES = (
    *("onnxruntime", "xllamacpp", "kitoken", "dateparser", "torch", "matplotlib", "huggingface_hub", "httpx"),
    *("fastapi", "uvicorn", "prometheus_client", "detect_secrets", "phonenumbers", "stdnum", "opentelemetry"),
)


def loaded(statement: str, names: tuple[str, ...]) -> list[str]:
    """Which of these modules a fresh Python holds after the statement."""
    code = f"import sys; {statement}; print(*[name for name in {names!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_importing_memory_r1_loads_no_model_runtime_no_numpy_and_no_database() -> None:
    later = ("numpy", "sqlite3", "asyncio", "memory_r1.bank", "memory_r1.memory", "memory_r1.adapters")
    assert loaded("import memory_r1", (*RUNTIMES, *later)) == []
    assert loaded("import memory_r1; dir(memory_r1); hasattr(memory_r1, 'nonsense')", later) == []


def test_the_class_memory_loads_numpy_and_no_model_runtime() -> None:
    assert loaded("from memory_r1 import Memory", (*RUNTIMES, "memory_r1.adapters", "numpy")) == ["numpy"]


def test_names_that_load_at_first_use_are_those_of_the_modules_that_define_them() -> None:
    from memory_r1 import answer, async_memory, bank, manager, memory

    assert memory_r1.Memory is memory.Memory
    assert memory_r1.AsyncMemory is async_memory.AsyncMemory
    assert memory_r1.MemoryBank is bank.MemoryBank
    assert memory_r1.ask is answer.ask
    assert memory_r1.remember is manager.remember
    assert set(memory_r1.__all__) <= set(dir(memory_r1))


def test_a_name_that_is_not_there_is_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="module 'memory_r1' has no attribute 'nonsense'"):
        memory_r1.nonsense  # noqa: B018


def test_the_public_names_are_these() -> None:
    assert set(memory_r1.__all__) == {
        *("Memory", "AsyncMemory", "MemoryBank", "remember", "ask", "Flow", "run", "run_batch", "arun", "Roles", "LLM"),
        *("Turn", "Fact", "MemoryEntry", "Operation", "Logged", "Prompt", "Reply", "Answer", "Scope", "MemoryR1Error"),
    }
    assert all(hasattr(memory_r1, name) for name in memory_r1.__all__)
