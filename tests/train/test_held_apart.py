"""LoCoMo's eight test dialogues are held apart: nothing that training or prompts are made of has a line of theirs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory_r1.bench.locomo import load
from memory_r1.errors import InvalidInput
from memory_r1.testing import HashEmbedder
from memory_r1.train.config import TrainConfig
from memory_r1.train.sources import samples_for

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "scripts/results_pages.py"  # trains nothing: it names the dialogues whose results it prints
LEAST = 6  # words: shorter lines ("What did you do?") are anybody's
LEAST_BLANKED = 4  # words of a line of its own, with a blank for each name

locomo = pytest.mark.skipif("MEMORY_R1_LOCOMO" not in os.environ, reason="LoCoMo's file is not there")


def taught_from() -> Iterator[Path]:
    """What models are trained on, told, or set up with, and what training runs left."""
    yield from (ROOT / "src/memory_r1/train").rglob("*.*")
    yield from (ROOT / "src/memory_r1/prompts").iterdir()
    yield from (ROOT / "configs").iterdir()
    yield from (one for one in (ROOT / "scripts").iterdir() if one != REPORTS)
    yield from (ROOT / "results/train-smollm2").rglob("*.json*")


def plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


@locomo
def test_no_training_file_holds_an_id_or_a_line_of_the_test_dialogues() -> None:
    held = load(os.environ["MEMORY_R1_LOCOMO"]).split("test")
    lines = {plain(turn.text) for dialogue in held.dialogues for turn in dialogue.turns}
    lines |= {plain(question.text) for question in held.questions}
    lines = {f" {line} " for line in lines if len(line.split()) >= LEAST}
    files = {path: path.read_text(encoding="utf-8") for path in taught_from() if path.suffix != ".pyc"}
    assert len(files) > 100
    assert len(lines) > 6_000
    for path, text in files.items():
        assert not [one.id for one in held.dialogues if one.id in text], path
        told = f" {plain(text)} "
        assert not [line for line in lines if line in told], path


def blanked(text: str, speakers: set[str]) -> str:
    """The words, with one blank for a speaker of the dialogues and for what a template leaves open."""
    text = re.sub(rf"\b(?:{'|'.join(speakers)})\b|\{{\w+(?::[^}}]*)?\}}", " _ ", text.lower())
    return " ".join(re.findall(r"[a-z0-9]+|_", text))


@locomo
def test_no_template_is_a_line_of_the_test_dialogues_but_for_the_names() -> None:
    held = load(os.environ["MEMORY_R1_LOCOMO"]).split("test")
    speakers = {name.lower() for dialogue in held.dialogues for name in dialogue.speakers}
    said = [turn.text for dialogue in held.dialogues for turn in dialogue.turns] + [one.text for one in held.questions]
    lines = {blanked(one, speakers) for one in said}
    assert blanked("How many dogs does {n} have?", speakers) in lines
    assert blanked("{who:he/she} said {n}", speakers) == "_ said _"
    for path in (ROOT / "src/memory_r1/train/data").glob("*.toml"):
        templates = [part for line in path.read_text(encoding="utf-8").splitlines() for part in line.split("|")]
        assert len(templates) > 1_000
        told = {one for one in templates if len(blanked(one, speakers).split()) >= LEAST_BLANKED}
        assert not [one for one in told if blanked(one, speakers) in lines], path


@locomo
@pytest.mark.parametrize("split", ["test", "all"])
def test_training_on_test_dialogues_is_refused(tmp_path: Path, split: str) -> None:
    given = f"locomo:{os.environ['MEMORY_R1_LOCOMO']}"
    with pytest.raises(InvalidInput, match=f"the split '{split}' of locomo holds test dialogues"):
        samples_for(given, TrainConfig(), HashEmbedder(), tmp_path / "samples.jsonl", teacher=None, split=split)
