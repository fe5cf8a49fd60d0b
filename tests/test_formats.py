"""What `import` takes: which format a file has, what is in it, and what is wrong with it, by file and line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from conftest import ANN
from memory_r1.bank import MemoryBank, NewEntry
from memory_r1.errors import InvalidInput
from memory_r1.flow import run
from memory_r1.formats import Dialogue, chat_dialogue, detect, locomo_dialogues
from memory_r1.manager import remember
from memory_r1.migration import mem0
from memory_r1.testing import ScriptedLLM
from memory_r1.transfer import export_lines
from memory_r1.types import Scope, Turn

MEM0: list[dict[str, Any]] = [
    {
        "id": "m1",
        "memory": "Ann has a dog",
        "hash": "x",
        "user_id": "ann",
        "metadata": {"topic": "pets"},
        "created_at": "2026-05-08T10:00:00-07:00",
        "updated_at": None,
        "expiration_date": "2027-01-01",
    },
    {"id": "m2", "memory": "The agent is brief", "agent_id": "a1", "run_id": "r1", "metadata": None},
    {"text": "No id and nobody's"},
]


def locomo_turn(turn_id: str, speaker: str, text: str, **more: str) -> dict[str, str]:
    return {"dia_id": turn_id, "speaker": speaker, "text": text, **more}


def locomo_sample(name: str) -> dict[str, Any]:
    return {
        "sample_id": name,
        "conversation": {
            "speaker_a": "Ann",
            "speaker_b": "Bob",
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [locomo_turn("D1:1", "Ann", "I got a cat."), locomo_turn("D1:2", "Bob", "Nice!")],
            "session_2_date_time": "9:00 am on 10 May, 2023",
            "session_2": [locomo_turn("D2:1", "Ann", "Look!", blip_caption="a photo of a cat")],
            "session_3_date_time": "9:00 am on 11 May, 2023",
        },
        "qa": [{"question": "Whose cat?", "answer": "Ann's", "evidence": ["D1:1"], "category": 4}],
    }


@pytest.fixture
def locomo(tmp_path: Path) -> Path:
    return written(tmp_path, "tiny.json", [locomo_sample("conv-1"), locomo_sample("conv-2")])


def written(folder: Path, name: str, content: object) -> Path:
    """A file with a text, or with a value as JSON."""
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


FIRST = (
    Turn("Ann", "I got a cat.", datetime(2023, 5, 8, 13, 56, tzinfo=UTC), "D1:1"),
    Turn("Bob", "Nice!", datetime(2023, 5, 8, 13, 56, tzinfo=UTC), "D1:2"),
)
SECOND = (Turn("Ann", "Look! [shares a photo: a photo of a cat]", datetime(2023, 5, 10, 9, tzinfo=UTC), "D2:1"),)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param('{"format": "memory-r1-operations", "version": 1}\n', "memory-r1", id="our export"),
        pytest.param('\n\n{"format": "memory-r1-operations", "version": 9}', "memory-r1", id="after blank lines"),
        pytest.param([locomo_sample("conv-1")], "locomo", id="locomo on one line"),
        pytest.param(json.dumps([locomo_sample("conv-1")], indent=2), "locomo", id="locomo over many lines"),
        pytest.param('{"role": "user", "content": "Hi"}\n{"role": "user", "content": "Ho"}', "chat", id="chat"),
        pytest.param('{"content": "a role is not needed"}', "chat", id="chat without a role"),
        pytest.param(
            '{"role": "user", "content": "see", "qa": 1, "conversation": 2}', "chat", id="chat with more keys"
        ),
        pytest.param(
            '{"role": "user", "content": "\\"memory\\" memory-r1-operations"}', "chat", id="chat about formats"
        ),
        pytest.param('{"role": "user", "content": "' + "long " * 5_000 + '"}', "chat", id="chat with a long line"),
        pytest.param("\ufeff" + '{"role": "user", "content": "Hi"}', "chat", id="with a byte order mark"),
        pytest.param({"results": MEM0}, "mem0", id="mem0 results"),
        pytest.param({"results": []}, "mem0", id="mem0 without any"),
        pytest.param(MEM0, "mem0", id="mem0 list"),
        pytest.param(json.dumps({"memories": MEM0}, indent=2), "mem0", id="mem0 over many lines"),
        pytest.param(
            [{"namespace": ["memories", "ann"], "key": "k", "value": {"text": "x"}}], "langgraph", id="langgraph items"
        ),
        pytest.param(
            {"results": [{"memory": "x", "metadata": {"role": "user", "content": "y"}}]}, "mem0", id="mem0 of a chat"
        ),
    ],
)
def test_a_file_is_known_by_its_beginning(tmp_path: Path, content: object, expected: str) -> None:
    assert detect(written(tmp_path, "file", content)) == expected


@pytest.mark.parametrize("content", ["", "\n \n", "hello", "[1, 2]", '{"role": "user"', "[" * 100_000])
def test_another_file_is_refused_by_name(tmp_path: Path, content: str) -> None:
    with pytest.raises(InvalidInput, match=r"^notes\.txt is no memory-r1 export, LoCoMo file, .*; name its --format$"):
        detect(written(tmp_path, "notes.txt", content))


@pytest.mark.parametrize(
    "read", [detect, lambda path: chat_dialogue(path, ANN), lambda path: mem0(path, ANN, None, datetime.now(UTC))]
)
def test_a_file_that_is_no_text_is_refused_by_name(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(InvalidInput, match=r"^photo\.jpg is not text in UTF-8: "):
        read(path)


# -- LoCoMo -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("only", "sessions", "expected"),
    [
        (None, None, [Dialogue(Scope("conv-1"), FIRST + SECOND), Dialogue(Scope("conv-2"), FIRST + SECOND)]),
        ("conv-2", None, [Dialogue(Scope("conv-2"), FIRST + SECOND)]),
        ("conv-1", 1, [Dialogue(Scope("conv-1"), FIRST)]),
        (None, 1, [Dialogue(Scope("conv-1"), FIRST), Dialogue(Scope("conv-2"), FIRST)]),
        ("conv-1", 9, [Dialogue(Scope("conv-1"), FIRST + SECOND)]),
    ],
)
def test_each_locomo_conversation_is_a_dialogue_of_its_own(
    locomo: Path, only: str | None, sessions: int | None, expected: list[Dialogue]
) -> None:
    assert locomo_dialogues(locomo, only, sessions) == expected


def test_a_conversation_that_is_not_there_is_answered_with_those_that_are(locomo: Path) -> None:
    with pytest.raises(InvalidInput, match=r"^tiny\.json has no conversation 'conv-26'; it has conv-1, conv-2$"):
        locomo_dialogues(locomo, "conv-26")


@pytest.mark.parametrize("content", ["[]", "{}", "no", '[{"sample_id": "x"}]'])
def test_a_file_that_is_not_locomos_is_refused_by_name(tmp_path: Path, content: str) -> None:
    with pytest.raises(InvalidInput, match=r"wrong\.json"):
        locomo_dialogues(written(tmp_path, "wrong.json", content))


# -- chats --------------------------------------------------------------------------------------------------------


def chat(folder: Path, *messages: object, name: str = "chat.jsonl") -> Path:
    return written(folder, name, "\n".join(m if isinstance(m, str) else json.dumps(m) for m in messages))


def test_a_chat_is_one_message_a_line(tmp_path: Path) -> None:
    path = chat(
        tmp_path,
        {"role": "system", "content": "You are kind."},
        {"role": "user", "name": "Ann", "content": "I got a cat.", "timestamp": "2026-05-08T10:00:00Z", "id": "a"},
        "",
        {"role": "assistant", "content": "Nice!", "timestamp": 0, "id": 0},
        {"content": "Yes."},
    )
    assert chat_dialogue(path, ANN) == Dialogue(
        ANN,
        (
            Turn("Ann", "I got a cat.", datetime(2026, 5, 8, 10, tzinfo=UTC), "a"),
            Turn("assistant", "Nice!", datetime(1970, 1, 1, tzinfo=UTC), "0"),
            Turn("user", "Yes.", None, "chat.jsonl:5:5f9a2b79"),
        ),
    )


def test_a_chat_may_begin_with_a_byte_order_mark_and_be_empty(tmp_path: Path) -> None:
    assert chat_dialogue(chat(tmp_path, "\ufeff"), ANN) == Dialogue(ANN, ())
    (turn,) = chat_dialogue(chat(tmp_path, "\ufeff" + '{"content": "Hi"}'), ANN).turns
    assert turn.text == "Hi"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"content": ', "is not JSON: Expecting value"),
        ("[" * 100_000, "is not JSON: "),
        ("[1]", "is not a message object"),
        ("{}", ': a message needs "content" with its text'),
        ('{"content": " "}', ': a message needs "content" with its text'),
        ('{"content": ["parts"]}', ': a message needs "content" with its text'),
        ('{"content": "Hi", "name": 7}', ": the name or role must be a string of printable characters, not 7"),
        ('{"content": "Hi", "role": "a\\nb"}', ": the name or role must be a string of printable characters"),
        ('{"content": "Hi", "timestamp": "soon"}', ": not a time: 'soon'"),
        ('{"content": "\\u0000"}', ": text holds U\\+0000"),
        ('{"content": "\\ud83d"}', ": text holds half of a surrogate pair"),
    ],
)
def test_a_line_that_is_no_message_is_named_by_file_and_number(tmp_path: Path, line: str, message: str) -> None:
    path = chat(tmp_path, {"content": "Fine."}, "", line)
    with pytest.raises(InvalidInput, match=rf"^chat\.jsonl line 3 ?{message}"):
        chat_dialogue(path, ANN)


def test_messages_without_ids_keep_the_ones_they_get_when_the_file_grows_but_not_when_they_change(
    tmp_path: Path,
) -> None:
    def ids(*texts: str) -> list[str | None]:
        return [turn.id for turn in chat_dialogue(chat(tmp_path, *({"content": text} for text in texts)), ANN).turns]

    first = ids("Hi", "Hi", "Ho")
    assert len(set(first)) == 3
    assert ids("Hi", "Hi", "Ho", "Hum")[:3] == first
    assert [before == now for before, now in zip(first, ids("Hi", "He", "Ho"), strict=True)] == [True, False, True]


def test_a_chat_that_was_remembered_halfway_goes_on_where_it_stopped(tmp_path: Path, bank: MemoryBank) -> None:
    path = chat(tmp_path, {"content": "Ann has a cat"}, {"content": "Bob plays chess"})
    asked = ScriptedLLM(lambda prompt: json.dumps({"facts": [prompt.messages[-1].content.partition(": ")[2]]}))

    def import_(first: int) -> None:
        dialogue = chat_dialogue(path, ANN)
        for turn in dialogue.turns[:first]:
            run(remember(turn, bank, dialogue.scope, k=1), asked)

    import_(1)
    import_(1)
    assert [entry.text for entry in bank.all(ANN)] == ["Ann has a cat"]
    assert len(asked.prompts) == 1


def test_our_own_export_is_known_as_such(tmp_path: Path, bank: MemoryBank) -> None:
    bank.add_many([NewEntry("Ann has a cat", ANN)])
    assert detect(written(tmp_path, "out.jsonl", "\n".join(export_lines(bank, None)))) == "memory-r1"
