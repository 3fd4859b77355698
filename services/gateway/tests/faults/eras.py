"""Faults of the hello and of lists: servers that lie about their era, change it, or offer nonsense."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass

from faults.fault import Behave, Commit, Expect, Fault
from faults.wire import LEGACY, MODERN, Exchange, Json

HELLOS: dict[str, Fault] = {}
_counter = itertools.count()


@dataclass(frozen=True)
class Liar:
    """A site that is wrong before any call is made.

    Attributes:
        expect: of a ``tools/call`` of ``act``.
        cause: what the error says besides the server's name.
        listed: whether its tool ``act`` must be in the merged list; None where either is right.
    """

    era: str
    on: dict[str, str]
    expect: Expect
    cause: str = "."
    listed: bool | None = None


LIARS: dict[str, Liar] = {}


def liar(
    era: str, method: str, expect: Expect, cause: str = ".", listed: bool | None = None
) -> Callable[[Commit], Commit]:
    """Register the decorated coroutine as what a site of its own name does on ``method``."""

    def register(commit: Commit) -> Commit:
        name = commit.__name__.replace("_", "-")
        HELLOS[name] = Fault(name, commit, expect, cause, eras=())
        LIARS[name] = Liar(era, {method: name}, expect, cause, listed)
        return commit

    return register


def _hello(x: Exchange, **other: object) -> Json:
    """The result of ``initialize``; its session is ``s``."""
    x.site.sessions.add("s")
    return x.response({"protocolVersion": LEGACY, "capabilities": {"tools": {}}, "serverInfo": {"name": "x"}, **other})


def _discovered(x: Exchange, **other: object) -> Json:
    value = {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, "resultType": "complete", **other}
    return x.response(value)


# -- discover ----------------------------------------------------------------------------------------------------------


@liar("legacy", "server/discover", "either", listed=None)
async def says_modern_is_legacy(x: Exchange, _: Behave) -> None:
    """Answers discover as modern and then speaks 2025."""
    await x.json(_discovered(x, ttlMs=0, cacheScope="public"))


@liar("modern", "server/discover", "error", "neither|version|reach|within|no answer", listed=False)
async def refuses_to_be_discovered(x: Exchange, _: Behave) -> None:
    await x.error(404, -32601, "Method not found")


@liar("legacy", "server/discover", "either")
async def discover_hangs(x: Exchange, _: Behave) -> None:
    await x.hang()


@liar("legacy", "server/discover", "either")
async def discover_fails_with_500(x: Exchange, _: Behave) -> None:
    await x.body(b"oops", 500, "text/plain")


@liar("legacy", "server/discover", "either")
async def discover_resets(x: Exchange, _: Behave) -> None:
    """Old servers that drop what they do not know."""
    x.reset()


@liar("legacy", "server/discover", "either")
async def discover_is_found_on_a_page(x: Exchange, _: Behave) -> None:
    await x.body(b"<html>Hello</html>", 200, "text/html")


@liar("modern", "server/discover", "either")
async def discover_of_wrong_types(x: Exchange, _: Behave) -> None:
    odd: list[object] = [5, None, "2026-07-28", {"2026-07-28": 1}, [None, 5, [], MODERN]]
    value = odd[next(_counter) % len(odd)]
    await x.json(_discovered(x, supportedVersions=value, capabilities=value, instructions=value, _meta=value))


@liar("modern", "server/discover", "error", "version")
async def only_the_future(x: Exchange, _: Behave) -> None:
    await x.error(400, -32022, "unsupported", {"supported": ["2099-01-01"], "requested": MODERN})


@liar("modern", "server/discover", "either")
async def era_changes_with_each_hello(x: Exchange, behave: Behave) -> None:
    """2026 in one answer and 2025 in the next."""
    x.site.era = "legacy" if x.site.era == "modern" else "modern"
    await behave(x)


@liar("modern", "tools/call", "either", "session|version|era|neither|400|404|speak|reach")
async def era_changes_with_each_call(x: Exchange, behave: Behave) -> None:
    """Each call finds a server of the other era."""
    x.site.era = "legacy" if x.site.era == "modern" else "modern"
    x.site.sessions.clear()
    await behave(x)


# -- initialize --------------------------------------------------------------------------------------------------------


@liar("legacy", "initialize", "error", "within|no answer|timed? ?out", listed=False)
async def initialize_hangs(x: Exchange, _: Behave) -> None:
    await x.hang()


@liar("legacy", "initialize", "either")
async def version_is_nonsense(x: Exchange, _: Behave) -> None:
    await x.json(_hello(x, protocolVersion="9999-99-99"), 200, "Mcp-Session-Id: s")


@liar("legacy", "initialize", "either")
async def version_is_a_list(x: Exchange, _: Behave) -> None:
    await x.json(_hello(x, protocolVersion=[LEGACY]), 200, "Mcp-Session-Id: s")


@liar("legacy", "initialize", "either")
async def version_breaks_headers(x: Exchange, _: Behave) -> None:
    """What a server says must not become a header of ours unlooked at."""
    await x.json(_hello(x, protocolVersion="2025-11-25\r\nX-Injected: 1"), 200, "Mcp-Session-Id: s")


@liar("legacy", "initialize", "either")
async def capabilities_are_a_list(x: Exchange, _: Behave) -> None:
    await x.json(_hello(x, capabilities=["tools"], serverInfo=5, instructions=[1]), 200, "Mcp-Session-Id: s")


@liar("legacy", "initialize", "either")
async def session_id_of_control_characters(x: Exchange, _: Behave) -> None:
    """2025-11-25 basic/transports, "Session Management": visible ASCII only."""
    await x.json(_hello(x), 200, "Mcp-Session-Id: a\x01\tb \x7fc\xff")


@liar("legacy", "initialize", "either")
async def session_id_without_end(x: Exchange, _: Behave) -> None:
    long = "s" * 60_000
    x.site.sessions.add(long)
    await x.json(_hello(x), 200, f"Mcp-Session-Id: {long}")


@liar("legacy", "initialize", "either")
async def sessions_are_forgotten_at_once(x: Exchange, _: Behave) -> None:
    await x.json(_hello(x), 200, "Mcp-Session-Id: never-kept")


@liar("legacy", "notifications/initialized", "either")
async def initialized_hangs(x: Exchange, _: Behave) -> None:
    await x.hang()


@liar("legacy", "notifications/initialized", "either")
async def initialized_fails(x: Exchange, _: Behave) -> None:
    await x.body(b"", 500)


# -- lists -------------------------------------------------------------------------------------------------------------


@liar("modern", "tools/list", "result", listed=False)
async def list_hangs(x: Exchange, _: Behave) -> None:
    await x.hang()


@liar("modern", "tools/list", "result")
async def pages_without_end(x: Exchange, _: Behave) -> None:
    tool = {"name": f"t{next(_counter)}", "inputSchema": {"type": "object"}}
    page = {"tools": [tool], "nextCursor": f"c{next(_counter)}", "resultType": "complete", "ttlMs": 0}
    await x.json(x.response(page))


@liar("legacy", "tools/list", "result")
async def one_page_again_and_again(x: Exchange, _: Behave) -> None:
    await x.json(x.response({"tools": [{"name": "act", "inputSchema": {"type": "object"}}], "nextCursor": ""}))


@liar("legacy", "tools/list", "result", listed=True)
async def tools_of_wrong_types(x: Exchange, _: Behave) -> None:
    """One good tool among what are none: it must be offered, and nothing else may break the list."""
    odd: list[object] = [5, None, "act", [], {}, {"name": 5}, {"name": None}, {"name": ""}, {"name": ["act"]}]
    odd += [{"name": "x" * 10_000}, {"name": "a\x00b\r\n"}, {"name": "\u202eevil"}, {"name": "s", "inputSchema": 5}]
    odd += [{"name": "act", "inputSchema": {"type": "object"}}, {"name": "act", "inputSchema": {"type": "object"}}]
    await x.json(x.response({"tools": odd, "ttlMs": "soon", "_meta": 5}))


@liar("modern", "tools/list", "result")
async def tools_are_a_number(x: Exchange, _: Behave) -> None:
    await x.json(x.response({"tools": 5, "resultType": "complete", "ttlMs": -1, "nextCursor": None}))


@liar("modern", "tools/list", "result", listed=True)
async def ttl_of_an_age(x: Exchange, _: Behave) -> None:
    tools = [{"name": "act", "inputSchema": {"type": "object"}}]
    await x.json(x.response({"tools": tools, "resultType": "complete", "ttlMs": 10**30, "cacheScope": 5}))


@liar("modern", "tools/list", "result")
async def schema_of_a_thousand_levels(x: Exchange, _: Behave) -> None:
    schema = b'{"type":"object","properties":{"a":' * 300 + b"{}" + b"}}" * 300
    body = json.dumps(_discovered(x, tools=[{"name": "act", "inputSchema": "HERE"}])).encode()
    await x.body(body.replace(b'"HERE"', schema))


@liar("modern", "tools/list", "result", listed=True)
async def five_thousand_tools(x: Exchange, _: Behave) -> None:
    tools = [{"name": f"t{i}", "inputSchema": {"type": "object"}} for i in range(5000)]
    tools.append({"name": "act", "inputSchema": {"type": "object"}})
    await x.json(x.response({"tools": tools, "resultType": "complete", "ttlMs": 60000, "cacheScope": "public"}))


@liar("modern", "tools/list", "result")
async def headers_that_a_schema_asks_for(x: Exchange, _: Behave) -> None:
    """``x-mcp-header`` of all kinds (basic/transports/streamable-http): none may break or forge a header."""
    odd = ["Host", "a b", "", 5, None, "x\r\ny: z", "Content-Length", "é", "a" * 10_000]
    properties = {f"p{i}": {"type": "string", "x-mcp-header": name} for i, name in enumerate(odd)}
    tools = [{"name": "act", "inputSchema": {"type": "object", "properties": properties}}]
    await x.json(x.response({"tools": tools, "resultType": "complete", "ttlMs": 60000, "cacheScope": "public"}))
