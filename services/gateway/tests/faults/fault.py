"""A fault: what is done to one request, and what a client behind the gateway must see of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from faults.wire import Exchange

Behave = Callable[[Exchange], Awaitable[None]]
Commit = Callable[[Exchange, Behave], Awaitable[None]]
Expect = Literal["result", "error", "either"]


@dataclass(frozen=True)
class Fault:
    """One way to misbehave in answering a ``tools/call``.

    Attributes:
        commit: does it; the second argument answers as a good server would.
        expect: what the client must get: the tool's result, an error of the gateway's, or either where the
            specification leaves it open.
        cause: regular expression that the error's message must hold besides the server's name.
        eras: of the server.
        silence, limit: seconds; the gateway's ``timeout_seconds`` and ``max_seconds`` for the server.
        times: how many calls meet it, by clients of both eras in turn; 0 for one that is of use to other tests alone.
        at_once: whether they do so at the same time.
        sends: how often one call may be sent; more than once only where the server refused to execute it.
        peak_mb: how far the gateway's memory may rise meanwhile, in MB for all those calls together.
    """

    name: str
    commit: Commit
    expect: Expect
    cause: str = "."
    eras: tuple[str, ...] = ("modern", "legacy")
    silence: float = 1.0
    limit: float = 2.0
    times: int = 6
    at_once: bool = True
    sends: int = 1
    peak_mb: int = 64


FAULTS: dict[str, Fault] = {}

# Causes as the gateway may word them.
LATE = r"no answer|within|timed? ?out|too long|longer|silent"
BROKEN = r"connection|closed|broke|reset|disconnect|ended|incomplete|not enough|payload|cut|EOF"
NOT_HTTP = r"http|chunk|header|status|parse|invalid|malformed|bad|connection|encoding|length"
NOT_RPC = r"another request|without a|json|response|invalid|no valid|malformed|type"
LARGE = r"large|exceeds|bytes|limit|too (much|big|many)|long|header"


def fault(expect: Expect, cause: str = ".", **options: object) -> Callable[[Commit], Commit]:
    """Register the decorated coroutine under its name."""

    def register(commit: Commit) -> Commit:
        name = commit.__name__.rstrip("_").replace("_", "-")
        FAULTS[name] = Fault(name, commit, expect, cause, **options)
        return commit

    return register
