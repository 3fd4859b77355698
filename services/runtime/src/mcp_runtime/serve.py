"""Serve ``package.module:attribute`` of an application tree with uvicorn.

Runs as a script in the application's own virtual environment: it may use the standard library and
what the application brings (uvicorn comes with every MCP SDK), nothing of this package.
"""

from __future__ import annotations

import importlib
import inspect
import signal
import sys
from typing import Any

# Open event streams would otherwise keep a stopping server alive until it is killed.
GRACEFUL_SHUTDOWN_SECONDS = 5


def asgi_app(target: Any, path: str) -> Any:
    """The ASGI application of an MCP server object, or the object itself if it is one already.

    Accepts fastmcp's FastMCP (``http_app``), the official SDK's servers (``streamable_http_app``) and any
    ASGI callable. Ends the process with a message for anything else.
    """
    if hasattr(target, "http_app"):
        return target.http_app(path=path, stateless_http=True)
    if hasattr(target, "streamable_http_app"):
        from mcp.server.transport_security import TransportSecuritySettings  # the application's own SDK

        # Who may connect is decided by the network and the gateway: the Host header here is a service name.
        security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        if "stateless_http" in inspect.signature(target.streamable_http_app).parameters:
            return target.streamable_http_app(
                streamable_http_path=path, stateless_http=True, transport_security=security
            )
        # SDK 1.x keeps these in the server's settings.
        target.settings.streamable_http_path = path
        target.settings.stateless_http = True
        target.settings.transport_security = security
        return target.streamable_http_app()
    if _takes_scope_receive_send(target):
        return target
    raise SystemExit(
        f"mcp-runtime: {type(target).__name__} is neither an ASGI application nor an MCP server object;"
        " name one of those as package.module:attribute"
    )


def _takes_scope_receive_send(target: Any) -> bool:
    if not callable(target) or inspect.isclass(target):
        return False
    try:
        inspect.signature(target).bind(None, None, None)
    except (TypeError, ValueError):
        return False
    return True


def load(reference: str) -> Any:
    """The object that ``package.module:attribute`` names; ends the process with a message if there is none."""
    name, _, attribute = reference.partition(":")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise SystemExit(f"mcp-runtime: there is no module {error.name!r} on {sys.path}") from None
        raise  # the application's own import failed: its traceback says where
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        if error.obj is module or error.args == (attribute,):
            raise SystemExit(f"mcp-runtime: module {name} has no attribute {attribute!r}") from None
        raise


def main() -> None:
    """Arguments: ``package.module:attribute``, port, path."""
    import uvicorn

    # uvicorn raises the signal again once it has shut down: a stop that was asked for is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    reference, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    uvicorn.run(
        asgi_app(load(reference), path),
        host="0.0.0.0",
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
    )


if __name__ == "__main__":
    sys.path.pop(0)  # this script's directory is no part of the application
    main()
