"""``mcp-gateway board``: says one document to all gateway replicas, and adds up what they saw."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from pathlib import Path

import orjson

from mcp_gateway.board import document
from mcp_gateway.board.follow import CONTEXT
from mcp_gateway.board.settings import PATH
from mcp_gateway.board.sides import Sides, added
from mcp_gateway.net.messages import Response
from mcp_gateway.net.server import Exchange, Server
from mcp_gateway.peers.envelope import Envelope, Refused
from mcp_gateway.protocol import Json

MAX_REPLICAS = 256
# What a replica that is gone saw still counts for this trial; its name is forgotten after so long without any.
FORGET_SECONDS = 86_400.0

log = logging.getLogger("mcp_gateway.board")


class BoardService:
    """One board.

    Args:
        text: its document, as JSON.
        keys: the session keys.

    Raises:
        ValueError: it is no document.
    """

    def __init__(self, text: str, keys: tuple[bytes, ...]) -> None:
        self._text = text
        self._document = document.read(orjson.loads(text))
        self._envelope = Envelope(keys, context=CONTEXT)
        self._reports: dict[str, tuple[float, dict[str, Sides]]] = {}

    def handle(self, exchange: Exchange) -> None:
        """Answer a request."""
        path = exchange.request.path
        if path in ("/healthz", "/readyz"):
            exchange.respond(Response(200, b"ok", "text/plain; charset=utf-8"))
        elif path == PATH and exchange.request.method == "POST":
            sealed = exchange.request.body
            try:
                answer = self.told(self._envelope.open_request(sealed))
            except (Refused, ValueError) as refusal:
                exchange.respond(Response(403, str(refusal).encode(), "text/plain; charset=utf-8"))
            else:
                exchange.respond(Response(200, self._envelope.answer(answer, sealed), "application/octet-stream"))
        else:
            exchange.respond(Response(404))

    def told(self, message: Json) -> Json:
        """Take a replica's report; returns the document and the sum of all reports.

        Raises:
            ValueError: it is no report.
        """
        now, replica, reported = time.monotonic(), message.get("replica"), message.get("canaries")
        if not isinstance(replica, str) or not isinstance(reported, dict):
            raise ValueError("the message names no replica, or reports nothing")
        self._reports = {name: one for name, one in self._reports.items() if now - one[0] < FORGET_SECONDS}
        if replica in self._reports or len(self._reports) < MAX_REPLICAS:
            self._reports[replica] = (now, {str(name): Sides.of(one) for name, one in reported.items()})
        seen = {}
        for name, at in self._document.canaries.items():
            of_it = [one for _, reports in self._reports.values() if (one := reports.get(name))]
            seen[name] = added(one for one in of_it if one.number == at.number)
        return {"document": self._text, "seen": seen}


async def _serve(board: BoardService, port: int) -> None:
    server = Server(board.handle, lambda status, why: Response(status, why.encode(), "text/plain; charset=utf-8"))
    await server.listen("0.0.0.0", port)
    asked, loop = asyncio.Event(), asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, asked.set)
    log.info("the board is up", extra={"port": port})
    await asked.wait()
    await server.close(1.0)


def serve(path: str, key_files: list[str], port: int) -> str:
    """Run until SIGTERM; returns what is wrong, empty after a graceful end."""
    try:
        keys = tuple(Path(name).read_text("utf-8").strip().encode() for name in key_files)
        board = BoardService(Path(path).read_text("utf-8"), keys)
    except (OSError, ValueError) as error:
        return f"{path}: {error}"
    asyncio.run(_serve(board, port))
    return ""
