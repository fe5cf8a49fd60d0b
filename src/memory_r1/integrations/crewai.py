"""The memory's tools for CrewAI's agents.

CrewAI's own memory takes a `StorageBackend`, a vector store under CrewAI's embeddings, scores and decisions: what is
decided here would be decided there. As tools the memory decides by itself, and its log and undo stay whole.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from crewai.tools.base_tool import BaseTool, Tool
from pydantic import create_model

from memory_r1.errors import MemoryR1Error
from memory_r1.tools import MemoryTools


def memory_tools(tools: MemoryTools) -> list[BaseTool]:
    """The memory's tools for `Agent(tools=…)`; put `memory_r1.tools.INSTRUCTIONS` into the agent's backstory."""
    return [_tool(each) for each in tools.all()]


def _tool(method: Callable[..., str]) -> BaseTool:
    hints, parameters = get_type_hints(method), inspect.signature(method).parameters
    fields: dict[str, Any] = {
        name: (hints[name], ... if one.default is one.empty else one.default) for name, one in parameters.items()
    }
    name = str(method.__name__)
    return Tool(
        name=name, description=inspect.getdoc(method), func=_told(method), args_schema=create_model(name, **fields)
    )


def _told(method: Callable[..., str]) -> Callable[..., str]:
    """The tool with our own errors as text: they tell the model the remedy."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> str:
        try:
            return method(*args, **kwargs)
        except MemoryR1Error as error:
            return str(error)

    return call
