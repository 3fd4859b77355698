"""Records, a line each at once, written in batches by a background task."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import IO, Any, Literal

from mcp_gateway.audit.lines import Lines
from mcp_gateway.audit.redact import Redactor
from mcp_gateway.audit.settings import AuditSettings
from mcp_gateway.audit.sink import Sink
from mcp_gateway.principal import Principal

log = logging.getLogger("mcp_gateway.audit")

Outcome = Literal["ok", "tool_error", "error", "refused", "cancelled"]
BATCH = 4096
INTERVAL_SECONDS = 0.2
MAX_PENDING = 20_000  # some 10 MB: what is kept while the destination takes nothing


class Audit:
    """The audit log. One event loop uses it; writing happens in a thread of its own, so that a full disk or a
    reader that stands still holds no request up.

    ``stream`` is what ``destination: stdout`` means; only its file descriptor is used.
    """

    def __init__(self, settings: AuditSettings, stream: IO[Any], max_pending: int = MAX_PENDING) -> None:
        self._stream = stream
        self._max = max_pending
        self._records: list[str] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._told = False
        self._untold = 0
        self.dropped = 0  # records lost since the start, for metrics
        self._lines = Lines()
        self._apply(settings)
        self._sink = Sink(settings.destination, stream)

    @property
    def settings(self) -> AuditSettings:
        """The settings in force."""
        return self._settings

    def start(self) -> None:
        """Begin to write; needs a running event loop."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def record(
        self,
        principal: Principal | None,
        session: str,
        method: str,
        server: str,
        name: str,
        replica: str,
        outcome: Outcome,
        code: int,
        duration_ms: float,
        request_bytes: int,
        response_bytes: int,
        trace_id: str = "",
        reason: str = "",
        arguments: Any = None,
    ) -> None:
        """One request that has ended. Never waits and never fails.

        Args:
            principal: None where nobody was recognised.
            session: the session's id, of which only a short digest is written; empty for none.
            name: the tool or prompt, or a resource's URI, of which query, fragment and user are left out.
            outcome: ``tool_error`` is a result with ``isError``; ``refused`` is by policy, limit or credential.
            code: of the JSON-RPC error, or the HTTP status of a refusal; 0 for none.
            reason: why it was refused or failed.
            arguments: of a tool; ignored unless the settings ask for them.
        """
        if not self._settings.enabled:
            return
        records = self._records
        if len(records) >= self._max:
            self._drop()
            return
        # A line at once: many at a time would hold up whatever else the loop has to do.
        records.append(
            self._lines.line(
                time.time(),
                ("", "") if principal is None else (principal.name, principal.profile or "default"),
                (session, method, server, name, replica),
                outcome,
                code,
                reason,
                duration_ms,
                request_bytes,
                response_bytes,
                trace_id,
                self._redactor.encode(arguments) if self._with_arguments and arguments is not None else None,
            )
        )
        if len(records) == BATCH:
            self._wake.set()

    def update(self, settings: AuditSettings) -> None:
        """Go by ``settings`` from now on; records taken before go where those after go."""
        if settings.destination != self._settings.destination:
            self._sink.redirect(settings.destination)
        self._apply(settings)

    def reopen(self) -> None:
        """Open the file anew, as SIGHUP asks for after a rotation. A file that was renamed or removed is noticed
        without it, with the next batch."""
        self._sink.reopen()

    async def flush(self, seconds: float = 5.0) -> bool:
        """Write all that was recorded; False if the destination did not take it within ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._write(wait=True)
                return True
        return False

    async def close(self, seconds: float = 5.0) -> None:
        """Write what is left and end. What the destination does not take within ``seconds`` is lost, and said."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if not await self.flush(seconds):
            lost = self._sink.pending_records + len(self._records)
            log.error(
                "audit: %d records lost at the end: %s took nothing for %g s", lost, self._sink.destination, seconds
            )
        self._sink.close()

    def _apply(self, settings: AuditSettings) -> None:
        self._settings = settings
        self._with_arguments = settings.arguments
        self._redactor = Redactor(settings.redact, settings.max_bytes)

    def _drop(self) -> None:
        self.dropped += 1
        self._untold += 1
        if not self._told:
            self._told = True
            log.error(
                "audit: records are being LOST: %s takes nothing (%s) and %d are waiting",
                self._sink.destination,
                self._sink.trouble or "blocked",
                len(self._records),
            )

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            # One batch each time: the thread takes turns with this one, and each turn costs.
            await self._write(wait=False)

    async def _write(self, *, wait: bool) -> None:
        """Write what there is; also what comes meanwhile, where it is to be waited for."""
        async with self._writing:
            # Left by a writer that was ended while the destination took nothing.
            await self._sink.drained()
            while self._records or self._untold:
                batch, self._records = self._records, []
                if self._untold:
                    batch.append(self._lines.event("dropped", records=self._untold))
                    log.error("audit: %d records were lost; writing again", self._untold)
                    self._told, self._untold = False, 0
                self._sink.write("".join(batch).encode(), len(batch))
                if not wait:
                    return
                await self._sink.drained()
