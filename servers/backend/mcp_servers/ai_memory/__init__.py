"""MCP server that remembers text and finds it by meaning.

Environment:
    AI_MEMORY_DATA_DIR: directory of memory.db (default ``/data``).
    AI_MEMORY_DATABASE_URL: ``postgresql://user:password@host/name`` instead of the file; needs pgvector. A
        secret: give it as AI_MEMORY_DATABASE_URL_FILE, which the runtime reads.
    AI_MEMORY_DEVICE: ``auto``, ``cpu`` or ``cuda`` (default ``auto``).
    AI_MEMORY_MAX_MEMORIES: memories a namespace may hold (default 100000).
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    # Built on first use: importing the package must not open a database.
    if name == "app":
        from backend.mcp_servers.ai_memory.server import from_environment

        globals()["app"] = from_environment()
        return globals()["app"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
