"""Caching hints, cursors and lists (2026-07-28 server/utilities/caching, server/utilities/pagination)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rules.clients import Client2025, Client2026
from rules.conftest import Start
from rules.upstream import LISTS, Exchange, Server2025, Server2026, tool, until

pytestmark = pytest.mark.integration
Json = dict[str, Any]
Made = Callable[..., Client2026]
FOREVER = 3_600_000


@pytest.fixture
def server() -> Iterator[Server2026]:
    """A server of this test alone: what a gateway keeps of it is of this test as well."""
    made = Server2026()
    yield made
    made.stop()


@pytest.fixture
def client(start: Start, server: Server2026, keys: Json) -> Made:
    """A client of a gateway before ``server`` and others."""
    running: list[Any] = []

    def make(path: str = "/servers/new/mcp", key: str = "first", others: list[Json] | None = None) -> Client2026:
        if not running:
            running.append(start([{"name": "new", "url": server.url}, *(others or [])], auth=keys))
        return Client2026(running[0].url, path, key)

    return make


def listing(server: Server2026, items: list[Json], **hints: Any) -> None:
    """Have ``tools/list`` answer this."""
    server.on["tools/list"] = lambda exchange: exchange.result({"resultType": "complete", "tools": items, **hints})


def names(answer: Json) -> list[str]:
    return [item["name"] for item in answer["result"]["tools"]]


# -- hints -------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("MCP26-CACHE-01")
@pytest.mark.parametrize("server_name", ["", "new", "old"])
@pytest.mark.parametrize("method", [*LISTS, "server/discover", "resources/read"])
def test_cacheable_results_have_hints(modern: Any, server_name: str, method: str) -> None:
    uri = "test://static" if server_name else "new+test://static"
    result = modern(server_name).ask(method, {"uri": uri} if method == "resources/read" else {})["result"]
    assert isinstance(result["ttlMs"], int)
    assert result["ttlMs"] >= 0
    assert result["cacheScope"] in ("public", "private")


@pytest.mark.requirement("MCP26-CACHE-01")
def test_other_results_have_none(modern: Any) -> None:
    result = modern("new").call("echo")["result"]
    assert not {"ttlMs", "cacheScope"} & set(result)


@pytest.mark.requirement("MCP26-CACHE-01")
@pytest.mark.parametrize("ttl", [-5, None, "soon", 1.5], ids=["negative", "absent", "text", "fraction"])
def test_what_a_server_says_wrongly_is_put_right(client: Made, server: Server2026, ttl: Any) -> None:
    server.on["resources/read"] = lambda exchange: exchange.result(
        {"resultType": "complete", "contents": [], "cacheScope": "sideways", **({} if ttl is None else {"ttlMs": ttl})}
    )
    result = client().ask("resources/read", {"uri": "test://static"})["result"]
    assert isinstance(result["ttlMs"], int)
    assert result["ttlMs"] >= 0
    assert result["cacheScope"] == "private"


@pytest.mark.requirement("MCP26-CACHE-02")
def test_a_fresh_list_is_not_fetched_again(client: Made, server: Server2026) -> None:
    listing(server, [tool("one")], ttlMs=FOREVER, cacheScope="public")
    made = client()
    assert [names(made.ask("tools/list")) for _ in range(3)] == [["one"]] * 3
    assert len(server.of("tools/list")) == 1


@pytest.mark.requirement("MCP26-CACHE-02")
@pytest.mark.parametrize("ttl", [0, -1000])
def test_a_list_that_is_stale_at_once_is_fetched_again(client: Made, server: Server2026, ttl: int) -> None:
    listing(server, [tool("one")], ttlMs=ttl, cacheScope="public")
    made = client()
    assert names(made.ask("tools/list")) == ["one"]
    listing(server, [tool("two")], ttlMs=ttl, cacheScope="public")
    assert names(made.ask("tools/list")) == ["two"]


@pytest.mark.requirement("MCP26-CACHE-02")
def test_what_is_passed_on_is_no_fresher_than_it_is(client: Made, server: Server2026) -> None:
    """``ttlMs`` counts from the receipt by the gateway, not from that by its client."""
    listing(server, [tool("one")], ttlMs=60_000, cacheScope="public")
    made = client()
    first = made.ask("tools/list")["result"]["ttlMs"]
    until(lambda: made.ask("tools/list")["result"]["ttlMs"] < first, "a shorter time to live")
    assert first <= 60_000


@pytest.mark.requirement("MCP26-CACHE-03")
def test_a_private_list_stays_private(client: Made, server: Server2026) -> None:
    """The server answers the gateway, whose credentials are the same for all of its clients: to the server they are one
    authorisation context. What it called private is not for caches between the gateway and any of them."""
    listing(server, [tool("one")], ttlMs=FOREVER, cacheScope="private")
    for key in ("first", "second"):
        result = client(key=key).ask("tools/list")
        assert names(result) == ["one"]
        assert result["result"]["cacheScope"] == "private"
    assert all("authorization" not in request.headers for request in server.of("tools/list"))


@pytest.mark.requirement("MCP26-CACHE-03")
def test_a_public_list_is_of_all(client: Made, server: Server2026) -> None:
    listing(server, [tool("one")], ttlMs=FOREVER, cacheScope="public")
    for key in ("first", "second"):
        assert names(client(key=key).ask("tools/list")) == ["one"]
    assert len(server.of("tools/list")) == 1


@pytest.mark.requirement("MCP26-CACHE-03")
def test_a_merged_list_with_a_private_part_is_private(client: Made, server: Server2026) -> None:
    other = Server2026()
    listing(server, [tool("one")], ttlMs=FOREVER, cacheScope="public")
    listing(other, [tool("two")], ttlMs=1000, cacheScope="private")
    result = client("/mcp", others=[{"name": "other", "url": other.url}]).ask("tools/list")["result"]
    assert result["cacheScope"] == "private"
    assert result["ttlMs"] <= 1000
    other.stop()


@pytest.mark.requirement("MCP26-CACHE-04")
@pytest.mark.parametrize("part", ["inputResponses", "requestState"])
def test_what_answers_a_retry_is_not_kept(client: Made, server: Server2026, part: str) -> None:
    count = iter(range(1, 10))
    server.on["resources/read"] = lambda exchange: exchange.result(
        {
            "resultType": "complete",
            "contents": [{"uri": exchange.params["uri"], "text": str(next(count))}],
            "ttlMs": FOREVER,
            "cacheScope": "public",
        }
    )
    made = client()
    params = {"uri": "test://static", part: {} if part == "inputResponses" else "state"}
    texts = [made.ask("resources/read", given)["result"]["contents"][0]["text"] for given in (params, params)]
    texts.append(made.ask("resources/read", {"uri": "test://static"})["result"]["contents"][0]["text"])
    assert texts == ["1", "2", "3"]


@pytest.mark.requirement("MCP26-CACHE-04")
def test_a_question_is_not_kept(client: Made, server: Server2026) -> None:
    server.on["resources/read"] = lambda exchange: exchange.result(
        {"resultType": "input_required", "requestState": str(len(server.of("resources/read"))), "ttlMs": FOREVER}
    )
    made = client()
    states = [made.ask("resources/read", {"uri": "test://static"})["result"]["requestState"] for _ in range(2)]
    assert states == ["1", "2"]


@pytest.mark.requirement("MCP26-CACHE-05")
@pytest.mark.parametrize("era", [Server2026, Server2025])
def test_a_change_makes_a_list_stale_though_nobody_listens(
    start: Start, era: type[Server2026] | type[Server2025]
) -> None:
    """A long time to live ends with the server's word, which the gateway itself listens for."""
    server = era()
    path = "/servers/only/mcp"
    made = Client2026(start([{"name": "only", "url": server.url}], list_ttl_seconds=3600).url, path)
    assert names(made.ask("tools/list")) == ["echo"]
    if isinstance(server, Server2026):
        until(lambda: server.granted().get("toolsListChanged"), "the gateway listens")
    else:
        until(lambda: server.streams, "the gateway listens")
    server.tools = [*server.tools, tool("added")]
    if isinstance(server, Server2026):
        server.tell("notifications/tools/list_changed")
    else:
        server.push("notifications/tools/list_changed")
    until(lambda: "added" in names(made.ask("tools/list")), "the added tool")
    server.stop()


@pytest.mark.requirement("MCP26-CACHE-07")
def test_a_list_of_a_server_that_fails_is_kept_and_marked(client: Made, server: Server2026) -> None:
    listing(server, [tool("one")], ttlMs=0, cacheScope="public")
    made = client("/mcp")
    assert names(made.ask("tools/list")) == ["new__one"]
    server.on["tools/list"] = lambda exchange: exchange.error(-32603, "broken", status=500)
    answer = made.ask("tools/list")
    assert names(answer) == ["new__one"]
    assert answer["result"]["_meta"]["ai.sophia.mcp/stale"] == ["new"]
    assert answer["result"]["ttlMs"] == 0


# -- pages -------------------------------------------------------------------------------------------------------------


def paged(server: Server2026, count: int, first: str | None = "") -> None:
    """A list of one tool a page; the first cursor is the empty string, which is a cursor as good as any."""

    def page(exchange: Exchange) -> None:
        cursor = exchange.params.get("cursor")
        number = 0 if cursor is None else 1 if cursor == first else int(cursor)
        more = {"nextCursor": first if number == 0 else str(number + 1)} if number + 1 < count else {}
        hints = {"ttlMs": FOREVER, "cacheScope": "public"}
        exchange.result({"resultType": "complete", "tools": [tool(f"t{number}")], **more, **hints})

    server.on["tools/list"] = page


def walk(client: Client2026 | Client2025, method: str = "tools/list", key: str = "tools") -> list[Json]:
    """All entries of a list, and the hints of its pages."""
    found: list[Json] = []
    params: Json = {}
    for _ in range(50):
        result = client.ask(method, params)["result"]
        found += result[key]
        if "nextCursor" not in result:
            return found
        params = {"cursor": result["nextCursor"]}
    raise AssertionError("the pages do not end")


@pytest.mark.requirement("MCP26-PAGE-01", "MCP26-PAGE-03")
@pytest.mark.parametrize("path", ["/mcp", "/servers/new/mcp"])
def test_all_pages_are_offered(client: Made, server: Server2026, path: str) -> None:
    paged(server, 5)
    found = [entry["name"].removeprefix("new__") for entry in walk(client(path))]
    assert found == [f"t{number}" for number in range(5)]
    assert {exchange.params.get("cursor") for exchange in server.of("tools/list")} == {None, "", "2", "3", "4"}


@pytest.mark.requirement("MCP26-PAGE-02")
@pytest.mark.parametrize("path", ["/mcp", "/servers/new/mcp"])
@pytest.mark.parametrize("method", LISTS)
def test_a_cursor_of_nobodys(modern: Any, path: str, method: str) -> None:
    client = modern("new" if "servers" in path else "")
    for cursor in ("nonsense", "", "!!!"):
        assert client.ask(method, {"cursor": cursor})["error"]["code"] == -32602


@pytest.mark.requirement("MCP26-PAGE-03")
def test_a_merged_list_in_pages_is_whole(start: Start) -> None:
    """More tools than any page holds, of two servers: each once, in one order, by cursors that any replica reads."""
    servers = [Server2026(), Server2025()]
    for number, server in enumerate(servers):
        server.tools = [tool(f"tool-{number}-{index:04}") for index in range(700)]
    fleet = [{"name": f"s{number}", "url": server.url} for number, server in enumerate(servers)]
    gateways = [Client2026(start(fleet).url) for _ in range(2)]
    found = [entry["name"] for entry in walk(gateways[0])]
    expected = {f"s{number}__tool-{number}-{index:04}" for number in range(2) for index in range(700)}
    assert len(found) == len(expected)
    assert set(found) == expected
    cursor = gateways[0].ask("tools/list")["result"].get("nextCursor")
    if cursor is not None:
        pages = [[e["name"] for e in g.ask("tools/list", {"cursor": cursor})["result"]["tools"]] for g in gateways]
        assert pages[0] == pages[1]
    for server in servers:
        server.stop()


@pytest.mark.requirement("MCP26-CACHE-06")
def test_all_pages_have_one_scope(client: Made, server: Server2026) -> None:
    """A server that calls one page private makes the list so."""

    def page(exchange: Exchange) -> None:
        second = "cursor" in exchange.params
        more = {} if second else {"nextCursor": "second"}
        hints = {"ttlMs": FOREVER, "cacheScope": "private" if second else "public"}
        items = [tool(f"t{index}-{second}") for index in range(600)]
        exchange.result({"resultType": "complete", "tools": items, **more, **hints})

    server.on["tools/list"] = page
    made = client()
    scopes, params = set(), {}
    while True:
        result = made.ask("tools/list", params)["result"]
        scopes.add(result["cacheScope"])
        if "nextCursor" not in result:
            break
        params = {"cursor": result["nextCursor"]}
    assert scopes == {"private"}


@pytest.mark.requirement("MCP26-CACHE-06")
def test_a_cursor_that_went_bad_drops_all_pages(client: Made, server: Server2026) -> None:
    state = {"generation": 1}

    def page(exchange: Exchange) -> None:
        cursor, generation = exchange.params.get("cursor"), state["generation"]
        if cursor is None:
            items, more = [tool(f"first-{generation}")], {"nextCursor": str(generation)}
            if generation == 1:
                state["generation"] = 2  # the list changes while it is read
        elif cursor != str(generation):
            exchange.error(-32602, "Invalid cursor", status=400)
            return
        else:
            items, more = [tool(f"second-{generation}")], {}
        exchange.result({"resultType": "complete", "tools": items, **more, "ttlMs": FOREVER, "cacheScope": "public"})

    server.on["tools/list"] = page
    assert [entry["name"] for entry in walk(client())] == ["first-2", "second-2"]


# -- what is asked of the right server ---------------------------------------------------------------------------------


@pytest.mark.requirement("MCP26-DISC-01")
def test_discover_says_what_there_is(start: Start) -> None:
    server = Server2026()
    server.capabilities = {"tools": {"listChanged": True}}
    made = Client2026(start([{"name": "only", "url": server.url}]).url, "/servers/only/mcp")
    result = made.ask("server/discover")["result"]
    assert result["supportedVersions"] == ["2026-07-28"] or "2026-07-28" in result["supportedVersions"]
    assert "tools" in result["capabilities"]
    assert "prompts" not in result["capabilities"]
    for method in ("prompts/list", "prompts/get", "completion/complete"):
        params = {"name": "x", "ref": {"type": "ref/prompt", "name": "x"}, "argument": {"name": "a", "value": ""}}
        answer = made.post(method, params)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, -32601), method
    server.stop()


@pytest.mark.requirement("MCP26-RES-01")
@pytest.mark.parametrize("server_name", ["", "new", "old"])
def test_an_unknown_resource(modern: Any, new: Server2026, old: Server2025, server_name: str) -> None:
    data = {"uri": "test://nowhere"}
    new.on["resources/read"] = lambda exchange: exchange.error(-32602, "Resource not found", data, 400)
    old.on["resources/read"] = lambda exchange: exchange.error(-32002, "Resource not found", data)
    for uri in ["test://nowhere"] if server_name else ["new+test://nowhere", "old+test://nowhere", "no+x://y", "x://y"]:
        error = modern(server_name).ask("resources/read", {"uri": uri})["error"]
        assert error["code"] == -32602
        assert error["data"]["uri"] == uri


@pytest.mark.requirement("MCP26-RES-01")
@pytest.mark.parametrize("era", ["new", "old"])
def test_no_contents_are_not_a_resource(modern: Any, new: Server2026, old: Server2025, era: str) -> None:
    """A result of the server's is passed on as it is: the gateway makes no empty contents of its own."""
    for upstream in (new, old):
        upstream.on["resources/read"] = lambda exchange: exchange.error(-32603, "internal")
    assert modern(era).ask("resources/read", {"uri": "test://static"})["error"]["code"] == -32603


@pytest.mark.requirement("MCP26-NAME-01")
def test_names_are_made_of_the_servers_names_here(modern: Any) -> None:
    """Never of what servers call themselves, which anybody may (server/tools, "Tool Names")."""
    listed = modern().ask("tools/list")["result"]["tools"]
    assert {entry["name"].split("__")[0] for entry in listed} == {"new", "old", "sticky"}


@pytest.mark.requirement("MCP26-SCHEMA-01")
def test_references_into_the_network_are_not_followed(client: Made, server: Server2026) -> None:
    target = Server2026()
    schema = {"type": "object", "properties": {"a": {"$ref": target.url}}, "$ref": target.url}
    listing(server, [{**tool("one"), "inputSchema": schema, "outputSchema": schema}], ttlMs=0, cacheScope="public")
    made = client()
    (listed,) = made.ask("tools/list")["result"]["tools"]
    assert listed["inputSchema"] == schema
    made.call("one", {"a": 1})
    assert server.of("tools/call")
    assert target.received == []
    target.stop()
