"""How a replica introduces itself, and which era it speaks by that."""

from __future__ import annotations

from dataclasses import dataclass, field

from mcp_gateway.protocol import (
    LEGACY,
    MODERN,
    MODERN_ERRORS,
    SERVER_INFO_META_KEY,
    UNAVAILABLE,
    Json,
    RpcError,
)
from mcp_gateway.upstream import modern
from mcp_gateway.upstream.call import Call, Changed
from mcp_gateway.upstream.legacy import LegacySessions
from mcp_gateway.upstream.replicas import Replica
from mcp_gateway.upstream.wire import Answer, Wire, WrongEra


@dataclass(frozen=True, slots=True)
class Hello:
    """An introduction.

    Attributes:
        told: whether it was heard now; a session that another gateway replica opened says nothing of its server.
    """

    era: str
    told: bool = True
    capabilities: Json = field(default_factory=dict)
    info: Json | None = None
    instructions: str | None = None


async def introduce(wire: Wire, sessions: LegacySessions, replica: Replica, changed: Changed) -> Hello:
    """Ask ``server/discover`` first; whatever is no modern answer leads to ``initialize``.

    2026-07-28 basic/versioning, "Backward Compatibility": no single error code decides, and what proves neither era is
    not remembered.

    Raises:
        RpcError: it answered, but neither era's hello.
        OSError, TimeoutError: it could not be asked.
    """
    try:
        hello = await modern.request(wire, replica, Call("server/discover", {}, safe=True), changed)
    except WrongEra:
        pass
    except RpcError as refusal:
        if refusal.code in MODERN_ERRORS:
            why = f"it speaks a version of the protocol that the gateway does not: {refusal.data}"
            raise RpcError(UNAVAILABLE, why) from None
    else:
        versions = hello.get("supportedVersions")
        if isinstance(versions, list) and MODERN in versions:
            return _read(MODERN, hello)
    try:
        session = await sessions.session(replica, "")
    except WrongEra as refusal:
        why = f"it answers neither server/discover nor initialize{_said(refusal.answer)}"
        raise RpcError(UNAVAILABLE, why) from None
    return _read(LEGACY, session.hello) if session.hello else Hello(LEGACY, told=False)


def _read(era: str, hello: Json) -> Hello:
    capabilities, meta, instructions = hello.get("capabilities"), hello.get("_meta"), hello.get("instructions")
    info = hello.get("serverInfo") or (meta.get(SERVER_INFO_META_KEY) if isinstance(meta, dict) else None)
    return Hello(
        era,
        capabilities=capabilities if isinstance(capabilities, dict) else {},
        info=info if isinstance(info, dict) else None,
        instructions=instructions if isinstance(instructions, str) else None,
    )


def _said(answer: Answer) -> str:
    failure = answer.message.get("error")
    return f": {failure.get('message')}" if isinstance(failure, dict) else f" (HTTP {answer.status})"
