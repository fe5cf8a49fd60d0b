"""`memory-r1 demo`: a bundled dialogue, remembered and asked about by the real model while you watch.

Nothing is scripted: what the model decides is shown beside what a careful reader would have decided.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from memory_r1.dates import format_date, parse_time
from memory_r1.flow import run
from memory_r1.manager import remember
from memory_r1.memory import Memory
from memory_r1.types import Answer, Logged, Scope, Step, Turn

Write = Callable[[str], None]
SCOPE = Scope(user_id="demo")
SMALL = "SmolLM2-135M-Instruct"


@dataclass
class Score:
    """How many decisions and answers were as expected."""

    decisions: int = 0
    of_decisions: int = 0
    answers: int = 0
    of_answers: int = 0


def script() -> dict[str, Any]:
    """The bundled dialogue: sessions of dated turns, each with the operations that would be right, and questions."""
    text = importlib.resources.files("memory_r1").joinpath("data/demo.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def title(model: str | None, adapters: Collection[Step]) -> str:
    """What plays, for people: a model by its name (None: the embedded default), and what it was trained for."""
    if adapters:
        return f"{model or SMALL} with trained adapters ({', '.join(adapters)})"
    return model or f"{SMALL}, untrained"


def compare(score: Score, *, trained: bool, shipped: bool) -> list[str]:
    """What to look at after the embedded default. `trained`: it played with adapters; `shipped`: it comes with some."""
    lines = []
    if trained:
        lines += ["The same model untrained, beside it:", "  memory-r1 demo --untrained"]
    elif shipped:
        lines += ["The same model with its trained adapters, beside it:", "  memory-r1 demo"]
    else:
        lines += ["To keep a memory is what memory-r1 trains such a model for: memory-r1 train --help"]
    if score.decisions + score.answers < 0.7 * (score.of_decisions + score.of_answers):
        lines += ["A larger one, untrained (1.1 GB, or any GGUF file by its path):"]
        lines += ["  memory-r1 demo --model qwen2.5-coder-1.5b"]
    return lines


def show(memory: Memory, model: str, write: Write, style: Callable[..., str], *, quick: bool = False) -> Score:
    """Run the demo on an empty bank, writing as it happens. `quick`: two days and two questions of it."""
    play, score = script(), Score()
    few = slice(2 if quick else None)
    sessions = play["sessions"][few]

    def heading(text: str) -> None:
        write("\n" + style(text, bold=True))

    heading("1 · Remember")
    friends = " and ".join(play["speakers"])
    write(style(f"Two friends, {friends}, talk on {len(sessions)} days. {model} decides what to keep.", dim=True))
    for session in sessions:
        when = parse_time(session["time"])
        write("\n" + style(f"── {format_date(when)} ", fg="cyan"))
        for said in session["turns"]:
            turn = Turn(said["speaker"], said["text"], when)
            write(f"{style(turn.speaker, bold=True)}: {turn.text}")
            logged = run(remember(turn, memory.bank, SCOPE), memory.llm)
            for operation in logged:
                write("    " + operation_line(operation, style))
            right = as_expected(logged, said["expect"], said.get("of", ""))
            score.decisions += right
            score.of_decisions += 1
            if not right:
                wanted = " or ".join(said["expect"]) or "nothing to remember"
                write("    " + style(f"✗ expected {wanted}", fg="yellow"))

    heading("2 · What the bank holds now")
    for entry in memory.bank.all(SCOPE):
        happened = f"({format_date(entry.event_time)}) " if entry.event_time else ""
        write(f"  • {style(happened, dim=True)}{entry.text}")

    heading("3 · Ask")
    for question in play["questions"][few]:
        answer = memory.answer(question["text"], user_id="demo")
        right = answered(answer, question)
        score.answers += right
        score.of_answers += 1
        write(f"\n{style('?', bold=True)} {question['text']}")
        for kept in answer.used:
            write(style(f"    kept: {kept.text}", dim=True))
        verdict = style("✓", fg="green") if right else style(f"✗ expected: {question['expect']}", fg="yellow")
        write(f"  {style('→', bold=True)} {answer.text}  {verdict}")

    heading("4 · History and undo")
    show_undo(memory, write, style)
    return score


def operation_line(logged: Logged, style: Callable[..., str]) -> str:
    """One operation as the log has it: what was decided about which fact, and what it changed."""
    colour = {"ADD": "green", "UPDATE": "blue", "DELETE": "red"}.get(logged.kind, "white")
    fact = logged.fact.text if logged.fact else ""
    line = f"{style(f'{logged.kind:<6}', fg=colour, bold=True)} {fact}"
    if logged.kind == "NOOP":
        line += style(f"  [{logged.provenance.reason or 'known already'}]", dim=True)
    if logged.kind in ("UPDATE", "DELETE") and logged.before:
        line += style(f"\n           was: {logged.before['text']}", dim=True)
    if logged.kind == "UPDATE" and logged.after:
        line += f"\n           now: {logged.after['text']}"
    return line


def as_expected(logged: Sequence[Logged], expected: Sequence[str], of: str = "") -> bool:
    """Whether a turn's operations are what a careful reader would do. With nothing expected, nothing may change.

    An UPDATE or DELETE must be expected, and of a memory that tells of `of`: another one would be lost.
    """
    kinds = {operation.kind for operation in logged}
    if not expected or list(expected) == ["NOOP"]:
        return kinds <= {"NOOP"}
    changed = [one for one in logged if one.kind in ("UPDATE", "DELETE")]
    meant = all(one.kind in expected and of in (one.before or {}).get("text", "") for one in changed)
    return bool(kinds & set(expected)) and meant


def answered(answer: Answer, question: dict[str, Any]) -> bool:
    """Whether an answer says what it should: all the words, none of the wrong ones, or that it does not know."""
    if question.get("unknown"):
        return not answer.known
    text = answer.text.casefold()
    return all(word in text for word in question["words"]) and not any(w in text for w in question.get("without", []))


def show_undo(memory: Memory, write: Write, style: Callable[..., str]) -> None:
    """The history of the entry that changed most lately, and its last operation undone."""
    log = memory.bank.log(SCOPE)
    changed = [operation for operation in log if operation.kind in ("UPDATE", "DELETE") and operation.after]
    last = (changed or [operation for operation in log if operation.after])[-1:]
    if not last or last[0].entry_id is None:
        write("  The bank is empty: there is nothing to undo.")
        return
    entry_id = last[0].entry_id
    history = memory.bank.history(entry_id)
    for operation in history:
        write("  " + operation_line(operation, style))
    undone = memory.bank.undo([operation for operation in history if operation.after][-1].id)
    state = undone.after or {}
    write(style("  undo", bold=True) + f"   {'gone again' if undone.kind == 'DELETE' else state.get('text', '')}")
