"""The page as the server draws it: complete without scripts."""

from __future__ import annotations

import json
from importlib.resources import files
from string import Template

from mcp_gateway import __version__, names
from mcp_gateway.console import clients, fleet
from mcp_gateway.console.markup import Markup, fill, join, tag, void
from mcp_gateway.protocol import Json

# Tools drawn without scripts; the search narrows them down. The live page draws each when it is looked at.
MAX_DRAWN_TOOLS = 100


def _template(name: str) -> Template:
    return Template((files("mcp_gateway.console") / name).read_text("utf-8"))


_PAGE = _template("page.html")
_LOGIN = _template("login.html")


def login(token: str, problem: str) -> str:
    """The sign-in form."""
    shown = tag("p", {"class": "problem", "role": "alert"}, problem) if problem else Markup("")
    return fill(_LOGIN, token=token, problem=shown)


def page(
    *,
    status: Json,
    tools: list[Json],
    problem: str,
    search: str,
    aim: clients.Target,
    principal: str,
    token: str,
    can_sign_out: bool,
) -> str:
    """The console.

    Args:
        search: only tools are drawn that have it in name, title or description.
        aim: the endpoint that clients are configured for.
        token: sent along by the page's own requests.
        can_sign_out: whether a session exists that could end.
    """
    servers = [str(one.get("name", "")) for one in status.get("servers") or []]
    return fill(
        _PAGE,
        version=str(status.get("version") or __version__),
        principal=principal,
        token=token,
        sign_out=_sign_out(token) if can_sign_out else Markup(""),
        summary=fleet.summary(status),
        columns=join(*(tag("th", {"scope": "col"}, label) for label in fleet.COLUMNS)),
        matrix=fleet.matrix(status),
        errors=fleet.errors(status),
        search=search,
        tools=_tools(tools, search, problem, servers),
        endpoints=_endpoints(servers, aim),
        url=aim.url,
        clients=join(*(_client(one) for one in clients.configurations(aim))),
    )


def _sign_out(token: str) -> Markup:
    return tag(
        "form",
        {"method": "post", "action": "/console/session/end"},
        void("input", {"type": "hidden", "name": "token", "value": token}),
        tag("button", {"type": "submit"}, "Sign out"),
    )


def _matches(tool: Json, search: str) -> bool:
    words = search.casefold().split()
    text = " ".join(str(tool.get(key) or "") for key in ("name", "title", "description")).casefold()
    return all(word in text for word in words)


def _tools(tools: list[Json], search: str, problem: str, servers: list[str]) -> Markup:
    found = [tool for tool in tools if _matches(tool, search)]
    groups: dict[str, list[Json]] = {}
    for tool in found[:MAX_DRAWN_TOOLS]:
        owner = names.split(str(tool.get("name", "")), servers)
        groups.setdefault(owner[0] if owner else "gateway", []).append(tool)
    parts: list[str] = []
    if problem:
        parts.append(tag("p", {"class": "problem"}, f"The list of tools is not complete: {problem}"))
    if not found:
        parts.append(tag("p", {"class": "none"}, "No tool matches." if tools else "There are no tools."))
    if len(found) > MAX_DRAWN_TOOLS:
        parts.append(tag("p", None, f"The first {MAX_DRAWN_TOOLS} of {len(found)} are shown. Search to see others."))
    for server, members in groups.items():
        heading = tag("h3", None, server, " ", tag("span", {"class": "count"}, str(len(members))))
        parts.append(tag("section", {"class": "group"}, heading, *(_tool(tool) for tool in members)))
    return join(*parts)


def _tool(tool: Json) -> Markup:
    return tag(
        "details",
        {"class": "tool"},
        tag(
            "summary",
            None,
            tag("span", {"class": "tool-name"}, str(tool.get("name", ""))),
            *(tag("span", {"class": f"badge {tone}"}, text) for text, tone in badges(tool)),
        ),
        tag("p", {"class": "description"}, str(tool.get("description") or "No description.")),
        tag("pre", {"tabindex": "0"}, json.dumps(tool.get("inputSchema"), indent=2, ensure_ascii=False)),
    )


def badges(tool: Json) -> list[tuple[str, str]]:
    """What the tool's annotations claim (2026-07-28 schema, ToolAnnotations; hints, not to be trusted blindly)."""
    hints = tool.get("annotations")
    if not isinstance(hints, dict):
        return []
    found = []
    if hints.get("readOnlyHint") is True:
        found.append(("read-only", "good"))
    elif hints.get("destructiveHint") is True:
        found.append(("destructive", "bad"))
    if hints.get("idempotentHint") is True:
        found.append(("idempotent", ""))
    if hints.get("openWorldHint") is True:
        found.append(("open world", ""))
    return found


def _endpoints(servers: list[str], aim: clients.Target) -> Markup:
    options = [tag("option", {"value": ""}, "All servers")]
    options += [tag("option", {"value": one, "selected": one == aim.server}, f"Only {one}") for one in servers]
    return join(*options)


def _client(one: dict[str, str]) -> Markup:
    return tag(
        "article",
        {"class": "client", "data-client": one["id"]},
        tag("h3", None, one["title"]),
        tag("p", {"class": "where"}, one["where"]),
        tag("pre", {"tabindex": "0", "aria-label": f"Configuration for {one['title']}"}, one["text"]),
        tag(
            "button",
            {"type": "button", "class": "copy", "hidden": True, "aria-label": f"Copy {one['title']} configuration"},
            "Copy",
        ),
    )
