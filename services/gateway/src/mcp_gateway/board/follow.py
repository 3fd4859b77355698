"""A gateway replica looks at the board: reads its document, and tells what it saw of the canaries.

The last document stands while the board cannot be read: one that is being replaced, or whose node is lost, ends no
maintenance. Whoever ends something says so on the board first and takes it down later.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import orjson

from mcp_gateway.board import document
from mcp_gateway.board.document import Document
from mcp_gateway.board.settings import PATH, BoardSettings
from mcp_gateway.net.client import Broken, Client
from mcp_gateway.peers.envelope import Envelope, Refused
from mcp_gateway.protocol import Json
from mcp_gateway.upstream.discovery import Discovery

CONTEXT = b"mcp-gateway board 1"
READ_SECONDS = 3.0
MAX_BYTES = 4 * 1024 * 1024
# How long the document of a board that is gone stands. Swarm puts a lost task up again within some 30 s.
KEEP_SECONDS = 90.0
SILENT_SECONDS = 5.0
# How long a replica that starts is not ready for want of the board.
READY_SECONDS = 5.0

log = logging.getLogger("mcp_gateway.board")


class Board:
    """Follows the board. ``run`` it in the background.

    Args:
        keys: the session keys.
        replica: this replica's name at the board.
        report: what this replica saw, by server.
        apply: takes each new document.

    Attributes:
        document: the one that holds now.
        seen: what all replicas saw, by server, as the board added it up.
        last_error: why it could not be read last time; empty where it could, or is not there.
    """

    def __init__(
        self,
        settings: BoardSettings,
        keys: tuple[bytes, ...],
        client: Client,
        replica: str,
        report: Callable[[], Json],
        apply: Callable[[Document], None],
    ) -> None:
        self.document = Document()
        self.seen: Json = {}
        self.last_error = ""
        self._client = client
        self._envelope = Envelope(keys, context=CONTEXT)
        self._replica = replica
        self._report = report
        self._apply = apply
        self._urls: set[str] = set()
        self._discovery = Discovery(settings, self._found)
        self._good = self._started = time.monotonic()
        self._looked = False

    @property
    def ready(self) -> bool:
        """Whether what the board says is known, or it had its time to say it."""
        return self._looked or time.monotonic() - self._started > READY_SECONDS

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            pause = await self._discovery.look()
            if self._discovery.last_error:
                # Most likely the name is not there and a resolver behind the engine's is silent: each look takes one of
                # the few threads that look for servers, for long.
                pause = SILENT_SECONDS
            if self._urls:
                await self._read()
            elif not self._discovery.last_error:
                self._looked = True
                self.last_error = ""
                if self.document.number and time.monotonic() - self._good > KEEP_SECONDS:
                    log.warning("the board is gone; what it said is over", extra={"number": self.document.number})
                    self._take(Document())
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))

    def _found(self, urls: set[str]) -> None:
        self._urls = urls

    async def _read(self) -> None:
        """Of two boards, while one replaces the other, the newer one is right."""
        answers = await asyncio.gather(*(self._ask(url) for url in self._urls), return_exceptions=True)
        read: list[tuple[Document, Json]] = []
        problems = []
        for answer in answers:
            if isinstance(answer, BaseException):
                if not isinstance(answer, OSError | ValueError | Refused):
                    raise answer
                problems.append(f"{type(answer).__name__}: {answer}")
            else:
                read.append(answer)
        if not read:
            why = "; ".join(problems)[:300]
            if not self.last_error:
                log.warning("the board cannot be read; what it said last holds", extra={"error": why})
            self.last_error = why
            return
        self.last_error, self._good, self._looked = "", time.monotonic(), True
        newest, seen = max(read, key=lambda one: one[0].number)
        if newest.number >= self.document.number:
            self.seen = seen
        if newest.number > self.document.number:
            log.info("the board says", extra={"number": newest.number, "closed": sorted(newest.maintenance)})
            self._take(newest)

    def _take(self, news: Document) -> None:
        self.document = news
        self._apply(news)

    async def _ask(self, url: str) -> tuple[Document, Json]:
        """The document, and what all replicas saw.

        Raises:
            OSError: it cannot be reached.
            Refused, ValueError: what comes is not its answer.
        """
        sealed = self._envelope.request({"replica": self._replica, "canaries": self._report()})
        parts = urlsplit(url)
        head = f"POST {PATH} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-length: {len(sealed)}\r\n\r\n".encode()
        try:
            answer = await self._client.send(parts, head + sealed, READ_SECONDS, READ_SECONDS)
        except Broken as failure:
            if not failure.stale:
                raise
            answer = await self._client.send(parts, head + sealed, READ_SECONDS, READ_SECONDS, fresh=True)
        try:
            body = await answer.read(MAX_BYTES) or b""
        finally:
            answer.close()
        if answer.status != 200:
            raise Refused(f"HTTP {answer.status}: {body[:200].decode('utf-8', 'replace')}")
        said: Any = self._envelope.open_answer(body, sealed)
        seen = said.get("seen")
        return document.read(orjson.loads(said.get("document") or "null")), seen if isinstance(seen, dict) else {}
