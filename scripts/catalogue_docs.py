# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/catalogue.md from the schema (--write), or fail where the two differ."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.schema import FLEET, SERVER, SOURCE, Key

TARGET = ROOT / "docs" / "catalogue.md"
HEAD = """# The catalogue

Written from `plugins/module_utils/_fleet/schema.py` by `make docs`; do not edit by hand.

Two variables of the inventory say everything about a fleet: `mcp_servers`, a list of servers, and `mcp_fleet`, its
settings. `make plan` shows what they compile to; every mistake is reported at once, before anything is touched.
"""
SERVERS = """
## `mcp_servers`

```yaml
mcp_servers:
  - name: calculator
    source: {kind: pypi, package: mcp-server-calculator, version: 0.2.1}
    command: [mcp-server-calculator]
    check: {tool: calculate, arguments: {expression: 6*7}, expect: "42"}
```
"""
SOURCES = """
### `source`

Where a server comes from; `kind` says which further keys there are. `pypi` and `npm` packages are locked, with all
that they need, in `locks/` beside the inventory: a missing lock is resolved once, and is yours to commit.
"""
SETTINGS = """
## `mcp_fleet`

Every key has a default; `gateway_api_key`, `gateway_session_key` and, with `edge.tls: internal`, `edge_ca` are
generated unless `secrets` names a source.
"""


def _default(key: Key) -> str:
    if key.required:
        return "**required**"
    if key.default in (None, "", (), [], {}):
        return ""
    value = list(key.default) if isinstance(key.default, tuple) else key.default
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(key: Key) -> str:
    if key.choices:
        return " \\| ".join(f"`{choice}`" for choice in key.choices)
    if key.type in ("list", "map"):
        inner = key.item.type if key.item else "any"
        return f"{key.type} of {inner}"
    return key.type


def _rows(keys: Mapping[str, Key], prefix: str = "") -> Iterator[str]:
    for name, key in keys.items():
        path = f"{prefix}{name}"
        yield f"| `{path}` | {_type(key)} | {_default(key)} | {key.doc} |"
        nested = key.keys or (key.item.keys if key.item else {})
        inner = {"list": "[].", "map": ".*."}.get(key.type, ".")
        yield from _rows(nested, f"{path}{inner}")


def _table(keys: Mapping[str, Key]) -> list[str]:
    return ["", "| key | type | default | meaning |", "| --- | --- | --- | --- |", *_rows(keys)]


def render() -> str:
    """The whole page."""
    lines = [HEAD.rstrip(), SERVERS.rstrip(), *_table(SERVER), SOURCES.rstrip()]
    for kind, keys in SOURCE.variants.items():
        lines += ["", f"#### `kind: {kind}`", *_table(keys)]
    lines += [SETTINGS.rstrip(), *_table(FLEET)]
    return "\n".join(lines) + "\n"


def main() -> int:
    text = render()
    if "--write" in sys.argv[1:]:
        TARGET.write_text(text, "utf-8")
        return 0
    there = TARGET.read_text("utf-8") if TARGET.exists() else ""
    if there == text:
        return 0
    changes = difflib.unified_diff(there.splitlines(), text.splitlines(), "page", "schema", lineterm="", n=0)
    print("docs/catalogue.md is not what the schema says; run: make docs", *changes, sep="\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
