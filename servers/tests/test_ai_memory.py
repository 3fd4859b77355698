"""ai_memory over its real model and a real file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from backend.mcp_servers.ai_memory.embedding import Embedder
from backend.mcp_servers.ai_memory.server import build
from backend.mcp_servers.ai_memory.store import SqliteStore
from mcp.client import Client


def call(server: Any, tool: str, **arguments: Any) -> Any:
    async def go() -> Any:
        async with Client(server) as client:
            return await client.call_tool(tool, arguments)

    return asyncio.run(go())


@pytest.fixture(scope="module")
def embed() -> Embedder:
    return Embedder("cpu")


def test_related_texts_are_nearer_than_unrelated_ones(embed: Embedder) -> None:
    cat, kitten, invoice = embed(["The cat sleeps", "A kitten is dozing", "The invoice is overdue"])
    assert cat @ kitten > 0.4 > 0.2 > cat @ invoice


def test_search_finds_by_meaning_and_forget_removes(tmp_path: Path) -> None:
    server = build(tmp_path)
    call(server, "store", text="The office closes at six in the evening", tags=["office"])
    stored = call(server, "store", text="Bananas are rich in potassium")
    found = call(server, "search", query="Which fruit has minerals?", limit=1).structured_content["memories"]
    assert [m["text"] for m in found] == ["Bananas are rich in potassium"]
    assert call(server, "search", query="fruit", tag="office").structured_content["memories"][0]["tags"] == ["office"]
    call(server, "forget", id=stored.structured_content["id"])
    left = call(server, "search", query="Which fruit has minerals?").structured_content["memories"]
    assert [m["text"] for m in left] == ["The office closes at six in the evening"]


def test_forgetting_the_unknown_says_how_to_find_ids(tmp_path: Path) -> None:
    result = call(build(tmp_path), "forget", id="nothing")
    assert result.is_error and "search or list shows the ids" in result.content[0].text


def test_namespaces_are_apart_and_the_same_text_is_one_memory(tmp_path: Path) -> None:
    server = build(tmp_path)
    call(server, "store", text="hello", namespace="one")
    call(server, "store", text="hello", namespace="one", tags=["twice"])
    call(server, "store", text="hello", namespace="two")
    assert call(server, "stats").structured_content["memories"] == {"one": 1, "two": 1}


def test_a_write_by_another_process_is_found(tmp_path: Path, embed: Embedder) -> None:
    mine, other = SqliteStore(tmp_path / "memory.db"), SqliteStore(tmp_path / "memory.db")
    mine.add("default", "first", [], embed(["first"])[0])
    assert len(mine.search("default", embed(["first"])[0], 5)) == 1
    other.add("default", "second", [], embed(["second"])[0])
    assert [m.text for m in mine.search("default", embed(["second"])[0], 1)] == ["second"]


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(ValueError, match="AI_MEMORY_DEVICE='tpu' is unknown; use auto, cpu or cuda"):
        Embedder("tpu")
