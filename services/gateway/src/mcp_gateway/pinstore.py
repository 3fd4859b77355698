"""The pins in memory, and in a file that others write, too: what is new goes there, what others wrote comes here."""

from __future__ import annotations

import asyncio
import errno
import logging

from mcp_gateway import pinfile
from mcp_gateway.pinfile import Entries, Entry, PinFileError

log = logging.getLogger("mcp_gateway.pinning")
# What a file system says that will not take the file now or later: read-only, not ours, or mounted by itself.
READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.EBUSY})


class PinStore:
    """All entries. Changes are written by ``refresh``, away from the event loop.

    Args:
        path: the file; empty for none.

    Raises:
        PinFileError: the file is broken; it is left as it is.

    Attributes:
        generation: differs whenever somebody else changed entries.
        read_only: whether the file is not to be written.
        problem: why the file is not in use as it is or cannot be written; empty if all is well.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._dirty: set[tuple[str, str]] = set()
        self._broken = False
        # Taken first: if the file changes meanwhile, it is read again.
        self._stamp = pinfile.stamp(path) if path else None
        self.entries: Entries = pinfile.load(path) if path else {}
        self.read_only = bool(path) and pinfile.read_only(path)
        self.generation = 0
        self.problem = ""

    def set(self, key: tuple[str, str], entry: Entry) -> None:
        """Keep the entry of a server's tool."""
        if self.entries.get(key) != entry:
            self.entries[key] = entry
            self._dirty.add(key)

    async def refresh(self) -> bool:
        """Read the file if somebody changed it, and write what is new; to be called every few seconds and at the end.

        Returns:
            Whether pins changed, so that lists must be reviewed again.
        """
        path = self._path
        if not path:
            return False
        changed = await self._read(path)
        if self._dirty and not self.read_only and not self._broken:
            changed |= await self._write(path)
        return changed

    async def _read(self, path: str) -> bool:
        stamp = await asyncio.to_thread(pinfile.stamp, path)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        if stamp is None:
            # Nobody loses all pins because a volume went away; to pin anew, stop the gateway first.
            log.warning("the pin file is gone; the pins known before stay in force", extra={"file": path})
            self._dirty |= self.entries.keys()
            return False
        try:
            there = await asyncio.to_thread(pinfile.load, path)
        except PinFileError as error:
            self._complain(error)
            return False
        self.problem, self._broken = "", False
        self.read_only = pinfile.read_only(path)
        return self._take(_merged(there, self.entries, self._dirty))

    async def _write(self, path: str) -> bool:
        mine = {key: self.entries[key] for key in self._dirty if key in self.entries}
        try:
            there, self._stamp = await asyncio.to_thread(
                pinfile.update, path, lambda old: _merged(old, mine, set(mine))
            )
        except BlockingIOError:
            return False  # another writer is at it; the next time will do
        except PinFileError as error:
            self._complain(error)
            return False
        except OSError as error:
            self.read_only = error.errno in READ_ONLY
            problem = f"pinning.file: {path}: {error.strerror}; new pins are in memory only"
            if problem != self.problem:
                log.warning("the pin file cannot be written", extra={"error": problem})
            self.problem = problem
            return False
        self.problem = ""
        # What changed in memory during the writing is still to be written.
        self._dirty -= {key for key, entry in mine.items() if self.entries.get(key) == entry}
        return self._take(_merged(there, self.entries, self._dirty))

    def _take(self, entries: Entries) -> bool:
        if entries == self.entries:
            return False
        self.entries = entries
        self.generation += 1
        return True

    def _complain(self, error: PinFileError) -> None:
        self._broken = True
        self.problem = f"pinning.file: {error}. The pins known before stay in force, and nothing is written"
        log.error("the pin file is refused", extra={"error": self.problem})


def _merged(there: Entries, mine: Entries, dirty: set[tuple[str, str]]) -> Entries:
    """The file's entries with changes of ours that it does not contradict: a pin in the file stands."""
    merged = dict(there)
    for key in dirty:
        ours, theirs = mine.get(key, Entry()), there.get(key, Entry())
        pinned = theirs.pinned or ours.pinned
        if pinned and ours.pinned and pinned.hash == ours.pinned.hash and pinned.fields is None:
            pinned = ours.pinned
        waiting = ours.waiting if ours.waiting and (not pinned or ours.waiting.hash != pinned.hash) else None
        merged[key] = Entry(pinned, waiting)
    return merged
