"""The edge cache: a test for each rule of 2026-07-28 server/utilities/caching, and for its bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
import pytest

from mcp_gateway.answers import Answers, Ask, CacheSettings, Outcome, read
from mcp_gateway.protocol import INVALID_PARAMS, STALE_META_KEY, UNAVAILABLE, Json, RpcError
from mcp_gateway.reader import Reader

READ, CALL = "resources/read", "tools/call"
ALL = CacheSettings(resources=True, tools={"get_*": 60.0}, max_ttl_seconds=600.0)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Server:
    """A server behind the cache: counts what it is asked and answers what it is given."""

    def __init__(self, settings: CacheSettings = ALL, **result: Any) -> None:
        self.clock = Clock()
        self.answers = Answers({"s": settings}, self.clock)
        self.result: Json = {"contents": [{"uri": "x:1", "text": "one"}], "ttlMs": 1000, **result}
        self.failure: RpcError | None = None
        self.asked = 0
        self.gate: asyncio.Event | None = None

    async def fetch(self) -> Json:
        self.asked += 1
        if self.gate:
            await self.gate.wait()
        if self.failure:
            raise self.failure
        answer: Json = orjson.loads(orjson.dumps(self.result))
        return answer

    def plan(
        self, params: Json | None = None, context: str = "ann", method: str = READ, view: str = "/mcp"
    ) -> Ask | None:
        return self.answers.plan(view, "s", method, {"uri": "x:1"} if params is None else params, context)

    async def get(
        self, params: Json | None = None, context: str = "ann", method: str = READ, view: str = "/mcp"
    ) -> tuple[Json, str]:
        ask = self.plan(params, context, method, view)
        if ask is None:
            return await self.fetch(), "none"
        return await self.answers.get(ask, self.fetch), ask.outcome.value

    def updated(self, uri: str = "x:1") -> None:
        self.answers.notice("s", "notifications/resources/updated", {"uri": uri})


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def synchronous() -> None:
        asyncio.run(test())

    synchronous.__name__, synchronous.__doc__ = test.__name__, test.__doc__
    return synchronous


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


# -- cacheable results -------------------------------------------------------------------------------------------------


@run
async def test_a_complete_read_is_kept() -> None:
    server = Server()
    first = await server.get()
    again = await server.get()
    assert (first[1], again[1], server.asked) == ("miss", "hit", 1)
    assert again[0]["contents"] == first[0]["contents"]


@run
async def test_interim_results_are_not_kept() -> None:
    """ "Interim results with resultType input_required ... are not cacheable"; nor are tasks."""
    for kind in ("input_required", "task"):
        server = Server(resultType=kind, ttlMs=60000)
        await server.get()
        await server.get()
        assert server.asked == 2


@run
async def test_other_methods_are_not_kept() -> None:
    server = Server()
    for method in ("prompts/get", "completion/complete", "tools/list", "resources/list"):
        assert server.plan(method=method) is None


# -- the key -----------------------------------------------------------------------------------------------------------


@run
async def test_other_parameters_are_another_request() -> None:
    """ "MUST NOT serve a cached response for a request whose method or parameters differ"."""
    server = Server()
    asked: list[Json] = [
        {"uri": "x:1"},
        {"uri": "x:2"},
        {"uri": "x:1", "flag": True},
        {"uri": "x:1", "flag": 1},
        {"uri": "x:1", "_meta": {"com.example/language": "de"}},
        {"uri": "x:1", "_meta": {"io.modelcontextprotocol/clientCapabilities": {"roots": {}}}},
    ]
    for params in asked:
        assert (await server.get(params))[1] == "miss"
    assert server.asked == len(asked)
    assert (await server.get(view="/servers/s/mcp"))[1] == "miss"


@run
async def test_what_does_not_affect_the_result_is_no_part_of_the_key() -> None:
    server = Server()
    await server.get({"uri": "x:1", "a": {"b": 1, "c": 2}})
    for meta in (
        {"progressToken": 7},
        {"traceparent": "00-1"},
        {"io.modelcontextprotocol/clientInfo": {"name": "x"}},
        {},
    ):
        assert (await server.get({"_meta": meta, "a": {"c": 2, "b": 1}, "uri": "x:1"}))[1] == "hit"


@run
async def test_retries_of_multi_round_trip_requests_are_not_kept() -> None:
    """ "Requests carrying inputResponses or requestState MUST NOT be cached"; nor is one that asks for a task."""
    server = Server()
    await server.get()
    retries: list[Json] = [{"inputResponses": {}}, {"requestState": "x"}, {"task": {"ttl": 1}}]
    for params in retries:
        assert server.plan({"uri": "x:1", **params}) is None


# -- ttlMs -------------------------------------------------------------------------------------------------------------


@run
async def test_fresh_until_received_plus_ttl() -> None:
    """ "now < t_received + ttlMs", by the local clock when the answer was there, not when it was asked for."""
    server = Server(ttlMs=1000)
    server.gate = asyncio.Event()
    first = asyncio.ensure_future(server.get())
    await settle()
    server.clock.now += 5
    server.gate.set()
    await first
    server.clock.now += 0.999
    assert (await server.get())[1] == "hit"
    server.clock.now += 0.001
    assert (await server.get())[1] == "miss"


@run
async def test_clients_are_told_what_is_left_of_it() -> None:
    server = Server(ttlMs=1000, cacheScope="public")
    await server.get()
    server.clock.now += 0.4
    result, _ = await server.get()
    assert 599 <= result["ttlMs"] <= 600
    assert result["cacheScope"] == "public"


@pytest.mark.parametrize("ttl", [0, -1, -60000, None, "1000", True, 1.5])
def test_zero_negative_absent_and_senseless_ttls_are_stale_at_once(ttl: Any) -> None:
    async def test() -> None:
        server = Server(ttlMs=ttl)
        if ttl is None:
            del server.result["ttlMs"]
        assert [(await server.get())[1] for _ in range(2)] == ["miss", "pass"]
        assert server.asked == 2

    asyncio.run(test())


@run
async def test_a_heuristic_for_servers_that_do_not_say() -> None:
    """ "If absent, clients SHOULD assume 0 and rely on their own caching heuristics"; if there, it counts."""
    settings = CacheSettings(resources=True, resources_ttl_seconds=10)
    server = Server(settings)
    del server.result["ttlMs"]
    await server.get()
    server.clock.now += 9
    result, outcome = await server.get()
    assert (outcome, result["ttlMs"], result["cacheScope"]) == ("hit", 1000, "private")
    told = Server(settings, ttlMs=0)
    await told.get()
    await told.get()
    assert told.asked == 2


@run
async def test_no_ttl_is_longer_than_allowed() -> None:
    server = Server(CacheSettings(resources=True, max_ttl_seconds=10), ttlMs=10**9)
    await server.get()
    server.clock.now += 10
    assert (await server.get())[1] == "miss"


@run
async def test_no_fetching_by_itself() -> None:
    """ "Clients SHOULD NOT treat TTL as a polling interval"."""
    server = Server()
    await server.get()
    server.clock.now += 3600
    await settle()
    assert server.asked == 1
    assert len(asyncio.all_tasks()) == 1


# -- cacheScope --------------------------------------------------------------------------------------------------------


@run
async def test_public_answers_are_for_all() -> None:
    server = Server(cacheScope="public")
    await server.get(context="ann")
    assert (await server.get(context="bob"))[1] == "hit"


@pytest.mark.parametrize("scope", ["private", None, "PUBLIC", 1])
def test_private_answers_are_for_one_authorisation_context(scope: Any) -> None:
    """ "Caches MUST NOT be shared across authorization contexts"; without a word of it neither."""

    async def test() -> None:
        server = Server(**({"cacheScope": scope} if scope is not None else {}))
        for context in ("ann", "bob"):
            assert (await server.get(context=context))[1] == "miss"
        for context in ("ann", "bob"):
            assert (await server.get(context=context))[1] == "hit"
        assert server.asked == 2

    asyncio.run(test())


@run
async def test_what_was_public_and_is_private_now_is_shared_no_more() -> None:
    server = Server(cacheScope="public")
    await server.get(context="ann")
    server.clock.now += 2
    server.result["cacheScope"] = "private"
    server.gate = asyncio.Event()
    both = [asyncio.ensure_future(server.get(context=context)) for context in ("ann", "bob")]
    await settle()
    assert server.asked == 2  # bob waits, as the last answer was for all
    server.gate.set()
    assert [outcome for _, outcome in await asyncio.gather(*both)] == ["miss", "miss"]
    assert server.asked == 3


# -- errors ------------------------------------------------------------------------------------------------------------


@run
async def test_errors_are_not_kept() -> None:
    server = Server()
    server.failure = RpcError(INVALID_PARAMS, "Resource not found")
    for _ in range(2):
        with pytest.raises(RpcError, match="not found"):
            await server.get()
    server.failure = None
    assert (await server.get())[1] == "miss"
    assert server.asked == 3


@run
async def test_errors_of_tools_are_not_kept() -> None:
    server = Server(content=[], isError=True)
    for _ in range(2):
        await server.get({"name": "get_x"}, method=CALL)
    assert server.asked == 2
    server.result["isError"] = False
    await server.get({"name": "get_x"}, method=CALL)
    assert (await server.get({"name": "get_x"}, method=CALL))[1] == "hit"


@run
async def test_stale_answers_stand_in_for_a_server_that_is_down() -> None:
    """ "Clients MAY serve stale responses if errors occur during re-fetching", here only if set, and marked."""
    server = Server(CacheSettings(resources=True, stale_seconds=60), _meta={"a": 1})
    await server.get()
    server.failure = RpcError(UNAVAILABLE, "down")
    server.clock.now += 60.9
    result, outcome = await server.get()
    assert outcome == "stale"
    assert (result["ttlMs"], result["_meta"]) == (0, {"a": 1, STALE_META_KEY: ["s"]})
    with pytest.raises(RpcError, match="down"):
        await server.get(context="bob")
    server.clock.now += 0.1
    with pytest.raises(RpcError, match="down"):
        await server.get()


@run
async def test_without_the_setting_nothing_stale_is_served() -> None:
    server = Server()
    await server.get()
    server.failure = RpcError(UNAVAILABLE, "down")
    server.clock.now += 1
    with pytest.raises(RpcError, match="down"):
        await server.get()


@run
async def test_what_the_server_itself_refuses_is_stale_no_more() -> None:
    server = Server(CacheSettings(resources=True, stale_seconds=60))
    await server.get()
    server.clock.now += 2
    for failure in (RpcError(INVALID_PARAMS, "Resource not found"), RpcError(UNAVAILABLE, "down")):
        server.failure = failure
        with pytest.raises(RpcError, match=failure.message):
            await server.get()


# -- notifications -----------------------------------------------------------------------------------------------------


@run
async def test_an_update_invalidates_the_resource_at_once() -> None:
    """ "The notification invalidates the cached response and it should be considered immediately stale"."""
    server = Server(ttlMs=60000, cacheScope="public")
    for uri in ("x:1", "x:2"):
        await server.get({"uri": uri})
    server.updated("x:1")
    assert (await server.get({"uri": "x:2"}))[1] == "hit"
    assert (await server.get({"uri": "x:1"}))[1] == "miss"
    server.answers.notice("other", "notifications/resources/updated", {"uri": "x:1"})
    assert (await server.get({"uri": "x:1"}))[1] == "hit"


@pytest.mark.parametrize("kind", ["resources", "tools"])
def test_changed_lists_invalidate_everything_of_the_server(kind: str) -> None:
    async def test() -> None:
        server = Server(ttlMs=60000)
        asks: list[tuple[Json, str]] = [({"uri": "x:1"}, READ), ({"name": "get_x"}, CALL)]
        for params, method in asks:
            await server.get(params, method=method)
        server.answers.notice("s", "notifications/message", {})
        for params, method in asks:
            assert (await server.get(params, method=method))[1] == "hit"
        server.answers.notice("s", f"notifications/{kind}/list_changed", {})
        for params, method in asks:
            assert (await server.get(params, method=method))[1] == "miss"

    asyncio.run(test())


@run
async def test_what_was_under_way_when_it_changed_is_not_kept() -> None:
    server = Server(ttlMs=60000)
    server.gate = asyncio.Event()
    early = asyncio.ensure_future(server.get())
    await settle()
    server.updated()
    late = asyncio.ensure_future(server.get())  # must not be answered by what was asked before
    await settle()
    assert server.asked == 2
    server.gate.set()
    assert [outcome for _, outcome in await asyncio.gather(early, late)] == ["miss", "miss"]
    assert (await server.get())[1] == "hit"


@run
async def test_who_waits_when_it_changes_asks_anew_together() -> None:
    server = Server(ttlMs=60000)
    server.gate = asyncio.Event()
    several = [asyncio.ensure_future(server.get()) for _ in range(5)]
    await settle()
    server.updated()
    server.gate.set()
    await asyncio.gather(*several)
    assert server.asked == 2


# -- one request for many ----------------------------------------------------------------------------------------------


@run
async def test_requests_for_the_same_are_one() -> None:
    server = Server()
    server.gate = asyncio.Event()
    several = [asyncio.ensure_future(server.get()) for _ in range(10)]
    await settle()
    server.gate.set()
    results = await asyncio.gather(*several)
    assert server.asked == 1
    assert sorted(outcome for _, outcome in results) == ["miss"] + ["shared"] * 9
    results[0][0]["contents"].clear()
    assert results[1][0]["contents"]


@run
async def test_what_cannot_be_kept_is_not_shared() -> None:
    server = Server(ttlMs=0)
    server.gate = asyncio.Event()
    several = [asyncio.ensure_future(server.get()) for _ in range(3)]
    await settle()
    server.gate.set()
    await asyncio.gather(*several)
    assert server.asked == 3
    # From now on nobody waits for another in vain, until it turns out that answers can be kept again.
    server.gate = asyncio.Event()
    several = [asyncio.ensure_future(server.get()) for _ in range(3)]
    await settle()
    assert server.asked == 6
    server.result["ttlMs"] = 1000
    server.gate.set()
    await asyncio.gather(*several)
    assert (await server.get())[1] == "hit"


@run
async def test_failures_are_shared_by_those_who_wait() -> None:
    server = Server()
    server.gate, server.failure = asyncio.Event(), RpcError(UNAVAILABLE, "down")
    several = [asyncio.ensure_future(server.get()) for _ in range(3)]
    await settle()
    server.gate.set()
    results = await asyncio.gather(*several, return_exceptions=True)
    assert [type(result) for result in results] == [RpcError] * 3
    assert server.asked == 1


@run
async def test_when_the_first_leaves_the_others_still_get_it() -> None:
    server = Server()
    server.gate = asyncio.Event()
    first, second = (asyncio.ensure_future(server.get()) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    server.gate.set()
    assert (await second)[1] == "shared"
    assert server.asked == 1


@run
async def test_when_all_leave_the_request_is_cancelled() -> None:
    server = Server()
    server.gate = asyncio.Event()
    several = [asyncio.ensure_future(server.get()) for _ in range(2)]
    await settle()
    for each in several:
        each.cancel()
    await settle()
    assert len(asyncio.all_tasks()) == 1
    server.gate.set()
    assert (await server.get())[1] == "miss"


# -- tools -------------------------------------------------------------------------------------------------------------


@run
async def test_tools_are_kept_as_configured() -> None:
    server = Server(content=[{"type": "text", "text": "7"}])
    del server.result["ttlMs"]
    others: list[Json] = [{"name": "set_x"}, {"name": "GET_x"}, {"name": None}, {}]
    for params in others:
        assert server.plan(params, method=CALL) is None
    for arguments in ({"a": 1}, {"a": 2}):
        assert (await server.get({"name": "get_x", "arguments": arguments}, method=CALL))[1] == "miss"
    server.clock.now += 59
    result, outcome = await server.get({"name": "get_x", "arguments": {"a": 1}}, method=CALL)
    assert outcome == "hit"
    assert result == server.result  # tool results carry no hints
    server.clock.now += 1
    assert (await server.get({"name": "get_x", "arguments": {"a": 1}}, method=CALL))[1] == "miss"


@run
async def test_a_tool_that_says_less_is_kept_for_less() -> None:
    server = Server(ttlMs=1000)
    await server.get({"name": "get_x"}, method=CALL)
    server.clock.now += 1
    assert (await server.get({"name": "get_x"}, method=CALL))[1] == "miss"


@run
async def test_the_first_pattern_that_matches_counts() -> None:
    server = Server(CacheSettings(tools={"get_time": 1.0, "get_*": 60.0}))
    del server.result["ttlMs"]
    for tool, expected in (("get_time", "miss"), ("get_map", "hit")):
        await server.get({"name": tool}, method=CALL)
        server.clock.now += 2
        assert (await server.get({"name": tool}, method=CALL))[1] == expected
    assert server.plan() is None  # resources were not asked for


# -- bounds ------------------------------------------------------------------------------------------------------------


def held(server: Server) -> tuple[int, int]:
    return server.answers.stats()["s"]


@run
async def test_entries_are_bounded_the_least_used_goes_first() -> None:
    server = Server(CacheSettings(resources=True, max_entries=3), ttlMs=60000)
    for uri in ("x:1", "x:2", "x:3", "x:1", "x:4"):
        await server.get({"uri": uri})
    assert held(server)[0] == 3
    assert [(await server.get({"uri": uri}))[1] for uri in ("x:1", "x:3", "x:4", "x:2")] == [
        "hit",
        "hit",
        "hit",
        "miss",
    ]


@run
async def test_bytes_are_bounded() -> None:
    server = Server(CacheSettings(resources=True, max_bytes=20000), contents=[{"text": "x" * 3000}], ttlMs=60000)
    for n in range(50):
        await server.get({"uri": f"x:{n}"})
        assert held(server)[1] <= 20000
    assert 4 <= held(server)[0] <= 6


@run
async def test_one_large_answer_does_not_push_out_the_others() -> None:
    server = Server(CacheSettings(resources=True, max_bytes=20000), ttlMs=60000)
    await server.get({"uri": "x:1"})
    server.result["contents"] = [{"text": "x" * 6000}]
    for _ in range(2):
        assert (await server.get({"uri": "x:2"}))[1] == "miss"
    assert (await server.get({"uri": "x:1"}))[1] == "hit"


@run
async def test_nothing_is_left_when_everything_is_invalidated() -> None:
    server = Server(ttlMs=60000)
    for n in range(20):
        await server.get({"uri": f"x:{n}"}, context=str(n % 3))
    for n in range(20):
        server.updated(f"x:{n}")
    assert held(server) == (0, 0)


# -- settings ----------------------------------------------------------------------------------------------------------


@run
async def test_answers_outlive_a_configuration_that_leaves_them_as_they_are() -> None:
    server = Server(ttlMs=60000)
    await server.get()
    server.answers.configure({"s": CacheSettings(True, 0.0, {"get_*": 60.0}, 600.0), "t": ALL})
    assert (await server.get())[1] == "hit"
    server.answers.configure({"s": CacheSettings(resources=True)})
    assert (await server.get())[1] == "miss"
    server.answers.configure({"s": CacheSettings()})
    assert server.plan() is None
    assert Answers().plan("/mcp", "s", READ, {"uri": "x"}, "ann") is None


def test_settings_are_read() -> None:
    errors: list[str] = []
    section = {"resources": True, "tools": {"get_*": 30}, "stale_seconds": 60, "max_bytes": 1000}
    assert read(Reader(section, "servers[0].cache", errors)) == CacheSettings(
        resources=True, tools={"get_*": 30.0}, stale_seconds=60.0, max_bytes=1000
    )
    assert not errors
    read(Reader({"tools": {"x": 0}, "resources_ttl_seconds": 5, "ttl": 1}, "servers[0].cache", errors))
    assert errors == [
        "servers[0].cache.tools.x: 0 is not allowed; expected int or float",
        "servers[0].cache.resources_ttl_seconds: has no effect while servers[0].cache.resources is not true; set it",
        "servers[0].cache.ttl: unknown key; see the configuration reference in the README",
    ]


def test_outcomes_are_a_bounded_set_of_labels() -> None:
    assert {outcome.value for outcome in Outcome} == {"hit", "miss", "shared", "stale", "pass"}
