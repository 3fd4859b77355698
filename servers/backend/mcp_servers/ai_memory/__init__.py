"""MCP server that remembers text and finds it by meaning.

Environment: ``AI_MEMORY_DATA_DIR`` (directory of memory.db, default /data) and ``AI_MEMORY_DEVICE``
(auto, cpu or cuda).
"""

from typing import Any


def __getattr__(name: str) -> Any:
    # Built on first use: importing the package must not open a database.
    if name == "app":
        import os
        from pathlib import Path

        from backend.mcp_servers.ai_memory.server import build

        value = build(Path(os.environ.get("AI_MEMORY_DATA_DIR", "/data")), os.environ.get("AI_MEMORY_DEVICE", "auto"))
        globals()["app"] = value
        return value
    raise AttributeError(name)
