"""An MCP server with one tool whose description is what a file says at the moment: changing.py PORT FILE."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson
import uvicorn

port, path = int(sys.argv[1]), Path(sys.argv[2])
calls = 0


def answer(message: dict[str, Any]) -> dict[str, Any] | None:
    global calls
    method = message["method"]
    if method == "server/discover":
        return {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
    if method == "tools/list":
        tool = {"name": "hello", "description": path.read_text(), "inputSchema": {"type": "object"}}
        return {"tools": [tool], "ttlMs": 0, "cacheScope": "public"}
    if method == "tools/call":
        calls += 1
        return {"content": [{"type": "text", "text": f"hello {calls}"}]}
    return None


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    body = b""
    while (part := await receive())["type"] == "http.request":
        body += part["body"]
        if not part.get("more_body"):
            break
    message = orjson.loads(body or b"{}")
    result = answer(message) if "method" in message else None
    reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message.get("id")}
    if result is None:
        reply["error"] = {"code": -32601, "message": "Method not found"}
    else:
        reply["result"] = {"resultType": "complete", **result}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 404 if result is None else 200, "headers": headers})
    await send({"type": "http.response.body", "body": orjson.dumps(reply)})


uvicorn.run(app, port=port, log_level="warning", lifespan="off")
