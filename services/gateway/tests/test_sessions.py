"""Whose session at a server a call uses, and what is remembered of those that were parted with."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from mcp_gateway.config import parse
from mcp_gateway.reader import ConfigError
from mcp_gateway.sessions import Pin
from mcp_gateway.upstream import legacy
from mcp_gateway.views.request import session_key

STATELESS: Any = SimpleNamespace(server=SimpleNamespace(sticky=False))


def test_no_principal_has_the_session_of_another() -> None:
    keys = [
        session_key(principal, None, capabilities, STATELESS)
        for principal in ("oauth:alice", 'oauth:alice {"sampling":{}}', "oauth:alice {}")
        for capabilities in ({}, {"sampling": {}}, {"sampling": {}, "roots": {}})
    ]
    assert len(set(keys)) == len(keys)
    either = [{"roots": {}, "sampling": {}}, {"sampling": {}, "roots": {}}]
    assert len({session_key("oauth:alice", None, capabilities, STATELESS) for capabilities in either}) == 1


def test_a_session_that_had_to_go_leaves_nothing_and_comes_back_by_its_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes where there are too many; the client's own session id still leads to it."""
    monkeypatch.setattr(legacy, "MAX_SESSIONS", 2)
    replica: Any = SimpleNamespace(url="http://replica/mcp")
    nowhere: Any = None  # nothing is sent
    sessions = legacy.LegacySessions("x", nowhere, 60, lambda _work: None)

    async def session(key: str) -> str | None:
        return (await sessions.session(replica, key, Pin(replica.url, f"id-{key}", "2025-11-25"))).id

    async def run() -> None:
        for key in "abc":
            await session(key)
        assert len(sessions) == 2
        assert [sessions.url_of(key) for key in "abc"] == [None, replica.url, replica.url]
        assert await session("a") == "id-a"

    asyncio.run(run())


def test_servers_whose_resources_would_have_the_same_uris_are_refused() -> None:
    url = "http://127.0.0.1:9/mcp"
    with pytest.raises(ConfigError) as refused:
        parse({"servers": [{"name": name, "url": url} for name in ("my-files", "other", "my_files")]})
    [mistake] = refused.value.errors
    assert mistake.startswith("servers: 'my-files' and 'my_files' differ in - and _ alone")
