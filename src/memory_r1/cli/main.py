"""`memory-r1`: the commands on a local bank."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from memory_r1 import demo as the_demo
from memory_r1 import files, formats, migration, transfer, weights
from memory_r1.adapters import shipped
from memory_r1.answer import RETRIEVED
from memory_r1.audit import audit as find
from memory_r1.bank import MemoryBank
from memory_r1.cli import options
from memory_r1.cli.bench import bench
from memory_r1.cli.data import data
from memory_r1.cli.mcp import mcp
from memory_r1.cli.options import (
    adapters_of_llm,
    as_json,
    beside,
    chosen_adapters,
    db,
    entry_id_of,
    existing,
    ids_of,
    model,
    named_scope,
    open_memory,
    scope_of,
    unchanged,
    whose,
    whose_or_all,
    writing,
)
from memory_r1.cli.output import (
    Group,
    columns,
    counted,
    entry_line,
    in_one_line,
    operation_lines,
    plain,
    result_line,
    scope_name,
    show,
)
from memory_r1.cli.quarantine import quarantine
from memory_r1.cli.serve import keys, serve
from memory_r1.cli.train import train
from memory_r1.cli.train_run import runs
from memory_r1.errors import EntryNotFound, InvalidInput
from memory_r1.results import added, entry_dict, operation_dict
from memory_r1.types import Logged, Scope, Turn


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="memory-r1")
def main() -> None:
    """Long-term memory for LLM agents: one local file, no key, no server.

    \b
    memory-r1 demo                                  watch it remember, answer, undo
    memory-r1 add "I adopted a second dog, Pepper"  remember something
    memory-r1 ask "What are my dogs called?"        ask about it
    memory-r1 list                                  what it holds
    """


@main.command()
@click.argument("text", nargs=-1, required=True)
@click.option("--at", "timestamp", help="When it was said, such as 2026-05-08 or 2026-05-08T13:56. Default: now.")
@click.option("--speaker", default="user", show_default=True, help="Who said it.")
@click.option("--raw", is_flag=True, help="Store the text as it is, without asking the model.")
@click.option("--dry-run", is_flag=True, help="Show what would happen and change nothing.")
@options.options(whose, writing, db, as_json)
def add(
    text: tuple[str, ...],
    timestamp: str | None,
    speaker: str,
    raw: bool,
    dry_run: bool,
    db: Path | None,
    as_json: bool,
    user_id: str | None,
    agent_id: str | None,
    run_id: str | None,
    **llm: Any,
) -> None:
    """Remember a TEXT. The model takes its facts and decides what each does to the bank."""
    message = {"role": "user", "name": speaker, "content": " ".join(text)}
    with open_memory(unchanged(db) if dry_run else db, **llm) as memory:
        result = memory.add(
            [message], **ids_of(user_id, agent_id, run_id), timestamp=timestamp, infer=not raw, dry_run=dry_run
        )
    instead = "its words are kept" if memory.keep_turns else "--raw stores a text as it is"
    nothing = [f"Nothing worth remembering was found in it ({instead})."]
    lines = [result_line(item) for item in result["results"]] or nothing
    if result.get("scrubbed"):
        replaced = ", ".join(f"{count} {kind}" for kind, count in result["scrubbed"].items())
        lines.append(click.style(f"Replaced before it was kept: {replaced}.", dim=True))
    if dry_run:
        lines.append(click.style("Nothing was changed: this was a dry run.", dim=True))
    show(result, as_json, lines)


@main.command()
@click.argument("question", nargs=-1, required=True)
@click.option("-k", "--top-k", type=click.IntRange(1), default=RETRIEVED, show_default=True, help="Memories shown.")
@click.option(
    "--least-certainty",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="0..1",
    help="Say that the memory does not tell rather than give an answer that the model is less sure of.",
)
@options.options(whose, model, options.scrub, db, as_json)
def ask(
    question: tuple[str, ...],
    top_k: int,
    least_certainty: float,
    db: Path | None,
    as_json: bool,
    user_id: str | None,
    agent_id: str | None,
    run_id: str | None,
    **llm: Any,
) -> None:
    """Answer a QUESTION from memory. The memories that the answer rests on are shown with it."""
    with open_memory(existing(db), **llm) as memory:
        ids = ids_of(user_id, agent_id, run_id)
        answer = memory.answer(" ".join(question), **ids, top_k=top_k, least_certainty=least_certainty)
    value = {
        "answer": answer.text,
        "known": answer.known,
        "used": [entry_dict(entry) for entry in answer.used],
        "retrieved": len(answer.retrieved),
        "dropped": answer.dropped,
        "logprob": answer.logprob,
        "certainty": answer.certainty,
    }
    lines = [
        click.style(plain(answer.text), bold=True),
        *(f"  kept: {in_one_line(entry.text)}" for entry in answer.used),
    ]
    certain = "" if answer.certainty is None else f", {answer.certainty:.0%} certain"
    looked_at = counted(len(answer.retrieved), "retrieved memory", "retrieved memories")
    lines.append(click.style(f"  from {looked_at}{certain}", dim=True))
    if answer.dropped:
        lines.append(f"  {answer.dropped} of them did not fit the model's context")
    show(value, as_json, lines)


@main.command()
@click.argument("query", nargs=-1, required=True)
@click.option("-k", "--top-k", type=click.IntRange(1), default=10, show_default=True, help="How many.")
@click.option("--as-of", help="As the bank was at this time, such as 2026-05-08.")
@options.options(options.turns, whose, db, as_json)
def search(
    query: tuple[str, ...],
    top_k: int,
    as_of: str | None,
    turns: bool,
    db: Path | None,
    as_json: bool,
    user_id: str | None,
    agent_id: str | None,
    run_id: str | None,
) -> None:
    """Find memories by meaning and by words, best first."""
    with open_memory(existing(db)) as memory:
        ids = ids_of(user_id, agent_id, run_id)
        found = memory.search(" ".join(query), **ids, top_k=top_k, as_of=as_of, turns=turns)
    show(found, as_json, map(entry_line, found["results"]) if found["results"] else ["Nothing found."])


@main.command("list")
@click.option("--all", "everybody", is_flag=True, help="Every scope of the file, with how much each holds.")
@click.option("--as-of", help="As the bank was at this time, such as 2026-05-08.")
@options.options(options.turns, whose, db, as_json)
def list_(
    everybody: bool,
    as_of: str | None,
    turns: bool,
    db: Path | None,
    as_json: bool,
    user_id: str | None,
    agent_id: str | None,
    run_id: str | None,
) -> None:
    """List memories, oldest first."""
    with open_memory(existing(db)) as memory:
        if everybody:
            scopes = [(scope_name(scope), count) for scope, count in memory.bank.scopes()]
            show(
                [{"scope": scope, "entries": count} for scope, count in scopes],
                as_json,
                columns([(scope, str(count)) for scope, count in scopes]) if scopes else ["The bank is empty."],
            )
            return
        found = memory.get_all(**ids_of(user_id, agent_id, run_id), as_of=as_of, turns=turns)
    empty = ['No memories here yet: memory-r1 add "…" makes one (list --all shows every scope).']
    show(found, as_json, map(entry_line, found["results"]) if found["results"] else empty)


@main.command("show")
@click.argument("entry_id")
@options.options(db, as_json)
def show_(entry_id: str, db: Path | None, as_json: bool) -> None:
    """Show one memory whole. ENTRY_ID may be its first characters."""
    with open_memory(existing(db)) as memory:
        entry = memory.get(whole := entry_id_of(memory, entry_id))
        if entry is None and memory.history(whole):
            raise EntryNotFound(f"{whole} is gone; `memory-r1 history {entry_id}` shows what became of it")
    assert entry is not None  # `history` raises for an id that has never been here
    show(entry, as_json, columns([(name, plain(str(value))) for name, value in entry.items() if value is not None]))


@main.command()
@click.argument("entry_id", required=False)
@click.option(
    "-n",
    "--last",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Without ENTRY_ID: how many of the latest operations.",
)
@options.options(whose, db, as_json)
def history(
    entry_id: str | None,
    last: int,
    db: Path | None,
    as_json: bool,
    user_id: str | None,
    agent_id: str | None,
    run_id: str | None,
) -> None:
    """Show every operation on a memory, or the latest of a scope. Their numbers are for `undo`."""
    with open_memory(existing(db)) as memory:
        if entry_id is not None:
            found = memory.history(entry_id_of(memory, entry_id))
        else:
            log = memory.bank.log(scope_of(user_id, agent_id, run_id))
            found = [operation_dict(logged) for logged in log[-last:]]
    lines = [line for operation in found for line in operation_lines(operation)]
    show(found, as_json, lines or ["No operation yet."])


@main.command()
@click.argument("operation", type=int)
@options.options(db, as_json)
def undo(operation: int, db: Path | None, as_json: bool) -> None:
    """Reverse OPERATION, a number that `history` shows."""
    with open_memory(existing(db)) as memory:
        done = memory.undo(operation)
    show(done, as_json, operation_lines(done))


@main.command()
@click.argument("entry_id")
@options.options(db, as_json)
def delete(entry_id: str, db: Path | None, as_json: bool) -> None:
    """Remove a memory from what is so now. Its history stays, and `undo` brings it back."""
    with open_memory(existing(db)) as memory:
        done = memory.delete(entry_id_of(memory, entry_id))
    show(done, as_json, [f"Deleted; `memory-r1 undo {done['operation']}` brings it back."])


@main.command()
@click.argument("entry_id", required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
@options.options(whose, db, as_json)
def purge(
    entry_id: str | None,
    yes: bool,
    db: Path | None,
    as_json: bool,
    user_id: str | None,
    agent_id: str | None,
    run_id: str | None,
) -> None:
    """Erase a memory, or all of a scope, for good. Text, vectors and log go, and nothing brings them back."""
    with open_memory(existing(db)) as memory:
        if entry_id is not None:
            whole = entry_id_of(memory, entry_id)
            if not yes:
                click.confirm(f"Erase {whole} for good?", abort=True)
            count = memory.purge(whole)
        else:
            scope = scope_of(user_id, agent_id, run_id)
            if not yes:
                memories = memory.bank.count(scope)
                held = counted(memories, "memory", "memories")
                if said := memory.bank.count(scope, turns=True) - memories:
                    held += f", {counted(said, 'kept turn', 'kept turns')}"
                click.confirm(f"Erase {scope_name(scope)} ({held} and all history) for good?", abort=True)
            _erase_waiting(beside(existing(db), "inbox"), scope)
            count = memory.purge(**scope.ids)
    show({"purged": count}, as_json, [f"Erased {counted(count, 'memory', 'memories')}."])


def _erase_waiting(file: Path, scope: Scope) -> None:
    """Erase what a server has accepted and not yet remembered, which would come back."""
    if file.exists():
        from memory_r1.serve.inbox import Inbox

        with closing(Inbox(file, lambda *_: None)) as inbox:
            inbox.erase(scope)


@main.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@options.options(whose_or_all, db)
def export(file: Path | None, db: Path | None, user_id: str | None, agent_id: str | None, run_id: str | None) -> None:
    """Write the bank, history and all, as JSON lines. To FILE or the terminal; the whole bank or one scope."""
    ids = {"user_id": user_id, "agent_id": agent_id, "run_id": run_id}
    with open_memory(existing(db)) as memory:
        lines = memory.export(**{name: value for name, value in ids.items() if value is not None})
        if file is None:
            for line in lines:
                click.echo(line)
            return
        partial = file.with_name(file.name + ".part")
        with partial.open("w", encoding="utf-8") as out:
            count = sum(1 for line in lines if out.write(line + "\n"))
        partial.replace(file)
    click.echo(f"{file}: {counted(count - 1, 'operation')}", err=True)


@main.command("import")
@click.argument("file", metavar="PATH", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["memory-r1", "locomo", "chat", "mem0", "langgraph"]),
    help="Default: by content.",
)
@click.option(
    "--history",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Mem0: its history.db, where it does not lie in or beside the folder.",
)
@click.option("--dialogue", help="LoCoMo: only this conversation, such as conv-26.")
@click.option(
    "--sessions", type=click.IntRange(1), help="LoCoMo: only the first N dated sessions of each conversation."
)
@click.option("--dry-run", is_flag=True, help="Say what would be imported and change nothing.")
@options.options(whose, writing, db, as_json)
def import_(
    file: Path,
    form: str | None,
    history: Path | None,
    dialogue: str | None,
    sessions: int | None,
    dry_run: bool,
    db: Path | None,
    as_json: bool,
    user_id: str | None,
    agent_id: str | None,
    run_id: str | None,
    **llm: Any,
) -> None:
    """Take in what lies at PATH. Exports, chats and LoCoMo, and the stores of Mem0 and LangGraph.

    \b
    memory-r1   an export of ours, with all its history
    mem0        Mem0's local Qdrant folder, its history.db, or JSON that get_all returned
    langgraph   the file of a LangGraph SqliteStore, or its items as JSON
    chat        one message a line, as JSON
    locomo      LoCoMo's JSON

    Memories of Mem0 and LangGraph are stored as they are, each in its own scope; --dry-run reports what is there.
    Chats and LoCoMo are remembered turn by turn by the model. Ctrl-C loses nothing: the same command goes on where
    it stopped, and a turn that was remembered is not remembered again.
    """
    form = form or formats.detect(file)
    said = "would be imported" if dry_run else "imported"
    with open_memory(unchanged(db) if dry_run else db, **llm) as memory:
        if memory.scrub is not None and form not in ("chat", "locomo"):
            raise InvalidInput(f"--scrub does not reach memories that are taken in as they are ({form}): leave it out")
        if form == "memory-r1":
            with files.open_text(file) as exported:
                count = transfer.import_lines(memory.bank.fork() if dry_run else memory.bank, exported)
            lines = [f"{counted(count, 'entry', 'entries')} {said}, history and all."]
            show({"entries": count}, as_json, lines)
            return
        scope = scope_of(user_id, agent_id, run_id)
        if form == "mem0":
            _migrate(memory.bank, migration.mem0(file, scope, history, memory.bank.now()), dry_run, as_json)
            return
        if form == "langgraph":
            named = named_scope(user_id, agent_id, run_id)
            _migrate(memory.bank, migration.langgraph(file, named, memory.bank.now()), dry_run, as_json)
            return
        if form == "locomo":
            dialogues = formats.locomo_dialogues(file, dialogue, sessions)
        else:
            dialogues = [formats.chat_dialogue(file, scope)]
        turns = sum(len(one.turns) for one in dialogues)
        before = sum(_remembered(memory.bank, one.scope, turn) for one in dialogues for turn in one.turns)
        whole = f"{counted(turns, 'turn')} of {', '.join(scope_name(one.scope) for one in dialogues)}"
        whole += f", {before} of them remembered before" if before else ""
        if dry_run:
            show({"turns": turns, "remembered_before": before}, as_json, [whole])
            return
        began = time.monotonic()
        logged = _remember_all(memory, dialogues, turns)
        took = time.monotonic() - began
        result = added(logged)
        counts = {
            kind: sum(item["event"] == kind for item in result["results"])
            for kind in ("ADD", "UPDATE", "DELETE", "NOOP")
        }
        usage = {step: {"calls": used.calls, "tokens": used.tokens} for step, used in memory.llm.usage.items()}
    spent = sum(used["tokens"] for used in usage.values())
    summary = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    lines = [
        f"{whole}: {summary}; {result['unreadable']} unreadable",
        f"{spent:,} model tokens, {spent / max(turns - before, 1):.0f} a turn; {took:.0f} s",
    ]
    value = {"turns": turns, "remembered_before": before, "operations": counts, "unreadable": result["unreadable"]}
    value["adapters"] = sorted({one.provenance.adapter for one in logged if one.provenance.adapter})
    show({**value, "usage": usage, "seconds": round(took, 1)}, as_json, lines)


def _migrate(bank: MemoryBank, brought: migration.Migration, dry_run: bool, as_json: bool) -> None:
    fresh, here = brought.without(bank)
    if not dry_run:
        bank.restore(fresh.operations)
    scopes, skipped = fresh.scopes(), dict(fresh.skipped.most_common())
    count, operations = sum(scopes.values()), len(fresh.operations)
    said = "would be imported" if dry_run else "imported"
    lines = [f"{counted(count, 'memory', 'memories')} {said}, with {counted(operations, 'operation')} of history."]
    lines += columns([(f"  {scope}", str(held)) for scope, held in scopes.items()])
    lines += [f"{here} here already."] if here else []
    lines += [f"{number} left out: {reason}" for reason, number in skipped.items()]
    value = {"entries": count, "operations": operations, "here_already": here, "scopes": scopes, "skipped": skipped}
    show(value, as_json, lines)


def _remembered(bank: MemoryBank, scope: Scope, turn: Turn) -> bool:
    progress = bank.turn_progress(scope, turn.id) if turn.id is not None else None
    return progress is not None and progress.done


def _remember_all(memory: Any, dialogues: Iterable[formats.Dialogue], turns: int) -> list[Logged]:
    logged: list[Logged] = []
    with click.progressbar(length=turns, label="Remembering", show_pos=True, file=sys.stderr) as bar:

        def progress(_: int, __: Turn, operations: list[Logged]) -> None:
            logged.extend(operations)
            bar.update(1)

        for one in dialogues:
            memory.remember_turns(one.turns, one.scope, progress=progress)
    return logged


@main.command()
@click.option(
    "--stale-days",
    type=click.IntRange(0),
    default=180,
    show_default=True,
    help="Neither changed nor recalled for so long is stale.",
)
@options.options(whose_or_all, db, as_json)
def audit(
    stale_days: int,
    db: Path | None,
    as_json: bool,
    user_id: str | None,
    agent_id: str | None,
    run_id: str | None,
) -> None:
    """List memories worth a look. Suspicious ones, duplicates, contradictions, stale and never-recalled ones."""
    with open_memory(existing(db)) as memory:
        findings = find(memory.bank, named_scope(user_id, agent_id, run_id), stale_after=timedelta(days=stale_days))
        damage = memory.bank.check()
    value = [
        {"kind": one.kind, "why": one.why, "entries": [entry_dict(entry) for entry in one.entries]} for one in findings
    ]
    lines = [click.style(f"damaged: {what}", fg="red") for what in damage]
    for one in findings:
        lines.append(f"{click.style(one.kind, bold=True)}  {click.style(plain(one.why), dim=True)}")
        lines += [f"  {click.style(plain(entry.id[:8]), dim=True)}  {in_one_line(entry.text)}" for entry in one.entries]
    show({"damage": damage, "findings": value}, as_json, lines or ["Nothing to look at."])


@main.command()
@options.options(db, as_json)
def reembed(db: Path | None, as_json: bool) -> None:
    """Compute every vector of a bank anew with the default embedder."""
    from memory_r1.bank.upkeep import reembed_file
    from memory_r1.embed import default_embedder

    with click.progressbar(length=1, label="Embedding", file=sys.stderr) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        count = reembed_file(existing(db), default_embedder(), progress)
    show({"entries": count}, as_json, [f"{counted(count, 'entry', 'entries')} embedded anew."])


@main.command()
@click.option("--quick", is_flag=True, help="Only the first two days and questions.")
@options.options(model, as_json)
def demo(quick: bool, as_json: bool, **llm: Any) -> None:
    """Watch a dialogue being remembered and asked about. The model is real and nothing is scripted."""
    served, small = llm["base_url"] is not None, weights.CATALOGUE[weights.DEFAULT]
    default = not served and weights.named(llm["model"] or small.name) is small
    adapters = {} if served else chosen_adapters(llm["model"], llm["adapters"], llm["untrained"])
    with open_memory(":memory:", **llm) as memory:
        name = the_demo.title(None if default else llm["model"] if served else Path(llm["model"]).stem, tuple(adapters))
        write = (lambda _: None) if as_json else click.echo
        score = the_demo.show(memory, name, write, click.style, quick=quick)
        usage = sum(used.tokens for used in memory.llm.usage.values())
        played = adapters_of_llm(memory.llm.default)
    value = {
        "model": name,
        "adapters": played,
        "decisions": score.decisions,
        "of_decisions": score.of_decisions,
        "answers": score.answers,
        "of_answers": score.of_answers,
        "tokens": usage,
    }
    lines = [
        "",
        click.style(
            f"{name}: {score.decisions} of {score.of_decisions} decisions and {score.answers} of "
            f"{score.of_answers} answers as a careful reader would have them; {usage:,} tokens.",
            bold=True,
        ),
    ]
    if default:
        lines += the_demo.compare(score, trained=bool(adapters), shipped=bool(shipped(small)))
    show(value, as_json, lines)


@main.group()
def models() -> None:
    """The embedded models: what there is, and getting it."""


@models.command("list")
@as_json
def models_list(as_json: bool) -> None:
    """List the models that can be pulled, with their licences."""
    cache = weights.cache_directory()
    value = [
        {
            "name": name,
            "about": one.about,
            "licence": one.licence,
            "megabytes": round(sum(f.size for f in one.files) / 1e6),
            "here": not one.missing(cache),
        }
        for name, one in weights.CATALOGUE.items()
    ]
    rows = [
        (str(v["name"]), f"{v['megabytes']} MB", "here" if v["here"] else "-", str(v["licence"]), str(v["about"]))
        for v in value
    ]
    show(value, as_json, [*columns(rows), click.style(f"in {cache}", dim=True)])


@models.command("pull")
@click.argument("names", nargs=-1)
def models_pull(names: tuple[str, ...]) -> None:
    """Get models into the cache (default: smollm2 and e5-small). Afterwards everything works offline."""
    for name in names or ("smollm2", "e5-small"):
        click.echo(weights.pull(name, progress=lambda line: click.echo(line, err=True)))


main.add_command(bench)
main.add_command(data)
main.add_command(keys)
main.add_command(mcp)
main.add_command(quarantine)
main.add_command(serve)
main.add_command(train)
main.add_command(runs)
