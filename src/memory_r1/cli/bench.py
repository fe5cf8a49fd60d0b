"""`memory-r1 bench`: figures anyone can reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from memory_r1.cli import bench_run
from memory_r1.cli.options import as_json, model_file
from memory_r1.cli.output import Group, show
from memory_r1.errors import InvalidInput


@click.group(cls=Group)
def bench() -> None:
    """Measure: store, retrieval, training, whole memory systems."""


bench.add_command(bench_run.run)
bench.add_command(bench_run.judge)
bench.add_command(bench_run.publish)


@bench.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--list", "listing", is_flag=True, help="Show the systems, and which are installed.")
@click.option("--from", "origin", metavar="PATH", help="A local clone to install a system from, without the network.")
def setup(names: tuple[str, ...], listing: bool, origin: str | None) -> None:
    """Install other people's memory systems. Each into a virtual environment of its own, in the cache folder."""
    from memory_r1.bench.systems.environments import ENVIRONMENTS, environment

    if listing or not names:
        for known in ENVIRONMENTS:
            click.echo(f"{known.name:10} {'installed' if known.ready else '-':10} {known.about}")
    for name in names:
        python = environment(name).setup(lambda line: click.echo(line, err=True), origin)
        click.echo(f"{name} runs by {python}")


_OUT = click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the JSON and the plot.")


@bench.command()
@click.option("--sizes", default="1000,10000,100000", show_default=True, help="Numbers of entries, with commas.")
@click.option("--against", type=click.Choice(["mem0"]), help="Run Mem0 2.2.1 with local Qdrant beside it.")
@click.option("--seed", default=0, show_default=True)
@_OUT
@as_json
def store(sizes: str, against: str | None, seed: int, out: Path | None, as_json: bool) -> None:
    """Measure adds, searches and bulk adds. Beside them: a bare SQLite commit on the same disk."""
    from memory_r1.bench import store as bench_store

    try:
        counts = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        raise click.BadParameter("give whole numbers with commas: 1000,10000", param_hint="--sizes") from None
    result = bench_store.run(counts, out, against, seed, lambda line: click.echo(line, err=True))
    show(result, as_json, [bench_store.table(result)])


@bench.command()
@click.option("--data", required=True, metavar="KIND:PATH", help="The data set, such as locomo:locomo10.json.")
@_OUT
@as_json
def retrieval(data: str, out: Path | None, as_json: bool) -> None:
    """Measure the recall of a data set's evidence turns. At 5, 10, 30 and 60, with intervals."""
    from memory_r1.bench import retrieval as bench_retrieval
    from memory_r1.bench.datasets import open_dataset
    from memory_r1.embed import default_embedder

    result = bench_retrieval.run(open_dataset(data), default_embedder(), out, lambda line: click.echo(line, err=True))
    show(result, as_json, [bench_retrieval.table(result)])


@bench.command()
@click.option("--entries", default=100_000, show_default=True, help="In the bank before.")
@click.option("--clients", default=50, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--against", type=click.Choice(["mem0"]), help="Let as many threads call Mem0 2.2.1's library, too.")
@click.option("--seed", default=0, show_default=True)
@_OUT
@as_json
def serving(
    entries: int, clients: int, seconds: float, against: str | None, seed: int, out: Path | None, as_json: bool
) -> None:
    """Measure the server under many clients. Adds and searches mixed; nothing acknowledged may be lost."""
    try:
        from memory_r1.serve import load
    except ModuleNotFoundError as error:
        raise InvalidInput("this needs the server's extra: pip install 'memory-r1[serve]'") from error

    result = load.run(entries, clients, seconds, out, against, seed, say=lambda line: click.echo(line, err=True))
    show(result, as_json, [load.table(result)])


@bench.command()
@click.option("--model", default="smollm2", show_default=True, help="A name, a GGUF file or a Hugging Face folder.")
@click.option("--algo", "algos", multiple=True, type=click.Choice(["grpo", "ppo"]), help="Default: both.")
@click.option("--prompt-tokens", default=1024, show_default=True)
@click.option("--group-size", default=8, show_default=True, type=click.IntRange(2))
@click.option("--reply-tokens", default=32, show_default=True, type=click.IntRange(1))
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1), help="Processes of each variant.")
@click.option(
    "--steps", default=1, show_default=True, type=click.IntRange(1), help="Steps that count, of each process."
)
@click.option("--rows", type=click.IntRange(1), help="TRL's micro-batch. Default: the fastest that fits, by trying.")
@click.option("--memory-gb", default=24.0, show_default=True, help="What a process may take, at most.")
@click.option("--kl", default=0.0, show_default=True, help="Above 0 both score a reference, too.")
@click.option("--bf16", is_flag=True, help="Compute in bfloat16.")
@click.option("--seed", default=0, show_default=True)
@_OUT
@as_json
def train(
    model: str,
    algos: tuple[Literal["grpo", "ppo"], ...],
    repeats: int,
    rows: int | None,
    out: Path | None,
    as_json: bool,
    **sizes: Any,
) -> None:
    """Measure a training step beside stock TRL's. Time and peak memory of GRPO and PPO, on the same data and seeds."""
    from memory_r1.train import bench as bench_train
    from memory_r1.train.base import train_extra, trainable

    with train_extra():
        import trl  # noqa: F401  (named here so that a missing package is said at once)
    folder = model if (Path(model) / "config.json").is_file() else str(trainable(model_file(model)))
    job = bench_train.Job(model=folder, **sizes)
    algos = algos or bench_train.ALGOS
    result = bench_train.run(job, algos, repeats, rows, out, lambda line: click.echo(line, err=True))
    show(result, as_json, [bench_train.table(result)])


@bench.command()
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="RUN_FOLDER...",
)
@click.option("--data", metavar="KIND:PATH", help="The data set the runs answered, for records without its text.")
@bench_run.repairs
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The page.",
)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw F1 by category into this PNG, too.")
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
def report(
    folders: tuple[Path, ...], data: str | None, repairs: Path | None, html: Path, plot: Path | None, markdown: bool
) -> None:
    """Print the paper's table of some runs, and write a page to read every answer in."""
    from memory_r1.bench import report as bench_report
    from memory_r1.bench.datasets import open_dataset
    from memory_r1.bench.page import page
    from memory_r1.bench.runs import load, without_text

    runs = load(folders)
    told = open_dataset(data, repairs) if data else None
    html.write_text(page(runs, told), encoding="utf-8")
    if plot:
        bench_report.plot(runs, plot)
    click.echo(bench_report.markdown(runs, told) if markdown else bench_report.text(runs, told))
    click.echo(f"The answers can be read in {html}.", err=True)
    if not data and without_text(runs):
        click.echo(
            "The records name questions and turns by their ids; give --data to read their text there, "
            "and to see where answers go wrong.",
            err=True,
        )
