"""Where lines go: a thread that writes what it is handed, however long the destination takes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from typing import IO, Any

from mcp_gateway.audit.settings import STDOUT

log = logging.getLogger("mcp_gateway.audit")

RETRY_SECONDS = 0.5


class Sink:
    """Writes one batch after the other, each whole before the next.

    The thread is a daemon: one that hangs in a blocked pipe must not keep the process from ending.
    """

    def __init__(self, destination: str, stream: IO[Any]) -> None:
        self.destination = destination
        self.trouble = ""  # why nothing is written at the moment; empty if it is
        self.pending_records = 0
        self._stream = stream
        self._data = b""
        self._change = threading.Condition()
        self._reopen = False
        self._closing = False
        self._file = -1
        self._done: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def write(self, data: bytes, records: int) -> None:
        """Hand over whole lines. The batch before must be `drained`."""
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        with self._change:
            self._data, self.pending_records = data, records
            self._change.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
            self._thread.start()

    async def drained(self) -> None:
        """Wait until the last batch is written."""
        if self._done is not None:
            await self._done.wait()

    def redirect(self, destination: str) -> None:
        """Write to ``destination`` from the next batch on, or from this one if nothing of it is written yet."""
        self.destination = destination
        self.reopen()

    def reopen(self) -> None:
        """Open the file anew before the next batch."""
        self._reopen = True

    def close(self) -> None:
        """End the thread; what it has not written is lost."""
        with self._change:
            self._closing = True
            self._change.notify()
        if self._thread is not None and not self.pending_records:
            self._thread.join(1)

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._data or self._closing)
                data = self._data
            if not data or not self._write_all(data):
                self._shut()
                return
            with self._change:
                self._data, self.pending_records = b"", 0
            if self._loop is not None and self._done is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    self._loop.call_soon_threadsafe(self._done.set)

    def _write_all(self, data: bytes) -> bool:
        """False if the end came first."""
        rest = memoryview(data)
        while rest:
            try:
                # A line that is begun is ended in the same file.
                if len(rest) == len(data):
                    self._open()
                rest = rest[os.write(self._fd(), rest) :]
            except (OSError, ValueError) as error:  # ValueError: the stream was closed
                self._failed(error)
                with self._change:
                    if self._change.wait_for(lambda: self._closing, RETRY_SECONDS):
                        return False
            else:
                if self.trouble and not rest:
                    log.info("audit: writing to %s again", self.destination)
                    self.trouble = ""
        return True

    def _failed(self, error: OSError | ValueError) -> None:
        if not self.trouble:
            log.error(
                "audit: cannot write to %s: %s; records are kept as long as there is room", self.destination, error
            )
        self.trouble = str(error)

    def _fd(self) -> int:
        return self._stream.fileno() if self._file < 0 else self._file

    def _open(self) -> None:
        """The file that the path names now, which after a rotation is a new one."""
        if self.destination == STDOUT:
            self._shut()
            return
        if self._file >= 0 and not self._reopen and self._still_there():
            return
        self._reopen = False
        self._shut()
        # For the owner and the group alone: who did what is not for everybody.
        self._file = os.open(self.destination, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _still_there(self) -> bool:
        try:
            named, opened = os.stat(self.destination), os.fstat(self._file)
        except OSError:
            return False
        return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)

    def _shut(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
