"""`memory-r1 train`: policies of your own, and serving them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from memory_r1.cli import train_run
from memory_r1.cli.options import adapters_of, adapters_of_llm, as_json, model, model_file, open_llm, options
from memory_r1.cli.output import Group, show
from memory_r1.embed import default_embedder
from memory_r1.errors import InvalidInput
from memory_r1.files import remedy
from memory_r1.manager import RELATED
from memory_r1.types import Step
from memory_r1.weights import DEFAULT

if TYPE_CHECKING:
    from memory_r1.flow import LLM
    from memory_r1.train.examples import Placed

_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_STEPS = click.Choice(["extract", "manage", "answer"])
_adapter = options(
    click.argument("adapter", type=click.Path(exists=True, file_okay=False, path_type=Path)),
    click.option(
        "--base", help="The GGUF model it was trained from: a name or a file. Default: what its run's settings say."
    ),
)


@click.group(cls=Group)
def train() -> None:
    """Train the extractor and the two agents; serve what was trained."""


@train.command()
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The file of JSON lines.")
@click.option("--step", "steps", multiple=True, type=_STEPS, default=("extract", "manage", "answer"), show_default=True)
@click.option(
    "--data",
    default="synthetic",
    show_default=True,
    metavar="KIND[:PATH]",
    help="synthetic[:DIALOGUES], or locomo:FILE: what its annotators noted of each turn (extract), and the answers to "
    "its questions (answer).",
)
@click.option("--teacher", help="With locomo: the model that reads the dialogues before the questions. [smollm2]")
@click.option("--questions", type=click.IntRange(1), help="With locomo: draw so many of its questions by --seed.")
@click.option("--dialogues", type=click.IntRange(1), default=20, show_default=True, help="Generated ones.")
@click.option("--sessions", type=click.IntRange(1), default=6, show_default=True, help="Of each of these.")
@click.option(
    "--retrieved", type=click.IntRange(1), default=10, show_default=True, help="Memories shown with a question."
)
@click.option("--family", "families", multiple=True, help="Worlds about this alone, as dogs; may be repeated.")
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    default="train",
    show_default=True,
    help="test: held-out wording; LoCoMo's is refused.",
)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--keep-turns", is_flag=True, help="Show kept turns, too; of generated dialogues but half of the memories."
)
@click.option("--plain", is_flag=True, help="Questions with their answers alone, without distillation.")
def examples(
    out: Path,
    steps: tuple[Step, ...],
    data: str,
    teacher: str | None,
    questions: int | None,
    dialogues: int,
    sessions: int,
    retrieved: int,
    families: tuple[str, ...],
    split: Literal["train", "validation", "test"],
    seed: int,
    keep_turns: bool,
    plain: bool,
) -> None:
    """Write prompts with the replies that are right.

    To look at what is taught; to clone it (`--algo sft --data jsonl:FILE`), read once for many runs; or to grade on it
    (`train evaluate --examples FILE`).
    """
    from memory_r1.train.evaluate import placed_examples
    from memory_r1.train.examples import write_examples

    kind, _, file = data.partition(":")
    if plain and "answer" not in steps:
        raise click.UsageError("--plain is for --step answer")
    if questions is not None and kind != "locomo":
        raise click.UsageError("--questions draws from LoCoMo's; of generated dialogues take fewer: --dialogues")
    if questions is not None and "answer" not in steps:
        raise click.UsageError("--questions is for --step answer")
    if kind == "locomo" and file:
        if split == "test":
            raise click.UsageError(
                "LoCoMo's test dialogues are there to measure on: nothing is made from them to learn"
            )
        if steps == ("manage",):
            raise click.UsageError("LoCoMo says nothing of operations; give --step extract or answer")
        found = _annotated(Path(file), split, steps, teacher, questions, seed, retrieved, keep_turns, plain)
    elif kind == "synthetic" and (file or "1").isdigit():
        dialogues = int(file or dialogues)
        worlds: dict[str, Any] = {"sessions": sessions, "families": families, "split": split}
        sizes: dict[str, Any] = {"related": RELATED, "retrieved": retrieved, "keep_turns": keep_turns}
        worlds |= sizes | {"count": dialogues, "seed": seed, "distil": not plain}
        found = placed_examples(default_embedder(), steps, **worlds)
    else:
        raise click.UsageError(f"--data {data}: give synthetic, synthetic:DIALOGUES or locomo:FILE")
    with click.progressbar(found, label="writing", file=sys.stderr, show_pos=True) as bar:
        count = write_examples(out, bar)
    click.echo(f"{out}: {count:,} examples")


def _annotated(
    file: Path,
    split: str,
    steps: Sequence[Step],
    teacher: str | None,
    questions: int | None,
    seed: int,
    retrieved: int,
    keep_turns: bool,
    plain: bool,
) -> Iterator[Placed]:
    """Examples of LoCoMo's: its annotators decided no operations."""
    from memory_r1.bench import locomo
    from memory_r1.train.annotated import answered, noted
    from memory_r1.train.samples import answer_samples

    data = locomo.load(file).split(split)
    if "extract" in steps:
        yield from noted(data, locomo.observations(file))
    if "answer" in steps:
        reader = open_llm(teacher, (), untrained=False)
        asked = data if questions is None else data.some(questions, seed)
        sizes: dict[str, Any] = {"k": retrieved, "keep_turns": keep_turns}
        samples = answer_samples(asked, reader, default_embedder(), unanswerable=True, **sizes)
        yield from answered(samples, distil=not plain)


@train.command()
@_adapter
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="The GGUF file. Default: ADAPTER/adapter.gguf."
)
@click.option("--name", help="What the log calls it, with a digest of its weights. Default: the run's name.")
@click.option("--f32", is_flag=True, help="Keep float32: twice the size.")
def export(adapter: Path, base: str | None, out: Path | None, name: str | None, f32: bool) -> None:
    """Write a trained adapter (a run's folder, or a PEFT one) as the GGUF LoRA that the embedded runtime loads."""
    from memory_r1.train.export import to_gguf
    from memory_r1.train.runs import adapter_of

    adapter = adapter_of(adapter)
    kind: Literal["f16", "f32"] = "f32" if f32 else "f16"
    file = to_gguf(adapter, _base_file(adapter, base), out or adapter / "adapter.gguf", dtype=kind, name=name)
    click.echo(f"{file}: {file.stat().st_size / 1e6:.1f} MB. Use it: --adapter manage={file} (or extract, answer)")


def _base_file(adapter: Path, given: str | None) -> Path:
    """The GGUF model that an adapter was trained from."""
    from memory_r1.train.runs import base_of

    name = given or base_of(adapter)
    if name is None:
        raise InvalidInput(
            f"{adapter} lies in no run that says what it was trained from: give its GGUF model as --base"
        )
    with remedy("give as --base the GGUF file of the model that the adapter was trained from"):
        return model_file(name)


@train.command()
@_adapter
@click.option(
    "--step",
    "steps",
    multiple=True,
    type=_STEPS,
    default=("manage",),
    show_default=True,
    help="What it was trained for; may be repeated.",
)
@click.option(
    "--prompts", type=click.IntRange(1), default=200, show_default=True, help="How many prompts for each step."
)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures with every reply as JSON."
)
@as_json
def parity(
    adapter: Path, base: str | None, steps: tuple[Step, ...], prompts: int, seed: int, out: Path | None, as_json: bool
) -> None:
    """Compare a trained adapter in the trainer with its export in the embedded runtime.

    On product prompts: how often both decide the same, and how often the embedded model's most likely token is the
    trainer's, along the trainer's replies.
    """
    from memory_r1.train.parity import measure
    from memory_r1.train.runs import adapter_of

    adapter = adapter_of(adapter)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    result = measure(adapter, _base_file(adapter, base), steps, prompts, seed, lambda line: click.echo(line, err=True))
    figures = result["steps"]
    lines = [
        f"{step}: same decision {f['same_decision']:.1%}, same token {f['same_token']:.2%} of {f['tokens']:,}, "
        f"readable {f['readable']:.1%}, same prompt {f['same_prompt']:.1%}: {'good' if f['reached'] else 'too little'}"
        for step, f in figures.items()
    ]
    show(figures, as_json, lines)
    _write(out, result)


def _write(out: Path | None, result: Mapping[str, Any]) -> None:
    """After it was shown, so that a full disk does not cost what was measured."""
    if out is not None:
        out.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


@train.command()
@model
@click.option(
    "--step",
    "steps",
    multiple=True,
    type=_STEPS,
    default=("manage", "answer"),
    show_default=True,
    help="What to grade; may be repeated.",
)
@click.option(
    "--dialogues", type=click.IntRange(1), default=20, show_default=True, help="Held-out worlds to grade it in."
)
@click.option("--family", "families", multiple=True, help="Worlds about this alone, as dogs; may be repeated.")
@click.option("--about", help="Only what is about this, as dogs.second.")
@click.option("--limit", type=click.IntRange(1), help="So many prompts of each step, spread over all.")
@click.option("--examples", type=_file, help="Grade on a file of `train examples` instead.")
@click.option("--against", type=_file, help="An earlier --out: say how much better this is, prompt by prompt.")
@click.option("--seed", default=0, show_default=True)
@click.option("--free", is_flag=True, help="Without the schema that constrains replies when serving.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write figures and wrong replies as JSON.")
@as_json
def evaluate(
    model: str | None,
    adapters: tuple[str, ...],
    untrained: bool,
    base_url: str | None,
    api_key: str | None,
    steps: tuple[Step, ...],
    dialogues: int,
    families: tuple[str, ...],
    about: str | None,
    limit: int | None,
    examples: Path | None,
    against: Path | None,
    seed: int,
    free: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Grade a model, with adapters or without, in held-out generated worlds.

    Its replies to the product's own prompts are compared with what a perfect agent says: whether the manager decides
    the same about the same entry, which memories the Answer Agent keeps and how right its answer is. The worlds share
    no sentence, name or value with those of `--data synthetic`.
    """
    from memory_r1.train import evaluate as grading
    from memory_r1.train.examples import read_examples

    before = None if against is None else grading.read_result(against)  # first: a mistake there shows at once
    by_step = adapters_of(adapters, model)
    if any(path.is_dir() for path in by_step.values()):
        if not free or base_url is not None or not all(path.is_dir() for path in by_step.values()):
            raise click.UsageError(
                "a run's adapter (a folder) is played by the trainer, which knows no schema: give --free, and folders "
                "alone; or export it and give the file"
            )
        llm: LLM = train_run.played_by_trainer(model or DEFAULT, by_step)
        played = list(adapters)
    else:
        llm = open_llm(model, adapters, untrained, base_url, api_key)
        played = adapters_of_llm(llm)
    if examples is not None:
        found: Iterable[Placed] = read_examples(examples, steps)
    else:
        worlds: dict[str, Any] = {"count": dialogues, "seed": seed, "families": families, "related": RELATED}
        found = grading.placed_examples(default_embedder(), steps, **worlds)
    chosen = [one for one in found if about is None or one.example.about == about]
    if not chosen:
        raise click.UsageError(f"no prompt is about {about!r} there; `by_about` of a result without --about names all")
    if limit is not None:
        of_each = ([one for one in chosen if one.example.prompt.step == step] for step in steps)
        chosen = [one for of_step in of_each for one in grading.spread(of_step, limit)]
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    with click.progressbar(length=len(chosen), label="asking", file=sys.stderr, show_pos=True) as bar:
        graded = list(grading.evaluate(chosen, llm, free=free, progress=bar.update))
    what = {"model": model or DEFAULT, "adapters": played, "seed": seed}
    done = grading.result(graded, what | {"free": free, "families": list(families), "about": about})
    lines = list(grading.table(done["steps"]))
    if before is not None:
        lines += [f"beside {against}:", *grading.against(done, before, seed)]
    show(done["steps"], as_json, lines)
    _write(out, done)


train.add_command(train_run.extractor)
train.add_command(train_run.manager)
train.add_command(train_run.answer)
train.add_command(train_run.both)
