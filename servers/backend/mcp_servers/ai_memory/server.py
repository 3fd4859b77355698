"""The tools of ai_memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field

from backend.mcp_servers.ai_memory.embedding import Embedder
from backend.mcp_servers.ai_memory.store import Memory, SqliteStore

MAX_TEXT = 20_000

Namespace = Annotated[str, Field(description="Separate collection of memories", pattern=r"^[\w.-]{1,64}$")]
Tags = Annotated[list[str], Field(description="Words to filter by later", max_length=20)]
Limit = Annotated[int, Field(description="How many at most", ge=1, le=100)]
Identity = Annotated[str, Field(description="Id as returned by store, search or list")]

READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
FORGETS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)


class Remembered(BaseModel):
    """One memory as clients see it."""

    id: str
    text: str
    namespace: str
    tags: list[str]
    created: float = Field(description="Seconds since the epoch")
    score: float | None = Field(default=None, description="Cosine similarity, 1 is identical in meaning")


class Memories(BaseModel):
    """Several memories, best or newest first."""

    memories: list[Remembered]


def build(data_dir: Path, device: str = "auto") -> MCPServer[Any]:
    """The server over ``data_dir``/memory.db."""
    store = SqliteStore(data_dir / "memory.db")
    embed = Embedder(device)
    server: MCPServer[Any] = MCPServer(
        "ai_memory", instructions="Remembers text across conversations and finds it by meaning.", version="0.1.0"
    )

    def shown(memory: Memory) -> Remembered:
        return Remembered(**vars(memory))

    @server.tool(name="store", title="Remember a text", annotations=WRITES)
    def store_text(
        text: Annotated[str, Field(description="What to remember", min_length=1, max_length=MAX_TEXT)],
        namespace: Namespace = "default",
        tags: Tags | None = None,
    ) -> Remembered:
        """Remember a text. Storing the same text again in a namespace updates its tags."""
        return shown(store.add(namespace, text, sorted(set(tags or [])), embed([text])[0]))

    @server.tool(title="Search by meaning", annotations=READS)
    def search(
        query: Annotated[str, Field(description="What to look for, in any words", min_length=1, max_length=MAX_TEXT)],
        namespace: Namespace = "default",
        tag: Annotated[str, Field(description="Only memories with this tag")] = "",
        limit: Limit = 5,
    ) -> Memories:
        """Find the memories nearest in meaning to the query, best first."""
        return Memories(memories=[shown(m) for m in store.search(namespace, embed([query])[0], limit, tag)])

    @server.tool(name="list", title="List memories", annotations=READS)
    def list_newest(
        namespace: Namespace = "default",
        tag: Annotated[str, Field(description="Only memories with this tag")] = "",
        limit: Limit = 20,
    ) -> Memories:
        """List the newest memories of a namespace."""
        return Memories(memories=[shown(m) for m in store.newest(namespace, limit, tag)])

    @server.tool(title="Read one memory", annotations=READS)
    def get(id: Identity) -> Remembered:
        """Read one memory by its id."""
        try:
            return shown(store.get(id))
        except KeyError:
            raise ToolError(f"there is no memory {id!r}; search or list shows the ids") from None

    @server.tool(title="Forget a memory", annotations=FORGETS)
    def forget(id: Identity) -> str:
        """Forget one memory for good."""
        if not store.forget(id):
            raise ToolError(f"there is no memory {id!r}; search or list shows the ids")
        return f"forgotten: {id}"

    @server.tool(title="Statistics", annotations=READS)
    def stats() -> dict[str, Any]:
        """How many memories each namespace holds, and what computes the embeddings."""
        return {"memories": store.counts(), "device": embed.device, "model": "all-MiniLM-L6-v2 (int8)"}

    return server

