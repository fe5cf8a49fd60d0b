"""`memory-r1 train`: policies of your own, and serving them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

import click

from memory_r1.cli import train_run
from memory_r1.cli.options import adapters_of_llm, as_json, model, model_file, open_llm, options
from memory_r1.cli.output import Group, show
from memory_r1.embed import default_embedder
from memory_r1.manager import RELATED
from memory_r1.types import Step
from memory_r1.weights import DEFAULT

_adapter = options(
    click.argument("adapter", type=click.Path(exists=True, file_okay=False, path_type=Path)),
    click.option(
        "--base", default="smollm2", show_default=True, help="The GGUF model it was trained from: a name or a file."
    ),
)


@click.group(cls=Group)
def train() -> None:
    """Train the two agents, and serve what was trained."""


@train.command()
@_adapter
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="The GGUF file. Default: ADAPTER/adapter.gguf."
)
@click.option("--name", help="What the log calls it, with a digest of its weights. Default: the run's name.")
@click.option("--f32", is_flag=True, help="Keep float32: twice the size.")
def export(adapter: Path, base: str, out: Path | None, name: str | None, f32: bool) -> None:
    """Write a trained adapter (a PEFT folder) as the GGUF LoRA that the embedded runtime loads."""
    from memory_r1.train.export import to_gguf

    kind: Literal["f16", "f32"] = "f32" if f32 else "f16"
    file = to_gguf(adapter, model_file(base), out or adapter / "adapter.gguf", dtype=kind, name=name)
    click.echo(f"{file}: {file.stat().st_size / 1e6:.1f} MB. Use it: --adapter manage={file} (or extract, answer)")


@train.command()
@_adapter
@click.option(
    "--step",
    "steps",
    multiple=True,
    type=click.Choice(["extract", "manage", "answer"]),
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
    adapter: Path, base: str, steps: tuple[Step, ...], prompts: int, seed: int, out: Path | None, as_json: bool
) -> None:
    """Compare a trained adapter in the trainer with its export in the embedded runtime.

    On product prompts: how often both decide the same, and how often the embedded model's most likely token is the
    trainer's, along the trainer's replies.
    """
    from memory_r1.train.parity import measure

    result = measure(adapter, model_file(base), steps, prompts, seed, lambda line: click.echo(line, err=True))
    if out is not None:
        out.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    figures = result["steps"]
    lines = [
        f"{step}: same decision {f['same_decision']:.1%}, same token {f['same_token']:.2%} of {f['tokens']:,}, "
        f"readable {f['readable']:.1%}, same prompt {f['same_prompt']:.1%}: {'good' if f['reached'] else 'too little'}"
        for step, f in figures.items()
    ]
    show(figures, as_json, lines)


@train.command()
@model
@click.option(
    "--step",
    "steps",
    multiple=True,
    type=click.Choice(["extract", "manage", "answer"]),
    default=("manage", "answer"),
    show_default=True,
    help="What to grade; may be repeated.",
)
@click.option(
    "--dialogues", type=click.IntRange(1), default=20, show_default=True, help="Held-out worlds to grade it in."
)
@click.option("--family", "families", multiple=True, help="Worlds about this alone, as dogs; may be repeated.")
@click.option("--about", help="Only what is about this, as dogs.second.")
@click.option("--limit", type=click.IntRange(1), help="At most so many prompts of each step.")
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

    llm = open_llm(model, adapters, untrained, base_url, api_key)
    found = grading.held_out(default_embedder(), steps, count=dialogues, seed=seed, families=families, related=RELATED)
    chosen = [one for one in found if about is None or one[1].about == about]
    if not chosen:
        raise click.UsageError(f"no prompt is about {about!r} there; `by_about` of a result without --about names all")
    if limit is not None:
        chosen = [one for step in steps for one in [c for c in chosen if c[1].prompt.step == step][:limit]]
    with click.progressbar(length=len(chosen), label="asking", file=sys.stderr, show_pos=True) as bar:
        graded = list(grading.evaluate(chosen, llm, free=free, progress=bar.update))
    what = {"model": model or DEFAULT, "adapters": adapters_of_llm(llm), "dialogues": dialogues, "seed": seed}
    done = grading.result(graded, what | {"free": free, "families": list(families), "about": about})
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(done, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    show(done["steps"], as_json, grading.table(done["steps"]))


train.add_command(train_run.manager)
train.add_command(train_run.answer)
train.add_command(train_run.both)
