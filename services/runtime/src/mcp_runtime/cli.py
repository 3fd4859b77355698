"""``mcp-runtime run`` and ``mcp-runtime health [START_SECONDS]``."""

from __future__ import annotations

import sys


def main() -> None:
    """Dispatch; heavy imports happen only on the way to ``run``, since ``health`` runs every few seconds."""
    command, arguments = sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:]
    if command == "health" and len(arguments) <= 1 and all(argument.isdecimal() for argument in arguments):
        from mcp_runtime import health

        sys.exit(health.main(*map(float, arguments)))
    if command == "run" and not arguments:
        from mcp_runtime import run

        sys.exit(run.main())
    sys.exit("usage: mcp-runtime run|health [START_SECONDS]")
