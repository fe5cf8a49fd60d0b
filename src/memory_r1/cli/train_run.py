"""`memory-r1 train extractor|manager|answer|both` and `memory-r1 runs`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from memory_r1.adapters import shipped
from memory_r1.cli.options import SHIPPED, model_file, open_llm, options
from memory_r1.errors import InvalidInput
from memory_r1.llm.gguf import adapter_name
from memory_r1.train.report import REPORTERS, reporters
from memory_r1.weights import named

if TYPE_CHECKING:  # these load torch, and so only when a run begins
    from memory_r1.embed import Embedder
    from memory_r1.flow import LLM
    from memory_r1.train.config import Agent, TrainConfig
    from memory_r1.types import Step

GPU_TOKENS = 262_144  # sampled side by side: of SmolLM2-135M, 6 GB of keys and values in bfloat16
_folder = click.Path(exists=True, file_okay=False, path_type=Path)
_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_frozen = click.Path(exists=True, path_type=Path)
_settings = options(
    click.option("--algo", type=click.Choice(["grpo", "ppo", "sft"]), help="Default: grpo."),
    click.option(
        "--data",
        required=True,
        metavar="KIND[:PATH]",
        help="synthetic[:DIALOGUES], jsonl:FILE of samples (sft: of examples), bank:FILE (sft), or a data set such as "
        "locomo:FILE.",
    ),
    click.option("--split", default="train", show_default=True, help="Of a data set: what to learn from."),
    click.option("--model", help="A name, a GGUF file or a Hugging Face folder. Default: smollm2."),
    click.option(
        "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The run's folder, as runs/NAME."
    ),
    click.option("--steps", type=click.IntRange(1), help="Default: 100."),
    click.option("--seed", type=int, help="Default: 0."),
    click.option("--config", "file", type=_file, help="A TOML file of settings, such as one of configs/."),
    click.option(
        "--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Any setting, as reward.metric=f1; may be repeated."
    ),
    click.option(
        "--start",
        metavar="ADAPTER",
        help="Begin from this adapter: a run's folder, such as runs/NAME/adapter, an export (GGUF), or shipped: the "
        "one that comes with the model.",
    ),
    click.option(
        "--teacher",
        help="A GGUF model that reads the dialogues of a data set without gold operations, as it is served.",
    ),
    click.option(
        "--judge",
        help="The model that grades answers where reward.metric is a judge's: a name or a GGUF file; with --judge-url, "
        "its name there.",
    ),
    click.option("--judge-url", help="An OpenAI-compatible server (vLLM, Ollama, hosted) that has the judge."),
    click.option(
        "--api-key", envvar="MEMORY_R1_API_KEY", help="For that server. Better: the variable MEMORY_R1_API_KEY."
    ),
    click.option(
        "--report",
        multiple=True,
        type=click.Choice(list(REPORTERS)),
        help="Send the metrics there, too; may be repeated.",
    ),
    click.option("--vllm", is_flag=True, help="Sample by vLLM, on a GPU."),
    click.option(
        "--window",
        type=click.IntRange(0),
        help="Turns that the bank before a turn is made from. Default: 50, and all of a generated dialogue.",
    ),
)


@click.command()
@_settings
def extractor(**given: Any) -> None:
    """Train what finds the facts of a turn, by cloning (--algo sft)."""
    _train("extractor", {**given, "algo": given["algo"] or "sft"})


@click.command()
@_settings
@click.option(
    "--answer-adapter",
    type=_frozen,
    help="The frozen Answer Agent's: a run's adapter, or its export (GGUF), which answers as it is served, and faster "
    "on a CPU. Default: the model without any.",
)
def manager(answer_adapter: Path | None, **given: Any) -> None:
    """Train the Memory Manager; a frozen Answer Agent's answers are its reward."""
    _train("manager", given, answer=answer_adapter)


@click.command()
@_settings
@click.option(
    "--manager-adapter",
    type=_frozen,
    help="The fixed manager's: a run's adapter, or its export. Default: gold operations, or the teacher.",
)
def answer(manager_adapter: Path | None, **given: Any) -> None:
    """Train the Answer Agent on the memories that a fixed manager left."""
    _train("answer", given, manage=manager_adapter)


@click.command()
@_settings
@click.option("--rounds", default=1, show_default=True, type=click.IntRange(1), help="How often to alternate.")
def both(rounds: int, out: Path, start: str | None, **given: Any) -> None:
    """Train the manager with a frozen Answer Agent, then the Answer Agent, as the paper does; runs lie in OUT."""
    from memory_r1.train.config import load_config

    if start == SHIPPED:
        raise InvalidInput(f"--start {SHIPPED} is of one agent: train each with a command of its own")
    settings = load_config(given["file"], given["pairs"], algo=given["algo"])
    if rounds > 1 and settings.lora.rank == 0:
        raise InvalidInput(
            "lora.rank=0 trains whole models, of which one alone is loaded: leave --rounds out, and give the folders "
            "of the first as --model and --answer-adapter of commands of their own"
        )
    if settings.algo == "sft":
        raise InvalidInput("cloning has no other agent to alternate with: train each with a command of its own")
    if given["data"].startswith("jsonl:"):
        raise InvalidInput("the Answer Agent's samples are to come from the manager just trained: give a data set")
    answering: Path | None = None
    for number in range(1, rounds + 1):
        managing = _train(
            "manager", {**given, "out": out / f"manager-{number}", "start": start}, shared=True, answer=answering
        )
        options = {**given, "out": out / f"answer-{number}", "start": answering and str(answering)}
        answering = _train("answer", options, shared=True, manage=managing)
        start = str(managing)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=_folder, metavar="RUN...")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw all of them into one picture.")
@click.option("--last", default=10, show_default=True, type=click.IntRange(1), help="Steps that a mean is taken over.")
def runs(folders: tuple[Path, ...], plot: Path | None, last: int) -> None:
    """Compare training runs in one table, and in one picture."""
    from memory_r1.train.runs import CONFIG, Run, compared, labels
    from memory_r1.train.runs import plot as draw

    opened = [Run(folder) for folder in folders if (folder / CONFIG).is_file()]
    for folder in folders:
        if not (folder / CONFIG).is_file():
            click.echo(f"{folder} holds no run, and is left out", err=True)
    if not opened:
        raise InvalidInput("none of these folders holds a run: they lie where --out said")
    click.echo(compared(opened, last))
    if plot is not None:
        click.echo(draw({named: run.metrics() for named, run in zip(labels(opened), opened, strict=True)}, plot))


def _train(agent: str, given: Mapping[str, Any], *, shared: bool = False, **frozen: Path | None) -> Path:
    """One run; `frozen` are the adapters of the agent not trained, by step. `shared`: the settings are of both."""
    from memory_r1.embed import default_embedder
    from memory_r1.train.base import train_extra, vllm_extra
    from memory_r1.train.config import load_config
    from memory_r1.train.runs import PROCESSES, Run
    from memory_r1.train.unused import refuse_unused

    wanted: dict[str, Any] = {name: given[name] for name in ("algo", "model", "steps", "seed")}
    wanted |= {"report": given["report"] or None, "vllm": given["vllm"] or None}
    config: TrainConfig = load_config(given["file"], given["pairs"], agent=agent, **wanted)
    reporters(config.report)
    if config.vllm:
        vllm_extra()
    _check_frozen(config, given["data"], frozen)
    run, start = Run(given["out"]), _start(given["start"], config)
    if not run.begun:  # one that was begun by another version goes on
        options = {"teacher": given["teacher"] is not None, "window": given["window"] is not None}
        agents: tuple[Agent, ...] = ("manager", "answer") if shared else (config.agent,)
        refuse_unused(config, given["data"], agents, split=given["split"], **options)
    told = ("data", "split", "teacher", "window", "judge", "judge_url")
    about = {name: None if given[name] is None else str(given[name]) for name in told}
    about["start"] = None if start is None else adapter_name(start) if start.is_file() else str(start)
    teacher = open_llm(given["teacher"], (), untrained=False) if given["teacher"] else None
    judge = _judge(config, given["judge"], given["judge_url"], given["api_key"])
    with train_extra():
        import datasets
        import torch
        import transformers
        import trl  # noqa: F401  (named here so that a missing package is said before anything is loaded)

        from memory_r1.train.export import to_peft
        from memory_r1.train.sharding import is_main, main_first, processes

    others = {step: str(folder) for step, folder in frozen.items() if folder}
    with main_first():
        if is_main():
            run.claim(config, {**about, "frozen": others, PROCESSES: processes()})
    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    work = _clone if config.algo == "sft" else partial(_reinforce, judge)
    label = f"{agent} by {config.algo}"
    shown: dict[str, Any] = {"file": sys.stderr, "show_pos": True, "hidden": not is_main()}
    with click.progressbar(length=config.steps, label=label, **shown) as bar:

        def progress(step: int, logs: Mapping[str, Any]) -> None:
            bar.label = f"reward {logs['reward']:.3f}" if "reward" in logs else f"loss {logs.get('loss', 0.0):.3f}"
            bar.update(step - bar.pos)

        # As many threads as torch: where many runs share a machine, OMP_NUM_THREADS holds for both.
        embedder = default_embedder(threads=torch.get_num_threads())
        if start is not None and start.is_file():
            with main_first():
                start = to_peft(start, model_file(config.model), run.folder / "start")
        adapter = work(config, run, embedder, teacher, frozen, {**given, "start": start}, progress)
    if not is_main():
        return adapter
    if config.lora.rank:
        click.echo(f"{adapter}: memory-r1 train export {adapter} writes it for the embedded runtime")
    else:
        click.echo(f"{adapter}: the whole model; vllm serve {adapter} plays it")
    click.echo(run.plot())
    return adapter


def _check_frozen(config: TrainConfig, data: str, frozen: Mapping[str, Path | None]) -> None:
    """Raises InvalidInput where the agent that is not trained would not play."""
    if config.algo == "sft" and any(frozen.values()):
        raise InvalidInput("nobody else plays while an agent is cloned: leave its adapter out")
    if data.startswith("jsonl:") and frozen.get("manage"):
        raise InvalidInput("the samples of a file were made by their manager: leave --manager-adapter out")


def _judge(config: TrainConfig, name: str | None, url: str | None, api_key: str | None) -> LLM | None:
    """Who grades answers, where the reward is a judge's. Raises InvalidInput where that is nobody."""
    judged = config.algo != "sft" and config.reward.metric.startswith("judge")
    if judged and name is None:
        raise InvalidInput(
            f"reward.metric={config.reward.metric} needs a judge: give --judge, the model that grades answers"
        )
    if not judged and (name or url):
        raise InvalidInput(
            "--judge is for a reward of its own: give --set reward.metric=judge_lenient, or leave it out"
        )
    if name is None:
        return None
    if url is None:
        return _alone(model_file(name), {}, config)
    from memory_r1.train.samples import Remembering

    return Remembering(open_llm(name, (), True, url, api_key))


def _alone(model: Path, adapters: Mapping[Step, Path], config: TrainConfig) -> LLM:
    """A model as it is served, one prompt at a time: side by side, batches of another size would round otherwise."""
    from memory_r1.llm.embedded import EmbeddedLLM
    from memory_r1.train.samples import Remembering

    llm = EmbeddedLLM(model, adapters=adapters, context_tokens=config.context, parallel=1)
    return Remembering(llm)  # most banks of a group are alike, and so are the questions put to them


def _reinforce(
    judge: LLM | None,
    config: TrainConfig,
    run: Any,
    embedder: Embedder,
    teacher: LLM | None,
    frozen: Mapping[str, Path | None],
    given: Mapping[str, Any],
    progress: Any,
) -> Path:
    from accelerate import PartialState

    from memory_r1.train.learn import learn, prepared
    from memory_r1.train.policy import Policy
    from memory_r1.train.samples import RememberedTexts
    from memory_r1.train.sharding import main_first
    from memory_r1.train.sources import samples_for, task_of

    base, tokenizer = base_of(config.model, bf16=config.bf16 and config.lora.rank > 0)
    model, critic = prepared(base, config, given["start"])
    limits: dict[str, Any] = {"context_tokens": config.context, "batch_tokens": config.batch_tokens}
    embedder = RememberedTexts(embedder)

    def player(step: Step) -> LLM:
        """The frozen agent of this step, greedy: the same weights with an adapter of its own, or a model of its own."""
        folder, plays, name = frozen.get(step), model, ""
        if folder is not None and folder.is_file():
            return _alone(model_file(config.model), {step: folder}, config)
        if config.lora.rank == 0:
            plays, _ = base_of(config.model if folder is None else str(folder), bf16=config.bf16)
            plays = plays.to(PartialState().device)
        elif folder is not None:
            model.load_adapter(folder, step, is_trainable=False)
            name = step
        return Policy(plays, tokenizer, temperature=0, adapter=name, name="frozen", **limits)

    manager: LLM | None = player("manage") if frozen.get("manage") else None
    if config.agent == "manager" and config.replay == "policy":
        manager = Policy(model, tokenizer, temperature=0, **limits)
    with main_first():
        samples = samples_for(
            given["data"],
            config,
            embedder,
            run.folder / "samples.jsonl",
            teacher=teacher,
            manager=manager,
            split=given["split"],
            window=given["window"],
        )
    task = task_of(samples, config, embedder)
    others: dict[Any, Any] = {"answer": player("answer")} if config.agent == "manager" else {}
    if judge is not None:
        others["judge"] = judge
    return learn(config, run, model, tokenizer, task, others, critic=critic, progress=progress)


def _clone(
    config: TrainConfig,
    run: Any,
    embedder: Embedder,
    teacher: LLM | None,
    frozen: Mapping[str, Path | None],
    given: Mapping[str, Any],
    progress: Any,
) -> Path:
    del frozen  # _check_frozen: there is none
    from memory_r1.train.learn import prepared
    from memory_r1.train.sft import Pair, balanced, clone, kept_pairs
    from memory_r1.train.sharding import main_first
    from memory_r1.train.sources import gold_pairs, samples_for, task_of

    if teacher is None and given["data"].partition(":")[0] in ("synthetic", "jsonl", "bank"):
        found = gold_pairs(given["data"], config, embedder)
        with click.progressbar(found, label="reading", file=sys.stderr, show_pos=True) as bar:
            pairs = [Pair(*one) for one in bar]
    elif teacher is None:
        raise InvalidInput(f"{given['data']} needs a --teacher to be cloned")
    elif config.agent == "extractor":
        raise InvalidInput(
            "the extractor is cloned from examples: `memory-r1 train examples --step extract` makes them"
        )
    else:
        kept, options = run.folder / "samples.jsonl", {"split": given["split"], "window": given["window"]}
        with main_first():
            samples = samples_for(given["data"], config, embedder, kept, teacher=teacher, **options)
            task = task_of(samples, config, embedder)
            pairs = kept_pairs(run.folder / "examples.jsonl", task, teacher, _tell_skipped)
    base, tokenizer = base_of(config.model, bf16=config.bf16 and config.lora.rank > 0)
    model, _ = prepared(base, replace(config, algo="sft"), given["start"])
    return clone(config, run, model, tokenizer, balanced(pairs) if config.balance else pairs, progress=progress)


def _tell_skipped(skipped: Counter[str]) -> None:
    if skipped:
        left_out = ", ".join(f"{count} {why}" for why, count in skipped.most_common())
        click.echo(f"the teacher's replies that are not learned: {left_out}", err=True)


def _start(given: str | None, config: TrainConfig) -> Path | None:
    """The adapter to begin from: a folder, or a GGUF file."""
    from memory_r1.train.config import STEP_OF

    if given is None:
        return None
    start = shipped(named(config.model)).get(STEP_OF[config.agent]) if given == SHIPPED else Path(given)
    if start is None:
        raise InvalidInput(f"no adapter comes with {config.model} for the {config.agent}")
    if not start.exists():
        raise InvalidInput(f"--start {given} is not there: give a run's adapter, its export, or {SHIPPED}")
    return start


def played_by_trainer(model: str, adapters: Mapping[Step, Path]) -> LLM:
    """Greedy, by the trainer's own runtime: many prompts side by side, on a GPU where there is one, and no schema.

    An adapter is a run's folder or its export (GGUF); a step without one is the model's own.
    """
    from memory_r1.train.base import train_extra

    with train_extra():
        import torch

        from memory_r1.train.export import to_peft
        from memory_r1.train.learn import greedy
    gpu = torch.cuda.is_available()
    base, tokenizer = base_of(model, bf16=gpu)
    with TemporaryDirectory() as scratch:
        folders = {
            step: one if one.is_dir() else to_peft(one, model_file(model), Path(scratch) / step)
            for step, one in adapters.items()
        }
        limits = {"batch_tokens": GPU_TOKENS} if gpu else {}
        return greedy(base.to("cuda" if gpu else "cpu"), tokenizer, folders, **limits)


def base_of(model: str, *, bf16: bool = False) -> tuple[Any, Any]:
    """(a model to be trained, its tokenizer): of a GGUF file, or of a Hugging Face folder or name with a slash."""
    import torch

    from memory_r1.train.base import load_base, load_folder

    dtype = torch.bfloat16 if bf16 else torch.float32
    path = Path(model)
    on_hub = "/" in model and not path.exists()
    if on_hub or (path / "config.json").is_file():
        return load_folder(model, dtype)
    return load_base(model_file(model), dtype)
