"""What a memory is, and what any store of memories can do."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 384  # of the model's vectors
Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Memory:
    """One remembered text; ``created`` is seconds since the epoch, ``score`` the cosine similarity of a search."""

    id: str
    namespace: str
    text: str
    tags: list[str]
    created: float
    metadata: dict[str, Any] = field(default_factory=dict)
    score: float | None = None


class Store(Protocol):
    """Memories by namespace. Safe for several threads, and for several processes on the same data.

    Where ``tags`` are given, only memories that carry all of them count.
    """

    backend: str

    def add(
        self, namespace: str, text: str, tags: Sequence[str], metadata: Mapping[str, Any], vector: Vector
    ) -> Memory:
        """Remember a text; the same text in the same namespace is one memory with the newer tags and metadata."""
        ...

    def get(self, identity: str) -> Memory:
        """Raises KeyError where there is no such memory."""
        ...

    def newest(self, namespace: str, limit: int, tags: Sequence[str] = ()) -> list[Memory]:
        """The newest memories of a namespace, newest first."""
        ...

    def search(self, namespace: str, vector: Vector, limit: int, tags: Sequence[str] = ()) -> list[Memory]:
        """The memories nearest in meaning, best first, each with its score."""
        ...

    def forget(self, identity: str) -> bool:
        """Whether there was such a memory."""
        ...

    def count(self, namespace: str) -> int:
        """Memories in a namespace."""
        ...

    def counts(self) -> dict[str, int]:
        """Memories per namespace."""
        ...

    def close(self) -> None:
        """Give back files and connections."""
        ...


def identity_of(namespace: str, text: str) -> str:
    """The id of a text in a namespace: the same for the same text, so that storing twice is storing once."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{namespace}\0{text}"))


def open_store(environ: Mapping[str, str]) -> Store:
    """The store that the environment asks for: PostgreSQL where AI_MEMORY_DATABASE_URL is set, else a file.

    Raises:
        ValueError: AI_MEMORY_DATABASE_URL is no PostgreSQL URL.
        RuntimeError: the database has no pgvector.
    """
    if url := environ.get("AI_MEMORY_DATABASE_URL"):
        if not url.startswith(("postgresql://", "postgres://")):
            # Not the URL itself: it may hold a password.
            scheme = url.partition(":")[0]
            raise ValueError(
                f"AI_MEMORY_DATABASE_URL has the scheme {scheme!r}; use postgresql://user:password@host/name"
            )
        from backend.mcp_servers.ai_memory.postgres_store import PostgresStore

        return PostgresStore(url)
    from backend.mcp_servers.ai_memory.sqlite_store import SqliteStore

    return SqliteStore(Path(environ.get("AI_MEMORY_DATA_DIR", "/data")) / "memory.db")
