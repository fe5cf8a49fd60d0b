"""A memory as an MCP server: MemoryTools over stdio or streamable HTTP, with the official SDK (the `[mcp]` extra)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, InputRequiredResult, ToolAnnotations

from memory_r1.errors import MemoryR1Error
from memory_r1.tools import INSTRUCTIONS, MemoryTools

_READING = ("search_memories", "ask_memory", "get_memories", "memory_history")


class MemoryServer(MCPServer[Any]):
    """An MCP server on the one scope that the tools are bound to: a client has no argument that names another.

    The SDK runs the tools in worker threads, so that a slow model holds up nobody else. Results are text and not
    structured, so that stored text reaches a model only inside its fence.
    """

    def __init__(self, tools: MemoryTools) -> None:
        super().__init__("memory-r1", instructions=INSTRUCTIONS, version=version("memory-r1"), log_level="WARNING")
        for tool in tools.all():
            self.add_tool(_told(tool), annotations=_annotations(tool.__name__), structured_output=False)

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Refuses an argument that the tool does not have: the SDK would drop it, and with it what was meant."""
        known = {tool.name: tool.input_schema.get("properties", {}) for tool in await self.list_tools()}
        unknown = sorted(set(arguments) - set(known.get(name, arguments)))
        if unknown:
            raise ToolError(f"{name} has no argument {', '.join(unknown)}; it has {', '.join(known[name])}")
        return await super().call_tool(name, arguments, context)


def _told(tool: Callable[..., str]) -> Callable[..., str]:
    """The tool with our own errors as the SDK's, whose text the model reads."""

    @functools.wraps(tool)
    def call(*args: Any, **kwargs: Any) -> str:
        try:
            return tool(*args, **kwargs)
        except MemoryR1Error as error:
            raise ToolError(str(error)) from error

    return call


def _annotations(name: str) -> ToolAnnotations:
    """Everything here can be undone, so that nothing but a deletion counts as destructive."""
    return ToolAnnotations(
        read_only_hint=name in _READING,
        destructive_hint=name == "delete_memory",
        idempotent_hint=name in _READING,
        open_world_hint=False,
    )
