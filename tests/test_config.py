"""Mem0-style configuration dicts: what each makes, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memory_r1.async_memory import AsyncMemory
from memory_r1.config import parts_from_config
from memory_r1.embed import OnnxEmbedder, OpenAIEmbedder
from memory_r1.errors import InvalidInput, WeightsMissing
from memory_r1.llm.embedded import EmbeddedLLM
from memory_r1.llm.openai import OpenAILLM
from memory_r1.memory import Memory
from memory_r1.weights import find

KEY = "sk-very-secret-key"


@pytest.mark.parametrize(
    ("provider", "config", "base_url"),
    [
        ("openai", {}, "https://api.openai.com/v1"),
        ("openai", {"openai_base_url": "https://eu.example/v1/"}, "https://eu.example/v1"),
        ("ollama", {"base_url": "http://gpu:11434/"}, "http://gpu:11434/v1"),
        ("vllm", {}, "http://localhost:8000/v1"),
        ("vllm", {"vllm_base_url": "http://gpu:9000/v1"}, "http://gpu:9000/v1"),
        ("ollama", {}, "http://localhost:11434/v1"),
        ("ollama", {"ollama_base_url": "http://gpu:11434"}, "http://gpu:11434/v1"),
        ("ollama", {"ollama_base_url": "http://gpu:11434/v1"}, "http://gpu:11434/v1"),
        ("lmstudio", {}, "http://localhost:1234/v1"),
        ("llamacpp", {}, "http://localhost:8080/v1"),
        ("openai_compatible", {"base_url": "http://box/v1"}, "http://box/v1"),
        (None, {"base_url": "http://box/v1"}, "http://box/v1"),
    ],
)
def test_each_provider_that_speaks_openais_protocol_has_its_endpoint(
    provider: str | None, config: dict[str, Any], base_url: str
) -> None:
    section = {"config": {"model": "tiny", **config}} | ({"provider": provider} if provider else {})
    parts = parts_from_config({"llm": section, "embedder": section})
    assert repr(parts["llm"]) == f"OpenAILLM({base_url!r}, 'tiny')"
    assert isinstance(parts["embedder"], OpenAIEmbedder)
    assert parts["embedder"].name == "tiny"


def test_mem0s_other_settings_are_taken_or_read_over() -> None:
    parts = parts_from_config(
        {
            "version": "v1.1",
            "history_db_path": "history.db",
            "vector_store": {"provider": "qdrant", "config": {"path": "here.db", "collection_name": "x"}},
            "llm": {"provider": "openai", "config": {"model": "m", "temperature": 0.1, "max_tokens": 2000}},
            "embedder": {"provider": "openai", "config": {"model": "e", "embedding_dims": 8}},
        }
    )
    assert set(parts) == {"path", "adapters", "llm", "embedder"}
    assert (parts["path"], parts["adapters"], parts["embedder"].dimension) == ("here.db", None, 8)


def test_the_adapters_of_a_server_are_named_beside_its_model() -> None:
    section = {"provider": "vllm", "config": {"model": "base", "adapters": {"manage": "mine"}}}
    assert parts_from_config({"llm": section})["llm"].adapters == {"manage": "mine"}


def test_an_empty_configuration_means_the_defaults() -> None:
    assert parts_from_config({}) == {"path": None, "adapters": None}


def test_the_path_at_the_top_wins_over_the_vector_stores() -> None:
    config = {"path": "a.db", "vector_store": {"config": {"path": "b.db"}}}
    assert parts_from_config(config) == {"path": "a.db", "adapters": None}


def test_the_embedded_default_can_be_asked_for_untrained() -> None:
    config = {"untrained": True, "adapters": {"manage": "mine.gguf"}}
    assert parts_from_config(config) == {"path": None, **config}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"lm": {}}, r"unknown configuration \['lm'\]; known: \['adapters', 'embedder', .*'llm', .*\]"),
        ({"llm": {"provider": "cohere"}}, "unknown llm provider 'cohere'; known: embedded, openai, .*vllm, ollama"),
        ({"embedder": {"provider": "embedded"}}, "unknown embedder provider 'embedded'; known: onnx, openai"),
        ({"llm": {"provider": "openai"}}, r'llm needs "config": \{"model": …\}'),
        ({"llm": {"provider": "embedded", "config": {}}}, r'llm needs "config": \{"model": …\}'),
        ({"embedder": {"provider": "onnx"}}, r'embedder needs "config": \{"model": …\}'),
        ({"llm": {"config": {"model": "m"}}}, "llm provider 'openai_compatible' needs \"base_url\", such as"),
        ({"llm": {"provider": "vllm", "config": {"model": "m", "base_url": "gpu:8000"}}}, "must begin with http://"),
        ({"llm": "gpt-4o"}, r'llm must be \{"provider": …, "config": \{…\}\}, not str'),
        ({"llm": {"provider": "openai", "config": "m"}}, r'llm\'s "config" must be a dict, not str'),
        ({"llm": {"model": "m"}}, r"unknown llm settings \['model'\]; known: \['config', 'provider'\]"),
        ({"vector_store": "qdrant"}, r'vector_store must be \{"provider": …, "config": \{…\}\}, not str'),
        ("memory.db", "a configuration is a dict, not str"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_answered_with_what_can(config: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parts_from_config(config)


def test_the_embedded_providers_name_a_file_that_is_not_there(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.gguf")
    with pytest.raises(WeightsMissing, match=r"gone\.gguf"):
        parts_from_config({"llm": {"provider": "embedded", "config": {"model": gone}}})
    with pytest.raises(WeightsMissing, match=r"gone\.onnx is not there"):
        parts_from_config({"embedder": {"provider": "onnx", "config": {"model": str(tmp_path / "gone.onnx")}}})


@pytest.mark.models
@pytest.mark.usefixtures("needs_smollm2", "needs_e5_small")
def test_the_embedded_providers_open_the_files_they_name(tmp_path: Path) -> None:
    parts = parts_from_config(
        {
            "llm": {"provider": "embedded", "config": {"model": str(find("smollm2"))}},
            "embedder": {"provider": "onnx", "config": {"model": str(find("e5-small"))}},
        }
    )
    assert isinstance(parts["llm"], EmbeddedLLM)
    assert parts["llm"].name == "SmolLM2-135M-Instruct.Q4_1"
    assert isinstance(parts["embedder"], OnnxEmbedder)
    with Memory(tmp_path / "m.db", llm=parts["llm"], embedder=parts["embedder"]) as memory:
        assert memory.add("Ann has a cat", user_id="ann", infer=False)["results"][0]["event"] == "ADD"


@pytest.mark.parametrize("face", [Memory, AsyncMemory])
def test_no_key_is_in_what_prints(tmp_path: Path, face: Any) -> None:
    section = {"provider": "openai", "config": {"model": "m", "api_key": KEY, "embedding_dims": 4}}
    config = {"path": tmp_path / "m.db", "llm": section, "embedder": section}
    parts = parts_from_config(config)
    assert isinstance(parts["llm"], OpenAILLM)
    made = face.from_config(config)
    memory = made.memory if face is AsyncMemory else made
    shown = [parts, *parts.values(), memory, memory.llm, memory.bank, memory.bank.embedder]
    assert not [value for value in shown if KEY in repr(value)]
    memory.close()


def test_openai_itself_finds_its_key_and_address_where_its_own_client_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-shell")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://proxy.test/v1")

    def asked(provider: str, **settings: str) -> tuple[str, str]:
        config = {"model": "m", "base_url": "http://own.test/v1", **settings}
        if provider == "openai" and not settings:
            del config["base_url"]
        llm = parts_from_config({"llm": {"provider": provider, "config": config}})["llm"]
        return llm.base_url, llm._key

    assert asked("openai") == ("http://proxy.test/v1", "from-the-shell")
    assert asked("openai", api_key="given") == ("http://own.test/v1", "given")
    assert asked("openai_compatible") == ("http://own.test/v1", "")
