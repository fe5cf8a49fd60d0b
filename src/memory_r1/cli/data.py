"""`memory-r1 data`: the data sets that benchmarks read."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memory_r1.cli.options import as_json, options
from memory_r1.cli.output import Group, columns, counted, show

if TYPE_CHECKING:
    from memory_r1.train.wording import Split


@click.group(cls=Group)
def data() -> None:
    """Data sets for benchmarks: get one, make one, look at one."""


@data.command()
@click.argument("name", type=click.Choice(["locomo"]))
@click.option(
    "--to",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("locomo10.json"),
    show_default=True,
    help="Where to put it.",
)
@click.option("--url", help="A mirror; the file must be the same.")
def fetch(name: str, to: Path, url: str | None) -> None:  # noqa: ARG001  (the one there is)
    """Download the official file of a data set and check it. LoCoMo is 2.8 MB."""
    from memory_r1.bench import locomo
    from memory_r1.bench.download import download

    click.echo(f"LoCoMo is licensed {locomo.LICENCE}", err=True)
    with click.progressbar(length=1, label="Downloading", file=sys.stderr) as bar:

        def progress(done: int, total: int | None) -> None:
            bar.length = total or max(done, 2_805_274)
            bar.update(done - bar.pos)

        new = download(url or locomo.URL, to, locomo.SHA256, progress)
    click.echo(f"{to}: {'downloaded' if new else 'is there already'}; the checksum is right")


@data.command("generate")
@click.option("--dialogues", type=click.IntRange(1), default=10, show_default=True, help="How many.")
@click.option("--sessions", type=click.IntRange(1, 100), default=6, show_default=True, help="Sessions of each.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed makes the same dialogues.")
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    default="train",
    show_default=True,
    help="They share no sentence, name or value.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("synthetic.json"),
    show_default=True,
    help="Where to put them; read it as json:FILE.",
)
def generate_(dialogues: int, sessions: int, seed: int, split: Split, out: Path) -> None:
    """Make dialogues up, with questions: two people whose lives change over some sessions.

    What a perfect memory would do is written beside them, as FILE.gold.json: facts, operations and the final bank.
    """
    from memory_r1.bench import plain
    from memory_r1.train import generate

    made = list(generate.dialogues(split, seed, dialogues, sessions=sessions))
    data = generate.dataset(made, f"synthetic-{split}-{seed}")
    beside = out.with_suffix(".gold.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    plain.save(data, out)
    beside.write_text(json.dumps(generate.gold(made), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    turns = sum(len(dialogue.turns) for dialogue in data.dialogues)
    click.echo(f"{out}: {counted(dialogues, 'dialogue')}, {turns} turns, {len(data.questions)} questions")
    click.echo(f"{beside}: what a perfect memory would do")


@data.command("show")
@click.argument("dataset", metavar="KIND:PATH")
@click.option(
    "--repairs",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="LoCoMo: a file of repaired labels. Default: the labels as they are.",
)
@options(as_json)
def show_(dataset: str, repairs: Path | None, as_json: bool) -> None:
    """Count what a data set holds, and show a question of each category.

    KIND is locomo, longmemeval, msc or json (docs: memory_r1/bench/plain.py).
    """
    from memory_r1.bench.data import describe
    from memory_r1.bench.datasets import open_dataset

    opened = open_dataset(dataset, repairs)
    splits = {name: describe(opened.split(name)) for name in opened.splits}
    samples: dict[str, dict[str, Any]] = {}
    for question in opened.questions:
        sample = {"id": question.id, "question": question.text, "answer": question.answer or None}
        samples.setdefault(question.category, sample)
    value = {
        "name": opened.name,
        "splits": {
            name: {key: count for key, count in counts.items() if key not in ("name", "notes")}
            for name, counts in splits.items()
        },
        "printed": dict(opened.printed),
        "notes": dict(opened.notes),
        "samples": samples,
    }
    head = ("", "dialogues", "sessions", "turns", *opened.categories, "unanswerable")
    rows = [
        (
            name,
            *(str(counts[key]) for key in ("dialogues", "sessions", "turns")),
            *(str(count) for count in counts["questions"].values()),
            str(counts["unanswerable"]),
        )
        for name, counts in splits.items()
    ]
    lines = [f"{opened.name}: {counted(len(opened.questions), 'question')}", *columns([head, *rows]), ""]
    for category, sample in samples.items():
        printed = f' (printed as "{opened.printed[category]}")' if category in opened.printed else ""
        lines.append(f"{click.style(category, bold=True)}{printed}  {click.style(sample['id'], dim=True)}")
        lines += [f"  {sample['question']}", f"  {sample['answer'] or '(the dialogue does not tell)'}"]
    if opened.notes:
        lines += ["", *(f"{name.replace('_', ' ')}: {count}" for name, count in opened.notes.items())]
    show(value, as_json, lines)
