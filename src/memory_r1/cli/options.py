"""Options that commands share, and the objects they stand for."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memory_r1 import weights
from memory_r1.adapters import playing, shipped
from memory_r1.embed import default_embedder
from memory_r1.errors import EntryNotFound, InvalidInput
from memory_r1.memory import Memory, OnSuspicion, default_path
from memory_r1.scrub import Scrubber
from memory_r1.spans import Span, no_span
from memory_r1.types import STEPS, Scope, Step

if TYPE_CHECKING:  # a command that asks no model loads none
    from memory_r1.flow import LLM
    from memory_r1.llm.embedded import EmbeddedLLM
    from memory_r1.llm.openai import OpenAILLM

Decorator = Callable[[Any], Any]

DEFAULT_USER = "me"
CONTEXT_TOKENS = 8192
SHIPPED = "shipped"


def options(*decorators: Decorator) -> Decorator:
    return lambda command: reduce(lambda made, decorator: decorator(made), reversed(decorators), command)


db = click.option(
    "--db",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="MEMORY_R1_DB",
    help="The bank's file. Default: memory.db in the platform's data folder.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def _ids(default: str) -> Decorator:
    return options(
        click.option("--user", "user_id", help=f"Whose memory. Default, when no other id is given: {default}."),
        click.option("--agent", "agent_id", help="The agent whose memory it is."),
        click.option("--run", "run_id", help="The run or session it belongs to."),
    )


whose = _ids(f'"{DEFAULT_USER}"')
whose_or_all = _ids("everybody's")
model = options(
    click.option("--model", help="A GGUF file, or a name that `memory-r1 models list` shows. Default: smollm2."),
    click.option(
        "--adapter",
        "adapters",
        multiple=True,
        metavar="STEP=LORA",
        help="A LoRA for extract, manage or answer: a GGUF file, or shipped (with --untrained, that one alone); with "
        "--base-url, its name or number there.",
    ),
    click.option(
        "--untrained",
        is_flag=True,
        help="Leave out the trained adapters that come with memory-r1 for smollm2.",
    ),
    click.option("--base-url", help="Ask an OpenAI-compatible server (vLLM, Ollama, hosted) instead; needs --model."),
    click.option(
        "--api-key", envvar="MEMORY_R1_API_KEY", help="For that server. Better: the variable MEMORY_R1_API_KEY."
    ),
)


suspicious = click.option(
    "--suspicious",
    type=click.Choice(["allow", "flag", "quarantine"]),
    default="flag",
    show_default=True,
    envvar="MEMORY_R1_SUSPICIOUS",
    help="What becomes of texts that read like instructions for a model.",
)
scrub = options(
    click.option(
        "--scrub",
        multiple=True,
        type=click.Choice(["secrets", "personal"]),
        envvar="MEMORY_R1_SCRUB",
        help="Replace these before anything is kept. May be given twice.",
    ),
    click.option(
        "--phone-region",
        envvar="MEMORY_R1_PHONE_REGION",
        help="For --scrub personal: the country, such as DE, whose numbers are told without its code.",
    ),
)
keep_turns = click.option(
    "--keep-turns",
    is_flag=True,
    envvar="MEMORY_R1_KEEP_TURNS",
    help="Keep what is said word for word beside the memories, and answer from both.",
)
turns = click.option("--turns", is_flag=True, help="Turns that are kept word for word (--keep-turns), too.")
writing = options(model, suspicious, scrub, keep_turns)
"""Of commands that remember: what decides, and what is kept out."""


def scope_of(user_id: str | None, agent_id: str | None, run_id: str | None) -> Scope:
    return named_scope(user_id, agent_id, run_id) or Scope(DEFAULT_USER)


def named_scope(user_id: str | None, agent_id: str | None, run_id: str | None) -> Scope | None:
    """The scope that was given; None where none was: everybody's."""
    return None if user_id is agent_id is run_id is None else Scope(user_id, agent_id, run_id)


def ids_of(user_id: str | None, agent_id: str | None, run_id: str | None) -> dict[str, Any]:
    """The scope as keyword arguments for Memory's methods."""
    return dict(scope_of(user_id, agent_id, run_id).ids)


def existing(path: Path | None) -> Path:
    """The bank's file for commands that add nothing: a mistyped name must not make an empty bank."""
    file = path or default_path()
    if not file.exists():
        raise InvalidInput(f"no memory bank at {file}: check --db, or make one with `memory-r1 add` or `import`")
    return file


def beside(bank: Path, what: str) -> Path:
    """The server's file of keys, or of what waits to be remembered: memory.keys.db of memory.db.

    Of a bank with another name the whole name stays: acme.prod and acme.staging share nothing. Files of such
    a bank from before, when what follows its last full stop was left out, are taken on.
    """
    if bank.suffix == ".db":
        return bank.with_suffix(f".{what}.db")
    before, now = bank.with_suffix(f".{what}.db"), bank.with_name(f"{bank.name}.{what}.db")
    return before if before.exists() and not now.exists() else now


def unchanged(path: Path | None) -> Path | str:
    """The bank for a dry run: where there is none, one in memory, so that no file is made."""
    file = path or default_path()
    return file if file.exists() else ":memory:"


def open_memory(
    path: Path | str | None,
    model: str | None = None,
    adapters: tuple[str, ...] = (),
    untrained: bool = False,
    base_url: str | None = None,
    api_key: str | None = None,
    suspicious: OnSuspicion = "flag",
    scrub: tuple[str, ...] = (),
    phone_region: str | None = None,
    keep_turns: bool = False,
    span: Span = no_span,
) -> Memory:
    """The bank with the default embedder and the model that the options name, which loads at its first prompt."""
    given = adapters_of(adapters)
    scrubber = Scrubber(scrub, phone_region) if scrub else None
    named = base_url is not None or model is not None
    # Before the embedder: mistakes show at once.
    llm = open_llm(model, adapters, untrained, base_url, api_key) if named else None
    return Memory(
        path,
        llm=llm,
        embedder=default_embedder(),
        adapters=None if named else given,
        untrained=untrained,
        suspicious=suspicious,
        scrub=scrubber,
        keep_turns=keep_turns,
        span=span,
    )


def open_llm(
    model: str | None,
    adapters: tuple[str, ...],
    untrained: bool,
    base_url: str | None = None,
    api_key: str | None = None,
    context_tokens: int = CONTEXT_TOKENS,
) -> EmbeddedLLM | OpenAILLM:
    from memory_r1.llm.embedded import EmbeddedLLM
    from memory_r1.llm.openai import OpenAILLM

    if base_url is not None:
        if model is None:
            raise InvalidInput("--base-url needs --model, the name the server knows")
        return OpenAILLM(base_url, model, adapters=dict(map(_served, adapters)), api_key=api_key)
    chosen = chosen_adapters(model, adapters, untrained)
    return EmbeddedLLM(model_file(model or weights.DEFAULT), adapters=chosen, context_tokens=context_tokens)


def chosen_adapters(model: str | None, given: tuple[str, ...], untrained: bool) -> dict[Step, Path]:
    """The adapter by which each step of an embedded model is played, as --model, --adapter and --untrained say."""
    return playing(weights.named(model or weights.DEFAULT), adapters_of(given, model), untrained=untrained)


def adapters_of_llm(llm: LLM | None) -> list[str]:
    """What results say of the adapters: STEP=NAME, with the version where the file has one."""
    return [f"{step}={name}" for step, name in getattr(llm, "adapters", {}).items()]


def model_file(name: str) -> Path:
    """A model by path, by its name in the catalogue (pulled when it is not there), or by file name in the cache."""
    known = [one.name for one in weights.CATALOGUE.values() if one.files[0].path.endswith(".gguf")]
    if (one := weights.named(name)) is not None and one.name in known:
        return weights.pull(one)
    if Path(name).is_file():
        return Path(name)
    if (cached := weights.cache_directory() / name).is_file():
        return cached
    raise InvalidInput(f"no model {name!r}: give a GGUF file that is there, or one of {', '.join(known)}")


def adapters_of(given: tuple[str, ...], model: str | None = None) -> dict[Step, Path]:
    """--adapter STEP=FILE, as often as it was given; `shipped` for FILE is the one that comes with the model."""
    ours = shipped(weights.named(model or weights.DEFAULT))
    files = {step: Path(file) for step, file in map(_adapter, given)}
    for step in (step for step, file in files.items() if file == Path(SHIPPED)):
        if step not in ours:
            raise InvalidInput(f"no adapter for {step} comes with {model or weights.DEFAULT}: give a file")
        files[step] = ours[step]
    return files


def _served(given: str) -> tuple[Step, str | int]:
    """An adapter that a server has: llama.cpp numbers them, others name them."""
    step, adapter = _adapter(given)
    if adapter == SHIPPED:
        raise InvalidInput(f"--adapter {given}: a server has adapters of its own; give its name or number there")
    return step, int(adapter) if adapter.isdecimal() else adapter


def _adapter(given: str) -> tuple[Step, str]:
    step, _, adapter = given.partition("=")
    for known in STEPS:
        if step == known and adapter:
            return known, adapter
    raise InvalidInput(f"--adapter {given!r} must be STEP=LORA with STEP one of {', '.join(STEPS)}")


def entry_id_of(memory: Memory, given: str) -> str:
    """A whole entry id from its first characters, as `list` shows them."""
    if not given.strip():
        raise InvalidInput("the id is empty; `memory-r1 list` shows the ids")
    if len(given) >= 36:
        return given
    found = memory.bank.ids_beginning(given)
    if len(found) != 1:
        problem = f"{len(found)} entries begin with" if found else "no entry begins with"
        raise EntryNotFound(f"{problem} {given!r}; `memory-r1 list` shows the ids")
    return found[0]
