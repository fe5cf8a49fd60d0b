"""`memory-r1 quarantine`: what was kept apart, for a person to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from memory_r1.cli.options import (
    as_json,
    db,
    entry_id_of,
    existing,
    keep_turns,
    model,
    named_scope,
    open_memory,
    options,
    whose_or_all,
)
from memory_r1.cli.output import Group, in_one_line, plain, result_line, show
from memory_r1.results import held_dict
from memory_r1.suspicion import REASONS


@click.group(cls=Group)
def quarantine() -> None:
    """What was kept apart: texts that read like instructions."""


@quarantine.command("list")
@options(whose_or_all, db, as_json)
def list_(db: Path | None, as_json: bool, user_id: str | None, agent_id: str | None, run_id: str | None) -> None:
    """List what waits for a person, and why, oldest first."""
    with open_memory(existing(db)) as memory:
        held = [held_dict(one) for one in memory.bank.held(named_scope(user_id, agent_id, run_id))]
    lines = []
    for one in held:
        lines.append(f"{click.style(plain(one['id'][:8]), dim=True)}  {in_one_line(one['memory'])}")
        lines += [click.style(f"          {plain(flag)}: {REASONS.get(flag, '')}", dim=True) for flag in one["flags"]]
    show({"results": held}, as_json, lines or ["Nothing is in quarantine."])


@quarantine.command("release")
@click.argument("quarantine_id")
@options(model, keep_turns, db, as_json)
def release(quarantine_id: str, db: Path | None, as_json: bool, **llm: Any) -> None:
    """Remember it after all. QUARANTINE_ID may be its first characters."""
    with open_memory(existing(db), **llm) as memory:
        result = memory.release(entry_id_of(memory, quarantine_id))
    show(result, as_json, [result_line(item) for item in result["results"]] or ["Nothing worth remembering was in it."])


@quarantine.command("discard")
@click.argument("quarantine_id")
@options(db, as_json)
def discard(quarantine_id: str, db: Path | None, as_json: bool) -> None:
    """Never remember it. The log keeps its words; `memory-r1 purge` erases them."""
    with open_memory(existing(db)) as memory:
        done = memory.discard(entry_id_of(memory, quarantine_id))
    show(done, as_json, ["Discarded."])
