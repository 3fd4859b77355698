"""Every fault of a server: its clients are told in time, nobody else notices, and the gateway is well afterwards."""

from __future__ import annotations

import concurrent.futures
import json
import re
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from faults.behaviours import FAULTS
from faults.eras import LIARS
from faults.fault import LATE, Fault
from faults.rig import Caller, Rig
from mcp_gateway.protocol import BUSY, TIMED_OUT, UNAVAILABLE

CASES = [(era, fault) for fault in FAULTS.values() for era in fault.eras if fault.times]
# What lies between the gateway's own deadline and its answer: sending it, on a machine with other things to do.
SLACK_SECONDS = 6.0
OWN_CODES = (UNAVAILABLE, BUSY, TIMED_OUT, -32603)


def site(era: str, fault: Fault) -> str:
    return f"{era[0]}-{fault.name}"[:32]


@pytest.fixture(scope="module")
def under_faults(rig: Callable[..., Rig]) -> Rig:
    """One gateway, a server for each fault and era."""
    names = [site(era, fault) for era, fault in CASES]
    assert len(set(names)) == len(names)
    sites: list[dict[str, Any]] = [{"name": site(era, f), "era": era, "on": {"tools/call": f.name}} for era, f in CASES]
    limits = {site(era, f): {"timeout_seconds": f.silence, "max_seconds": f.limit} for era, f in CASES}
    for name, how in {
        "slow-to-accept": {"delay": 0.3},
        "two-at-a-time": {"most": 2},
        "one-at-a-time": {"most": 1},
    }.items():
        sites.append({"name": name, **how})
        limits[name] = {"timeout_seconds": 1.0, "max_seconds": 2.0}
    return rig(sites, limits)


@pytest.fixture(scope="module")
def callers(under_faults: Rig) -> list[Caller]:
    return [Caller(under_faults.gateway.url, era, timeout=60) for era in ("modern", "legacy")]


def told(message: dict[str, Any]) -> str:
    """What the client saw, in a line."""
    if "error" in message:
        return f"{message['error']['code']} {message['error']['message']}"
    return f"result {json.dumps(message['result'])}"


def explains(failure: dict[str, Any], server: str, cause: str) -> bool:
    """Whether an error says which server failed and why; one of the server's own is handed on as it is."""
    text = failure["message"]
    return failure["code"] not in OWN_CODES or bool(server in text and re.search(cause, text, re.IGNORECASE))


@pytest.mark.parametrize(("era", "fault"), CASES, ids=[f"{fault.name}-{era}" for era, fault in CASES])
def test_a_fault(under_faults: Rig, callers: list[Caller], seen: Callable[..., None], era: str, fault: Fault) -> None:
    name, probe = site(era, fault), under_faults.probe
    assert probe
    before, failed, answered = under_faults.now(), len(probe.failures), probe.answered
    under_faults.forget_peak()

    def one(number: int) -> tuple[dict[str, Any], float]:
        arguments, start = {"nonce": f"{name}-{number}"}, time.monotonic()
        message = callers[number % 2].call(f"{name}__act", arguments, number, progressToken=f"p{number}")
        return message, time.monotonic() - start

    with concurrent.futures.ThreadPoolExecutor(fault.times if fault.at_once else 1) as pool:
        answers = list(pool.map(one, range(fault.times)))
    seconds = max(taken for _, taken in answers)
    rise = under_faults.peak_mb() - before.resident_mb
    seen("faults of servers", f"{fault.name} ({era})", told(answers[0][0]), f"{seconds:5.2f} s {rise:4.0f} MB")

    for message, taken in answers:
        assert taken < fault.limit + SLACK_SECONDS
        assert "POISON" not in str(message)
        if fault.expect != "either":
            assert fault.expect in message, told(message)
        if "error" in message and fault.expect != "result":
            assert explains(message["error"], name, fault.cause), told(message)
    assert rise < fault.peak_mb
    report = under_faults.sites()[name]
    assert max(report["sent"].values()) <= fault.sends, "a call that may have run was sent again"
    assert not {"cookie", "redirect followed"} & set(report["hits"])

    # A second round: what a fault left behind on a kept connection would show now.
    under_faults.change(name, on={})
    wait = time.monotonic() + 40  # a replica that was set aside comes back
    while "result" not in (message := callers[0].call(f"{name}__act", {"nonce": "after"}, 77)):
        assert time.monotonic() < wait, f"the server is well again, its clients are not: {told(message)}"
        time.sleep(0.1)
    assert "POISON" not in str(message)
    probe.rounds(4)
    assert probe.failures[failed:] == [] and probe.answered > answered
    under_faults.is_well(before)


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("how", ["close-on-the-next-request", "reset-on-the-next-request", "close-after-each-answer"])
def test_safe_requests_survive_closing_connections(
    under_faults: Rig, callers: list[Caller], era: str, how: str
) -> None:
    """The race of keep-alive: a read that met a connection as it was closed is sent again, and nobody sees it."""
    name = site(era, FAULTS[how])
    under_faults.change(name, on={"resources/read": how})
    for round_ in range(4):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            jobs = [
                pool.submit(callers[i % 2].post, "resources/read", {"uri": f"{name}+test://x"}, i) for i in range(16)
            ]
        messages = [callers[i % 2].well_formed(job.result(), i) for i, job in enumerate(jobs)]
        assert [told(message) for message in messages if "error" in message] == [], round_
    assert under_faults.sites()[name]["hits"][how] >= 64


@pytest.mark.parametrize(
    ("name", "expect"), [("slow-to-accept", "result"), ("two-at-a-time", "either"), ("one-at-a-time", "either")]
)
def test_servers_that_hardly_accept(
    under_faults: Rig, callers: list[Caller], seen: Callable[..., None], name: str, expect: str
) -> None:
    """Connections that are made and not served: calls end in time, and the next ones work."""
    assert under_faults.probe
    before, failed = under_faults.now(), len(under_faults.probe.failures)

    def one(number: int) -> tuple[dict[str, Any], float]:
        start = time.monotonic()
        return callers[number % 2].call(f"{name}__act", {"nonce": f"{number}"}, number), time.monotonic() - start

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(one, range(6)))
    good = sum("result" in message for message, _ in answers)
    seen("faults of servers", name, f"{good} of 6 calls at once have a result; then {told(one(6)[0])}")
    for message, seconds in answers:
        assert seconds < 2.0 + SLACK_SECONDS
        assert expect == "either" or "result" in message
        assert "result" in message or explains(message["error"], name, LATE), told(message)
    assert good >= 1 and max(under_faults.sites()[name]["ran"].values()) == 1
    assert under_faults.probe.failures[failed:] == []
    under_faults.is_well(before)


def test_nothing_was_left_open(under_faults: Rig) -> None:
    """Seen from the servers' side: what is not in use any more is closed, but for a health check's connection."""

    fewest: dict[str, int] = {}
    for _ in range(40):  # health checks come and go; what leaked stays
        for name, report in under_faults.sites().items():
            fewest[name] = min(fewest.get(name, report["open"]), report["open"])
        time.sleep(0.2)
    held = {name: count for name, count in fewest.items() if count > 2}
    assert not held, f"{len(held)} servers, {sum(held.values())} connections: {held}"


# -- servers that are wrong before they are called ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def under_liars(rig: Callable[..., Rig]) -> Rig:
    """Another gateway: these are met when it starts, and by everyone's merged list."""
    sites = [{"name": name[:32], "era": liar.era, "on": liar.on} for name, liar in LIARS.items()]
    limits = {name[:32]: {"timeout_seconds": 0.8, "max_seconds": 1.6} for name in LIARS}
    return rig(sites, limits, wait=("good", "good-old"))


@pytest.fixture(scope="module")
def liars_callers(under_liars: Rig) -> list[Caller]:
    return [Caller(under_liars.gateway.url, era, timeout=60) for era in ("modern", "legacy")]


@pytest.fixture(scope="module")
def offered(under_liars: Rig) -> tuple[httpx2.Response, float]:
    """The merged list over all of them, and what it took in seconds."""
    start = time.monotonic()
    answer = Caller(under_liars.gateway.url, "modern").post("tools/list", {}, 5)
    return answer, time.monotonic() - start


def test_the_merged_list_survives_all_of_them(
    liars_callers: list[Caller], offered: tuple[httpx2.Response, float], seen: Callable[..., None]
) -> None:
    answer, seconds = offered
    message = liars_callers[0].well_formed(answer, 5)
    assert seconds < 5 + SLACK_SECONDS
    assert "result" in message, told(message)
    result = message["result"]
    tools = list(result["tools"])
    while cursor := message["result"].get("nextCursor"):
        message = liars_callers[0].well_formed(liars_callers[0].post("tools/list", {"cursor": cursor}, 6), 6)
        assert "result" in message, told(message)
        tools += message["result"]["tools"]
    names = [tool["name"] for tool in tools]
    assert {"good__act", "good__look", "good-old__act", "good-old__look"} <= set(names)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name), name
    wrong = [
        f"{name}: {'missing' if liar.listed else 'there'}"
        for name, liar in LIARS.items()
        if liar.listed is not None and (f"{name[:32]}__act" in names) != liar.listed
    ]
    partial: list[str] = next((v for k, v in (result.get("_meta") or {}).items() if k.endswith("/partial")), [])
    what = f"{len(names)} tools; partial: {', '.join(partial)}"
    seen("servers that lie", "merged tools/list", what, f"{seconds:5.2f} s")
    assert wrong == []


@pytest.mark.parametrize("name", LIARS)
def test_a_liar(
    under_liars: Rig, liars_callers: list[Caller], offered: object, seen: Callable[..., None], name: str
) -> None:
    liar, probe = LIARS[name], under_liars.probe
    assert probe
    before, failed = under_liars.now(), len(probe.failures)
    for number, caller in enumerate((*liars_callers, liars_callers[0])):
        start = time.monotonic()
        message = caller.call(f"{name[:32]}__act", {"nonce": f"{number}", "p0": "a\r\nb: c", "p3": "x"}, number)
        seconds = time.monotonic() - start
        assert seconds < 20 + SLACK_SECONDS
        if liar.expect != "either":
            assert liar.expect in message, told(message)
        if "error" in message:
            assert explains(message["error"], name[:32], liar.cause), told(message)
    seen("servers that lie", name, told(message), f"{seconds:5.2f} s")
    report = under_liars.sites()[name[:32]]
    assert max(report["ran"].values(), default=0) <= 1, "a call was executed twice"
    probe.rounds(4)
    assert probe.failures[failed:] == []
    under_liars.is_well(before)
