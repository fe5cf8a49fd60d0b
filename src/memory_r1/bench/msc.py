"""MSC-Self-Instruct (Packer et al. 2023, MemGPT): 500 chats in five sessions, and a question about each.

Reads the official msc_self_instruct.jsonl, a chat and its question a line: the task called deep memory retrieval. The
four `previous_dialogs` come first, then `dialog`. Of the personas and summaries nothing is read: they are what a memory
is asked to make. The file tells how long ago a session was, and no date: sessions have no `time`, and their order
tells. It names no evidence either, so `first_sessions` leaves no question. Turns of the earlier sessions carry no
speaker; the two alternate, beginning with the first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memory_r1.bench.data import Dataset, Dialogue, Question, Session
from memory_r1.errors import InvalidInput
from memory_r1.files import at, json_lines, member, remedy
from memory_r1.types import Turn

CATEGORY = "deep-memory-retrieval"
SPEAKERS = ("Speaker 1", "Speaker 2")
WHERE = "get msc_self_instruct.jsonl from https://huggingface.co/datasets/MemGPT/MSC-Self-Instruct"


def load(path: str | Path) -> Dataset:
    """Raises InvalidInput when the file is absent or is something else. The chat on line 1 is "msc-1"."""
    path = Path(path)
    dialogues, questions = [], []
    with remedy(WHERE):
        for number, line in json_lines(path, "chat"):
            name = f"msc-{number}"
            with at(f"{path.name} line {number} is not in MSC-Self-Instruct's format"):
                talks = [*member(line, "previous_dialogs", list), line]
                sessions = tuple(_session(place, member(talk, "dialog", list)) for place, talk in enumerate(talks, 1))
                dialogues.append(Dialogue(name, SPEAKERS, sessions))
                asked = member(line, "self_instruct", dict)
                text, answer = (member(asked, part, str).strip() for part in ("B", "A"))
                questions.append(Question(name, name, text, answer, CATEGORY))
        if not dialogues:
            raise InvalidInput(f"{path.name} holds no chat")
    ids = tuple(dialogue.id for dialogue in dialogues)
    return Dataset("msc", tuple(dialogues), tuple(questions), (CATEGORY,), {"all": ids})


def _session(place: int, messages: list[Any]) -> Session:
    turns = []
    for number, message in enumerate(messages):
        speaker = message.get("id") if isinstance(message, dict) else None
        if speaker not in SPEAKERS:
            speaker = SPEAKERS[number % 2]
        turns.append(Turn(speaker, member(message, "text", str), None, f"S{place}:{number + 1}"))
    return Session(place, None, tuple(turns))
