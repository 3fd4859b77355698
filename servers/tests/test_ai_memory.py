"""ai_memory's tools over its real model and real stores."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcp.client import Client

from backend.mcp_servers.ai_memory.embedding import Embedder
from backend.mcp_servers.ai_memory.server import MAX_METADATA_BYTES, MAX_TEXT, build, from_environment
from backend.mcp_servers.ai_memory.store import Store

SERVERS = Path(__file__).resolve().parents[1]
# Includes the interpreter and every import, from compiled files.
START_SECONDS = 3.0


def call(server: Any, tool: str, **arguments: Any) -> Any:
    async def go() -> Any:
        async with Client(server) as client:
            return await client.call_tool(tool, arguments)

    return asyncio.run(go())


@pytest.fixture
def server(store: Store, embed: Embedder) -> Any:
    return build(store, embed, max_memories=3)


def texts(result: Any) -> list[str]:
    assert not result.is_error, result.content
    return [memory["text"] for memory in result.structured_content["memories"]]


def test_related_texts_are_nearer_than_unrelated_ones(embed: Embedder) -> None:
    cat, kitten, invoice = embed(["The cat sleeps", "A kitten is dozing", "The invoice is overdue"])
    assert cat @ kitten > 0.4
    assert cat @ invoice < 0.2


def test_the_inference_library_keeps_its_telemetry_to_itself(tmp_path: Path) -> None:
    # It keeps a device id below the home directory once it reports; CI would switch it off by itself.
    env = {"HOME": str(tmp_path), "PYTHONPATH": str(SERVERS)}
    if library := os.environ.get("LD_LIBRARY_PATH"):
        env["LD_LIBRARY_PATH"] = library
    code = "from backend.mcp_servers.ai_memory.embedding import Embedder; Embedder()(['x'])"
    subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True)
    assert list(tmp_path.iterdir()) == []


def test_vectors_have_length_one_and_do_not_depend_on_their_company(embed: Embedder) -> None:
    long = "word " * 1000
    together = embed(["short", long, "x" * MAX_TEXT])
    assert together.shape == (3, 384)
    assert np.linalg.norm(together, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    # Weights of 8 bits are scaled by the batch: near, not equal.
    assert embed(["short"])[0] @ together[0] > 0.98


def test_the_end_of_a_long_text_counts(embed: Embedder) -> None:
    filler = "The committee discussed the agenda of the meeting. " * 60
    plain, ending, query = embed([filler, filler + "Bananas contain potassium. " * 30, "fruit and minerals"])
    assert query @ ending > query @ plain + 0.1


def test_search_finds_by_meaning_and_forget_removes(server: Any) -> None:
    call(
        server,
        "store",
        text="The office closes at six in the evening",
        tags=["office"],
        metadata={"by": "Ada"},
    )
    stored = call(server, "store", text="Bananas are rich in potassium")
    found = call(server, "search", query="Which fruit has minerals?", limit=1)
    assert (
        texts(found) == ["Bananas are rich in potassium"]
        and found.structured_content["memories"][0]["score"] > 0.3
    )
    tagged = call(server, "search", query="fruit", tags=["office"]).structured_content["memories"]
    assert [memory["metadata"] for memory in tagged] == [{"by": "Ada"}]
    assert call(server, "get", id=stored.structured_content["id"]).structured_content["tags"] == []
    call(server, "forget", id=stored.structured_content["id"])
    assert texts(call(server, "search", query="Which fruit?")) == ["The office closes at six in the evening"]
    assert texts(call(server, "list")) == ["The office closes at six in the evening"]


@pytest.mark.parametrize("tool", ["get", "forget"])
def test_an_unknown_id_says_how_to_find_ids(server: Any, tool: str) -> None:
    result = call(server, tool, id="nothing")
    assert result.is_error and "search or list shows the ids" in result.content[0].text


def test_a_full_namespace_says_so_and_still_updates(server: Any) -> None:
    for text in ("a", "b", "c"):
        call(server, "store", text=text)
    full = call(server, "store", text="d")
    assert (
        full.is_error
        and "namespace 'default' is full (3 memories, AI_MEMORY_MAX_MEMORIES)" in full.content[0].text
    )
    assert not call(server, "store", text="a", tags=["again"]).is_error
    assert not call(server, "store", text="d", namespace="other").is_error
    stats = call(server, "stats").structured_content
    assert stats["memories"] == {"default": 3, "other": 1} and stats["device"] == "cpu"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": ""}, "at least 1 character"),
        ({"text": "   "}, "text is blank"),
        ({"text": "x" * (MAX_TEXT + 1)}, "at most 20000 characters"),
        ({"text": "x", "namespace": "a b"}, "should match pattern"),
        ({"text": "x", "tags": ["t" * 65]}, "at most 64 characters"),
        ({"text": "x", "metadata": {"k": "v" * MAX_METADATA_BYTES}}, "at most 8192 are kept"),
        ({"text": "a\0b"}, "NUL character"),
    ],
)
def test_limits_are_told(server: Any, arguments: dict[str, Any], message: str) -> None:
    result = call(server, "store", **arguments)
    assert result.is_error and message in result.content[0].text


def test_every_tool_says_what_it_does_to_the_data(server: Any) -> None:
    async def go() -> Any:
        async with Client(server) as client:
            return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in asyncio.run(go())}
    assert set(tools) == {"store", "search", "list", "get", "forget", "stats"}
    assert all(tool.description and tool.output_schema for tool in tools.values())
    assert {name for name, tool in tools.items() if tool.annotations.read_only_hint} == {
        "search",
        "list",
        "get",
        "stats",
    }
    assert [name for name, tool in tools.items() if tool.annotations.destructive_hint] == ["forget"]


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="AI_MEMORY_DEVICE='tpu' is unknown; use auto, cpu or cuda"):
        Embedder("tpu")
    with pytest.raises(ValueError, match="AI_MEMORY_MAX_MEMORIES='many'; use a whole number from 1"):
        from_environment({"AI_MEMORY_MAX_MEMORIES": "many", "AI_MEMORY_DATA_DIR": str(tmp_path)})


def test_a_warm_start_takes_less_than_three_seconds(tmp_path: Path) -> None:
    env = {**os.environ, "AI_MEMORY_DATA_DIR": str(tmp_path), "PYTHONPATH": str(SERVERS)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", "from backend.mcp_servers.ai_memory import app; print(app.name)"]
    subprocess.run(command, env=env, check=True, capture_output=True)
    before = time.monotonic()
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    assert time.monotonic() - before < START_SECONDS
    assert done.stdout == "ai_memory\n"
