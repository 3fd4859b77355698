"""Configuration of the common MCP clients, as each documents it for a remote server over streamable HTTP.

The key is a placeholder everywhere; where a client can ask for it or read it from the environment, it does.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from mcp_gateway.protocol import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    MODERN,
    PROTOCOL_VERSION_META_KEY,
)

PLACEHOLDER = "YOUR_API_KEY"
BEARER = f"Bearer {PLACEHOLDER}"


@dataclass(frozen=True, slots=True)
class Target:
    """What to connect to.

    Attributes:
        server: the one server meant; empty for all.
        name: what the client calls it.
        url: its endpoint, absolute.
        keyed: whether a key is needed.
    """

    server: str
    url: str
    keyed: bool

    @property
    def name(self) -> str:
        return self.server or "fleet"


@dataclass(frozen=True, slots=True)
class Client:
    """One client.

    Attributes:
        where: the file or place the text belongs in.
        language: ``json``, ``toml`` or ``sh``.
        source: where the format is documented.
        text: the configuration for a target.
    """

    id: str
    title: str
    where: str
    language: str
    source: str
    text: Callable[[Target], str]


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _headers(target: Target) -> dict[str, Any]:
    return {"headers": {"Authorization": BEARER}} if target.keyed else {}


def _claude_code(target: Target) -> str:
    command = ["claude", "mcp", "add", "--transport", "http", target.name, target.url]
    if target.keyed:
        command += ["--header", f"Authorization: {BEARER}"]
    return shlex.join(command)


def _claude_desktop(target: Target) -> str:
    # The file takes local servers alone; mcp-remote is one that forwards. On Windows, arguments with spaces break:
    # hence the header's value in a variable.
    args = ["-y", "mcp-remote", target.url, "--transport", "http-only"]
    if target.url.startswith("http://"):
        args.append("--allow-http")
    entry: dict[str, Any] = {"command": "npx", "args": args}
    if target.keyed:
        args += ["--header", "Authorization:${AUTHORIZATION}"]
        entry["env"] = {"AUTHORIZATION": BEARER}
    return _json({"mcpServers": {target.name: entry}})


def _cursor(target: Target) -> str:
    return _json({"mcpServers": {target.name: {"url": target.url, **_headers(target)}}})


def _vscode(target: Target) -> str:
    entry: dict[str, Any] = {"type": "http", "url": target.url}
    if not target.keyed:
        return _json({"servers": {target.name: entry}})
    variable = f"{target.name}-key"
    ask = {"type": "promptString", "id": variable, "description": f"Key of {target.name}", "password": True}
    entry["headers"] = {"Authorization": f"Bearer ${{input:{variable}}}"}
    return _json({"inputs": [ask], "servers": {target.name: entry}})


def _codex(target: Target) -> str:
    # Quoted strings of TOML and JSON agree for the characters that names and URLs may have.
    lines = [f"[mcp_servers.{json.dumps(target.name)}]", f"url = {json.dumps(target.url)}"]
    if target.keyed:
        lines = [f"# export MCP_GATEWAY_KEY={PLACEHOLDER}", *lines, 'bearer_token_env_var = "MCP_GATEWAY_KEY"']
    return "\n".join(lines)


def _gemini(target: Target) -> str:
    return _json({"mcpServers": {target.name: {"httpUrl": target.url, **_headers(target)}}})


def _windsurf(target: Target) -> str:
    return _json({"mcpServers": {target.name: {"serverUrl": target.url, **_headers(target)}}})


def _curl(target: Target) -> str:
    meta = {
        PROTOCOL_VERSION_META_KEY: MODERN,
        CLIENT_INFO_META_KEY: {"name": "curl", "version": "1"},
        CLIENT_CAPABILITIES_META_KEY: {},
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    headers = {
        **({"Authorization": BEARER} if target.keyed else {}),
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "tools/list",
    }
    lines = [f"curl -sS {shlex.quote(target.url)}"]
    lines += [f"  -H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items()]
    lines.append(f"  -d {shlex.quote(json.dumps(message))}")
    return " \\\n".join(lines)


CLIENTS = (
    Client("claude-code", "Claude Code", "a terminal", "sh", "https://code.claude.com/docs/en/mcp", _claude_code),
    Client(
        "claude-desktop",
        "Claude Desktop",
        "claude_desktop_config.json (Settings, Developer, Edit Config); needs Node.js",
        "json",
        "https://github.com/geelen/mcp-remote",
        _claude_desktop,
    ),
    Client(
        "cursor", "Cursor", "~/.cursor/mcp.json or .cursor/mcp.json", "json", "https://cursor.com/docs/mcp", _cursor
    ),
    Client(
        "vscode",
        "VS Code",
        ".vscode/mcp.json",
        "json",
        "https://code.visualstudio.com/docs/copilot/reference/mcp-configuration",
        _vscode,
    ),
    Client("codex", "Codex", "~/.codex/config.toml", "toml", "https://developers.openai.com/codex/mcp", _codex),
    Client(
        "gemini",
        "Gemini CLI",
        "~/.gemini/settings.json",
        "json",
        "https://github.com/google-gemini/gemini-cli/blob/main/docs/tools/mcp-server.md",
        _gemini,
    ),
    Client(
        "windsurf",
        "Windsurf",
        "~/.codeium/windsurf/mcp_config.json",
        "json",
        "https://docs.windsurf.com/windsurf/cascade/mcp",
        _windsurf,
    ),
    Client(
        "curl",
        "curl",
        "a terminal",
        "sh",
        f"https://modelcontextprotocol.io/specification/{MODERN}/basic/transports/streamable-http",
        _curl,
    ),
)


def target(public_url: str, server: str, keyed: bool) -> Target:
    """The merged endpoint where ``server`` is empty, else that of one server."""
    base = public_url.rstrip("/").removesuffix("/mcp")
    return Target(server, f"{base}/servers/{quote(server)}/mcp" if server else f"{base}/mcp", keyed)


def configurations(aim: Target) -> list[dict[str, str]]:
    """Every client's configuration for ``aim``."""
    return [
        {"id": one.id, "title": one.title, "where": one.where, "language": one.language, "text": one.text(aim)}
        for one in CLIENTS
    ]
