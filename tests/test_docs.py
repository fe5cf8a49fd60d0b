"""What the documentation shows, run as it stands."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from memory_r1.cli import main
from memory_r1.errors import WeightsMissing
from memory_r1.weights import find

ROOT = Path(__file__).parent.parent
PAGES = (
    *("README.md", "docs/quickstart.md", "docs/mcp.md", "docs/integrations.md", "docs/storage-format.md"),
    *("docs/evaluation.md", "docs/training.md", "docs/serving.md", "docs/safety.md"),
)
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def blocks() -> list[object]:
    found = []
    for page in PAGES:
        for number, code in enumerate(BLOCK.findall((ROOT / page).read_text(encoding="utf-8")), 1):
            needs_models = "Memory(" in code and "HashEmbedder" not in code
            marks = [pytest.mark.models] if needs_models else []
            found.append(pytest.param(code, needs_models, id=f"{page}-{number}", marks=marks))
    return found


@pytest.mark.parametrize(("code", "needs_models"), blocks())
def test_a_code_block_runs(code: str, needs_models: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if needs_models:
        try:
            find("smollm2"), find("e5-small")
        except WeightsMissing as missing:
            pytest.skip(f"needs the embedded models: {missing}")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "documentation", "exec"), {})


def test_every_command_that_the_docs_show_exists() -> None:
    commands = {name: getattr(command, "commands", None) for name, command in main.commands.items()}
    missing = []
    for page in (*PAGES, "docs/architecture.md", "docs/baselines.md"):
        for name, sub in re.findall(r"^ *memory-r1 ([a-z]+)(?: ([a-z]+)\b)?", (ROOT / page).read_text(), re.MULTILINE):
            if name not in commands or (commands[name] and sub not in commands[name]):
                missing.append(f"{page}: memory-r1 {name} {sub}")
    assert missing == []


def test_every_file_of_the_readmes_tree_exists() -> None:
    tree = (ROOT / "README.md").read_text(encoding="utf-8").partition("## What is where")[2].partition("## Licence")[0]
    names = re.findall(r"^ {4,6}(\S+) ", tree, re.MULTILINE)
    source = ROOT / "src" / "memory_r1"
    missing = [name for name in names if not ((source / name).exists() or (ROOT / name).exists())]
    assert missing == []
    rooms = {path.name + ("/" if path.is_dir() else "") for path in source.iterdir()}
    assert {room for room in rooms if room.endswith(("/", ".py")) and not room.startswith("__")} <= {*names, "data/"}


def test_the_published_figures_are_those_of_the_results() -> None:
    made = runpy.run_path(str(ROOT / "scripts" / "results_pages.py"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert made["fresh"](readme) == readme
    assert made["page"]() == (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
