"""A Mem0-style configuration dict as the objects Memory is made of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from memory_r1.embed import OnnxEmbedder, OpenAIEmbedder
from memory_r1.errors import InvalidInput
from memory_r1.llm.embedded import EmbeddedLLM
from memory_r1.llm.openai import OpenAILLM

# Mem0's provider names that all speak one protocol, with the endpoint each means when none is given.
_ENDPOINTS = {
    "openai": "https://api.openai.com/v1",
    "openai_compatible": None,
    "vllm": "http://localhost:8000/v1",
    "ollama": "http://localhost:11434/v1",
    "lmstudio": "http://localhost:1234/v1",
    "llamacpp": "http://localhost:8080/v1",
}


def parts_from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Memory's arguments. Unknown sections and providers raise InvalidInput naming the known ones.

    "vector_store" may give {"config": {"path": …}}: memory-r1 keeps everything in one file there. Mem0's
    "history_db_path" and "version" are read over, since history lies in the same file.
    """
    known = {"path", "llm", "embedder", "adapters", "untrained", "suspicious", "keep_turns", "vector_store"}
    known |= {"history_db_path", "version"}
    if not isinstance(config, Mapping):
        raise InvalidInput(f"a configuration is a dict, not {type(config).__name__}")
    if unknown := set(config) - known:
        raise InvalidInput(f"unknown configuration {sorted(unknown)}; known: {sorted(known)}")
    _, store = _provider_and_settings(config.get("vector_store") or {}, "vector_store")
    parts: dict[str, Any] = {"path": config.get("path") or store.get("path"), "adapters": config.get("adapters")}
    parts |= {name: config[name] for name in ("suspicious", "untrained", "keep_turns") if config.get(name)}
    if not isinstance(parts.get("keep_turns", False), bool):
        raise InvalidInput(f"keep_turns is true or false, not {parts['keep_turns']!r}")
    if config.get("llm"):
        parts["llm"] = _llm(config["llm"])
    if config.get("embedder"):
        parts["embedder"] = _embedder(config["embedder"])
    return parts


def _provider_and_settings(section: Any, part: str) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(section, Mapping):
        raise InvalidInput(f'{part} must be {{"provider": …, "config": {{…}}}}, not {type(section).__name__}')
    if unknown := set(section) - {"provider", "config"}:
        raise InvalidInput(f"unknown {part} settings {sorted(unknown)}; known: ['config', 'provider']")
    settings = section.get("config") or {}
    if not isinstance(settings, Mapping):
        raise InvalidInput(f'{part}\'s "config" must be a dict, not {type(settings).__name__}')
    return section.get("provider", "openai_compatible"), settings


def _llm(section: Any) -> OpenAILLM | EmbeddedLLM:
    provider, settings = _provider_and_settings(section, "llm")
    if provider == "embedded":
        return EmbeddedLLM(_required(settings, "model", "llm"), adapters=settings.get("adapters"))
    return OpenAILLM(
        _base_url(provider, settings, "llm"),
        _required(settings, "model", "llm"),
        adapters=settings.get("adapters") or {},
        api_key=_key(provider, settings),
    )


def _embedder(section: Any) -> OpenAIEmbedder | OnnxEmbedder:
    provider, settings = _provider_and_settings(section, "embedder")
    if provider == "onnx":
        return OnnxEmbedder(_required(settings, "model", "embedder"))
    return OpenAIEmbedder(
        _base_url(provider, settings, "embedder"),
        _required(settings, "model", "embedder"),
        dimension=settings.get("embedding_dims"),
        api_key=_key(provider, settings),
    )


def _key(provider: str, settings: Mapping[str, Any]) -> str | None:
    """As given, or for OpenAI itself as Mem0 and OpenAI's own client find it."""
    return settings.get("api_key") or (os.environ.get("OPENAI_API_KEY") if provider == "openai" else None)


def _base_url(provider: str, settings: Mapping[str, Any], part: str) -> str:
    if provider not in _ENDPOINTS:
        extra = "embedded" if part == "llm" else "onnx"
        raise InvalidInput(f"unknown {part} provider {provider!r}; known: {', '.join([extra, *_ENDPOINTS])}")
    url = settings.get("base_url") or settings.get(f"{provider}_base_url")
    url = url or (os.environ.get("OPENAI_BASE_URL") if provider == "openai" else None) or _ENDPOINTS[provider]
    if not url:
        raise InvalidInput(f'{part} provider {provider!r} needs "base_url", such as "http://localhost:8000/v1"')
    # Mem0's "ollama_base_url" is the server's root, below which Ollama speaks its own protocol.
    return str(url) if provider != "ollama" or str(url).rstrip("/").endswith("/v1") else str(url).rstrip("/") + "/v1"


def _required(settings: Mapping[str, Any], name: str, part: str) -> str:
    if not settings.get(name):
        raise InvalidInput(f'{part} needs "config": {{"{name}": …}}')
    return str(settings[name])
