"""`memory-r1 data`: the data sets that benchmarks read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from memory_r1.cli.options import as_json, options
from memory_r1.cli.output import Group, columns, counted, show


@click.group(cls=Group)
def data() -> None:
    """The data sets that benchmarks read: get one, look at one."""


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
