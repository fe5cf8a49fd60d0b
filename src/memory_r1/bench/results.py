"""What every results file says of its origin, and how it is written and drawn."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import os
import platform
import sqlite3
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import memory_r1
from memory_r1.errors import InvalidInput

NO_MATPLOTLIB = "plots need matplotlib: pip install 'memory-r1[bench]'"


def provenance() -> dict[str, Any]:
    """Versions, machine, load and commit: what is needed to read a figure, or to measure it again."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "versions": {
            "memory_r1": importlib.metadata.version("memory-r1"),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "numpy": np.__version__,
        },
        "machine": {"system": platform.system(), "cpu": _cpu(), "cpus": os.cpu_count(), "load_1_minute": load()},
    }


def load() -> float | None:
    """Processes that ran or waited, averaged over the last minute; None where the system does not count them."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@functools.cache  # of the code as it was loaded
def _commit() -> str | None:
    """The commit of the source tree that memory_r1 runs from, with "+" when files differ from it; None if installed."""
    source = Path(memory_r1.__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # a virtual environment may lie in somebody else's repository
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def save(
    result: Mapping[str, Any], folder: Path, plot: Callable[[Mapping[str, Any], Path], None], say: Callable[[str], None]
) -> None:
    """Write NAME.json and NAME.png into a folder, NAME being the benchmark's; without matplotlib just the first."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['benchmark']}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if importlib.util.find_spec("matplotlib"):
        plot(result, path.with_suffix(".png"))
    else:
        say(NO_MATPLOTLIB)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width; the first one left-aligned, the others right-aligned."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = []
    for row in (head, ["-" * width for width in widths], *rows):
        first, *others = row
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def pyplot() -> Any:
    """matplotlib's drawing interface, for files only. Raises InvalidInput when it is not installed."""
    try:
        import matplotlib
    except ImportError as error:
        raise InvalidInput(NO_MATPLOTLIB) from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
