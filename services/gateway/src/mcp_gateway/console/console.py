"""Requests to ``/console``: who asks, from where, and which of a handful of paths."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from importlib.resources import files
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

import orjson

from mcp_gateway.console import clients, render
from mcp_gateway.console.session import (
    MAX_CREDENTIAL_BYTES,
    PATH,
    Gate,
    Sessions,
    TooManyAttempts,
    is_same_origin,
)
from mcp_gateway.net.messages import Request, Response
from mcp_gateway.principal import Principal
from mcp_gateway.protocol import Json, RpcError

# Pages of tools/list that are asked for; a server that never ends its list is cut off there.
MAX_LIST_PAGES = 200
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_ASSET_NAMES = (
    "page.css", "page.js", "dom.js", "fleet.js", "tools.js", "form.js", "result.js", "icon.svg",
)  # fmt: skip
# No script or style but our own files, none inline, and no sink that would make markup of text.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
_SECURITY = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),  # not no-referrer: browsers would send forms with "Origin: null"
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
)
_FRESH = ("Cache-Control", "no-store")


class Backend(Protocol):
    """What the gateway gives the console."""

    def status(self) -> Json:
        """The fleet's state; see ``docs/console.md`` for the keys, all of which may be missing."""
        ...

    async def authenticate(self, credential: str) -> Principal | None:
        """Whose key this is; for the empty string, who may come without one, if anybody may."""
        ...

    async def request(self, principal: Principal, method: str, params: Json) -> Json:
        """One MCP request on the merged view.

        Raises:
            RpcError: as a client would get it.
        """
        ...


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _asset(name: str) -> tuple[bytes, str, str]:
    body = (files("mcp_gateway.console") / name).read_bytes()
    return body, _TYPES[name.rpartition(".")[2]], f'"{hashlib.sha256(body).hexdigest()[:16]}"'


class Console:
    """The console.

    Args:
        sealing_key: at least 16 bytes, or several keys of which the first seals and all open; the same on every
            gateway replica.
        public_url: the gateway as clients reach it; cookies are for HTTPS alone where it is https.

    Raises:
        ValueError: a sealing key is too short, or there is none.
    """

    def __init__(self, backend: Backend, sealing_key: bytes | Sequence[bytes], public_url: str) -> None:
        keys = (sealing_key,) if isinstance(sealing_key, bytes) else tuple(sealing_key)
        if not keys or any(len(key) < 16 for key in keys):
            raise ValueError(
                "console: a sealing key has less than 16 bytes, or there is none; give one of 32 random bytes"
            )
        self._backend = backend
        self._public_url = public_url
        self._sessions = Sessions(keys, urlsplit(public_url).scheme == "https")
        self._gate = Gate()
        self._assets = {f"{PATH}/{name}": _asset(name) for name in _ASSET_NAMES}

    async def handle(self, request: Request) -> Response | None:
        """The answer to a request at ``/console`` or below; None for any other path."""
        if request.path != PATH and not request.path.startswith(f"{PATH}/"):
            return None
        try:
            response = await self._route(request)
        except _Refused as refused:
            response = _json({"error": str(refused)}, refused.status)
        response.headers += _SECURITY
        if request.method == "HEAD":
            response.body = b""
        return response

    async def _route(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        match method, request.path.removeprefix(PATH):
            case "GET", _ if request.path in self._assets:
                return self._static(request)
            case "GET", "":
                return await self._page(request)
            case "POST", "/session":
                return await self._sign_in(request)
            case "POST", "/session/end":
                return await self._sign_out(request)
            case "GET", "/api/status":
                await self._signed_in(request)
                return _json(self._backend.status())
            case "GET", "/api/tools":
                principal = await self._signed_in(request)
                tools, problem = await self._tools(principal)
                return _json({"tools": tools, "problem": problem})
            case "GET", "/api/clients":
                await self._signed_in(request)
                aim = await self._target(_query(request, "server"))
                return _json({"url": aim.url, "clients": clients.configurations(aim)})
            case "POST", "/api/call":
                return await self._call(request)
            case _, ("" | "/session" | "/session/end" | "/api/status" | "/api/tools" | "/api/clients" | "/api/call"):
                raise _Refused(405, f"{request.method} is not possible here")
            case _:
                raise _Refused(404, "no such page; the console is at /console")

    # -- who ------------------------------------------------------------------------------------

    async def _who(self, request: Request) -> tuple[Principal | None, bool]:
        """Who asks, and whether a browser sends that along by itself (so that a forged request would, too)."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return await self._backend.authenticate(token.strip()), False
        if session := self._sessions.open(request):
            principal = await self._backend.authenticate(session.credential)
            if principal and principal.name == session.principal:
                return principal, True
        return await self._backend.authenticate(""), True

    async def _signed_in(self, request: Request) -> Principal:
        principal, _ = await self._who(request)
        if principal is None:
            raise _Refused(401, "not signed in; open /console, or send Authorization: Bearer")
        return principal

    def _unforged(self, request: Request, token: str, principal: str) -> None:
        if not is_same_origin(request, self._public_url):
            raise _Refused(403, "the request comes from a page of another origin")
        if not self._sessions.token_is_right(token, request, principal):
            raise _Refused(403, "the page is out of date; reload it and try again")

    async def _sign_in(self, request: Request) -> Response:
        form = _form(request)
        try:
            self._unforged(request, form.get("token", ""), "")
        except _Refused as refused:
            return self._login(request, str(refused), 403)
        credential = form.get("key", "").strip()
        if len(credential.encode()) > MAX_CREDENTIAL_BYTES:
            return self._login(request, f"Keys of more than {MAX_CREDENTIAL_BYTES} bytes do not fit a cookie.", 401)
        try:
            async with self._gate as gate:
                principal = await self._backend.authenticate(credential) if credential else None
                if principal is None:
                    await gate.wrong()
        except TooManyAttempts:
            response = self._login(request, "Too many attempts at this moment. Try again in a second.", 429)
            response.headers += (("Retry-After", "1"),)
            return response
        if principal is None:
            return self._login(request, "This key is not known here.", 401)
        cookie = self._sessions.cookie(credential, principal)
        return Response(303, headers=(("Location", PATH), ("Set-Cookie", cookie), _FRESH))

    async def _sign_out(self, request: Request) -> Response:
        principal, _ = await self._who(request)
        if principal is not None:
            self._unforged(request, _form(request).get("token", ""), principal.name)
        return Response(303, headers=(("Location", PATH), ("Set-Cookie", self._sessions.deletion()), _FRESH))

    # -- pages ----------------------------------------------------------------------------------

    def _login(self, request: Request, problem: str, status: int) -> Response:
        visitor, cookie = self._sessions.visitor(request)
        return _html(render.login(self._sessions.token(visitor, ""), problem), status, cookie)

    async def _page(self, request: Request) -> Response:
        principal, ambient = await self._who(request)
        if principal is None:
            return self._login(request, "", 401)
        visitor, cookie = self._sessions.visitor(request)
        tools, problem = await self._tools(principal)
        anonymous = await self._backend.authenticate("")
        page = render.page(
            status=self._backend.status(),
            tools=tools,
            problem=problem,
            search=_query(request, "q"),
            aim=await self._target(_query(request, "server")),
            principal=principal.name,
            token=self._sessions.token(visitor, principal.name),
            can_sign_out=ambient and anonymous is None,
        )
        return _html(page, 200, cookie)

    def _static(self, request: Request) -> Response:
        body, kind, tag = self._assets[request.path]
        headers = (("ETag", tag), ("Cache-Control", "no-cache"))
        if request.headers.get("if-none-match") == tag:
            return Response(304, b"", kind, headers)
        return Response(200, body, kind, headers)

    # -- the fleet ------------------------------------------------------------------------------

    async def _target(self, server: str) -> clients.Target:
        known = {str(one.get("name")) for one in self._backend.status().get("servers") or []}
        if server and server not in known:
            raise _Refused(404, f"no server is named {server}")
        return clients.target(self._public_url, server, await self._backend.authenticate("") is None)

    async def _tools(self, principal: Principal) -> tuple[list[Json], str]:
        """The tools that ``principal`` may see, and what kept some from being listed."""
        tools: list[Json] = []
        cursor: object = None
        try:
            for _ in range(MAX_LIST_PAGES):
                params: Json = {} if cursor is None else {"cursor": cursor}
                page = await self._backend.request(principal, "tools/list", params)
                tools += [tool for tool in page.get("tools") or [] if isinstance(tool, dict)]
                cursor = page.get("nextCursor")
                if cursor is None:
                    return tools, ""
        except RpcError as failure:
            return tools, f"{failure.message} ({failure.code})"
        return tools, f"The list goes on after {MAX_LIST_PAGES} pages."

    async def _call(self, request: Request) -> Response:
        principal, ambient = await self._who(request)
        if principal is None:
            raise _Refused(401, "not signed in")
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise _Refused(415, "send application/json")
        if ambient:
            self._unforged(request, request.headers.get("x-console-token", ""), principal.name)
        try:
            asked = orjson.loads(request.body)
        except orjson.JSONDecodeError as mistake:
            raise _Refused(400, f"the body is no JSON: {mistake}") from None
        if not isinstance(asked, dict) or not isinstance(asked.get("name"), str):
            raise _Refused(400, 'send {"name": the tool, "arguments": {...}}')
        if not isinstance(asked.get("arguments", {}), dict):
            raise _Refused(400, "arguments: not an object")
        params = {"name": asked["name"], "arguments": asked.get("arguments", {})}
        started = time.monotonic()
        answer: Json
        try:
            answer = {"result": await self._backend.request(principal, "tools/call", params)}
        except RpcError as failure:
            answer = {"error": {"code": failure.code, "message": failure.message, "data": failure.data}}
        except TimeoutError:
            answer = {"error": {"code": None, "message": "no answer in time", "data": None}}
        return _json({**answer, "duration_ms": round((time.monotonic() - started) * 1000, 1)})


def _json(value: Json, status: int = 200) -> Response:
    try:
        body = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # integers past 64 bits, halves of surrogate pairs: servers may send them
        body = json.dumps(value, default=str).encode()
    return Response(status, body, "application/json", (_FRESH,))


def _html(page: str, status: int, cookie: str | None) -> Response:
    extra = (("Set-Cookie", cookie),) if cookie else ()
    return Response(status, page.encode("utf-8", "replace"), "text/html; charset=utf-8", (_FRESH, *extra))


def _form(request: Request) -> dict[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise _Refused(415, "send application/x-www-form-urlencoded")
    try:
        fields = parse_qs(request.body.decode("utf-8", "replace"), max_num_fields=8)
    except ValueError:
        raise _Refused(400, "the form has too many fields") from None
    return {name: values[0] for name, values in fields.items()}


def _query(request: Request, name: str) -> str:
    try:
        return parse_qs(request.query, max_num_fields=8).get(name, [""])[0]
    except ValueError:
        return ""
