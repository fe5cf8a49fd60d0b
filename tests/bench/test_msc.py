from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from memory_r1.bench.data import Dataset, Dialogue, Question, Session
from memory_r1.bench.msc import load
from memory_r1.errors import InvalidInput
from memory_r1.types import Turn

LINE: dict[str, Any] = {
    "personas": [["I like tea."], ["I like jazz."]],
    "previous_dialogs": [
        {
            "personas": [["I like tea."], ["I like jazz."]],
            "dialog": [{"text": "Hi, I like tea."}, {"text": "I like jazz."}],
            "time_num": 5,
            "time_unit": "hours",
            "time_back": "9 days 5 hours ago",
        },
    ],
    "dialog": [{"text": "Any tea?", "id": "Speaker 2", "convai2_id": ""}, {"text": "Yes!", "id": "Speaker 1"}],
    "metadata": {"initial_data_id": "valid_1", "session_id": 4},
    "self_instruct": {"B": "What do I like?\n", "A": "Jazz!"},
    "summary_speaker_1": ["Likes tea."],
}


def written(tmp_path: Path, *lines: Any) -> Path:
    path = tmp_path / "msc_self_instruct.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_a_line_is_a_chat_in_sessions_without_dates_and_a_question(tmp_path: Path) -> None:
    first = (Turn("Speaker 1", "Hi, I like tea.", None, "S1:1"), Turn("Speaker 2", "I like jazz.", None, "S1:2"))
    second = (Turn("Speaker 2", "Any tea?", None, "S2:1"), Turn("Speaker 1", "Yes!", None, "S2:2"))
    sessions = (Session(1, None, first), Session(2, None, second))
    speakers = ("Speaker 1", "Speaker 2")
    assert load(written(tmp_path, LINE, "", LINE)) == Dataset(
        name="msc",
        dialogues=(Dialogue("msc-1", speakers, sessions), Dialogue("msc-3", speakers, sessions)),
        questions=(
            Question("msc-1", "msc-1", "What do I like?", "Jazz!", "deep-memory-retrieval"),
            Question("msc-3", "msc-3", "What do I like?", "Jazz!", "deep-memory-retrieval"),
        ),
        categories=("deep-memory-retrieval",),
        splits={"all": ("msc-1", "msc-3")},
    )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "msc_self_instruct.jsonl holds no chat"),
        ([LINE, "{"], "msc_self_instruct.jsonl line 2 is not JSON"),
        (["[]"], "msc_self_instruct.jsonl line 1 is not a chat object"),
        ([LINE | {"self_instruct": {"B": "What?"}}], 'line 1 is not in MSC-Self-Instruct\'s format: "A" is missing'),
        ([LINE | {"previous_dialogs": [{}]}], '"dialog" is missing'),
        ([LINE | {"dialog": ["Hi"]}], 'this must be an object, not "Hi"'),
    ],
)
def test_what_is_not_msc_is_said_so_with_the_line(tmp_path: Path, lines: list[Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)) as caught:
        load(written(tmp_path, *lines))
    assert "huggingface.co/datasets/MemGPT/MSC-Self-Instruct" in str(caught.value)
