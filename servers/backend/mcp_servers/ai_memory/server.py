"""The tools of ai_memory."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field

from backend.mcp_servers.ai_memory.embedding import MODEL, Embedder
from backend.mcp_servers.ai_memory.store import Memory, Store, identity_of, open_store

MAX_TEXT = 20_000
MAX_METADATA_BYTES = 8_192
DEFAULT_MAX_MEMORIES = 100_000

Namespace = Annotated[str, Field(description="Separate collection of memories", pattern=r"^[\w.-]{1,64}$")]
Tag = Annotated[str, Field(min_length=1, max_length=64)]
Tags = Annotated[list[Tag], Field(description="Words to filter by later", max_length=20)]
Wanted = Annotated[list[Tag], Field(description="Only memories that carry all of these tags", max_length=20)]
Metadata = Annotated[
    dict[str, Any], Field(description=f"Any JSON object, at most {MAX_METADATA_BYTES} bytes")
]
Limit = Annotated[int, Field(description="How many at most", ge=1, le=100)]
Identity = Annotated[str, Field(description="Id as returned by store, search or list")]
Query = Annotated[str, Field(description="What to look for, in any words", min_length=1, max_length=MAX_TEXT)]

READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
WRITES = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
FORGETS = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
)


class Remembered(BaseModel):
    """One memory as clients see it."""

    id: str
    text: str
    namespace: str
    tags: list[str]
    metadata: dict[str, Any]
    created: float = Field(description="Seconds since the epoch")
    score: float | None = Field(default=None, description="Cosine similarity, 1 is identical in meaning")


class Memories(BaseModel):
    """Several memories, best or newest first."""

    memories: list[Remembered]


class Forgotten(BaseModel):
    """The id of what was forgotten."""

    forgotten: str


class Stats(BaseModel):
    """What is remembered, where, and by which means it is found."""

    memories: dict[str, int] = Field(description="Memories per namespace")
    backend: str = Field(description="sqlite or postgresql")
    device: str = Field(description="What computes the embeddings: cpu or cuda")
    model: str


def from_environment(environ: Mapping[str, str] = os.environ) -> MCPServer[Any]:
    """The server that the environment describes (see the package's docstring).

    Raises:
        ValueError: a variable's value cannot be used.
    """
    text = environ.get("AI_MEMORY_MAX_MEMORIES", str(DEFAULT_MAX_MEMORIES))
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"AI_MEMORY_MAX_MEMORIES={text!r}; use a whole number from 1")
    return build(open_store(environ), Embedder(environ.get("AI_MEMORY_DEVICE", "auto")), int(text))


def build(store: Store, embed: Embedder, max_memories: int = DEFAULT_MAX_MEMORIES) -> MCPServer[Any]:
    """The server over a store; a namespace holds at most ``max_memories`` (by and large: writers do not wait)."""
    server: MCPServer[Any] = MCPServer(
        "ai_memory",
        instructions="Remembers text across conversations and finds it by meaning.",
        version="0.1.0",
    )

    def found(identity: str) -> Memory:
        try:
            return store.get(identity)
        except KeyError:
            raise ToolError(f"there is no memory {identity!r}; search or list shows the ids") from None

    def check_room(namespace: str, text: str) -> None:
        if store.count(namespace) < max_memories:
            return
        try:
            store.get(identity_of(namespace, text))  # an update takes no room
        except KeyError:
            raise ToolError(
                f"namespace {namespace!r} is full ({max_memories} memories, AI_MEMORY_MAX_MEMORIES); forget some"
            ) from None

    @server.tool(name="store", title="Remember a text", annotations=WRITES)
    def store_text(
        text: Annotated[str, Field(description="What to remember", min_length=1, max_length=MAX_TEXT)],
        namespace: Namespace = "default",
        tags: Tags | None = None,
        metadata: Metadata | None = None,
    ) -> Remembered:
        """Remember a text. Storing the same text again in a namespace updates its tags and metadata."""
        if not text.strip():
            raise ToolError("text is blank; give words to remember")
        if "\0" in text + json.dumps(metadata or {}, ensure_ascii=False):
            raise ToolError("text or metadata holds a NUL character; remove it")
        if (size := len(json.dumps(metadata or {}).encode())) > MAX_METADATA_BYTES:
            raise ToolError(f"metadata has {size} bytes, at most {MAX_METADATA_BYTES} are kept; shorten it")
        check_room(namespace, text)
        return _shown(store.add(namespace, text, sorted(set(tags or [])), metadata or {}, embed([text])[0]))

    @server.tool(title="Search by meaning", annotations=READS)
    def search(
        query: Query, namespace: Namespace = "default", tags: Wanted | None = None, limit: Limit = 5
    ) -> Memories:
        """Find the memories nearest in meaning to the query, best first."""
        return _all_shown(store.search(namespace, embed([query])[0], limit, tags or []))

    @server.tool(name="list", title="List memories", annotations=READS)
    def list_newest(
        namespace: Namespace = "default", tags: Wanted | None = None, limit: Limit = 20
    ) -> Memories:
        """List the newest memories of a namespace."""
        return _all_shown(store.newest(namespace, limit, tags or []))

    @server.tool(title="Read one memory", annotations=READS)
    def get(id: Identity) -> Remembered:
        """Read one memory by its id."""
        return _shown(found(id))

    @server.tool(title="Forget a memory", annotations=FORGETS)
    def forget(id: Identity) -> Forgotten:
        """Forget one memory for good."""
        found(id)
        store.forget(id)
        return Forgotten(forgotten=id)

    @server.tool(title="Statistics", annotations=READS)
    def stats() -> Stats:
        """How many memories each namespace holds, and what stores and finds them."""
        return Stats(memories=store.counts(), backend=store.backend, device=embed.device, model=MODEL)

    return server


def _shown(memory: Memory) -> Remembered:
    return Remembered(**vars(memory))


def _all_shown(memories: list[Memory]) -> Memories:
    return Memories(memories=[_shown(memory) for memory in memories])
