"""`memory-r1 train`: policies of your own, and serving them."""

from __future__ import annotations

import json
from pathlib import Path

import click

from memory_r1.cli import train_run
from memory_r1.cli.options import as_json, model_file, options
from memory_r1.cli.output import Group, show
from memory_r1.types import Step

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
@click.option("--f32", is_flag=True, help="Keep float32: twice the size.")
def export(adapter: Path, base: str, out: Path | None, f32: bool) -> None:
    """Write a trained adapter (a PEFT folder) as the GGUF LoRA that the embedded runtime loads."""
    from memory_r1.train.export import to_gguf

    file = to_gguf(adapter, model_file(base), out or adapter / "adapter.gguf", dtype="f32" if f32 else "f16")
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


train.add_command(train_run.manager)
train.add_command(train_run.answer)
train.add_command(train_run.both)
