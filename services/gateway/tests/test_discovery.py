"""Discovery: what a name resolves to, and what the resolver's failures mean."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from mcp_gateway.upstream.discovery import Discovery, resolve, url_of


@dataclass
class Name:
    name: str = "tasks.ocr"
    port: int = 8000
    path: str = "/mcp"


def test_localhost_resolves_to_loopback() -> None:
    found = asyncio.run(resolve("localhost", 80))
    assert found
    assert found <= {"127.0.0.1", "::1"}


def test_a_name_that_is_reserved_as_invalid_has_no_address_or_the_resolver_says_so() -> None:
    try:
        assert asyncio.run(resolve("nothing.invalid", 80)) == set()  # RFC 6761 6.4
    except OSError as failure:
        assert failure.errno is not None


def test_ipv6_addresses_are_bracketed() -> None:
    assert url_of("fd00::1", 8000, "/mcp") == "http://[fd00::1]:8000/mcp"
    assert url_of("10.0.0.1", 8000, "/mcp") == "http://10.0.0.1:8000/mcp"


def test_changes_failures_and_empty_answers() -> None:
    now = 0.0
    answers: list[set[str] | OSError] = []
    seen: list[set[str]] = []

    async def lookup(name: str, port: int) -> set[str]:
        assert (name, port) == ("tasks.ocr", 8000)
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    discovery = Discovery(Name(), seen.append, lookup, keep_seconds=60, clock=lambda: now)

    def look(answer: set[str] | OSError) -> None:
        answers.append(answer)
        asyncio.run(discovery.look())

    one = {"http://10.0.0.1:8000/mcp"}
    look({"10.0.0.1"})
    assert seen == [one]
    look(set())
    assert seen == [one]  # one empty answer proves nothing
    look({"10.0.0.1"})
    assert seen == [one, one]
    look(set())
    look(set())
    assert seen == [one, one, set()]
    look({"10.0.0.1"})
    now = 59.0
    look(OSError("server failure"))
    assert seen[-1] == one
    assert "server failure" in discovery.last_error
    now = 61.0
    look(OSError("server failure"))
    assert seen[-1] == set()
    look({"10.0.0.1"})
    assert seen[-1] == one
    assert discovery.last_error == ""
