"""Serve ``package.module:attribute`` of an application tree with uvicorn.

Runs as a script in the application's own virtual environment: it may use the standard library and
what the application brings (uvicorn comes with every MCP SDK), nothing of this package.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def asgi_app(target: Any, path: str) -> Any:
    """The ASGI application of an MCP server object, or the object itself if it is one already.

    Accepts fastmcp's FastMCP (``http_app``), the official SDK's servers (``streamable_http_app``) and any
    ASGI callable.
    """
    if hasattr(target, "http_app"):
        return target.http_app(path=path, stateless_http=True)
    if hasattr(target, "streamable_http_app"):
        from mcp.server.transport_security import TransportSecuritySettings  # the application's own SDK

        # Who may connect is decided by the network and the gateway: the Host header here is a service name.
        security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        try:
            return target.streamable_http_app(
                streamable_http_path=path, stateless_http=True, transport_security=security
            )
        except TypeError:  # SDK 1.x keeps these in the server's settings
            target.settings.streamable_http_path = path
            target.settings.stateless_http = True
            target.settings.transport_security = security
            return target.streamable_http_app()
    if callable(target):
        return target
    raise SystemExit(
        f"mcp-runtime: {type(target).__name__} is neither an ASGI application nor an MCP server object;"
        " name one of those as package.module:attribute"
    )


def main() -> None:
    """Arguments: ``package.module:attribute``, port, path."""
    import uvicorn

    reference, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    module, _, attribute = reference.partition(":")
    try:
        target = getattr(importlib.import_module(module), attribute or "app")
    except AttributeError:
        raise SystemExit(f"mcp-runtime: module {module} has no attribute {attribute or 'app'!r}") from None
    uvicorn.run(asgi_app(target, path), host="0.0.0.0", port=port, log_level="warning")


if __name__ == "__main__":
    sys.path.pop(0)  # the directory of this script: it would shadow nothing of ours, but is not the application's
    main()
