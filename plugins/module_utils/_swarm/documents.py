# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How compose documents are spelt: what keys stand for, and which short forms are no good. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

# A port of the host, which may be left out, one of the container, and the protocol.
PORT = re.compile(r"(?:(\d+):)?(\d+)(?:/(\w+))?")


def name_of(document: Mapping[str, Any], kind: str, key: str) -> str:
    """What the Swarm calls an external secret, config or network: as its entry says, or as its key."""
    return str(((document.get(kind) or {}).get(key) or {}).get("name") or key)


def names(document: Mapping[str, Any], kind: str) -> set[str]:
    """What the Swarm calls all that a document has of a kind."""
    return {name_of(document, kind, key) for key in document.get(kind) or {}}


def short_forms(document: Mapping[str, Any]) -> list[str]:
    """A line per value of a service that has to be written out; what changes is told by the parts of the long form."""
    return [
        f"service {name}: {kind}: {json.dumps(item)}: write it in the long form: {_long(kind, item)}"
        for name, service in sorted(document["services"].items())
        for kind in ("secrets", "configs", "ports")
        for item in service.get(kind) or []
        if not isinstance(item, dict)
    ]


def _long(kind: str, item: Any) -> str:
    if kind != "ports":
        return f"{{source: {item}}}"
    found = PORT.fullmatch(str(item))
    host, container, protocol = found.groups() if found else ("<of the host>", "<of the container>", "")
    parts = {"target": container, "published": host, "protocol": protocol}
    return f"{{{', '.join(f'{key}: {value}' for key, value in parts.items() if value)}}}"
