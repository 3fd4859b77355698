"""An MCP server that misbehaves on request: server.py CONTROL_PORT SITES.json.

``SITES.json`` is a list of ``{"name", "era", "on": {method: fault}}``; each site gets a port of its own, so that
one fault's consequences (a replica set aside, an open breaker) never colour another's. The control port answers

- ``GET /sites``: per site its port, what was sent to it and what it counted,
- ``POST /site``: ``{"name", "era", "on"}`` changes a site while it runs.

No framework: what is written is what the fault says, to the byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from faults.behaviours import FAULTS
from faults.eras import HELLOS
from faults.wire import LEGACY, MODERN, Exchange, Json, Site

TOOLS = [
    {"name": "act", "description": "Does as configured.", "inputSchema": {"type": "object"}},
    {
        "name": "look",
        "description": "Changes nothing.",
        "inputSchema": {"type": "object"},
        "annotations": {"readOnlyHint": True, "idempotentHint": True},
    },
]
EVERY = FAULTS | HELLOS
CAPABILITIES: Json = {"tools": {}, "resources": {}}


async def read_request(site: Site, reader: Any, writer: Any, number: int) -> Exchange | None:
    """The next request on the connection; None when there is none."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        verb, path, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, OSError):
        return None
    try:
        message = json.loads(body) if body else {}
    except ValueError:
        message = {}
    return Exchange(site, reader, writer, verb, path, headers, message if isinstance(message, dict) else {}, number)


async def behave(x: Exchange) -> None:
    """Answer as a server of the site's era should."""
    if "cookie" in x.headers:
        x.site.hits["cookie"] += 1
    if x.path.startswith("/elsewhere"):
        x.site.hits["redirect followed"] += 1
    await (modern if x.site.era == "modern" else legacy)(x)


async def modern(x: Exchange) -> None:
    """2026-07-28 basic/transports/streamable-http: every request alone."""
    method = x.message.get("method")
    if x.verb != "POST":
        await x.body(b"", 405, "", "Allow: POST")
    elif "id" not in x.message:
        await x.body(b"", 202, "")
    elif method == "server/discover":
        info = {"io.modelcontextprotocol/serverInfo": {"name": x.site.name, "version": "1"}}
        value: Json = {"supportedVersions": [MODERN], "capabilities": CAPABILITIES, "_meta": info}
        await x.json(x.response(value | {"resultType": "complete", "ttlMs": 1000, "cacheScope": "public"}))
    elif method == "initialize" or x.headers.get("mcp-protocol-version") != MODERN:
        await x.error(400, -32022, "unsupported protocol version", {"supported": [MODERN], "requested": LEGACY})
    else:
        await common(x, {"resultType": "complete", "ttlMs": 60000, "cacheScope": "public"})


async def legacy(x: Exchange) -> None:
    """2025-11-25 basic/transports: a session first."""
    method, given = x.message.get("method"), x.headers.get("mcp-session-id")
    if x.verb == "DELETE":
        x.site.sessions.discard(given or "")
        await x.body(b"", 204, "")
    elif x.verb != "POST":
        await x.body(b"", 405, "", "Allow: POST, DELETE")
    elif method == "initialize":
        x.site.hits["initialize"] += 1
        session = os.urandom(8).hex()
        x.site.sessions.add(session)
        info = {"name": x.site.name, "version": "1"}
        value = {"protocolVersion": LEGACY, "capabilities": CAPABILITIES, "serverInfo": info}
        await x.json(x.response(value), 200, f"Mcp-Session-Id: {session}")
    elif given is None:
        await x.error(400, -32600, "Mcp-Session-Id is missing")
    elif given not in x.site.sessions:
        await x.error(404, -32600, "no such session")
    elif method is None or "id" not in x.message:
        if (waiting := x.site.answers.pop(x.id, None)) and not waiting.done():
            waiting.set_result(x.message)
        await x.body(b"", 202, "")
    else:
        await common(x, {})


async def common(x: Exchange, dress: Json) -> None:
    method = x.message.get("method")
    if method == "tools/list":
        await x.json(x.response({"tools": TOOLS, **dress}))
    elif method == "resources/list":
        resource = {"uri": "test://x", "name": "x"}
        await x.json(x.response({"resources": [resource], **dress}))
    elif method == "resources/templates/list":
        await x.json(x.response({"resourceTemplates": [], **dress}))
    elif method == "resources/read":
        fresh = {"ttlMs": 0, "cacheScope": "private"} if dress else {}  # each read is to come here
        contents = [{"uri": "test://x", "text": str(os.getpid())}]
        await x.json(x.response({"contents": contents, **dress, **fresh}))
    elif method == "tools/call":
        x.site.ran[x.nonce] += 1
        await x.json(x.response(x.result(str(os.getpid()))))
    elif method == "ping":
        await x.json(x.response({}))
    else:
        await x.error(404 if dress else 200, -32601, f"Method not found: {method}")


async def converse(site: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection."""
    site.open += 1
    number = 0
    await asyncio.sleep(site.delay)
    while site.most and site.served >= site.most and not reader.at_eof():  # noqa: ASYNC110 - a count has no event
        await asyncio.sleep(0.01)
    site.served += 1
    try:
        while x := await read_request(site, reader, writer, number):
            if x.message.get("method") == "tools/call":
                site.sent[x.nonce] += 1
            fault = site.on.get(str(x.message.get("method")))
            if fault and x.verb == "POST":
                site.hits[fault] += 1
                site.hits["held"] += 1
                try:
                    await EVERY[fault].commit(x, behave)
                finally:
                    site.hits["held"] -= 1
            else:
                await behave(x)
            if not x.keep:
                break
            number += 1
    except OSError:
        site.hits["left"] += 1  # the other side did not wait for the end
    finally:
        site.open -= 1
        site.served -= 1
        with contextlib.suppress(OSError):
            writer.close()


async def control(sites: dict[str, Site], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    x = await read_request(Site("control"), reader, writer, 0)
    if x and x.verb == "POST":
        site = sites[x.message["name"]]
        site.era, site.on = x.message.get("era", site.era), x.message.get("on", site.on)
        if x.message.get("forget"):
            site.sessions.clear()
    if x:
        await x.body(
            json.dumps({name: site.report() for name, site in sites.items()}).encode(),
            200,
            "application/json",
            "Connection: close",
        )
    writer.close()


async def main(port: int, sites: dict[str, Site]) -> None:
    for site in sites.values():

        async def connected(reader: Any, writer: Any, site: Site = site) -> None:
            await converse(site, reader, writer)

        server = await asyncio.start_server(connected, "127.0.0.1", site.port, limit=1 << 26)
        site.port = server.sockets[0].getsockname()[1]

    async def controlled(reader: Any, writer: Any) -> None:
        await control(sites, reader, writer)

    async with await asyncio.start_server(controlled, "127.0.0.1", port, limit=1 << 20) as server:
        await server.serve_forever()


if __name__ == "__main__":
    every = [Site(**given) for given in json.loads(Path(sys.argv[2]).read_text())]
    asyncio.run(main(int(sys.argv[1]), {site.name: site for site in every}))
