"""What every store of memories does, proven over SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from backend.mcp_servers.ai_memory.sqlite_store import MIGRATIONS, SqliteStore
from backend.mcp_servers.ai_memory.store import Store, Vector, open_store


def unit(*head: float) -> Vector:
    """A vector of 384 numbers and length 1 that begins in the direction of ``head``."""
    vector = np.zeros(384, dtype=np.float32)
    vector[: len(head)] = head
    return vector / np.float32(np.linalg.norm(vector))


def test_what_was_stored_is_read_back(store: Store) -> None:
    added = store.add("n", "snow ☃ 'quoted'", ["b", "a"], {"deep": [1, None, {"x": "ü"}]}, unit(1))
    assert store.get(added.id) == added
    assert (added.namespace, added.tags, added.metadata["deep"][2]) == ("n", ["b", "a"], {"x": "ü"})


def test_the_same_text_is_one_memory_with_the_newer_tags_and_metadata(store: Store) -> None:
    first = store.add("n", "t", ["old"], {"v": 1}, unit(1))
    second = store.add("n", "t", ["new"], {"v": 2}, unit(1))
    assert (second.id, second.created) == (first.id, first.created)
    assert (second.tags, second.metadata) == (["new"], {"v": 2})
    assert store.count("n") == 1


def test_search_is_by_cosine_best_first(store: Store) -> None:
    for text, vector in {
        "right": unit(1),
        "near": unit(1, 0.5),
        "across": unit(0, 1),
        "against": unit(-1),
    }.items():
        store.add("n", text, [], {}, vector)
    found = store.search("n", unit(1), 3)
    assert [memory.text for memory in found] == ["right", "near", "across"]
    assert [memory.score for memory in found] == pytest.approx([1, 1 / np.sqrt(1.25), 0], abs=1e-5)


def test_namespaces_are_apart(store: Store) -> None:
    store.add("one", "t", [], {}, unit(1))
    store.add("two", "t", [], {}, unit(1))
    store.add("two", "u", [], {}, unit(0, 1))
    assert store.counts() == {"one": 1, "two": 2}
    assert [memory.namespace for memory in store.search("one", unit(1), 9)] == ["one"]
    assert store.search("none", unit(1), 9) == [] and store.newest("none", 9) == []


def test_tags_must_all_be_there_even_if_the_best_have_none(store: Store) -> None:
    for number in range(200):
        store.add("n", f"plain {number}", ["a"], {}, unit(1, number / 1000))
    store.add("n", "wanted", ["a", "b"], {}, unit(0.1, 1))
    assert [memory.text for memory in store.search("n", unit(1), 5, ["a", "b"])] == ["wanted"]
    assert [memory.text for memory in store.newest("n", 5, ["b"])] == ["wanted"]
    assert store.search("n", unit(1), 5, ["b", "c"]) == []


def test_a_rare_namespace_is_found_among_many(store: Store) -> None:
    for number in range(300):
        store.add("many", f"m{number}", [], {}, unit(1, number / 1000))
    store.add("rare", "here", [], {}, unit(0, 0, 1))
    assert [memory.text for memory in store.search("rare", unit(1), 3)] == ["here"]


def test_newest_come_first_and_are_limited(store: Store) -> None:
    for number in range(4):
        store.add("n", str(number), [], {}, unit(1))
    assert [memory.text for memory in store.newest("n", 3)] == ["3", "2", "1"]


def test_forgetting(store: Store) -> None:
    added = store.add("n", "t", [], {}, unit(1))
    assert store.forget(added.id) and not store.forget(added.id)
    assert store.search("n", unit(1), 9) == []
    with pytest.raises(KeyError):
        store.get(added.id)


def test_another_workers_writes_are_seen(opener: Callable[[], Store]) -> None:
    mine, other = opener(), opener()
    first = mine.add("n", "first", [], {}, unit(1))
    assert len(mine.search("n", unit(1), 9)) == 1
    other.add("n", "second", [], {}, unit(0, 1))
    assert [memory.text for memory in mine.search("n", unit(0, 1), 1)] == ["second"]
    other.forget(first.id)
    assert [memory.text for memory in mine.search("n", unit(1), 9)] == ["second"]


def test_many_threads_and_workers_write_at_once(opener: Callable[[], Store]) -> None:
    stores = [opener(), opener()]
    failures: list[Exception] = []

    def work(worker: int) -> None:
        try:
            for number in range(25):
                stores[worker % 2].add("n", f"{worker}-{number}", [], {}, unit(worker + 1, number))
                stores[worker % 2].search("n", unit(1), 3)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert stores[0].count("n") == stores[1].count("n") == 150


def test_several_workers_create_the_schema_at_once(opener: Callable[[], Store]) -> None:
    opened: list[Store] = []
    threads = [threading.Thread(target=lambda: opened.append(opener())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store.counts() for store in opened] == [{}] * 4


def test_a_new_file_that_another_is_about_to_write_is_waited_for(tmp_path: Path) -> None:
    """SQLite itself refuses at once to switch such a file to the write-ahead log."""
    other = sqlite3.connect(tmp_path / "memory.db", check_same_thread=False, isolation_level=None)
    other.execute("CREATE TABLE theirs (a)")
    other.execute("BEGIN IMMEDIATE")
    end = threading.Timer(0.3, other.close)
    end.start()
    store = SqliteStore(tmp_path / "memory.db")
    end.join()
    assert store.counts() == {}
    store.close()


def test_memories_outlive_the_process(opener: Callable[[], Store]) -> None:
    opener().add("n", "t", ["x"], {}, unit(1))
    assert [memory.tags for memory in opener().search("n", unit(1), 1)] == [["x"]]


def test_the_environment_picks_the_store(tmp_path: Path, database: str) -> None:
    for environ, backend in (
        ({"AI_MEMORY_DATA_DIR": str(tmp_path)}, "sqlite"),
        ({"AI_MEMORY_DATABASE_URL": database}, "postgresql"),
    ):
        store = open_store(environ)
        assert store.backend == backend
        store.close()


def test_a_wrong_url_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="has the scheme 'mysql'; use postgresql://") as caught:
        open_store({"AI_MEMORY_DATABASE_URL": "mysql://me:s3cret@db/x"})
    assert "s3cret" not in str(caught.value)


def test_a_database_that_is_away_is_named_without_its_password() -> None:
    with pytest.raises(RuntimeError, match=r"AI_MEMORY_DATABASE_URL: connection.*failed") as caught:
        open_store({"AI_MEMORY_DATABASE_URL": "postgresql://me:s3cret@127.0.0.1:9/x"})
    assert "s3cret" not in str(caught.value)


def test_a_file_from_before_versions_were_counted_keeps_its_memories(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "memory.db") as db:
        db.executescript(MIGRATIONS[0])
        db.execute("INSERT INTO memory VALUES ('i', 'n', 't', '[\"x\"]', 5.0, ?)", (unit(1).tobytes(),))
    db.close()
    store = SqliteStore(tmp_path / "memory.db")
    (found,) = store.search("n", unit(1), 9)
    assert (found.id, found.tags, found.metadata, found.created) == ("i", ["x"], {}, 5.0)
    assert store.add("n", "new", [], {"k": 1}, unit(1)).metadata == {"k": 1}
    store.close()


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "memory.db")
    store._db.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(RuntimeError, match="schema 99, this version knows 2; update it"):
        SqliteStore(tmp_path / "memory.db")
