from __future__ import annotations

import json
import math
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import report_runs
from click.testing import CliRunner

from memory_r1.bench import report
from memory_r1.bench.causes import CAUSES
from memory_r1.bench.datasets import open_dataset
from memory_r1.bench.page import content, page
from memory_r1.bench.records import published
from memory_r1.bench.runs import load, without_text
from memory_r1.cli import main
from memory_r1.errors import InvalidInput

TABLES = """\
locomo, validation, first 3 sessions: 24 questions, 4 of them about what was never said; talk-1, talk-2.
Every system: model Tiny-1B, embedder e5-small-int8, seed 0, distil yes.
Not the same k: 12 (memory-r1, untrained / RAG, hybrid, turns); none (full context).
Scores are per cent: F1 the paper's, over sets of lower-cased words; B1 BLEU-1, J the lenient judge.
In brackets: 95 % intervals, questions resampled.
full context deviates: the oldest turns are left out where the context is full.

F1 / B1 / J
system                         multi-hop            temporal         open-domain          single-hop             overall
--------------------  ------------------  ------------------  ------------------  ------------------  ------------------
in the paper                  Single Hop            Temporal           Multi-Hop         Open Domain             Overall
questions                              4                   4                   4                   8                  20
memory-r1, untrained  60.0 / 48.0 / 75.0  60.0 / 48.0 / 75.0  45.0 / 36.0 / 75.0  80.0 / 64.0 / 87.5  65.0 / 52.0 / 80.0
RAG, hybrid, turns    20.0 / 16.0 / 50.0  50.0 / 40.0 / 50.0  60.0 / 48.0 / 75.0  35.0 / 28.0 / 50.0  40.0 / 32.0 / 55.0
full context            100.0 / 80.0 / -       0.0 / 0.0 / -       0.0 / 0.0 / -     52.5 / 42.0 / -     41.0 / 32.8 / -

Over all questions
system                       F1 (95 %)  F1 macro    B1  F1 LoCoMo    EM     J  J strict  abstained  unreadable  words
--------------------  ----------------  --------  ----  ---------  ----  ----  --------  ---------  ----------  -----
memory-r1, untrained  65.0 (47.0-83.0)      61.3  52.0       65.0  55.0  80.0      55.0  25.0 of 4         4.2    2.2
RAG, hybrid, turns    40.0 (22.0-59.0)      41.2  32.0       40.0  30.0  55.0      30.0  50.0 of 4        12.5    2.2
full context          41.0 (22.0-62.0)      38.1  32.8       41.0  35.0     -         -  75.0 of 4        16.7    2.2

F1 of memory-r1, untrained over that of
system              points           95 %  resamples above 0, %
------------------  ------  -------------  --------------------
RAG, hybrid, turns   +25.0  -1.0 to +51.0                  96.7
full context         +24.0  -4.0 to +51.0                  95.0

A question costs
system                tokens  prompt  reply  find ms, p50 / p95  answer s, p50 / p95
--------------------  ------  ------  -----  ------------------  -------------------
memory-r1, untrained     964     945   19.0               4 / 4          1.31 / 1.79
RAG, hybrid, turns     1,354   1,336   18.7               2 / 2          1.34 / 1.86
full context          14,261  14,240   21.0                   -          1.33 / 1.81

Remembering a dialogue
system                entries  memory tokens  tokens a turn  s a turn  ADD / UPDATE / DELETE / NOOP  unreadable  failed
--------------------  -------  -------------  -------------  --------  ----------------------------  ----------  ------
memory-r1, untrained       20            640            575      4.00               48 / 8 / 4 / 12           2       -
RAG, hybrid, turns         24            744              0      0.01                             -           -       -
full context               24            744              0      0.01                             -           -       -\
"""


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    (tmp_path / "locomo.json").write_text(json.dumps(report_runs.dialogues()), encoding="utf-8")
    return report_runs.write_runs(tmp_path, report_runs.dialogues())


def publish(folder: Path) -> None:
    """Rewrite a run's records as they are committed, without the data set's text."""
    path = folder / "records.jsonl"
    lines = [json.dumps(published(json.loads(line))) + "\n" for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(lines), encoding="utf-8")


def change(path: Path, **config: Any) -> None:
    result = json.loads(path.read_text(encoding="utf-8"))
    result["config"] |= config
    path.write_text(json.dumps(result), encoding="utf-8")


class Page(HTMLParser):
    """The elements of a page, and what its data says, as a browser reads them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self._inside = False
        self.feed(page)
        self.data = json.loads(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        self._inside = ("id", "data") in attrs

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        self._inside = False

    def handle_data(self, data: str) -> None:
        self.text += data if self._inside else ""


def test_the_tables_say_everything_of_three_runs(folders: list[Path]) -> None:
    assert report.text(load(folders)) == TABLES


def test_markdown_has_the_same_cells(folders: list[Path]) -> None:
    runs = load(folders)
    lines = report.markdown(runs).splitlines()
    for table in report.tables(runs):
        assert all("| " + " | ".join(row) + " |" in lines for row in (table.head, *table.rows))


def test_with_the_data_the_tables_say_where_answers_go_wrong(folders: list[Path], tmp_path: Path) -> None:
    *others, wrong = report.tables(load(folders), open_dataset(f"locomo:{tmp_path / 'locomo.json'}"))
    assert len(others) == 5
    assert wrong.title == "Where answers go wrong (right: an F1 of 0.5 and more)"
    assert wrong.head == ["system", *CAUSES]
    assert [row[0] for row in wrong.rows] == ["memory-r1, untrained", "RAG, hybrid, turns", "full context"]
    assert [row[2] for row in wrong.rows] == ["-", "-", "-"]  # none says which turns it wrote down
    assert [sum(int(cell) for cell in row[1:] if cell != "-") for row in wrong.rows] == [20, 20, 20]
    right = [sum(one["scores"].get("f1", 0) >= 0.5 for one in run.records.values()) for run in load(folders)]
    assert [int(row[1]) for row in wrong.rows] == right


def test_a_result_that_says_where_answers_go_wrong_needs_no_data_for_it(folders: list[Path], tmp_path: Path) -> None:
    *_, wrong = report.tables(load(folders), open_dataset(f"locomo:{tmp_path / 'locomo.json'}"))
    for folder, row in zip(folders[1:], wrong.rows[1:], strict=True):
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        result["causes"] = {one: None if cell == "-" else int(cell) for one, cell in zip(CAUSES, row[1:], strict=True)}
        (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    assert report.tables(load(folders))[-1].rows == wrong.rows[1:]


def test_how_long_each_step_took_is_told_as_a_mean_over_dialogues(folders: list[Path]) -> None:
    result = json.loads((folders[0] / "result.json").read_text(encoding="utf-8"))
    first, *others = result["read"].values()
    first["step_seconds"] = {"extract": {"p50": 0.5, "p95": 1.0}, "manage": {"p50": 2.0, "p95": 4.0}}
    others[0]["step_seconds"] = {"extract": {"p50": 1.5, "p95": 2.0}}
    (folders[0] / "result.json").write_text(json.dumps(result), encoding="utf-8")
    table = next(one for one in report.tables(load(folders)) if one.title == "Remembering a dialogue")
    told = [table.head.index(f"{step} s, p50 / p95") for step in ("extract", "manage")]
    assert [[row[place] for place in told] for row in table.rows[:2]] == [["1.00 / 1.50", "2.00 / 4.00"], ["-", "-"]]


def test_what_remains_of_answers_that_the_model_is_sure_of(folders: list[Path]) -> None:
    path = folders[0] / "records.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    answerable = [one for one in records if "f1" in one["scores"]]
    for record in records:
        record["known"], record["logprob"] = False, None
    for record, f1, probability in zip(answerable, (1.0, 0.5, 0.0), (0.5, 0.1, 0.02), strict=False):
        record["known"], record["logprob"], record["scores"]["f1"] = True, math.log(probability), f1
    [open_to_doubt, *_] = [one for one in records if "abstained" in one["scores"]]
    open_to_doubt["known"], open_to_doubt["logprob"] = True, math.log(0.06)
    path.write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    [table] = [one for one in report.tables(load(folders)) if one.title.startswith("Answers of less certainty")]
    assert table.head == ["system", "0%", "5%", "10%", "20%", "40%"]
    # Of 20 answerable and 4 unanswerable questions.
    assert list(table.rows) == [
        [
            "memory-r1, untrained",
            "7.5 / 37.5 / 75.0",
            "7.5 / 50.0 / 75.0",
            "7.5 / 75.0 / 100.0",
            "5.0 / 100.0 / 100.0",
            "5.0 / 100.0 / 100.0",
        ]
    ]


def test_a_metric_of_your_own_has_a_column_under_its_own_name(folders: list[Path]) -> None:
    result = json.loads((folders[0] / "result.json").read_text(encoding="utf-8"))
    result["scores"]["metrics"]["rouge"] = result["scores"]["metrics"]["bleu1"]
    (folders[0] / "result.json").write_text(json.dumps(result), encoding="utf-8")
    overall = report.tables(load(folders))[1]
    own, bleu = overall.head.index("rouge"), overall.head.index("B1")
    assert [row[own] for row in overall.rows] == [overall.rows[0][bleu], "-", "-"]


def test_optional_parts_may_be_absent(folders: list[Path]) -> None:
    path = folders[2] / "result.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    del result["read"], result["versions"], result["machine"]
    for name in ("abstained", "unreadable", "answer_words", "tokens", "seconds"):
        del result["scores"][name]
    result["scores"]["metrics"]["f1"] = {
        "questions": 0,
        "unscored": 20,
        "micro": None,
        "macro": float("nan"),
        "by_category": {},
    }
    path.write_text(json.dumps(result), encoding="utf-8")
    runs = load(folders)
    tables = {table.title: table.rows for table in report.tables(runs)}
    assert tables["Over all questions"][2] == ["full context", "-", "-", "32.8", "41.0", "35.0", *"-----"]
    assert tables["A question costs"][2] == ["full context", *"-----"]
    assert [row[0] for row in tables["Remembering a dialogue"]] == ["memory-r1, untrained", "RAG, hybrid, turns"]
    assert [row[0] for row in tables["F1 of memory-r1, untrained over that of"]] == ["RAG, hybrid, turns"]
    assert Page(page(runs)).data["runs"][2]["f1"] == [None, None]


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    hostile = "</script><img src=x onerror=alert(1)><!-- <script> & \u2028 \ud800"
    harmless = page(load(report_runs.write_runs(tmp_path / "harmless", report_runs.dialogues())))
    talks = report_runs.dialogues()
    talks[0]["qa"][0] |= {"question": hostile, "answer": hostile}
    talks[0]["conversation"]["session_1"][0] |= {"text": hostile, "speaker": hostile}
    folders = report_runs.write_runs(tmp_path / "hostile", talks)
    change(folders[0] / "result.json", title=hostile, model=hostile)
    html = page(load(folders))
    html.encode("utf-8")
    assert Page(html).tags == Page(harmless).tags
    data = Page(html).data
    assert (data["questions"][0]["text"], data["questions"][0]["gold"], data["runs"][0]["title"]) == (hostile,) * 3
    assert hostile in {memory["text"] for memory in data["memories"]}
    assert html.count("</script>") == harmless.count("</script>")


def test_the_page_loads_nothing(folders: list[Path]) -> None:
    html = page(load(folders))
    assert all(link.startswith("#") for link in Page(html).links)
    assert "default-src 'none'" in html
    assert not any(way in html for way in ("fetch(", "XMLHttpRequest", "import(", "url(", "@import", "innerHTML"))


def test_full_records_are_read_without_the_data(folders: list[Path]) -> None:
    runs = load(folders)
    assert not without_text(runs)
    data = content(runs)
    assert data["questions"][1] == {
        "id": "talk-1/1",
        "dialogue": "talk-1",
        "category": "temporal",
        "text": "Which animal did they meet in Oulu, time 2?",
        "gold": "two goats",
        "evidence": None,
    }
    record = json.loads((folders[0] / "records.jsonl").read_text(encoding="utf-8").splitlines()[1])
    shown = data["records"][0][1]
    assert [data["memories"][place] for place, _ in shown["retrieved"]] == [
        {"dialogue": "talk-1", "turns": ()} | {name: one[name] for name in ("turn", "text", "time", "speaker")}
        for one in record["retrieved"]
    ]
    assert [score for _, score in shown["retrieved"]] == [one["score"] for one in record["retrieved"]]
    assert {name: shown[name] for name in ("answer", "used", "scores")} == {
        name: record[name] for name in ("answer", "used", "scores")
    }


def test_published_records_are_joined_with_the_data(folders: list[Path], tmp_path: Path) -> None:
    for folder in folders:
        publish(folder)
    runs = load(folders)
    assert without_text(runs)
    bare = content(runs)
    assert {(question["text"], question["gold"]) for question in bare["questions"]} == {(None, None)}
    assert bare["turns"] == {}
    data = content(runs, open_dataset(f"locomo:{tmp_path / 'locomo.json'}"))
    assert data["questions"][1] == {
        "id": "talk-1/1",
        "dialogue": "talk-1",
        "category": "temporal",
        "text": "Which animal did they meet in Oulu, time 2?",
        "gold": "two goats",
        "evidence": ("D2:2",),
    }
    said = report_runs.dialogues()[0]["conversation"]["session_2"][1]["text"]
    assert data["turns"]["talk-1"]["D2:2"] == {"speaker": "Otto", "time": "2023-05-05T13:02:00+00:00", "text": said}
    turns = {(one["dialogue"], one["turn"]) for one in data["memories"]}
    assert all(turn in data["turns"][dialogue] for dialogue, turn in turns)


def test_published_records_beside_full_ones_need_no_data(folders: list[Path]) -> None:
    publish(folders[0])
    runs = load(folders)
    assert not without_text(runs)
    assert content(runs)["questions"][0]["text"] == "Which animal did they meet in Ghent, time 1?"


def test_other_data_than_the_runs_answered_is_refused(folders: list[Path], tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps(report_runs.dialogues(1)), encoding="utf-8")
    with pytest.raises(InvalidInput, match="locomo is not the data of these runs: it has no question talk-2/0"):
        page(load(folders), open_dataset(f"locomo:{tmp_path / 'other.json'}"))


def test_runs_about_different_questions_are_refused(folders: list[Path]) -> None:
    path = folders[1] / "records.jsonl"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:20]), encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        load(folders)
    assert str(caught.value) == (
        "RAG, hybrid, turns does not answer 4 of 24 questions that memory-r1, untrained answers (talk-2/8, talk-2/9, "
        "talk-2/10, ...); compare runs made with the same --data, --repairs, --split, --sessions and --limit"
    )


def test_runs_that_read_different_sessions_are_refused(folders: list[Path]) -> None:
    change(folders[1] / "result.json", sessions=None)
    with pytest.raises(InvalidInput, match=r"were not run on the same sessions \(3, None\)"):
        load(folders)


@pytest.mark.parametrize(
    ("what", "others"), [("repaired", (True, False)), ("source", ("a.json (sha256 1)", "b.json (sha256 2)"))]
)
def test_runs_with_other_labels_or_of_another_file_are_refused(
    folders: list[Path], what: str, others: tuple[Any, Any]
) -> None:
    for folder, value in zip(folders, (*others, others[1]), strict=True):
        change(folder / "result.json", **{what: value})
    with pytest.raises(InvalidInput, match=f"were not run on the same {what}"):
        load(folders)


def test_repaired_labels_and_adapters_are_told(folders: list[Path]) -> None:
    for folder in folders:
        change(folder / "result.json", repaired=True)
    change(folders[0] / "result.json", about={"adapters": ["answer=memory-r1-answer 1a2b"]})
    lines = report.about(load(folders))
    assert lines[1] == "Labels were repaired: gold answers and evidence are not all the data set's own."
    assert lines[3] == (
        "Not the same adapters: answer=memory-r1-answer 1a2b (memory-r1, untrained); none (RAG, hybrid, turns / "
        "full context)."
    )


def test_a_judges_grades_stand_in_tables_and_records_with_its_name(folders: list[Path]) -> None:
    path = folders[2] / "records.jsonl"
    question = json.loads(path.read_text(encoding="utf-8").splitlines()[0])["question"]
    line = {"question": question, "metric": "judge_lenient", "score": 1.0, "by": "Big-9B, judge@1"}
    (folders[2] / "judgements.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    result = json.loads((folders[2] / "result.json").read_text(encoding="utf-8"))
    result["judge"] = {"judge_lenient": "Big-9B, judge@1"}
    result["scores"]["metrics"]["judge_lenient"] = {"questions": 1, "unscored": 19, "micro": 1.0, "by_category": {}}
    (folders[2] / "result.json").write_text(json.dumps(result), encoding="utf-8")
    runs = load(folders)
    assert runs[2].records[question]["scores"]["judge_lenient"] == 1.0
    assert "B1 BLEU-1, J the lenient judge (Big-9B, judge@1)." in "\n".join(report.about(runs))
    assert {table.title: table.rows for table in report.tables(runs)}["Over all questions"][2][6] == "100.0 of 1"


def test_grades_of_two_judges_stand_in_no_table_together(folders: list[Path]) -> None:
    for folder, name in zip(folders, (None, "Big-9B", "Small-1B"), strict=True):
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        result["judge"] = {"judge_lenient": name} if name else None
        (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"were graded by two judges \(Big-9B; Small-1B\)"):
        load(folders)
    assert len(load(folders[:2])) == 2


def test_what_a_servers_numbers_stand_for_tells_adapters_apart(folders: list[Path]) -> None:
    for folder, file in zip(folders, ("first/answer.gguf", "second/answer.gguf", "second/answer.gguf"), strict=True):
        change(folder / "result.json", about={"adapters": ["answer=2"], "lora": f"2 is {file}"})
    assert (
        "Not the same adapters: answer=2: 2 is first/answer.gguf (memory-r1, untrained); "
        "answer=2: 2 is second/answer.gguf (RAG, hybrid, turns / full context)."
    ) in report.about(load(folders))


def test_what_reading_cost_says_where_an_interrupted_sitting_is_in_no_figure(folders: list[Path]) -> None:
    result = json.loads((folders[0] / "result.json").read_text(encoding="utf-8"))
    first = next(iter(result["read"].values()))
    first["uncounted"] = 5
    (folders[0] / "result.json").write_text(json.dumps(result), encoding="utf-8")
    turns = sum(one["turns"] for one in result["read"].values())
    assert report.tokens_a_turn(load(folders)[0]) == f"575 (last {turns} turns)"


def test_a_run_that_went_on_by_other_code_is_told(folders: list[Path]) -> None:
    result = json.loads((folders[0] / "result.json").read_text(encoding="utf-8")) | {"commits": [None, "3c4d"]}
    (folders[0] / "result.json").write_text(json.dumps(result), encoding="utf-8")
    assert content(load(folders))["deviations"] == [
        "memory-r1, untrained went on by other code: commits not told, 3c4d.",
        "full context deviates: the oldest turns are left out where the context is full.",
    ]


def test_another_file_with_the_same_questions_is_refused(folders: list[Path], tmp_path: Path) -> None:
    data = open_dataset(f"locomo:{tmp_path / 'locomo.json'}")
    for folder in folders:
        change(folder / "result.json", source=data.source.replace("locomo.json", "renamed.json"))
    assert content(load(folders), data)["questions"]
    for folder in folders:
        change(folder / "result.json", source="locomo.json (sha256 0123456789abcdef)")
    for given in (content, report.tables):
        with pytest.raises(InvalidInput, match=r"was run on locomo\.json \(sha256 0123456789abcdef\), not on"):
            given(load(folders), data)


def test_a_question_is_shown_with_the_gold_answer_that_it_was_scored_by(folders: list[Path], tmp_path: Path) -> None:
    talks = report_runs.dialogues()
    talks[0]["qa"][1]["answer"] = "another gold answer"
    (tmp_path / "other.json").write_text(json.dumps(talks), encoding="utf-8")
    data = open_dataset(f"locomo:{tmp_path / 'other.json'}")
    assert content(load(folders), data)["questions"][1]["gold"] == "two goats"


def test_a_run_that_has_not_ended_is_said_so(folders: list[Path]) -> None:
    (folders[0] / "result.json").unlink()
    (folders[0] / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InvalidInput, match="memory-r1 has not ended: the same `memory-r1 bench run` command goes on"):
        load(folders)


def test_runs_with_one_title_are_told_apart_by_their_folders(folders: list[Path]) -> None:
    change(folders[1] / "result.json", title="memory-r1, untrained")
    titles = [run.title for run in load(folders)]
    assert titles == ["memory-r1, untrained [memory-r1]", "memory-r1, untrained [rag-hybrid]", "full context"]
    with pytest.raises(InvalidInput, match="the same run is named twice"):
        load([folders[0], folders[0]])
    twice = [folders[0], folders[0].parent / "trained" / folders[0].name]
    shutil.copytree(*twice)
    assert [run.title for run in load(twice)] == [
        f"memory-r1, untrained [{folders[0].parent.name}/memory-r1]",
        "memory-r1, untrained [trained/memory-r1]",
    ]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("result.json", "{", "result.json is not JSON"),
        ("result.json", '{"benchmark": "store"}', "is no result of answers"),
        ("result.json", '{"benchmark": "answers", "config": {}}', "lacks scores: the run is not finished"),
        ("records.jsonl", '{"question": "a/1"}\n{"quest', "line 2, is not JSON"),
        ("records.jsonl", "[]\n", "line 1, is no record of a question"),
        ("records.jsonl", '{"question": "a/1"}\n{"question": "a/1"}\n', "line 2: question a/1 was recorded before"),
        ("records.jsonl", "", "holds no record"),
    ],
)
def test_what_is_no_run_is_said_so(folders: list[Path], file: str, content: str, message: str) -> None:
    (folders[0] / file).write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInput, match=message):
        load(folders)


def test_a_folder_without_a_run_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"result.json cannot be read .* give the folder that `memory-r1 bench run`"):
        load([tmp_path])


def test_the_command_prints_the_tables_and_writes_the_page_and_the_plot(folders: list[Path], tmp_path: Path) -> None:
    for folder in folders:
        publish(folder)
    html, plot = tmp_path / "page.html", tmp_path / "f1_by_category.png"
    arguments = ["bench", "report", *map(str, folders), "--html", str(html)]
    bare = CliRunner().invoke(main, arguments)
    assert (bare.exit_code, bare.stdout) == (0, TABLES + "\n")
    assert "give --data to read their text" in bare.stderr
    assert "two goats?" not in html.read_text(encoding="utf-8")
    joined = CliRunner().invoke(
        main, [*arguments, "--data", f"locomo:{tmp_path / 'locomo.json'}", "--plot", str(plot), "--markdown"]
    )
    data = open_dataset(f"locomo:{tmp_path / 'locomo.json'}")
    assert (joined.exit_code, joined.stdout) == (0, report.markdown(load(folders), data) + "\n")
    assert "give --data" not in joined.stderr
    assert Page(html.read_text(encoding="utf-8")).data["questions"][1]["gold"] == "two goats"
    assert plot.read_bytes().startswith(b"\x89PNG")
