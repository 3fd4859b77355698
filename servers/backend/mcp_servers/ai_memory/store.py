"""Memories in one SQLite file: text, tags and the vector they are found by."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SCHEMA = """
CREATE TABLE IF NOT EXISTS memory (
    id TEXT PRIMARY KEY,
    namespace TEXT NOT NULL,
    text TEXT NOT NULL,
    tags TEXT NOT NULL,
    created REAL NOT NULL,
    vector BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS memory_namespace ON memory (namespace, created);
"""


@dataclass(frozen=True)
class Memory:
    """One remembered text; ``created`` is seconds since the epoch, ``score`` the cosine similarity of a search."""

    id: str
    namespace: str
    text: str
    tags: list[str]
    created: float
    score: float | None = None


class SqliteStore:
    """Memories in ``path``, safe for several threads and processes (write-ahead log).

    The vectors of a namespace are kept in memory as one matrix; SQLite's ``data_version`` and a counter of
    our own writes tell when it is stale.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, timeout=10, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(SCHEMA)
        self._writes = 0
        self._matrices: dict[str, tuple[tuple[int, int], list[str], NDArray[np.float32]]] = {}

    def add(self, namespace: str, text: str, tags: list[str], vector: NDArray[np.float32]) -> Memory:
        """Remember a text; the same text in the same namespace is one memory with the newer tags."""
        identity = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{namespace}\0{text}"))
        now = time.time()
        with self._lock:
            self._db.execute(
                "INSERT INTO memory VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET tags = excluded.tags",
                (identity, namespace, text, json.dumps(tags), now, vector.astype(np.float32).tobytes()),
            )
            self._writes += 1
        return self.get(identity)

    def get(self, identity: str) -> Memory:
        """Raises KeyError where there is no such memory."""
        with self._lock:
            row = self._db.execute(
                "SELECT id, namespace, text, tags, created FROM memory WHERE id = ?", (identity,)
            ).fetchone()
        if row is None:
            raise KeyError(identity)
        return Memory(row[0], row[1], row[2], json.loads(row[3]), row[4])

    def newest(self, namespace: str, limit: int, tag: str = "") -> list[Memory]:
        """The newest memories of a namespace, all tags or one."""
        query = "SELECT id, namespace, text, tags, created FROM memory WHERE namespace = ?"
        arguments: list[object] = [namespace]
        if tag:
            query += " AND EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)"
            arguments.append(tag)
        with self._lock:
            rows = self._db.execute(f"{query} ORDER BY created DESC, id LIMIT ?", [*arguments, limit]).fetchall()
        return [Memory(r[0], r[1], r[2], json.loads(r[3]), r[4]) for r in rows]

    def search(self, namespace: str, vector: NDArray[np.float32], limit: int, tag: str = "") -> list[Memory]:
        """The memories nearest in meaning, best first."""
        ids, matrix = self._matrix(namespace)
        if not ids:
            return []
        scores = matrix @ vector
        found: list[Memory] = []
        for index in np.argsort(-scores):
            try:
                memory = self.get(ids[int(index)])
            except KeyError:  # forgotten since the matrix was read
                continue
            if not tag or tag in memory.tags:
                found.append(
                    Memory(memory.id, namespace, memory.text, memory.tags, memory.created, float(scores[index]))
                )
            if len(found) == limit:
                break
        return found

    def forget(self, identity: str) -> bool:
        """Whether there was such a memory."""
        with self._lock:
            gone = self._db.execute("DELETE FROM memory WHERE id = ?", (identity,)).rowcount > 0
            self._writes += 1
        return gone

    def counts(self) -> dict[str, int]:
        """Memories per namespace."""
        with self._lock:
            return dict(self._db.execute("SELECT namespace, count(*) FROM memory GROUP BY namespace ORDER BY 1"))

    def _matrix(self, namespace: str) -> tuple[list[str], NDArray[np.float32]]:
        with self._lock:
            version = (self._db.execute("PRAGMA data_version").fetchone()[0], self._writes)
            cached = self._matrices.get(namespace)
            if cached and cached[0] == version:
                return cached[1], cached[2]
            rows = self._db.execute("SELECT id, vector FROM memory WHERE namespace = ?", (namespace,)).fetchall()
            matrix = np.array([np.frombuffer(row[1], dtype=np.float32) for row in rows], dtype=np.float32)
            self._matrices[namespace] = (version, [row[0] for row in rows], matrix)
            return self._matrices[namespace][1], matrix
