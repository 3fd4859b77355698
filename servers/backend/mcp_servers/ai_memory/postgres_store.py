"""Memories in PostgreSQL with pgvector (https://github.com/pgvector/pgvector)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from backend.mcp_servers.ai_memory.store import DIMENSIONS, Memory, Vector, identity_of

# Any number, the same in every process: who holds this lock changes the schema.
SCHEMA_LOCK = 0x61695F6D656D
# One entry a schema version, never changed once released; memory_schema says how many were applied.
MIGRATIONS = (
    f"""
    CREATE TABLE memory (
        id text PRIMARY KEY,
        namespace text NOT NULL,
        text text NOT NULL,
        tags text[] NOT NULL,
        metadata jsonb NOT NULL,
        created double precision NOT NULL,
        vector vector({DIMENSIONS}) NOT NULL
    );
    CREATE INDEX memory_namespace ON memory (namespace, created);
    CREATE INDEX memory_tags ON memory USING gin (tags);
    CREATE INDEX memory_vector ON memory USING hnsw (vector vector_cosine_ops);
    """,
)
COLUMNS = "id, namespace, text, tags, created, metadata"
MAX_CONNECTIONS = 4
CONNECT_SECONDS = 15.0


class PostgresStore:
    """Memories in the database at ``url``, searched through an HNSW index.

    Raises:
        RuntimeError: the database cannot be reached within 15 s, has no pgvector, or a newer schema.
    """

    backend = "postgresql"

    def __init__(self, url: str) -> None:
        # check: a connection that the server closed (a failover, a restart) is replaced before it is used.
        self._pool = ConnectionPool(
            url,
            min_size=1,
            max_size=MAX_CONNECTIONS,
            kwargs={"autocommit": True},
            configure=_configure,
            check=ConnectionPool.check_connection,
            open=False,
        )
        try:
            with psycopg.connect(url, connect_timeout=int(CONNECT_SECONDS)) as connection:
                _migrate(connection)
        except psycopg.errors.FeatureNotSupported as error:
            raise RuntimeError(
                "the database server has no pgvector; install its package (Debian: postgresql-<version>-pgvector)"
            ) from error
        except psycopg.OperationalError as error:
            raise RuntimeError(f"AI_MEMORY_DATABASE_URL: {str(error).strip()}") from None
        self._pool.open()

    def add(
        self, namespace: str, text: str, tags: Sequence[str], metadata: Mapping[str, Any], vector: Vector
    ) -> Memory:
        rows = self._rows(
            f"INSERT INTO memory ({COLUMNS}, vector) VALUES (%s, %s, %s, %s, %s, %s, %s::vector)"
            " ON CONFLICT (id) DO UPDATE SET tags = excluded.tags, metadata = excluded.metadata"
            f" RETURNING {COLUMNS}",
            (
                identity_of(namespace, text),
                namespace,
                text,
                list(tags),
                time.time(),
                Jsonb(dict(metadata)),
                _literal(vector),
            ),
        )
        return Memory(*rows[0])

    def get(self, identity: str) -> Memory:
        rows = self._rows(f"SELECT {COLUMNS} FROM memory WHERE id = %s", (identity,))
        if not rows:
            raise KeyError(identity)
        return Memory(*rows[0])

    def newest(self, namespace: str, limit: int, tags: Sequence[str] = ()) -> list[Memory]:
        rows = self._rows(
            f"SELECT {COLUMNS} FROM memory WHERE namespace = %s AND tags @> %s::text[]"
            " ORDER BY created DESC, id LIMIT %s",
            (namespace, list(tags), limit),
        )
        return [Memory(*row) for row in rows]

    def search(self, namespace: str, vector: Vector, limit: int, tags: Sequence[str] = ()) -> list[Memory]:
        query = _literal(vector)
        rows = self._rows(
            f"SELECT {COLUMNS}, 1 - (vector <=> %s::vector) FROM memory"
            " WHERE namespace = %s AND tags @> %s::text[] ORDER BY vector <=> %s::vector LIMIT %s",
            (query, namespace, list(tags), query, limit),
        )
        return [Memory(*row) for row in rows]

    def forget(self, identity: str) -> bool:
        return bool(self._rows("DELETE FROM memory WHERE id = %s RETURNING id", (identity,)))

    def count(self, namespace: str) -> int:
        return int(self._rows("SELECT count(*) FROM memory WHERE namespace = %s", (namespace,))[0][0])

    def counts(self) -> dict[str, int]:
        return dict(self._rows("SELECT namespace, count(*) FROM memory GROUP BY namespace ORDER BY 1", ()))

    def close(self) -> None:
        self._pool.close()

    def _rows(self, query: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._pool.connection() as connection:
            return connection.execute(query.encode(), arguments).fetchall()


def _configure(connection: psycopg.Connection[Any]) -> None:
    version = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    if version and tuple(int(part) for part in version[0].split(".")[:2]) >= (0, 8):
        # A namespace or tag may leave too few of the index's first candidates: go on until there are enough.
        # The library must be loaded for its setting to be known.
        connection.execute("SELECT '[1]'::vector")
        connection.execute("SET hnsw.iterative_scan = strict_order")


def _migrate(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    connection.execute("CREATE TABLE IF NOT EXISTS memory_schema (version integer NOT NULL)")
    row = connection.execute("SELECT max(version) FROM memory_schema").fetchone()
    done = (row[0] or 0) if row else 0
    if done > len(MIGRATIONS):
        raise RuntimeError(f"the database has schema {done}, this version knows {len(MIGRATIONS)}; update it")
    for number, script in enumerate(MIGRATIONS[done:], start=done + 1):
        connection.execute(script.encode())
        connection.execute("INSERT INTO memory_schema VALUES (%s)", (number,))


def _literal(vector: Vector) -> str:
    return "[" + ",".join(map(str, vector.tolist())) + "]"
