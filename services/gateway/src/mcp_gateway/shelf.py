"""Kept answers, bounded in bytes and in number, the least recently used thrown out first."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

# What an entry costs beside its body and key, about, in bytes.
OVERHEAD = 400


@dataclass(slots=True, eq=False)
class Kept:
    """One answer.

    Attributes:
        context: for whom; None for all.
        body: encoded; None notes that the answer could not be kept.
        fresh_until: seconds of the monotonic clock.
        uri: of the resource that it is of.
    """

    key: bytes
    context: str | None
    body: bytes | None
    fresh_until: float
    uri: str | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.body or b"") + len(self.key) + OVERHEAD


class Shelf:
    """One server's answers.

    Attributes:
        bytes: of all that is kept.
        version: differs whenever something was said to have changed.
    """

    def __init__(self, max_bytes: int, max_entries: int) -> None:
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._kept: OrderedDict[tuple[bytes, str | None], Kept] = OrderedDict()
        self._by_uri: dict[str, set[tuple[bytes, str | None]]] = {}
        self.bytes = 0
        self.version = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes, context: str | None) -> Kept | None:
        """What is kept, however old."""
        return self._kept.get((key, context))

    def touch(self, kept: Kept) -> None:
        """It was used."""
        self._kept.move_to_end((kept.key, kept.context))

    def put(self, kept: Kept) -> bool:
        """Keep it in place of what had its key; False if it is too large for one answer."""
        self.remove(kept.key, kept.context)
        # One answer shall not push out all others.
        if kept.size > self._max_bytes // 4:
            return False
        place = (kept.key, kept.context)
        self._kept[place] = kept
        self.bytes += kept.size
        if kept.uri is not None:
            self._by_uri.setdefault(kept.uri, set()).add(place)
        while self.bytes > self._max_bytes or len(self._kept) > self._max_entries:
            self.remove(*next(iter(self._kept)))
        return True

    def remove(self, key: bytes, context: str | None) -> None:
        """Forget it, if it is there."""
        kept = self._kept.pop((key, context), None)
        if kept is None:
            return
        self.bytes -= kept.size
        if kept.uri is not None and (places := self._by_uri.get(kept.uri)):
            places.discard((key, context))
            if not places:
                del self._by_uri[kept.uri]

    def remove_uri(self, uri: str) -> None:
        """The resource changed."""
        self.version += 1
        for place in list(self._by_uri.get(uri, ())):
            self.remove(*place)

    def clear(self) -> None:
        """Everything may have changed."""
        self.version += 1
        self._kept.clear()
        self._by_uri.clear()
        self.bytes = 0
