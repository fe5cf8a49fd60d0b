"""A whole run of the harness on a toy dialogue: what it records, how it resumes, what it publishes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memory_r1.bench.data import Dataset, Dialogue, Question, Session
from memory_r1.bench.evaluate import Config, evaluate, judged, publish, read_records, reader
from memory_r1.bench.judge import judge_version
from memory_r1.bench.records import published
from memory_r1.bench.systems import Found, System
from memory_r1.bench.systems.ours import AddsOnly, MemoryR1
from memory_r1.bench.systems.plain import FullContext, NoMemory
from memory_r1.bench.systems.rag import Rag
from memory_r1.errors import InvalidInput
from memory_r1.flow import LLM, Roles
from memory_r1.testing import HashEmbedder, ScriptedLLM
from memory_r1.types import Prompt, Reply, Turn

MAY = datetime(2023, 5, 8, tzinfo=UTC)
SAID = ("I adopted a dog, Rex.", "I moved to Bern for work.", "Rex likes long walks.")
TOY = Dataset(
    "toy",
    (
        Dialogue(
            "d1",
            ("Ann", "Bo"),
            (
                Session(1, MAY, (Turn("Ann", SAID[0], MAY, "1:1"), Turn("Bo", SAID[1], MAY, "1:2"))),
                Session(2, MAY, (Turn("Ann", SAID[2], MAY, "2:1"),)),
            ),
        ),
    ),
    (
        Question("d1/0", "d1", "Which dog did Ann adopt?", "Rex", "single-hop", ("1:1",)),
        Question("d1/1", "d1", "Where did Bo move?", "Bern", "single-hop", ("1:2",)),
        Question("d1/2", "d1", "Which cat did Ann adopt?", "", "adversarial", ("1:1",), answerable=False),
    ),
    ("single-hop",),
    {"all": ("d1",)},
)


def model(prompt: Prompt) -> str:
    """Extracts a turn's text as its fact, adds everything, and answers Rex to whatever has a dog in it."""
    said = prompt.messages[-1].content
    if prompt.step == "extract":
        speaker, _, text = said.rpartition(") ")[2].partition(": ")
        return json.dumps({"facts": [text.replace("I ", f"{speaker} ").replace("Rex likes", "Rex really likes")]})
    if prompt.step == "manage":
        return '{"operation": "ADD"}'
    if prompt.step == "judge":
        return json.dumps(
            {"reason": "x", "correct": "Answer to grade: Rex" in said and "Reference answer: Rex" in said}
        )
    return '{"keep": [1], "answer": "Rex"}' if "dog did" in said else '{"keep": [], "answer": "unknown"}'


def config(**changes: Any) -> Config:
    return replace(Config("toy-system", "toy", "all", ("d1",), "scripted", "hash-64", k=2), **changes)


def systems(folder: Path) -> list[System]:
    embedder = HashEmbedder()
    return [
        NoMemory(),
        FullContext(),
        *(
            Rag(embedder, method, unit)
            for method in ("bm25", "dense", "hybrid", "kept")
            for unit in ("turn", "session")
        ),
        MemoryR1(ScriptedLLM(model), embedder, folder / "banks"),
        MemoryR1(ScriptedLLM(model), embedder, folder / "banks", keep_turns=True),
        MemoryR1(ScriptedLLM(model), embedder, folder / "banks", name="memory-r1-adds", adds_only=True),
    ]


@pytest.mark.parametrize("number", range(13))
def test_every_system_of_ours_runs_whole(number: int, tmp_path: Path) -> None:
    system = systems(tmp_path)[number]
    result = evaluate(system, TOY, ScriptedLLM(model), tmp_path / "run", config())
    system.close()
    scores = result["scores"]
    assert (scores["questions"], scores["unanswerable"]) == (2, 1)
    assert (scores["metrics"]["f1"]["micro"], scores["abstained"]["mean"]) == (0.5, 1.0)
    assert result["read"]["d1"]["turns"] == 3
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == json.loads(json.dumps(result))


def test_questions_answered_together_are_answered_as_alone_by_one_batch(tmp_path: Path) -> None:
    batches: list[int] = []

    class Batched(ScriptedLLM):
        def complete(self, prompts: Sequence[Prompt]) -> list[Reply]:
            batches.append(len(prompts))
            return super().complete(prompts)

    evaluate(Rag(HashEmbedder(), "bm25"), TOY, Batched(model), tmp_path / "together", config(), together=2)
    evaluate(Rag(HashEmbedder(), "bm25"), TOY, ScriptedLLM(model), tmp_path / "alone", config())
    assert batches == [2, 1]
    together, alone = (
        [{**record, "seconds": None} for record in read_records(tmp_path / name)] for name in ("together", "alone")
    )
    assert together == alone


def test_a_record_has_what_was_found_kept_answered_and_spent(tmp_path: Path) -> None:
    evaluate(Rag(HashEmbedder(), "bm25"), TOY, ScriptedLLM(model), tmp_path, config())
    first = read_records(tmp_path)[0]
    assert {name: first[name] for name in ("question", "gold", "answer", "known", "used", "scores")} == {
        "question": "d1/0",
        "gold": "Rex",
        "answer": "Rex",
        "known": True,
        "used": [0],
        "scores": {"f1": 1.0, "f1_locomo": 1.0, "bleu1": 1.0, "exact_match": 1.0},
    }
    best = first["retrieved"][0]
    assert (best["text"], best["turn"], best["time"]) == ("Ann: I adopted a dog, Rex.", "1:1", MAY.isoformat())
    assert set(first["seconds"]) == {"find", "answer"}


def test_ours_tells_its_operations_and_the_turn_behind_each_memory(tmp_path: Path) -> None:
    roles = Roles(ScriptedLLM(model))
    system = MemoryR1(roles, HashEmbedder(), tmp_path / "banks")
    result = evaluate(system, TOY, roles, tmp_path, config(), meter=lambda: dict(roles.usage))
    system.close()
    read = result["read"]["d1"]
    assert read["entries"] == 3
    assert read["operations"] == {"ADD": 3, "UPDATE": 0, "DELETE": 0, "NOOP": 0}
    assert read["over_time"] == [{"turn": 3, "entries": 3, "ADD": 3, "UPDATE": 0, "DELETE": 0, "NOOP": 0}]
    assert set(read["tokens"]) == {"extract", "manage"}
    assert read["tokens"]["extract"]["calls"] == 3
    assert {step: sorted(seconds) for step, seconds in read["step_seconds"].items()} == {
        "extract": ["p50", "p95"],
        "manage": ["p50", "p95"],
    }
    assert {one["turn"] for one in read_records(tmp_path)[0]["retrieved"]} <= {"1:1", "1:2", "2:1"}
    assert {cause: count for cause, count in result["causes"].items() if count} == {"right": 1, "said unknown": 1}


def test_ours_with_turns_finds_what_was_said_and_counts_it_apart_from_decisions(tmp_path: Path) -> None:
    silent = ScriptedLLM(lambda prompt: '{"facts": []}' if prompt.step == "extract" else model(prompt))
    system = MemoryR1(silent, HashEmbedder(), tmp_path / "banks", name="memory-r1-turns", keep_turns=True)
    read = evaluate(system, TOY, silent, tmp_path, config())["read"]["d1"]
    system.close()
    assert (system.name, read["entries"], read["kept_turns"]) == ("memory-r1-turns", 3, 3)
    assert read["operations"] == {"ADD": 0, "UPDATE": 0, "DELETE": 0, "NOOP": 0}
    assert read["written"] == ["1:1", "1:2", "2:1"]
    shown = read_records(tmp_path)[0]["retrieved"]
    assert [(one["text"], one["turn"], one["time"]) for one in shown] == [
        ("Ann: Rex likes long walks.", "2:1", MAY.isoformat()),
        ("Ann: I adopted a dog, Rex.", "1:1", MAY.isoformat()),
    ]


def test_a_memory_that_only_adds_asks_no_manager() -> None:
    llm = ScriptedLLM(["facts", "answer"])
    prompts = [Prompt(step, (), max_tokens=8) for step in ("extract", "manage", "answer", "manage")]
    assert [one.text for one in AddsOnly(llm).complete(prompts)] == [
        "facts",
        '{"operation": "ADD"}',
        "answer",
        '{"operation": "ADD"}',
    ]
    assert [prompt.step for prompt in llm.prompts] == ["extract", "answer"]


def test_kept_turns_are_ranked_with_their_replies(tmp_path: Path) -> None:
    asked = replace(TOY, questions=(replace(TOY.questions[0], text="dog?"),))
    shown = {}
    for method in ("bm25", "kept"):
        evaluate(Rag(HashEmbedder(), method), asked, ScriptedLLM(model), tmp_path / method, config())
        shown[method] = [one["turn"] for one in read_records(tmp_path / method)[0]["retrieved"]]
    assert shown == {"bm25": ["1:1"], "kept": ["1:1", "1:2"]}


class Interrupted:
    """A model that plays along for some prompts and then is stopped, as by Ctrl-C."""

    def __init__(self, prompts: int) -> None:
        self.left, self.llm = prompts, ScriptedLLM(model)

    def complete(self, prompts: Sequence[Prompt]) -> list[Any]:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return self.llm.complete(prompts)


@pytest.mark.parametrize("after", range(3))
def test_a_run_that_was_stopped_goes_on_and_repeats_no_question(after: int, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate(FullContext(), TOY, Interrupted(after), tmp_path, config())
    rest = ScriptedLLM(model)
    result = evaluate(FullContext(), TOY, rest, tmp_path, config())
    assert len(rest.prompts) == 3 - after
    assert [record["question"] for record in read_records(tmp_path)] == ["d1/0", "d1/1", "d1/2"]
    again = ScriptedLLM([])
    assert evaluate(FullContext(), TOY, again, tmp_path, config())["scores"] == result["scores"]


def test_a_line_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    whole = evaluate(FullContext(), TOY, ScriptedLLM(model), tmp_path, config())["scores"]["metrics"]
    path = tmp_path / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    assert len(read_records(tmp_path)) == 2
    assert evaluate(FullContext(), TOY, ScriptedLLM(model), tmp_path, config())["scores"]["metrics"] == whole
    assert len(path.read_text().splitlines()) == 3


def sitting(folder: Path, llm: LLM, **changes: Any) -> dict[str, Any]:
    roles = Roles(llm)
    system = MemoryR1(roles, HashEmbedder(), folder / "banks")
    try:
        return evaluate(system, TOY, ScriptedLLM(model), folder, config(**changes), meter=lambda: dict(roles.usage))
    finally:
        system.close()


@pytest.mark.parametrize(("noted", "turns"), [(True, 3), (False, 1)])
def test_reading_goes_on_after_the_last_turn_that_was_remembered(noted: bool, turns: int, tmp_path: Path) -> None:
    """And costs what both sittings spent; where the first left no note of it, the figures are those of the rest."""
    with pytest.raises(KeyboardInterrupt):
        sitting(tmp_path, Interrupted(2))
    if not noted:
        (tmp_path / "reading.json").unlink()
    llm = ScriptedLLM(model)
    read = sitting(tmp_path, llm)["read"]["d1"]
    assert read["operations"]["ADD"] == 3
    assert sum(prompt.step == "extract" for prompt in llm.prompts) == 1
    assert (read["remembered_before"], read["turns"], read["uncounted"]) == (2, turns, 3 - turns)
    assert read["tokens"]["extract"]["calls"] == turns
    assert not (tmp_path / "reading.json").exists()


def taken_over(source: Path, folder: Path, llm: LLM, **changes: Any) -> dict[str, Any]:
    system = MemoryR1(llm, HashEmbedder(), folder / "banks")
    try:
        return evaluate(system, TOY, llm, folder, config(**changes), read_by=source)
    finally:
        system.close()


def test_one_models_memories_are_answered_from_by_another(tmp_path: Path) -> None:
    first = sitting(tmp_path / "first", ScriptedLLM(model))
    stopped, answering = Interrupted(1), ScriptedLLM(model)
    with pytest.raises(KeyboardInterrupt):
        taken_over(tmp_path / "first", tmp_path / "second", stopped)
    second = taken_over(tmp_path / "first", tmp_path / "second", answering)
    assert [prompt.step for prompt in (*stopped.llm.prompts, *answering.prompts)] == ["answer"] * 3
    assert second["read"] == first["read"]
    found = [[record["retrieved"] for record in read_records(tmp_path / name)] for name in ("first", "second")]
    assert found[0] == found[1]


def test_turns_are_put_beside_memories_that_were_read_without(tmp_path: Path) -> None:
    first = sitting(tmp_path / "first", ScriptedLLM(model), system="memory-r1")["read"]["d1"]
    llm, folder = ScriptedLLM(model), tmp_path / "second"
    system = MemoryR1(llm, HashEmbedder(), folder / "banks", name="memory-r1-turns", keep_turns=True)
    mine = config(system="memory-r1-turns")
    read = evaluate(system, TOY, llm, folder, mine, read_by=tmp_path / "first")["read"]["d1"]
    system.close()
    assert [prompt.step for prompt in llm.prompts] == ["answer"] * 3
    assert (first["entries"], first["kept_turns"], read["entries"], read["kept_turns"]) == (3, 0, 6, 3)
    assert {name: read[name] for name in ("turns", "tokens", "seconds", "operations")} == {
        name: first[name] for name in ("turns", "tokens", "seconds", "operations")
    }


@pytest.mark.parametrize(
    ("changes", "lost", "message"),
    [
        ({"system": "memory-r1-turns"}, "", "has another system"),
        ({"dialogues": ("d2",)}, "", "has not read d2 to the end"),
        ({}, "banks/d1.db", "or its bank is gone"),
        ({}, "config.json", "is no run"),
    ],
)
def test_only_what_was_read_the_same_is_taken_over(
    changes: dict[str, Any], lost: str, message: str, tmp_path: Path
) -> None:
    sitting(tmp_path / "first", ScriptedLLM(model))
    if lost:
        (tmp_path / "first" / lost).unlink()
    with pytest.raises(InvalidInput, match=message):
        taken_over(tmp_path / "first", tmp_path / "second", ScriptedLLM([]), **changes)


def test_what_reading_cost_is_told_as_an_older_run_has_it(tmp_path: Path) -> None:
    sitting(tmp_path / "first", ScriptedLLM(model))
    path = tmp_path / "first" / "read.json"
    read = json.loads(path.read_text())
    for name in ("uncounted", "remembered_before", "step_seconds"):
        del read["d1"][name]
    path.write_text(json.dumps(read))
    assert taken_over(tmp_path / "first", tmp_path / "second", ScriptedLLM(model))["read"] == read


def test_nothing_is_taken_over_into_another_runs_folder(tmp_path: Path) -> None:
    sitting(tmp_path / "first", ScriptedLLM(model))
    with pytest.raises(KeyboardInterrupt):
        sitting(tmp_path / "second", Interrupted(2))
    before = (tmp_path / "second" / "banks" / "d1.db").read_bytes()
    with pytest.raises(InvalidInput, match="another about"):
        taken_over(tmp_path / "first", tmp_path / "second", ScriptedLLM([]), about={"reader": "first"})
    assert (tmp_path / "second" / "banks" / "d1.db").read_bytes() == before
    assert not (tmp_path / "second" / "read.json").exists()


def test_who_made_the_memories_is_told_through_every_taking_over(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"model": "large", "about": {"adapters": ["manage=0"], "lora": "0 is a.gguf"}}'
    )
    assert reader(tmp_path) == "large (manage=0, 0 is a.gguf)"
    (tmp_path / "config.json").write_text('{"model": "small", "about": {"reader": "large"}}')
    assert reader(tmp_path) == "large"


def test_a_result_names_the_code_of_every_sitting(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate(FullContext(), TOY, Interrupted(1), tmp_path, config())
    (commit,) = json.loads((tmp_path / "commits.json").read_text())
    (tmp_path / "commits.json").write_text('["an older one"]')
    assert evaluate(FullContext(), TOY, ScriptedLLM(model), tmp_path, config())["commits"] == ["an older one", commit]


def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    evaluate(NoMemory(), TOY, ScriptedLLM(model), tmp_path, config())
    with pytest.raises(InvalidInput, match="another k, seed"):
        evaluate(NoMemory(), TOY, ScriptedLLM(model), tmp_path, config(k=3, seed=1))


def test_a_limit_takes_the_first_questions_of_each_dialogue(tmp_path: Path) -> None:
    evaluate(NoMemory(), TOY, ScriptedLLM(model), tmp_path, config(limit=1))
    assert [record["question"] for record in read_records(tmp_path)] == ["d1/0"]


def test_no_gold_answer_reaches_a_prompt_but_a_judges(tmp_path: Path) -> None:
    secret = replace(
        TOY, questions=tuple(replace(one, answer="SECRET", evidence=("EVIDENCE",)) for one in TOY.questions)
    )
    llm = ScriptedLLM(model)
    system = MemoryR1(llm, HashEmbedder(), tmp_path / "banks")
    evaluate(system, secret, llm, tmp_path, config())
    system.close()
    assert llm.prompts
    assert not any(
        word in message.content
        for prompt in llm.prompts
        for message in prompt.messages
        for word in ("SECRET", "EVIDENCE")
    )


def test_the_judge_grades_each_answer_once_and_an_unreadable_verdict_is_not_a_score(tmp_path: Path) -> None:
    evaluate(FullContext(), TOY, ScriptedLLM(model), tmp_path, config())
    llm = ScriptedLLM(lambda prompt: "?" if "Where did Bo" in prompt.messages[-1].content else model(prompt))
    result = judged(tmp_path, llm, "Big-9B", ["strict"], lambda *_: None)
    assert [record["scores"].get("judge_strict") for record in read_records(tmp_path)] == [1.0, None, None]
    strict = result["scores"]["metrics"]["judge_strict"]
    assert (strict["questions"], strict["unscored"], strict["micro"]) == (1, 1, 1.0)
    assert result["judge"] == {"judge_strict": f"Big-9B, {judge_version('strict')}"}
    judged(tmp_path, ScriptedLLM([]), "Big-9B", ["strict"], lambda *_: None)


def test_grades_of_two_judges_are_never_one_figure(tmp_path: Path) -> None:
    evaluate(FullContext(), TOY, ScriptedLLM(model), tmp_path, config())
    with pytest.raises(KeyboardInterrupt):
        judged(tmp_path, Interrupted(1), "Big-9B", ["lenient"], lambda *_: None)
    with pytest.raises(InvalidInput, match=r"was graded by Big-9B, judge_lenient@.*; delete its judgements\.jsonl"):
        judged(tmp_path, ScriptedLLM(model), "Small-1B", ["lenient"], lambda *_: None)
    judged(tmp_path, ScriptedLLM(model), "Big-9B", ["lenient"], lambda *_: None)


def test_judging_leaves_what_a_result_says_of_its_answers(tmp_path: Path) -> None:
    before = evaluate(FullContext(), TOY, ScriptedLLM(model), tmp_path, config())
    before["date"], before["commit"] = "then", "an old one"
    (tmp_path / "result.json").write_text(json.dumps(before))
    after = judged(tmp_path, ScriptedLLM(model), "Big-9B", ["strict"], lambda *_: None)
    assert {name for name in before if before[name] != after[name]} == {"scores"}
    assert evaluate(FullContext(), TOY, ScriptedLLM([]), tmp_path, config()) == after


def test_only_a_run_that_has_ended_and_has_its_text_is_judged(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"has no result\.json: give a run's own folder"):
        judged(tmp_path, ScriptedLLM([]), "Big-9B", ["strict"], lambda *_: None)
    evaluate(FullContext(), TOY, ScriptedLLM(model), tmp_path / "run", config())
    published = publish(tmp_path / "run", tmp_path / "results")
    with pytest.raises(InvalidInput, match="was published without the data's text"):
        judged(published, ScriptedLLM([]), "Big-9B", ["strict"], lambda *_: None)


def test_what_is_published_has_no_text_of_the_data_set(tmp_path: Path) -> None:
    evaluate(FullContext(), TOY, ScriptedLLM(model), tmp_path / "full-context", config())
    folder = publish(tmp_path / "full-context", tmp_path / "results")
    text = (folder / "records.jsonl").read_text() + (folder / "result.json").read_text()
    assert not any(words in text for words in (*SAID, *(question.text for question in TOY.questions)))
    first = json.loads((folder / "records.jsonl").read_text().splitlines()[0])
    assert (first["question"], first["answer"], first["retrieved"][0]) == (
        "d1/0",
        "Rex",
        {"turn": "1:1", "score": None},
    )


def test_an_answer_that_repeats_a_turn_or_the_question_or_its_gold_answer_is_published_as_its_name() -> None:
    turn = "Ann: I adopted a dog called Rex from the shelter in Bern last May."
    text = "Why did Ann want to have a dog from there?"
    gold = "because it had been found alone on a cold night"
    record = {"text": text, "gold": gold, "used": [], "retrieved": [{"text": turn, "turn": "1:1", "score": None}]}
    answers = {
        "A dog called Rex from the shelter in Bern": "[words of 1:1]",
        "A dog called Rex from the shelter": "A dog called Rex from the shelter",
        "Ann did want to have a dog from there": "Ann did want to have a dog from there",
        "Ann want to have a dog from there, she says": "[words of the question]",
        f"Since {gold}": "[words of the gold answer]",
        "Rex": "Rex",
    }
    assert {answer: published(record | {"answer": answer})["answer"] for answer in answers} == answers


def test_a_run_that_has_not_ended_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"has no result\.json: give a run's own folder, and let"):
        publish(tmp_path, tmp_path / "results")


def test_publishing_overwrites_neither_the_run_nor_another_one(tmp_path: Path) -> None:
    for parent, k in (("a", 2), ("b", 3)):
        evaluate(NoMemory(), TOY, ScriptedLLM(model), tmp_path / parent / "run", config(k=k))
    with pytest.raises(InvalidInput, match="would lose its text"):
        publish(tmp_path / "a" / "run", tmp_path / "a")
    publish(tmp_path / "a" / "run", tmp_path / "results")
    publish(tmp_path / "a" / "run", tmp_path / "results")
    with pytest.raises(InvalidInput, match="holds another run"):
        publish(tmp_path / "b" / "run", tmp_path / "results")
    assert read_records(tmp_path / "a" / "run")[0]["text"] == "Which dog did Ann adopt?"


def test_another_file_under_the_same_name_is_another_run(tmp_path: Path) -> None:
    evaluate(NoMemory(), TOY, ScriptedLLM(model), tmp_path, config(source="toy.json (sha256 1)"))
    with pytest.raises(InvalidInput, match="another source"):
        evaluate(NoMemory(), TOY, ScriptedLLM(model), tmp_path, config(source="toy.json (sha256 2)"))


def test_a_second_process_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    class Meanwhile(NoMemory):
        def read(self, dialogue: Dialogue, progress: Callable[[int], None]) -> None:
            with pytest.raises(InvalidInput, match="another process is at work in"):
                evaluate(NoMemory(), TOY, ScriptedLLM(model), tmp_path, config())
            super().read(dialogue, progress)

    evaluate(Meanwhile(), TOY, ScriptedLLM(model), tmp_path, config())
    assert len(read_records(tmp_path)) == 3


def test_a_bank_that_is_gone_answers_nothing_in_the_end(tmp_path: Path) -> None:
    class Gone(FullContext):
        repeatable = False

    with pytest.raises(KeyboardInterrupt):
        evaluate(Gone(), TOY, Interrupted(2), tmp_path, config())
    llm = ScriptedLLM(model)
    evaluate(Gone(), TOY, llm, tmp_path, config())
    assert (len(llm.prompts), len(read_records(tmp_path))) == (3, 3)


def test_a_dialogue_that_nothing_is_asked_about_is_not_read(tmp_path: Path) -> None:
    silent = replace(TOY, questions=TOY.questions[:0])
    with pytest.raises(InvalidInput, match="no question is left of toy"):
        evaluate(NoMemory(), silent, ScriptedLLM([]), tmp_path, config())
    other = Dialogue("d2", ("Cy", "Di"), (Session(1, MAY, (Turn("Cy", "I grow figs.", MAY, "1:1"),)),))
    two = replace(TOY, dialogues=(*TOY.dialogues, other))
    assert list(evaluate(NoMemory(), two, ScriptedLLM(model), tmp_path, config())["read"]) == ["d1"]


def test_what_was_refused_as_too_long_was_not_read(tmp_path: Path) -> None:
    def small(prompt: Prompt) -> Reply:
        tokens = 100 * len(prompt.messages[-1].content.splitlines())
        if tokens > 400:
            return Reply("", prompt_tokens=tokens, stop="overflow", context_tokens=600)
        return Reply('{"keep": [], "answer": "unknown"}', prompt_tokens=tokens)

    evaluate(FullContext(), TOY, ScriptedLLM(small), tmp_path, config(limit=1))
    (record,) = read_records(tmp_path)
    assert (record["dropped"], record["tokens"]["prompt"]) == (1, 400)


def test_a_reply_that_says_nothing_does_not_abstain(tmp_path: Path) -> None:
    evaluate(NoMemory(), TOY, ScriptedLLM(lambda _: ""), tmp_path, config())
    records = read_records(tmp_path)
    assert [record["scores"].get("abstained") for record in records] == [None, None, 0.0]
    assert {(record["answer"], record["known"]) for record in records} == {("", True)}


def test_a_dialogue_may_have_any_name(tmp_path: Path) -> None:
    name = "../team/ann"
    data = Dataset(
        "toy",
        (replace(TOY.dialogues[0], id=name),),
        (replace(TOY.questions[0], dialogue=name),),
        TOY.categories,
        {"all": (name,)},
    )
    system = MemoryR1(ScriptedLLM(model), HashEmbedder(), tmp_path / "run" / "banks")
    evaluate(system, data, ScriptedLLM(model), tmp_path / "run", config(dialogues=(name,)))
    system.close()
    assert {path.name for path in tmp_path.rglob("*.db")} == {"..%2Fteam%2Fann.db", "lock.db"}


def test_sessions_rank_as_their_best_turn_and_fill_the_same_budget() -> None:
    rag = Rag(HashEmbedder(), "bm25", "session")
    rag.read(TOY.dialogues[0], lambda _: None)
    question = TOY.questions[1]
    assert [(found.turn, found.turns) for found in rag.find(question, 1)] == [("1:1", ("1:1", "1:2"))]
    whole = "Ann: I adopted a dog, Rex.\nBo: I moved to Bern for work."
    assert rag.find(question, 1)[0].text == whole
    rag.close()


def test_a_later_dialogue_finds_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    other = Dialogue("d2", ("Cy", "Di"), (Session(1, MAY, (Turn("Cy", "I grow figs.", MAY, "1:1"),)),))
    asked = Question("d2/0", "d2", "Which dog did Ann adopt?", "", "single-hop")
    made: list[Callable[[], System]] = [lambda: FullContext(), lambda: Rag(HashEmbedder())]
    for make in (*made, lambda: MemoryR1(ScriptedLLM(model), HashEmbedder(), tmp_path)):
        system = make()
        for dialogue in (TOY.dialogues[0], other):
            system.read(dialogue, lambda _: None)
        found: Sequence[Found] = system.find(asked, 60)
        assert [one.speaker for one in found] == ["Cy"]
        system.close()


def test_the_system_that_the_documentation_makes_runs(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/evaluation.md").read_text(encoding="utf-8")
    code = text.partition("## To add a system")[2].partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    evaluate(names["LastTurns"](), TOY, ScriptedLLM(model), tmp_path, config())
    assert [one["turn"] for one in read_records(tmp_path)[0]["retrieved"]] == ["2:1", "1:2"]
