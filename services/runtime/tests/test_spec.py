"""server.json: what is refused, and in which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mcp_runtime.spec import OpenApi, SpecError, Step, load

STDIO = {"transport": "stdio", "command": ["x"]}
OPENAPI = {"transport": "openapi", "openapi": {"spec": "/s.json", "base_url": "http://a"}}


def write(tmp_path: Path, value: Any) -> str:
    path = tmp_path / "server.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "not JSON"),
        ([], "holds a list, expected an object"),
        ({}, "transport is None; use one of stdio, http, python, openapi"),
        ({"transport": "sse"}, "transport is 'sse'; use one of"),
        ({"transport": "http"}, "transport http needs the key 'command'"),
        ({**STDIO, "command": "x --y"}, "command is 'x --y'; use a list of strings"),
        ({**STDIO, "port": "8000"}, "port is '8000'; use a whole number from 1 to 65535"),
        ({**STDIO, "port": True}, "port is True"),
        ({**STDIO, "port": 70000}, "port is 70000"),
        ({**STDIO, "path": "mcp"}, "path is 'mcp'; use an HTTP path that starts with /"),
        ({**STDIO, "prepare": [["ok"], []]}, r"prepare\[1\] names no command"),
        (
            {**STDIO, "prepare": [{"run": ["x"], "unless": "/y"}]},
            r"prepare\[0\] has unknown keys \['unless'\]",
        ),
        ({"transport": "python", "module": "pkg.mod"}, "module is 'pkg.mod'; use package.module:attribute"),
        ({"transport": "openapi", "openapi": {"spec": "/s"}}, "openapi needs the key 'base_url'"),
        (
            {"transport": "openapi", "openapi": {**OPENAPI["openapi"], "token": "x"}},  # type: ignore[dict-item]
            r"openapi has unknown keys \['token'\]; it knows spec, base_url, header, scheme, env",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_key_value_and_fix(tmp_path: Path, value: Any, message: str) -> None:
    path = write(tmp_path, value)
    with pytest.raises(SpecError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(path)


def test_a_missing_file_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="No such file or directory; set MCP_SERVER_FILE or mount the file"):
        load(str(tmp_path / "none.json"))


def test_defaults_and_both_forms_of_a_step(tmp_path: Path) -> None:
    steps = [["git", "init"], {"run": ["touch", "/x"], "creates": "/x"}]
    spec = load(write(tmp_path, {**STDIO, "prepare": steps}))
    assert (spec.name, spec.port, spec.path) == ("server", 8000, "/mcp")
    assert spec.prepare == (Step(("git", "init")), Step(("touch", "/x"), "/x"))


def test_null_in_openapi_means_the_default(tmp_path: Path) -> None:
    options = {"spec": "/s.json", "base_url": "http://a", "env": None, "header": None}
    assert load(write(tmp_path, {"transport": "openapi", "openapi": options})).openapi == OpenApi("/s.json", "http://a")
