"""Echoes a tools/call on one of several HTTP servers; one process each. Usage: servers.py KIND PORT

KIND: raw-uvloop, raw-asyncio, uvicorn, aiohttp, granian.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, cast

import httptools
import orjson
import uvloop


def answer(body: bytes) -> bytes:
    """The response to a call."""
    message = orjson.loads(body)
    content = [{"type": "text", "text": message["params"]["arguments"]["text"]}]
    return orjson.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {"content": content}})


class Raw(asyncio.Protocol):
    """HTTP on asyncio's transport and llhttp."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.transport = cast(asyncio.Transport, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        text = answer(self.body)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(text)
        self.transport.write(head + text)


async def raw(port: int) -> None:
    """Serve for ever."""
    server = await asyncio.get_running_loop().create_server(Raw, "127.0.0.1", port)
    await server.serve_forever()


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The same for ASGI."""
    if scope["type"] != "http":
        return
    parts, more = [], True
    while more:
        event = await receive()
        parts.append(event.get("body", b""))
        more = event.get("more_body", False)
    text = answer(b"".join(parts))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


async def by_aiohttp(port: int) -> None:
    """Serve for ever."""
    from aiohttp import web

    async def call(request: web.Request) -> web.Response:
        return web.Response(body=answer(await request.read()), content_type="application/json")

    app = web.Application()
    app.router.add_post("/mcp", call)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


def main(kind: str, port: int) -> None:
    """Serve by the chosen server."""
    if kind == "raw-uvloop":
        uvloop.run(raw(port))
    elif kind == "raw-asyncio":
        asyncio.run(raw(port))
    elif kind == "aiohttp":
        uvloop.run(by_aiohttp(port))
    elif kind == "uvicorn":
        import uvicorn

        uvicorn.run(
            application, host="127.0.0.1", port=port, loop="uvloop", http="httptools", lifespan="off", log_level="error"
        )
    else:
        from granian.constants import Interfaces, Loops
        from granian.server import Server

        Server(
            "servers:application",
            address="127.0.0.1",
            port=port,
            interface=Interfaces.ASGINL,
            loop=Loops.uvloop,
            log_enabled=False,
        ).serve()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
