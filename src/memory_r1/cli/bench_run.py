"""`memory-r1 bench run` and `bench judge`: memory systems side by side, on the same model and embedder."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memory_r1.cli.options import adapters_of_llm, as_json, chosen_adapters, model_file, open_llm
from memory_r1.cli.options import model as model_options
from memory_r1.cli.output import show
from memory_r1.cli.train_run import played_by_trainer
from memory_r1.errors import InvalidInput
from memory_r1.llm.gguf import adapter_name
from memory_r1.weights import DEFAULT

if TYPE_CHECKING:  # the benchmark's modules load when a command runs
    from memory_r1.bench.data import Dataset, Dialogue
    from memory_r1.bench.endpoint import Endpoint
    from memory_r1.bench.evaluate import Meter
    from memory_r1.bench.systems import System
    from memory_r1.embed import Embedder
    from memory_r1.flow import LLM, Usage
    from memory_r1.llm.embedded import EmbeddedLLM
    from memory_r1.llm.openai import OpenAILLM
    from memory_r1.types import Step

OURS = (
    "memory-r1",
    "memory-r1-turns",
    "memory-r1-adds",
    "no-memory",
    "full-context",
    *(f"rag-{m}-{u}s" for u in ("turn", "session") for m in ("bm25", "dense", "hybrid", "kept")),
)
CONTEXT = 32_768  # tokens: Mem0 2.x alone begins with 8,000 of instructions

_data = click.option("--data", required=True, metavar="KIND:PATH", help="The data set, such as locomo:locomo10.json.")
repairs = click.option(
    "--repairs",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="LoCoMo: a file of repaired labels. Default: the labels as they are.",
)


@click.command()
@click.argument("systems", nargs=-1, required=True, metavar="SYSTEM...")
@_data
@click.option("--split", default="all", show_default=True, help="LoCoMo: train, validation, test or all.")
@click.option("--dialogue", "dialogues", multiple=True, metavar="ID", help="Only this dialogue; may be given again.")
@click.option("--sessions", type=click.IntRange(1), help="The first so many sessions, and what they can answer.")
@click.option("--limit", type=click.IntRange(1), help="The first so many questions of each dialogue.")
@click.option("--k", default=60, show_default=True, type=click.IntRange(1), help="Memories shown for a question.")
@click.option(
    "--read-by",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="RUN",
    help="Answer from what this run of memory-r1, -turns or -adds read: another model's memories. memory-r1-turns "
    "puts the turns beside what memory-r1 read.",
)
@click.option("--plain", is_flag=True, help="Ask for the answer alone, without distillation.")
@click.option(
    "--torch",
    "by_trainer",
    is_flag=True,
    help="Play the model by the trainer's runtime, on a GPU where there is one, free of any schema: for untrained "
    "models harder. An --adapter may then be a run's folder.",
)
@click.option("--together", default=1, show_default=True, type=click.IntRange(1), help="Questions answered at once.")
@click.option("--seed", default=0, show_default=True, help="For the intervals, and for systems that draw lots.")
@click.option("--context", default=CONTEXT, show_default=True, help="Tokens of context of an embedded model.")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the runs: each system's in a folder of its name.",
)
@repairs
@model_options
@as_json
def run(
    systems: tuple[str, ...],
    data: str,
    split: str,
    dialogues: tuple[str, ...],
    sessions: int | None,
    limit: int | None,
    k: int,
    read_by: Path | None,
    plain: bool,
    by_trainer: bool,
    together: int,
    seed: int,
    context: int,
    out: Path,
    repairs: Path | None,
    model: str | None,
    adapters: tuple[str, ...],
    untrained: bool,
    base_url: str | None,
    api_key: str | None,
    as_json: bool,
) -> None:
    """Run memory systems side by side. Each reads the dialogues and answers, with one model and embedder for all.

    SYSTEM is memory-r1, memory-r1-turns (with turns kept word for word beside the memories) or memory-r1-adds (every
    fact added, none changed), one of the plain ones (no-memory, full-context, rag-METHOD-UNIT with METHOD bm25, dense,
    hybrid or kept, as memory-r1-turns finds them, and UNIT turns or sessions), or one that `memory-r1 bench setup`
    installs (mem0-1, langmem, ...).

    \b
    memory-r1 bench run memory-r1 rag-hybrid-turns --data locomo:locomo10.json --split validation --out runs/val
    memory-r1 bench report runs/val/*

    \b
    One model's memories, another model's answers:
    memory-r1 bench run memory-r1 --model large.gguf --data … --out runs/large
    memory-r1 bench run memory-r1 --read-by runs/large/memory-r1 --data … --out runs/large-small

    Stopped at any point, the same command goes on and repeats no question.
    """
    from memory_r1.bench.datasets import open_dataset
    from memory_r1.bench.endpoint import Endpoint
    from memory_r1.bench.evaluate import BANKS, Config, evaluate, reader
    from memory_r1.embed import default_embedder
    from memory_r1.flow import Roles

    chosen = _part(open_dataset(data, repairs), split, dialogues, sessions)
    if by_trainer and base_url is not None:
        raise click.UsageError("--torch plays the model here: leave --base-url out")
    served: EmbeddedLLM | OpenAILLM | None = None
    threads: int | None = None
    if by_trainer:
        llm, name, about = _by_trainer(model or DEFAULT, chosen_adapters(model, adapters, untrained))
        threads = about["threads"]
    else:
        llm = served = open_llm(model, adapters, untrained, base_url, api_key, context)
        name, about = _about(served, context)
    if together > 1:
        about["together"] = together
    if read_by is not None:
        if len(systems) > 1 or not systems[0].startswith("memory-r1"):
            raise click.UsageError("--read-by is for one system, memory-r1, -turns or -adds: others keep no banks")
        about["reader"] = reader(read_by)
    embedder, found = default_embedder(threads=threads), {}
    with ExitStack() as stack:
        roles = Roles(llm)
        endpoint = stack.enter_context(Endpoint(served, embedder, name)) if served else None

        def meter() -> Mapping[str, Usage]:
            return dict(chain(roles.usage.items(), endpoint.usage.items() if endpoint else ()))

        for system_name in systems:
            folder = out / system_name
            system = _system(system_name, roles, embedder, endpoint, folder / BANKS, seed)
            stack.callback(system.close)
            config = Config(
                system=system_name,
                data=chosen.name,
                split=split,
                dialogues=tuple(dialogue.id for dialogue in chosen.dialogues),
                model=name,
                embedder=embedder.name,
                k=k,
                sessions=sessions,
                limit=limit,
                distil=not plain,
                repaired=repairs is not None,
                seed=seed,
                source=chosen.source,
                about=about,
            )
            click.echo(f"{system_name}: {len(chosen.dialogues)} dialogues, {name}", err=True)
            bars = Bars(meter)
            try:
                result = evaluate(
                    system,
                    chosen,
                    roles,
                    folder,
                    config,
                    meter=meter,
                    progress=bars,
                    read_by=read_by,
                    together=together,
                )
            finally:
                bars.close()
            system.close()
            found[system_name] = result
            if not as_json:  # as soon as it is known: the next system may take hours
                click.echo(f"{system_name}: {headline(result['scores'])}  ({folder})")
    show(found, as_json, [])


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--reading", "readings", multiple=True, type=click.Choice(["lenient", "strict"]), help="Default: both.")
@model_options
@as_json
def judge(
    runs: tuple[Path, ...],
    readings: tuple[str, ...],
    model: str | None,
    adapters: tuple[str, ...],
    untrained: bool,
    base_url: str | None,
    api_key: str | None,
    as_json: bool,
) -> None:
    """Grade the answers of runs by a model. Generously and strictly; the judge's name belongs to its figures."""
    from memory_r1.bench.evaluate import judged
    from memory_r1.llm.openai import OpenAILLM

    if model is None:
        raise click.UsageError("name the judge: --model FILE.gguf, or --base-url URL --model NAME")
    llm = open_llm(model, adapters, untrained, base_url, api_key)
    name = llm.model if isinstance(llm, OpenAILLM) else llm.name
    found = {}
    for folder in runs:
        with click.progressbar(length=1, label=f"{folder.name}: judging", file=sys.stderr) as bar:

            def progress(done: int, total: int) -> None:
                bar.length = total
                bar.update(done - bar.pos)

            result = judged(folder, llm, name, _readings(readings), progress)
        found[str(folder)] = result
    show(found, as_json, [f"{name}: {headline(result['scores'])}" for name, result in found.items()])


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--to", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to publish in.")
def publish(runs: tuple[Path, ...], to: Path) -> None:
    """Copy runs without the data's text. Ids, answers and scores stay; `bench report --data` joins the text again."""
    from memory_r1.bench.evaluate import publish

    for folder in runs:
        click.echo(publish(folder, to))


class Bars:
    """A bar while a dialogue is read and one while its questions are answered, with the time left and what is spent."""

    def __init__(self, meter: Meter) -> None:
        self._bar: Any = None
        self._label = ""
        self._meter = meter
        self._before = self._tokens()

    def reading(self, dialogue: Dialogue, done: int) -> None:
        self._show(f"{dialogue.id}: reading", done, len(dialogue.turns))

    def answered(self, record: Mapping[str, Any], done: int, total: int) -> None:
        del record
        self._show("answering", done, total)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.render_finish()
            self._bar, self._label = None, ""

    def _show(self, label: str, done: int, total: int) -> None:
        if label != self._label:
            self.close()
            shown: dict[str, Any] = {"show_pos": True, "file": sys.stderr, "item_show_func": lambda _: self.spent()}
            self._bar = click.progressbar(length=total, label=label, **shown)
            self._bar.update(max(0, done - 1))  # a run that goes on begins where it stopped
            self._bar.start = self._bar.last_eta = self._bar.last_eta
            self._label = label
        self._bar.update(done - self._bar.pos, current_item=done)

    def spent(self) -> str | None:
        """Since the system began, the tokens of its reading and of the answers."""
        tokens = self._tokens() - self._before
        return f"{tokens / 1000:,.0f}k tokens" if tokens else None

    def _tokens(self) -> int:
        return sum(one.tokens for step, one in self._meter().items() if step != "embed")  # nor is ours asked through it


def headline(scores: Mapping[str, Any]) -> str:
    """A result in a line."""
    parts = []
    for metric, score in scores["metrics"].items():
        if score["micro"] is not None:
            low, high = score["interval_95"]
            parts.append(f"{metric} {100 * score['micro']:.1f} ({100 * low:.1f}-{100 * high:.1f})")
    if scores["abstained"]:
        parts.append(f"abstained {100 * scores['abstained']['mean']:.0f} %")
    return f"{scores['questions']} questions, {', '.join(parts)}"


def _about(llm: EmbeddedLLM | OpenAILLM, context: int) -> tuple[str, dict[str, Any]]:
    """(the model's name, what else a result says of who plays it)"""
    from memory_r1.llm.openai import OpenAILLM

    adapters = adapters_of_llm(llm)
    if not isinstance(llm, OpenAILLM):
        return llm.name, {"adapters": adapters, "context_tokens": context}
    about: dict[str, Any] = {"adapters": adapters} if adapters else {}
    if numbers := dict.fromkeys(filter(str.isdecimal, llm.adapters.values())):
        files = llm.lora_files()
        about["lora"] = ", ".join(f"{number} is {files.get(int(number), 'not told')}" for number in numbers)
    return llm.model, about


def _by_trainer(model: str, adapters: Mapping[Step, Path]) -> tuple[LLM, str, dict[str, Any]]:
    """(who plays the model, its name, what else a result says of that)"""
    llm = played_by_trainer(model, adapters)  # says which packages it needs
    import torch

    played = [f"{step}={_named(adapter)}" for step, adapter in adapters.items()]
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    about = {"adapters": played, "runtime": f"torch on {where}", "threads": torch.get_num_threads()}
    return llm, model_file(model).stem, about


def _named(adapter: Path) -> str:
    """An export by what it says of itself, a run's adapter by its run."""
    if adapter.is_file():
        return adapter_name(adapter)
    folder = adapter.resolve()
    if folder.parent.name == "checkpoints":
        return f"{folder.parent.parent.name} {folder.name}"
    return folder.parent.name if folder.name == "adapter" else folder.name


def _part(dataset: Dataset, split: str, dialogues: Iterable[str], sessions: int | None) -> Dataset:
    dataset = dataset.split(split)
    if wanted := list(dialogues):
        dataset = dataset.of(wanted)
    return dataset.first_sessions(sessions) if sessions else dataset


def _readings(given: tuple[str, ...]) -> list[Any]:
    from memory_r1.bench.judge import READINGS

    return [reading for reading in READINGS if not given or reading in given]


def _system(name: str, llm: LLM, embedder: Embedder, endpoint: Endpoint | None, folder: Path, seed: int) -> System:
    """The system of this name. Raises InvalidInput for one that is not known, or not installed."""
    from memory_r1.bench.systems import external
    from memory_r1.bench.systems.environments import ENVIRONMENTS
    from memory_r1.bench.systems.ours import MemoryR1
    from memory_r1.bench.systems.plain import FullContext, NoMemory
    from memory_r1.bench.systems.rag import METHODS, Rag
    from memory_r1.recall import estimated_tokens

    match name.split("-"):
        case ["memory", "r1"]:
            return MemoryR1(llm, embedder, folder)
        case ["memory", "r1", "turns"]:
            return MemoryR1(llm, embedder, folder, name=name, keep_turns=True)
        case ["memory", "r1", "adds"]:
            return MemoryR1(llm, embedder, folder, name=name, adds_only=True)
        case ["no", "memory"]:
            return NoMemory()
        case ["full", "context"]:
            return FullContext()
        case ["rag", method, "turns"] if method in METHODS:
            return Rag(embedder, method, "turn")
        case ["rag", method, "sessions"] if method in METHODS:
            return Rag(embedder, method, "session")
    theirs = [environment.name for environment in ENVIRONMENTS]
    if name not in theirs:
        raise InvalidInput(f"no system is called {name!r}; there are {', '.join((*OURS, *theirs))}")
    if endpoint is None:
        raise InvalidInput(f"--torch answers memory-r1's own prompts alone: {name} asks a server")
    models = external.Models(endpoint.base_url, endpoint.name, embedder.name, embedder.dimension, seed)
    return external.installed(name, models, folder, estimated_tokens, endpoint.check)
