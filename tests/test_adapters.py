"""The trained adapters that come with memory-r1: which play when, and that those in the package are whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from memory_r1.adapters import ROOM, playing, shipped
from memory_r1.cli.options import chosen_adapters, open_llm
from memory_r1.errors import InvalidInput
from memory_r1.llm.embedded import EmbeddedLLM
from memory_r1.llm.gguf import adapter_name, check_adapter, read_header
from memory_r1.memory import Memory
from memory_r1.testing import HashEmbedder
from memory_r1.weights import CATALOGUE, DEFAULT, find, named

SMALL, OTHER = CATALOGUE[DEFAULT], CATALOGUE["qwen2.5-coder-0.5b"]
LARGEST = 12_000_000  # bytes of an adapter, so that the package stays small


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A room in which two steps of the default model have an adapter."""
    folder = tmp_path / "adapters" / DEFAULT
    folder.mkdir(parents=True)
    for name in ("manage.gguf", "answer.gguf", "judge.gguf", "MODEL_CARD.md"):
        (folder / name).touch()
    return folder.parent


def test_a_model_plays_the_steps_that_come_with_it_trained(room: Path) -> None:
    ours = {"manage": room / DEFAULT / "manage.gguf", "answer": room / DEFAULT / "answer.gguf"}
    assert shipped(SMALL, room) == playing(SMALL, {}, room=room) == ours
    assert shipped(OTHER, room) == shipped(None, room) == {}


def test_an_adapter_that_is_given_plays_its_step_and_ours_the_others(room: Path) -> None:
    mine = Path("mine.gguf")
    assert playing(SMALL, {"manage": mine}, room=room) == {"manage": mine, "answer": room / DEFAULT / "answer.gguf"}
    assert playing(SMALL, {"extract": mine}, room=room) == {**shipped(SMALL, room), "extract": mine}
    assert playing(OTHER, {"manage": mine}, room=room) == {"manage": mine}


def test_untrained_only_what_is_given_plays(room: Path) -> None:
    assert playing(SMALL, {}, untrained=True, room=room) == {}
    assert playing(SMALL, {"manage": Path("mine.gguf")}, untrained=True, room=room) == {"manage": Path("mine.gguf")}


def test_one_of_ours_plays_alone_where_it_is_asked_for_among_none() -> None:
    assert chosen_adapters(None, ("manage=shipped",), untrained=True) == {"manage": shipped(SMALL)["manage"]}
    with pytest.raises(InvalidInput, match="no adapter for judge comes with smollm2: give a file"):
        chosen_adapters(None, ("judge=shipped",), untrained=False)
    with pytest.raises(InvalidInput, match="a server has adapters of its own"):
        open_llm("large", ("manage=shipped",), untrained=False, base_url="http://127.0.0.1:1/v1")
    with pytest.raises(InvalidInput, match=r"no adapter for manage comes with large\.gguf"):
        chosen_adapters("large.gguf", ("manage=shipped",), untrained=False)


def test_a_file_that_is_called_like_the_default_model_is_not_the_default_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert named(DEFAULT) is SMALL
    (tmp_path / DEFAULT).touch()
    assert named(DEFAULT) is None
    assert named("nowhere.gguf") is None


@pytest.mark.models
@pytest.mark.usefixtures("needs_smollm2")
class TestWithTheModel:
    def test_the_adapters_of_the_package_fit_are_small_and_are_on_their_model_card(self) -> None:
        base = read_header(find(DEFAULT), ("general.architecture",))
        card = (ROOM / DEFAULT / "MODEL_CARD.md").read_text(encoding="utf-8")
        for step, file in shipped(SMALL).items():
            check_adapter(file, find(DEFAULT), base)
            name, _, version = adapter_name(file).rpartition(" ")
            assert name == f"memory-r1-{step}", "train export --name gives it"
            assert version in card, "the card is of other weights"
            assert file.stat().st_size <= LARGEST

    def test_memory_plays_them_unless_it_is_to_be_untrained(self) -> None:
        ours = {step: adapter_name(file) for step, file in shipped(SMALL).items()}
        for untrained, expected in ((False, ours), (True, {})):
            with Memory(":memory:", embedder=HashEmbedder(), untrained=untrained) as memory:
                llm = memory.llm.default
                assert isinstance(llm, EmbeddedLLM)
                assert llm.adapters == expected
