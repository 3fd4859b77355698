"""``mcp-runtime run`` and ``mcp-runtime health``."""

from __future__ import annotations

import sys


def main() -> None:
    """Dispatch; heavy imports happen only on the way to ``run``, since ``health`` runs every few seconds."""
    command = sys.argv[1] if len(sys.argv) == 2 else ""
    if command == "health":
        from mcp_runtime import health

        sys.exit(health.main())
    if command == "run":
        from mcp_runtime import run

        sys.exit(run.main())
    sys.exit("usage: mcp-runtime run|health")
