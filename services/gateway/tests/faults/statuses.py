"""Faults by HTTP status: refusals, redirects, empty answers, lost sessions."""

from __future__ import annotations

from faults.fault import FAULTS, Behave, Commit, Fault, fault
from faults.wire import Exchange


def _with_status(status: int, *headers: str) -> Commit:
    async def commit(x: Exchange, _: Behave) -> None:
        await x.body(b"no", status, "text/plain", *headers)

    return commit


def _register(status: int, *headers: str, sends: int = 1) -> None:
    name = f"status-{status}"
    cause = rf"\b{status}\b|session"
    FAULTS[name] = Fault(name, _with_status(status, *headers), "error", cause, sends=sends)


for _status in (500, 502, 504):
    _register(_status)
# The server says that it did not execute the call, so that it may be sent again.
for _status in (400, 404, 405, 406, 410, 413, 415, 418, 421):
    _register(_status, sends=3)
_register(401, 'WWW-Authenticate: Bearer realm="upstream"')
_register(403)
_register(408)
_register(429, "Retry-After: 30")
_register(503, "Retry-After: 30", sends=3)


@fault("error", r"202|response|session")
async def accepted(x: Exchange, _: Behave) -> None:
    """202 is for notifications; a request that gets it never gets a response."""
    await x.body(b"", 202, "")


@fault("error", r"204|response")
async def no_content(x: Exchange, _: Behave) -> None:
    await x.raw(b"HTTP/1.1 204 No Content\r\n\r\n")


@fault("error", r"204|response|parse|http|connection|bad")
async def no_content_with_content(x: Exchange, _: Behave) -> None:
    """RFC 9112, section 6.3: 204 has no body, whatever follows it."""
    await x.body(b'{"jsonrpc": "2.0"}', 204)


@fault("error", r"304|response")
async def not_modified(x: Exchange, _: Behave) -> None:
    await x.raw(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n")


def _redirect(status: int) -> Commit:
    async def commit(x: Exchange, _: Behave) -> None:
        await x.body(b"", status, "", f"Location: http://127.0.0.1:{x.site.port}/elsewhere")

    return commit


for _status in (301, 302, 303, 307, 308):
    # A redirect would carry the server's credentials to whom it names.
    FAULTS[f"redirect-{_status}"] = Fault(
        f"redirect-{_status}", _redirect(_status), "error", rf"\b{_status}\b|redirect"
    )


@fault("result", eras=("legacy",), sends=2, at_once=False)
async def session_lost_once(x: Exchange, behave: Behave) -> None:
    """404 ends a session (2025-11-25 basic/transports); nothing ran, so a new session may carry the call."""
    if x.site.sent[x.nonce] == 1:
        x.site.sessions.discard(x.headers.get("mcp-session-id", ""))
    await behave(x)


@fault("error", r"session|404", eras=("legacy",), sends=3)
async def session_lost_always(x: Exchange, _: Behave) -> None:
    await x.error(404, -32600, "no such session")


@fault("error", r"session|400", eras=("legacy",), sends=3)
async def session_refused_with_400(x: Exchange, _: Behave) -> None:
    await x.error(400, -32600, "Bad Request: no valid session ID provided")


@fault("either", eras=("legacy",))
async def another_session_id(x: Exchange, _: Behave) -> None:
    """A session is named by ``initialize`` alone; what a later answer says of it changes nothing."""
    await x.json(x.response(), 200, "Mcp-Session-Id: another")
