"""What commands print, and how errors look."""

from __future__ import annotations

import errno
import io
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from memory_r1.errors import MemoryR1Error
from memory_r1.types import Scope

COLOURS = {"ADD": "green", "UPDATE": "blue", "DELETE": "red", "PURGE": "red", "QUARANTINE": "yellow"}

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

LONGEST = 500
"""Characters of one memory in a list."""


class Group(click.Group):
    """A group that shows our own errors as one line, and Ctrl-C as a calm one."""

    def invoke(self, ctx: click.Context) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
            sys.stdout.reconfigure(encoding="utf-8")  # a file or a pipe on Windows: an export must import again
        try:
            return super().invoke(ctx)
        except MemoryR1Error as error:
            raise click.ClickException(plain(str(error))) from error
        except OSError as error:
            if error.errno == errno.ENOSPC:  # which names no file where a write failed
                raise click.ClickException("the disk is full; make room and run the same command again") from error
            if error.filename is None:  # a closed pipe is click's to handle
                raise
            raise click.ClickException(f"{error.filename}: {error.strerror}") from error
        except KeyboardInterrupt:
            click.echo("\nStopped. All that was done so far is kept; the same command goes on from there.", err=True)
            ctx.exit(130)


def show(value: Any, as_json: bool, lines: Iterable[str]) -> None:
    """`value` as JSON, or the lines made for people."""
    if as_json:
        click.echo(json.dumps(value, ensure_ascii=False, indent=2))
    else:
        for line in lines:
            click.echo(line)


def plain(text: str) -> str:
    """Stored text as a terminal may have it: what would move its cursor, colour or name it is a sign instead."""
    return _CONTROL.sub("\ufffd", text)


def in_one_line(text: str | None) -> str:
    """A memory as lists show it; `show` and --json have it whole."""
    line = plain(" ".join((text or "").split()))
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def operation_lines(operation: Mapping[str, Any]) -> Iterable[str]:
    """One logged operation in two or three lines."""
    kind = operation["event"]
    when = operation["created_at"][:19].replace("T", " ")
    who = " with ".join(name for name in (operation["model"], operation["adapter"]) if name)
    why = plain(", ".join(part for part in (who, operation["reason"]) if part))
    undone = f"  undoes {operation['undoes']}" if operation["undoes"] else ""
    yield f"{operation['id']:>5}  {when}  {click.style(f'{kind:<6}', fg=COLOURS.get(kind))}  {why}{undone}"
    if operation["old_memory"] and operation["old_memory"] != operation["new_memory"]:
        yield click.style(f"       - {in_one_line(operation['old_memory'])}", dim=True)
    if operation["new_memory"]:
        yield f"       + {in_one_line(operation['new_memory'])}"
    elif kind == "NOOP" and operation["fact"]:
        yield click.style(f"       {in_one_line(operation['fact'])}", dim=True)


def scope_name(scope: Scope) -> str:
    return " ".join(f"{name}={value}" for name, value in scope.ids.items())


def entry_line(entry: Mapping[str, Any]) -> str:
    when = entry["event_time"][:10] if entry.get("event_time") else " " * 10
    score = f"{entry['score']:.2f}  " if "score" in entry else ""
    about = f"{click.style(plain(entry['id'][:8]), dim=True)}  {score}{click.style(when, dim=True)}"
    return f"{about}  {in_one_line(entry['memory'])}"


def result_line(result: Mapping[str, Any]) -> str:
    kind = result["event"]
    line = f"{click.style(f'{kind:<6}', fg=COLOURS.get(kind))}  {in_one_line(result['memory'])}"
    if result.get("previous_memory"):
        line += click.style(f"\n        was: {in_one_line(result['previous_memory'])}", dim=True)
    if result.get("flags"):
        line += click.style(
            f"  [reads like instructions for a model: {plain(', '.join(result['flags']))}]", fg="yellow"
        )
    if kind == "NOOP":
        line += click.style(f"  [{plain(result.get('reason') or 'known already')}]", dim=True)
    return line


def counted(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def columns(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Rows as aligned columns."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))] if rows else []
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
