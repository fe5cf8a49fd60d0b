"""A Mem0-style configuration dict as the objects Memory is made of."""

from __future__ import annotations

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
    known = {"path", "llm", "embedder", "adapters", "vector_store", "history_db_path", "version"}
    if unknown := set(config) - known:
        raise InvalidInput(f"unknown configuration {sorted(unknown)}; known: {sorted(known)}")
    store = config.get("vector_store") or {}
    path = config.get("path") or (store.get("config") or {}).get("path")
    parts: dict[str, Any] = {"path": path, "adapters": config.get("adapters")}
    if config.get("llm"):
        parts["llm"] = _llm(config["llm"])
    if config.get("embedder"):
        parts["embedder"] = _embedder(config["embedder"])
    return parts


def _llm(section: Mapping[str, Any]) -> OpenAILLM | EmbeddedLLM:
    provider, settings = section.get("provider", "openai_compatible"), section.get("config") or {}
    if provider == "embedded":
        return EmbeddedLLM(_required(settings, "model", "llm"))
    return OpenAILLM(
        _base_url(provider, settings, "llm"), _required(settings, "model", "llm"), api_key=settings.get("api_key")
    )


def _embedder(section: Mapping[str, Any]) -> OpenAIEmbedder | OnnxEmbedder:
    provider, settings = section.get("provider", "openai_compatible"), section.get("config") or {}
    if provider == "onnx":
        return OnnxEmbedder(_required(settings, "model", "embedder"))
    return OpenAIEmbedder(
        _base_url(provider, settings, "embedder"),
        _required(settings, "model", "embedder"),
        dimension=settings.get("embedding_dims"),
        api_key=settings.get("api_key"),
    )


def _base_url(provider: str, settings: Mapping[str, Any], part: str) -> str:
    if provider not in _ENDPOINTS:
        extra = "embedded" if part == "llm" else "onnx"
        raise InvalidInput(f"unknown {part} provider {provider!r}; known: {', '.join([extra, *_ENDPOINTS])}")
    url = settings.get("base_url") or settings.get(f"{provider}_base_url") or _ENDPOINTS[provider]
    if not url:
        raise InvalidInput(f'{part} provider {provider!r} needs "base_url", such as "http://localhost:8000/v1"')
    return str(url)


def _required(settings: Mapping[str, Any], name: str, part: str) -> str:
    if not settings.get(name):
        raise InvalidInput(f'{part} needs "config": {{"{name}": …}}')
    return str(settings[name])
