"""`memory-r1 bench`: figures anyone can reproduce."""

from __future__ import annotations

from pathlib import Path

import click

from memory_r1.cli.output import Group


@click.group(cls=Group)
def bench() -> None:
    """Measure: the store, retrieval on LoCoMo, and whole answers."""


_OUT = click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the JSON and the plot.")


@bench.command()
@click.option("--sizes", default="1000,10000,100000", show_default=True, help="Numbers of entries, with commas.")
@click.option("--against", type=click.Choice(["mem0"]), help="Run Mem0 2.2.1 with local Qdrant beside it.")
@click.option("--seed", default=0, show_default=True)
@_OUT
def store(sizes: str, against: str | None, seed: int, out: Path | None) -> None:
    """Adds, searches and bulk adds beside a bare SQLite commit on the same disk."""
    from memory_r1.bench import store as bench_store

    counts = tuple(int(size) for size in sizes.split(","))
    result = bench_store.run(counts, out, against, seed, lambda line: click.echo(line, err=True))
    click.echo(bench_store.table(result))


@bench.command()
@click.option("--data", required=True, metavar="KIND:PATH", help="The data set, such as locomo:locomo10.json.")
@_OUT
def retrieval(data: str, out: Path | None) -> None:
    """Recall of a data set's gold evidence turns at 5, 10, 30 and 60, with intervals."""
    from memory_r1.bench import retrieval as bench_retrieval
    from memory_r1.bench.datasets import open_dataset
    from memory_r1.embed import default_embedder

    result = bench_retrieval.run(open_dataset(data), default_embedder(), out, lambda line: click.echo(line, err=True))
    click.echo(bench_retrieval.table(result))


@bench.command()
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="RUN_FOLDER...",
)
@click.option("--data", metavar="KIND:PATH", help="The data set the runs answered, for records without its text.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The page.",
)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw F1 by category into this PNG, too.")
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
def report(folders: tuple[Path, ...], data: str | None, html: Path, plot: Path | None, markdown: bool) -> None:
    """Print the paper's table of some runs, and write a page to read every answer in."""
    from memory_r1.bench import report as bench_report
    from memory_r1.bench.datasets import open_dataset

    runs = bench_report.load(folders)
    html.write_text(bench_report.page(runs, open_dataset(data) if data else None), encoding="utf-8")
    if plot:
        bench_report.plot(runs, plot)
    click.echo(bench_report.markdown(runs) if markdown else bench_report.text(runs))
    click.echo(f"The answers can be read in {html}.", err=True)
    if not data and bench_report.without_text(runs):
        click.echo("The records name questions and turns by their ids; give --data to read their text there.", err=True)
