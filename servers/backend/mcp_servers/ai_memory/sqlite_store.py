"""Memories in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backend.mcp_servers.ai_memory.store import DIMENSIONS, Memory, Vector, identity_of

# One entry a schema version, never changed once released; PRAGMA user_version counts those that were applied.
# Version 1 was written before versions were counted: its objects may be there although the count is 0.
MIGRATIONS = (
    """
    CREATE TABLE IF NOT EXISTS memory (
        id TEXT PRIMARY KEY,
        namespace TEXT NOT NULL,
        text TEXT NOT NULL,
        tags TEXT NOT NULL,
        created REAL NOT NULL,
        vector BLOB NOT NULL
    );
    CREATE INDEX IF NOT EXISTS memory_namespace ON memory (namespace, created);
    """,
    "ALTER TABLE memory ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}'",
)
BUSY_SECONDS = 10
COLUMNS = "id, namespace, text, tags, created, metadata"


class SqliteStore:
    """Memories in ``path`` (write-ahead log), searched as one matrix a namespace.

    The matrix stays in memory; SQLite's ``data_version`` (writes by others) and a counter of our own writes
    tell when it is stale. One connection behind a lock: a statement takes microseconds.
    """

    backend = "sqlite"

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, timeout=BUSY_SECONDS, isolation_level=None)
        self._write_ahead()
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._migrate()
        self._writes = 0
        self._matrices: dict[str, tuple[tuple[int, int], list[str], Vector]] = {}

    def _write_ahead(self) -> None:
        """Switch to the write-ahead log.

        Where several processes open a new file at once SQLite waits for none of them here, whatever its timeout
        (sqlite.org/c3ref/busy_handler.html: a wait that could be a deadlock is refused at once).
        """
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as failure:
                if "locked" not in str(failure) or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def add(
        self, namespace: str, text: str, tags: Sequence[str], metadata: Mapping[str, Any], vector: Vector
    ) -> Memory:
        identity = identity_of(namespace, text)
        blob = np.ascontiguousarray(vector, dtype=np.float32).tobytes()
        with self._lock:
            row = self._db.execute(
                f"INSERT INTO memory ({COLUMNS}, vector) VALUES (?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET tags = excluded.tags, metadata = excluded.metadata"
                f" RETURNING {COLUMNS}",
                (identity, namespace, text, json.dumps(list(tags)), time.time(), json.dumps(metadata), blob),
            ).fetchone()
            self._writes += 1
        return _memory(row)

    def get(self, identity: str) -> Memory:
        with self._lock:
            row = self._db.execute(f"SELECT {COLUMNS} FROM memory WHERE id = ?", (identity,)).fetchone()
        if row is None:
            raise KeyError(identity)
        return _memory(row)

    def newest(self, namespace: str, limit: int, tags: Sequence[str] = ()) -> list[Memory]:
        where, arguments = _where(namespace, tags)
        with self._lock:
            rows = self._db.execute(
                f"SELECT {COLUMNS} FROM memory WHERE {where} ORDER BY created DESC, id LIMIT ?",
                [*arguments, limit],
            ).fetchall()
        return [_memory(row) for row in rows]

    def search(self, namespace: str, vector: Vector, limit: int, tags: Sequence[str] = ()) -> list[Memory]:
        ids, matrix = self._matrix(namespace)
        if not ids:
            return []
        scores = matrix @ vector
        if tags:
            where, arguments = _where(namespace, tags)
            with self._lock:
                allowed = {
                    row[0] for row in self._db.execute(f"SELECT id FROM memory WHERE {where}", arguments)
                }
            scores[[identity not in allowed for identity in ids]] = -np.inf
        found: list[Memory] = []
        for index in np.argsort(-scores):
            if len(found) == limit or scores[index] == -np.inf:
                break
            try:
                memory = self.get(ids[index])
            except KeyError:  # forgotten since the matrix was read
                continue
            found.append(Memory(**{**vars(memory), "score": float(scores[index])}))
        return found

    def forget(self, identity: str) -> bool:
        with self._lock:
            gone = self._db.execute("DELETE FROM memory WHERE id = ?", (identity,)).rowcount > 0
            self._writes += 1
        return gone

    def count(self, namespace: str) -> int:
        with self._lock:
            row = self._db.execute("SELECT count(*) FROM memory WHERE namespace = ?", (namespace,)).fetchone()
        return int(row[0])

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(
                self._db.execute("SELECT namespace, count(*) FROM memory GROUP BY namespace ORDER BY 1")
            )

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _migrate(self) -> None:
        # IMMEDIATE: of several workers that start at once, one migrates and the others wait.
        self._db.execute("BEGIN IMMEDIATE")
        try:
            done = self._db.execute("PRAGMA user_version").fetchone()[0]
            if done > len(MIGRATIONS):
                raise RuntimeError(
                    f"memory.db has schema {done}, this version knows {len(MIGRATIONS)}; update it"
                )
            for number, script in enumerate(MIGRATIONS[done:], start=done + 1):
                for statement in script.split(";"):  # executescript would end the transaction
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {number}")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _matrix(self, namespace: str) -> tuple[list[str], Vector]:
        with self._lock:
            version = (self._db.execute("PRAGMA data_version").fetchone()[0], self._writes)
            cached = self._matrices.get(namespace)
            if cached and cached[0] == version:
                return cached[1], cached[2]
            rows = self._db.execute(
                "SELECT id, vector FROM memory WHERE namespace = ?", (namespace,)
            ).fetchall()
            matrix = np.frombuffer(b"".join(row[1] for row in rows), dtype=np.float32).reshape(-1, DIMENSIONS)
            ids = [row[0] for row in rows]
            self._matrices[namespace] = (version, ids, matrix)
            return ids, matrix


def _where(namespace: str, tags: Sequence[str]) -> tuple[str, list[str]]:
    has = " AND EXISTS (SELECT 1 FROM json_each(memory.tags) WHERE value = ?)"
    return "namespace = ?" + has * len(tags), [namespace, *tags]


def _memory(row: Sequence[Any]) -> Memory:
    return Memory(row[0], row[1], row[2], json.loads(row[3]), row[4], json.loads(row[5]))
