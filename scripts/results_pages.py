"""Writes what is published from results/: docs/results.md, and the README's tables. A test keeps both fresh.

python scripts/results_pages.py
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from memory_r1.bench.report import markdown, tokens_a_turn
from memory_r1.bench.results import pyplot
from memory_r1.bench.runs import Run, load
from memory_r1.bench.statistics import paired_difference
from memory_r1.train.evaluate import MEASURES

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- figures: scripts/results_pages.py -->", "<!-- end of figures -->"
BEGIN_SYSTEMS, END_SYSTEMS = "<!-- systems: scripts/results_pages.py -->", "<!-- end of systems -->"
SYSTEMS = "locomo-validation-4-sessions-qwen1.5b"
BEGIN_TRAINED, END_TRAINED = "<!-- trained: scripts/results_pages.py -->", "<!-- end of trained -->"
TRAINED = "locomo-test-2-dialogues-smollm2"
ALONE, REWARDS = "locomo-test-smollm2-turns-alone", "locomo-test-4-dialogues-smollm2-rewards"
LARGER = "locomo-test-6-dialogues-qwen1.5b"
# What the README shows of it, by run: what else was tried stands in docs/results.md.
SHOWN = {
    "turns-locomo-answer": "memory-r1, turns kept; tuned on LoCoMo",
    "turns-ships": "memory-r1, turns kept beside memories",
    "rag-trained": "RAG over turns, the same trained Answer Agent",
    "ships": "memory-r1, memories alone",
    "rag-untrained": "RAG over turns, untrained",
    "untrained-by-speaker": "memory-r1, untrained (found by speaker)",
}

# LoCoMo, by folder: what it is, and what its figures say.
DIALOGUES = {
    TRAINED: (
        "Test dialogues, trained and untrained",
        "The first two of LoCoMo's eight test dialogues, named before anything was run on them, SmolLM2-135M:\n"
        "*ships*: by the adapters that ship, which saw made-up talk alone, *trained* with the manager before (it\n"
        "merged more), *untrained* without; *rag-*: turns found by hybrid search in place of memories, answered\n"
        "by the same Answer Agent; *by-speaker*: memories of the one whom the question names preferred, which was\n"
        "tried and does not ship; memory-r1-turns: turns kept beside the memories (`keep_turns`), *as-said*\n"
        "beside those of *trained*, before relative dates were explained and replies found by what they reply to;\n"
        "*locomo-answer*: beside those of *ships*, answered by an Answer Agent that learned on from 154 questions of\n"
        "the train dialogue (`scripts/train_locomo.sh`; CC BY-NC, which does not ship);\n"
        "*retrained* with both and an Answer Agent that learned on from made-up turns, which was tried and does\n"
        "not ship. A llama.cpp server played the model (the Q4_1 file as Q8_0, which it reads twice as fast),\n"
        "several runs beside each other: seconds say little.",
    ),
    ALONE: (
        "All test dialogues: what an Answer Agent learns to leave open",
        "All eight test dialogues, kept turns alone (nothing was made of them), ten a question, SmolLM2-135M on an\n"
        "H200 by the trainer's runtime, free of any schema. *ships*: the adapter that shipped then, *ships-plain* the\n"
        "same asked for the answer alone. The others were cloned from the same 14,138 made-up examples, 103 to 108\n"
        "steps of 16, stopped by the clock before their rate had fallen: *distil* with distillation, *plain* without,\n"
        "*sure* without and without the fifth of them that nothing answers; *ships-on* is *plain*, begun from what\n"
        "shipped. One seed each.",
    ),
    REWARDS: (
        "What a reward teaches: the first four test dialogues",
        "*start* (*plain* above) learned on from its answers to the 199 questions of the train dialogue alone, 47 of\n"
        "which nothing answers: GRPO with exact match (*grpo-em*) or F1 (*grpo-f1*) as reward, PPO with exact match,\n"
        "three seeds each, 12 to 14 steps of 64 replies (PPO 9), rate 5e-5, on one H200. Kept turns alone, as\n"
        "above. CC BY-NC as the data is, and does not ship. These four dialogues are those that all runs had answered\n"
        "when the GPU's time was up.",
    ),
    "locomo-test-conv-41-smollm2": (
        "The first test dialogue, by memories and turns",
        "As it is served (Q4_1, embedded): read by what ships, answered by *sure* of all test dialogues, above, ten\n"
        "memories or turns. What ships (Q8_0) has 35.8 there.",
    ),
    LARGER: (
        "The 1.5B on test dialogues",
        "The first six test dialogues, untrained Qwen2.5-Coder-1.5B-Instruct (Q4_K_M, computed in bfloat16 on an\n"
        "H200), asked for the answer alone and free of any schema: four in ten replies are no JSON, and stand as they\n"
        "are. Ten turns a question, as kept turns are found or by hybrid search. The GPU's time was up before all\n"
        "eight.",
    ),
    "locomo-test-4-dialogues-qwen1.5b": (
        "The same with distillation",
        "The first four test dialogues, as above, kept turns: the answer alone, or the turns that tell first.",
    ),
    "locomo-test-conv-41-qwen1.5b": (
        "The same on one dialogue, turns and memories",
        "The first test dialogue, as above: memories that the SmolLM2-135M that ships made of it, turns, or both.",
    ),
    SYSTEMS: (
        "Memory systems on one small model",
        "The first four sessions of the validation dialogue, untrained Qwen2.5-Coder-1.5B-Instruct (Q4_K_M) for\n"
        "every system. The whole dialogue fits into a prompt, where it helps no more than ten turns do. *langmem* and\n"
        "*a-mem* were paused and held up by other work, *mem0-1* had one core and a server that guesses what is\n"
        "copied from the prompt: their seconds say nothing.",
    ),
    "locomo-validation-smollm2-turns": (
        "Turns beside memories",
        "The whole validation dialogue, SmolLM2-135M (Q8_0), ten a question. One reading of it (*halves* below) by\n"
        "the adapters that shipped before: *as-said*, *dated* with what relative dates mean and replies found by what\n"
        "they reply to, *retrained* with an Answer Agent that learned on from generated turns. *ships*: read by the\n"
        "manager that ships, which merges less. *locomo*: extractor and Answer Agent learned on from the train\n"
        "dialogue (`scripts/train_locomo.sh`), which do not ship.",
    ),
    "locomo-train-smollm2-turns": (
        "An Answer Agent that learned on from turns",
        "The train dialogue, which no adapter has seen, kept turns alone (nothing was made of them), ten a question,\n"
        "with the Answer Agent that ships and with the *retrained* one. It was to be adopted if its F1 over this and\n"
        "the validation dialogue was higher: it was lower by 0.8 points (-2.7 to 4.3, 233 questions).",
    ),
    "locomo-validation-smollm2-speakers": (
        "What to do about two speakers",
        "The whole validation dialogue, SmolLM2-135M (Q8_0) with the adapters that shipped before (manager\n"
        "030955f79f48), one bank, three ways to find ten memories in it: half for each speaker (*halves*, what\n"
        "`ask` does), hybrid search *whoever-speaks*, or with the one whom the question names preferred\n"
        "(*by-speaker*).",
    ),
    "locomo-validation-smollm2-turns-alone": (
        "The validation dialogue by the same agents",
        "As on all test dialogues and on four of them, above; *locomo-N*: *plain*, learned on from N of the train\n"
        "dialogue's questions, 36 steps of 16 (and a third more that nothing answers), one seed.",
    ),
    "locomo-validation-qwen1.5b": (
        "The validation dialogue by the 1.5B",
        "The whole dialogue, as the 1.5B on test dialogues, above; memories by the SmolLM2-135M that ships.",
    ),
    "locomo-validation-smollm2-shown": (
        "Ten memories or sixty, with distillation and without",
        "The whole validation dialogue, SmolLM2-135M as it ships (Q4_1, embedded), one bank: ten memories a\n"
        "question, or sixty, which `ask` shows unless it is told otherwise; ten and the answer alone (`--plain`).\n"
        "*adds-only*: read without a Memory Manager (memory-r1-adds), ten. *turns-*: turns put beside the same bank.\n"
        "Answered by others, which do not ship: *sure-plain*, cloned anew to answer always, without distillation;\n"
        "*turns-sure-distil*, with it; *on-sure*, what ships learned on so, for 30 steps of 8, with distillation.\n"
        "Other work ran beside: seconds say nothing.",
    ),
    "locomo-validation-8-sessions-smollm2-budget": (
        "How many memories to show",
        "The first eight sessions of the validation dialogue, SmolLM2-135M (Q8_0) with the adapters that shipped\n"
        "before (manager 030955f79f48): ten or twenty memories, or turns. Ten was chosen here for the test dialogues.",
    ),
    "locomo-validation-8-sessions-smollm2": (
        "An extractor that learned from remarks, on people's talk",
        "The first eight sessions of the validation dialogue, SmolLM2-135M: *with-remarks* has the extractor and the\n"
        "Answer Agent that ship and the manager before (030955f79f48), *before-remarks* also the extractor before,\n"
        "*untrained* none;\n"
        "*answer-with-remarks* also has an Answer Agent that learned from remarks, and does not ship.",
    ),
}
# Held-out generated worlds, by step and file: who was graded.
GRADED = {
    "extract": {
        "held-out-extractor": "cloned, 600 steps; worlds without remarks",
        "held-out-remarks-extractor-before": "the same; worlds with remarks, under the schema",
        "held-out-remarks-extractor": "then 120 steps with remarks (ships); worlds with remarks, under the schema",
        "notes-untrained": "untrained, on the notes of LoCoMo's annotators, validation dialogue",
        "notes-extractor-before-remarks": "cloned, 600 steps, on these notes",
        "notes-extractor": "then 120 steps with remarks (ships), on these notes",
    },
    "manage": {
        "manager-untrained": "untrained, under the schema",
        "held-out-warm-manager": "cloned, 50 steps",
        "held-out-manager-grpo-0": "the same, then GRPO, 11 steps, seed 0",
        "held-out-manager-ppo-0": "the same, then PPO, 5 steps, seed 0",
        "held-out-manager-rl-start": "cloned, 50 steps and 30 with operations balanced; newer worlds, with remarks",
        "held-out-manager-rl-grpo": "the same, then GRPO with a charge for growth, 15 steps, seed 7",
        "held-out-manager-rl-grpo-1": "the same, seed 1",
        "held-out-manager-rl-ppo": "the same, then PPO, 10 steps, seed 7",
        "held-out-manager-rl-ppo-1": "the same, seed 1",
        "held-out-manager-rl-start-2": "cloned anew, 50 steps and 30 with operations balanced; worlds of today",
        "held-out-manager-rl-grpo-2": "the same, then GRPO with a charge for growth, 15 steps, seed 2",
        "held-out-manager-rl-ppo-2": "the same start, then PPO, 10 steps, seed 2",
        "held-out-manager-schema-untrained": "untrained, under the schema; the same prompts, as the next four",
        "held-out-manager-schema-start-2": "cloned anew (as above), under the schema",
        "held-out-manager-schema-grpo-2": "then GRPO, seed 2, under the schema",
        "held-out-manager-schema-ppo-2": "then PPO, seed 2, under the schema",
        "held-out-manager-schema-ships": "what ships, under the schema",
        "held-out-manager-free-ships": "what ships, free",
        "held-out-manager-segments": "the same start, then GRPO over segments of 8 turns, 6 steps",
        "held-out-manager-logo": "the same start, then LoGo-GRPO, 6 steps",
        "held-out-manager": "cloned, 600 steps",
        "held-out-absent-manager": "then 50 steps (ships); worlds with remarks, a fifth of the decisions without the "
        "memory that they are about, under the schema",
    },
    "answer": {
        "answer-untrained": "untrained, under the schema",
        "held-out-warm-answer": "cloned, 50 steps (63.7 on the first 160)",
        "held-out-answer-grpo-0": "the same, then GRPO, 49 steps, seed 0",
        "held-out-answer-grpo-1": "the same, seed 1",
        "held-out-answer-ppo-0": "the same, then PPO, 25 steps, seed 0",
        "held-out-answer-ppo-1": "the same, seed 1",
        "held-out-answer-rl-start-2": "cloned anew, 50 steps; worlds of today",
        "held-out-answer-rl-grpo-2": "the same, then GRPO, 15 steps, seed 2",
        "held-out-answer-rl-ppo-2": "the same start, then PPO, 15 steps, seed 2",
        "held-out-answer": "cloned, 600 steps (ships); worlds without remarks, as above",
    },
}
# F1 on LoCoMo's test questions, by model; what others reached with larger ones.
SMALL = {22.0: "", 30.4: " (Mem0 with LLaMA-3.1-8B, by the paper)"}
LADDER = {
    "SmolLM2-135M, what ships": SMALL,
    "SmolLM2-135M, taught to answer always": SMALL,
    "Qwen2.5-Coder-1.5B": {
        38.0: "",
        45.0: " (Memory-R1-GRPO with LLaMA-3.1-8B, by the paper)",
        58.7: " (the best published with a model of 4B)",
    },
}
# What was measured on test dialogues, by model and how.
KEPT, KEPT_TUNED = "turns-ships", "turns-locomo-answer"
TESTED = {
    "SmolLM2-135M, what ships": {
        ", memories alone": (TRAINED, "ships", "two of eight dialogues"),
        ", with kept turns": (TRAINED, KEPT, "two of eight dialogues"),
        ", kept turns alone": (ALONE, "ships", "all eight dialogues"),
    },
    "SmolLM2-135M, taught to answer always": {", kept turns alone": (ALONE, "sure", "all eight dialogues")},
    "Qwen2.5-Coder-1.5B": {", untrained, kept turns alone": (LARGER, "turns-plain", "six of eight dialogues")},
}
NOT_MEASURED = [
    [what, wanted, "not measured", ""]
    for what, wanted in (
        ("F1 and BLEU-1 of what ships over Mem0 1.x with the same SmolLM2-135M", "at least +48 % and +69 %"),
        (
            "what ships: tokens of its bank beside those of ADD alone, there (validation dialogue: 79 %, F1 -1.4)",
            "at most 60 %, at no lower F1",
        ),
    )
]


def figures(store: dict[str, Any], retrieval: dict[str, Any], remember: dict[str, Any]) -> str:
    """The table, as Markdown."""
    bank = next(one for one in store["banks"] if one["entries"] == 10_000 and one["scopes"] == 1)
    rows = [
        ("durable add, beside a bare SQLite commit of the same row", f"{bank['add_over_bare_commit']:.2f} times"),
        ("the 60 nearest of 10,000 entries, by vector", f"{bank['vector_ms']['p50']:.2f} ms"),
        ("the same, vector and words fused", f"{bank['hybrid_ms']['p50']:.2f} ms"),
        ("bulk add", f"{bank['bulk_rows_per_s']:,} entries/s"),
    ]
    for faster in store.get("mem0", {}).get("times_faster", ()):
        if faster["entries"] == 10_000:
            rows.append(("an add, beside Mem0 2.2.1 with local Qdrant", f"{faster['add']:.0f} times faster"))
            rows.append(("a search by vector, beside the same", f"{faster['vector']:.0f} times faster"))
            rows.append(("a search by vector and words, beside the same", f"{faster['hybrid']:.0f} times faster"))
    hybrid = retrieval["all"]["hybrid"]
    low, high = hybrid["interval_95"]["10"]
    recall = f"{hybrid['recall']['10']:.3f} ({low:.3f}-{high:.3f})"
    rows.append(("LoCoMo, gold evidence turns among the first 10, ten dialogues", recall))
    rows.append(("the same, mean over questions", f"{hybrid['recall_per_question']['10']:.3f}"))
    turns, tokens = remember["turns"], sum(used["tokens"] for used in remember["usage"].values())
    rows.append(
        (
            f"remembering LoCoMo's conv-26, {turns} turns, untrained SmolLM2-135M",
            f"{remember['seconds'] / 60:.1f} minutes",
        )
    )
    rows.append(("model tokens a turn there", f"{tokens / turns:.0f}"))
    return "\n".join(["| with e5-small, or a stub embedder for the store | measured |", "|---|---|", *map(row, rows)])


def systems(runs: Iterable[tuple[str, Run]]) -> str:
    """Runs by name as Markdown, the best F1 first."""
    head = [
        "system",
        "F1",
        "BLEU-1",
        "says unknown where nothing was said",
        "tokens to read a turn",
        "tokens a question",
    ]
    return "\n".join([row(head), "|---" * len(head) + "|", *(row(_system(*each)) for each in _ranked(runs))])


def _ranked(runs: Iterable[tuple[str, Run]]) -> list[tuple[str, Run]]:
    return sorted(runs, key=lambda each: each[1].score("f1")[0] or 0, reverse=True)


def compared() -> list[tuple[str, Run]]:
    """The systems of the 1.5B's table."""
    return [(run.title, run) for run in load(sorted(path.parent for path in _folder(SYSTEMS).glob("*/result.json")))]


def trained() -> list[tuple[str, Run]]:
    """What the README shows of the test dialogues."""
    return [(label, load([_folder(TRAINED) / name])[0]) for name, label in SHOWN.items()]


def picture(path: Path) -> None:
    """F1 of what the README shows of the test dialogues, with intervals."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(SHOWN) + 0.9), layout="constrained")
    for place, (name, run) in enumerate(reversed(_ranked(trained()))):
        mean, interval = run.score("f1")
        assert mean is not None
        assert interval is not None
        axes.barh(place, 100 * mean, color="#2a6f97" if name.startswith("memory-r1") else "#a9b4bd", height=0.62)
        axes.plot([100 * end for end in interval], [place, place], color="#1b1b1b", linewidth=1.4)
        axes.text(100 * interval[1] + 0.5, place, f"{100 * mean:.1f}", va="center", fontsize=9)
    labels = [name.replace(", ", ",\n", 1) for name, _ in reversed(_ranked(trained()))]
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    figure.supxlabel("F1 on two of LoCoMo's test dialogues, SmolLM2-135M (95 % intervals over questions)", fontsize=9)
    axes.margins(x=0.08)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _system(name: str, run: Run) -> list[str]:
    abstained = (run.scores.get("abstained") or {}).get("mean")
    return [
        name,
        _percent(run, "f1"),
        _percent(run, "bleu1"),
        "-" if abstained is None else f"{100 * abstained:.0f} %",
        tokens_a_turn(run),
        f"{run.tokens:,.0f}" if run.tokens is not None else "-",
    ]


def _percent(run: Run, metric: str) -> str:
    mean, interval = run.score(metric)
    if mean is None or interval is None:
        return "-"
    return f"{100 * mean:.1f} ({100 * interval[0]:.0f}-{100 * interval[1]:.0f})"


def page() -> str:
    """docs/results.md."""
    return "\n\n".join([HEAD, *talk(), *worlds(), *goals()]) + "\n"


HEAD = """# Results

<!-- written by scripts/results_pages.py from results/: change that, not this -->

The figures on LoCoMo and of training, and what was aimed at, from the files in [results](../results/), most of which
say the versions, the machine and the commit that made them. Scores are per cent. Intervals are 95 %: over dialogues
where there are five or more, else over questions, and then they say less than they seem to. What figures mean and do
not mean: [evaluation](evaluation.md). How training was done, and what failed: [training](training.md). **All
eight test dialogues were answered from kept turns by one small model, two of them from memories; six by a model of
1.5B.**"""


def talk() -> Iterable[str]:
    """Real dialogues, a section a folder."""
    yield "## People's talk: LoCoMo"
    for name, (title, told) in DIALOGUES.items():
        runs = load(sorted((path.parent for path in (ROOT / "results" / name).glob("*/result.json")), key=_best))
        yield f"### {title}"
        yield f"{told}\nFiles: `results/{name}`."
        yield markdown(runs)


def _best(folder: Path) -> float:
    """To be sorted by: the better F1 first."""
    scores = json.loads((folder / "result.json").read_text(encoding="utf-8"))["scores"]
    return -float(scores["metrics"]["f1"]["micro"])


def worlds() -> Iterable[str]:
    """Made-up dialogues: what each step of training is worth."""
    yield "## Made-up talk: what training is worth"
    yield (
        "Worlds that share no sentence, name or value with those of training; SmolLM2-135M. *extract*: F1 of the\n"
        "words of facts; *manage*: the same operation on the same entry; *answer*: right, or abstained where nothing\n"
        "tells. Files: `results/train-smollm2`; rewards and curves of the runs: its folders `gpu` and `cpu`.\n"
        "Intervals resample dialogues, and of few are too narrow (*few*: two to four, not noted), or *prompts*."
    )
    lines = [row(["step", "who", "score", "prompts", "dialogues"]), "|---|---|---|---|---|"]
    for step, files in GRADED.items():
        for file, who in files.items():
            graded = _read("train-smollm2", file)
            found = graded["steps"][step]["measures"][MEASURES[step]]
            mean, low, high = (f"{100 * found[name]:.1f}" for name in ("mean", "low", "high"))
            drawn = graded["steps"][step].get("dialogues") or graded.get("dialogues") or "few"
            if found["unit"] != "dialogue":
                drawn = "prompts"
            lines.append(row([step, who, f"{mean} ({low}-{high})", str(found["n"]), str(drawn)]))
    dogs = _read("train-smollm2", "dogs-second")["steps"]["manage"]
    right = dogs["measures"]["decision"]
    told = ["manage", "what ships, the paper's case: a second dog", f"{100 * right['mean']:.0f}"]
    lines.append(row([*told, str(right["n"]), str(dogs["dialogues"])]))
    yield "\n".join(lines)
    yield "![GRPO and PPO of the Answer Agent](../results/train-smollm2/answer-grpo-ppo.png)"


def goals() -> Iterable[str]:
    """What was aimed at, and how far it is."""
    yield "## Goals"
    lines = [row(["goal", "wanted", "measured", ""]), "|---|---|---|---|"]
    for file in sorted((ROOT / "results").glob("*.json")):
        for goal in json.loads(file.read_text(encoding="utf-8")).get("goals", ()):
            sign = "at most" if goal.get("at_most") else "at least"
            met = "met" if goal["met"] else "**missed**"
            lines.append(row([goal["what"], f"{sign} {goal['goal']:,}", f"{goal['value']:,}", met]))
    parity = _read("train-smollm2", "parity-manage")["steps"]["manage"]
    for what, name, least in (("decision", "same_decision", 95), ("most likely token", "same_token", 98)):
        told = f"the manager that ships: the same {what} in the trainer and embedded, {parity['prompts']} prompts"
        met = "met" if 100 * parity[name] >= least else "**missed**"
        lines.append(row([told, f"at least {least} %", f"{100 * parity[name]:.1f} %", met]))
    lines += [
        row(cells) for cells in (*_gained(), *_reinforced(), *_distilled(), *_abstained(), *_left_open(), *NOT_MEASURED)
    ]
    for model, steps in LADDER.items():
        for wanted, whose in steps.items():
            for how, (folder, name, of_all) in TESTED[model].items():
                found = _scores(name, folder)["metrics"]["f1"]
                low, high = (100 * end for end in found["interval_95"])
                value = f"{100 * found['micro']:.1f} ({low:.1f}-{high:.1f}, {of_all})"
                met = "met" if low >= wanted else "**missed**" if high < wanted else "open"
                what = f"F1 on LoCoMo's test questions, {model}{how}"
                lines.append(row([what, f"at least {wanted}{whose}", value, met]))
    yield "\n".join(lines)


def _scores(name: str, folder: str = TRAINED) -> dict[str, Any]:
    """Of a run on test dialogues."""
    scores: dict[str, Any] = _read(folder, name, "result")["scores"]
    return scores


def _reinforced() -> Iterable[list[str]]:
    """What reinforcement learning adds to its own start, by what a question is worth: also one that nothing answers."""
    start = load([_folder(REWARDS) / "start"])[0].records
    told = {"grpo-em": "GRPO, exact match", "ppo-em": "PPO, exact match", "grpo-f1": "GRPO, F1"}
    counted = {
        "all questions (one that nothing answers counts 1 where it is left open, as LoCoMo's own evaluation has it)": (
            "f1",
            "abstained",
        ),
        "questions that can be answered": ("f1",),
    }
    for over, metrics in counted.items():
        for run, reward in told.items():
            seeds = [_over(load([_folder(REWARDS) / f"{run}-{seed}"])[0].records, start, metrics) for seed in range(3)]
            what = f"F1 of {reward} as reward, over its own warm start, {over}, four test dialogues, three seeds"
            value = "; ".join(f"{mean:+.1f} ({low:+.1f} to {high:+.1f})" for mean, low, high in seeds)
            means, lows, highs = zip(*seeds, strict=True)
            met = "met" if min(means) >= 3 and min(lows) > 0 else "**missed**" if min(highs) < 3 else "open"
            yield [what, "at least +3, intervals above 0", value, met]


def _distilled() -> Iterable[list[str]]:
    """What distillation is worth: each agent beside another of the same data, over all test questions."""
    distil = load([_folder(ALONE) / "distil"])[0].records
    for name, whom in (("plain", "taught the answer alone"), ("sure", "taught the answer alone, and to answer always")):
        mean, low, high = _over(distil, load([_folder(ALONE) / name])[0].records, ("f1",))
        what = f"F1 of an agent taught to distil over one {whom}, all test questions, kept turns"
        met = "met" if mean >= 3 and low > 0 else "**missed**"
        yield [what, "at least +3, interval above 0", f"{mean:+.1f} ({low:+.1f} to {high:+.1f})", met]


def _left_open() -> Iterable[list[str]]:
    """What it costs to leave most of what nothing answers open, by a threshold of certainty."""
    records = load([_folder(ALONE) / "sure"])[0].records.values()
    unsure = sorted(one["logprob"] for one in records if "abstained" in one["scores"])
    least = unsure[round(0.7 * len(unsure)) - 1]  # no higher, and fewer than 70 % are left open
    scored = [(one["logprob"], one["scores"]["f1"]) for one in records if "f1" in one["scores"]]
    lost = 100 * sum(f1 for logprob, f1 in scored if logprob <= least) / len(scored)
    what = "F1 that leaving 70 % of what nothing answers open costs, by certainty, all test questions (*sure*)"
    yield [what, "at most 1", f"{lost:.1f}", "met" if lost <= 1 else "**missed**"]


def _over(run: Mapping[str, Any], other: Mapping[str, Any], metrics: Sequence[str]) -> tuple[float, float, float]:
    """(mean, low, high) of the paired difference, in per cent, over the questions that have one of the metrics."""
    scored = [
        (one["dialogue"], one["scores"][metric], other[question]["scores"][metric])
        for question, one in run.items()
        for metric in metrics
        if metric in one["scores"]
    ]
    dialogues, mine, theirs = zip(*scored, strict=True)
    found = paired_difference(mine, theirs, dialogues, 0)
    return 100 * found.mean, 100 * found.interval.low, 100 * found.interval.high


def _gained() -> Iterable[list[str]]:
    """What is over the untrained model, by the paper's headline: the gain, and whether the intervals are apart."""
    compared = (
        ("what ships", "ships", "the untrained SmolLM2-135M (found by speaker)", "untrained-by-speaker"),
        ("the Answer Agent tuned on LoCoMo, with kept turns,", KEPT_TUNED, "untrained RAG over turns", "rag-untrained"),
    )
    for who, name, whom, untrained in compared:
        for metric, title, least in (("f1", "F1", 48), ("bleu1", "BLEU-1", 69)):
            mine, theirs = (_scores(one)["metrics"][metric] for one in (name, untrained))
            gain = 100 * (mine["micro"] / theirs["micro"] - 1)
            apart = mine["interval_95"][0] > theirs["interval_95"][1]
            what = f"{title} of {who} over {whom}, two test dialogues"
            wanted = f"at least +{least} %, intervals apart"
            value = f"+{gain:.0f} %, {'apart' if apart else 'not apart'}"
            yield [what, wanted, value, "met" if gain >= least and apart else "**missed**"]


def _abstained() -> Iterable[list[str]]:
    for how, name in (("", "ships"), (" with kept turns", KEPT)):
        abstains = 100 * _scores(name)["abstained"]["mean"]
        what = f"what ships{how} says unknown where nothing was said, there"
        yield [what, "at least 70 %", f"{abstains:.0f} %", "met" if abstains >= 70 else "**missed**"]


def _folder(name: str) -> Path:
    return ROOT / "results" / name


def _read(*names: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "results").joinpath(*names).with_suffix(".json").read_text("utf-8"))
    return found


def row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def fresh(readme: str) -> str:
    """The README with its figures as results/ has them."""
    store, retrieval, remember = (
        json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("store", "retrieval", "remember-conv-26")
    )
    readme = _filled(readme, BEGIN, END, figures(store, retrieval, remember))
    readme = _filled(readme, BEGIN_TRAINED, END_TRAINED, systems(trained()))
    return _filled(readme, BEGIN_SYSTEMS, END_SYSTEMS, systems(compared()))


def _filled(page: str, begin: str, end: str, table: str) -> str:
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(fresh(readme.read_text(encoding="utf-8")), encoding="utf-8")
    (ROOT / "docs" / "results.md").write_text(page(), encoding="utf-8")
    picture(ROOT / "results" / f"{TRAINED}.png")
