"""`memory-r1 mcp`: a memory for MCP clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from memory_r1.cli.options import db, open_memory, options, scope_of, whose, writing
from memory_r1.cli.serve import ended_by_sigterm
from memory_r1.errors import InvalidInput
from memory_r1.scoped import ScopedMemory
from memory_r1.tools import MemoryTools, RawMemoryTools


@click.command()
@click.option("--raw", is_flag=True, help="Store texts as they are: no model is asked, and ask_memory is not offered.")
@click.option("--http", is_flag=True, help="Streamable HTTP on this machine instead of stdio.")
@click.option("--port", type=click.IntRange(1, 65535), default=8765, show_default=True, help="For --http.")
@options(whose, writing, db)
def mcp(
    raw: bool,
    http: bool,
    port: int,
    db: Path | None,
    user_id: str | None,
    agent_id: str | None,
    run_id: str | None,
    **llm: Any,
) -> None:
    """Serve the memory to MCP clients. A client reads and changes this one scope and no other.

    Over stdio, the client starts this command itself (docs/mcp.md has the lines for common clients). With --http, it
    is at http://127.0.0.1:PORT/mcp for every program of this machine.
    """
    try:
        from memory_r1.mcp import MemoryServer
    except ModuleNotFoundError as error:
        raise InvalidInput("the MCP server needs the official SDK: pip install 'memory-r1[mcp]'") from error

    with open_memory(db, **llm) as memory:
        scoped = ScopedMemory(memory, scope_of(user_id, agent_id, run_id))
        server = MemoryServer(RawMemoryTools(scoped) if raw else MemoryTools(scoped))
        if http:
            click.echo(f"http://127.0.0.1:{port}/mcp", err=True)
            with ended_by_sigterm():
                server.run("streamable-http", port=port)
        else:
            server.run("stdio")
