"""The prompts' texts, each a file beside this one in its one current version, and how entries look in them."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from memory_r1.dates import format_date
from memory_r1.recall import harmless
from memory_r1.types import MemoryEntry

Name = Literal["extract", "manage", "answer", "answer_plain", "judge_lenient", "judge_strict"]


@functools.cache
def instructions(name: Name) -> tuple[str, str]:
    """(text, version): the version is made from the text, so that a changed prompt cannot keep its name."""
    text = importlib.resources.files(__name__).joinpath(f"{name}.md").read_text(encoding="utf-8").strip()
    return text, f"{name}@{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def numbered(entries: Sequence[MemoryEntry]) -> str:
    """Entries as a model sees them: by position, never by id, each on one line with when it happened."""
    return "\n".join(f"{i}. {dated_line(entry.text, entry.event_time)}" for i, entry in enumerate(entries, 1))


def dated_line(text: str, when: datetime | None) -> str:
    line = harmless(text)
    return f"({format_date(when)}) {line}" if when else line
