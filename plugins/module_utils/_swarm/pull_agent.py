# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have this node's engine pull images, and say of each what became of it.

Its text is run by ``_swarm/distribution.py`` in a container on each node, with the engine's socket: it uses the
standard library alone. Each line that it writes is a JSON object with ``image``, ``node``, ``state`` (here, pulled,
failed) and ``error``.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlencode

SOCKET = "/var/run/docker.sock"
WISH = "/run/pull.json"
CREDENTIALS = "/run/secrets/pull"
PARALLEL = 2
# Without a word of progress for so long the registry is given up.
SILENCE_SECONDS = 120


class Engine(http.client.HTTPConnection):
    """The engine's API, by its socket; in the newest version that it has."""

    def __init__(self, path: str = SOCKET) -> None:
        super().__init__("localhost", timeout=SILENCE_SECONDS)
        self._path = path

    def connect(self) -> None:
        """To the socket instead of to a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def pull(image: str, credentials: str, path: str = SOCKET) -> tuple[str, str]:
    """Pull an image by its digest and give it its tag; returns state and error.

    Args:
        image: ``repository:tag@digest``.
        credentials: the header X-Registry-Auth; empty for none.
        path: of the engine's socket.
    """
    name, dummy, digest = image.partition("@")
    repository, dummy, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "")
    exact = f"{repository}@{digest}"
    state = "here" if _ask("GET", f"/images/{quote(exact)}/json", path)[0] == 200 else "pulled"
    if state == "pulled" and (error := _pull(repository, digest, credentials, path)):
        return "failed", error
    if tag:  # for people, and for pruning: Swarm asks by the digest
        _ask("POST", f"/images/{quote(exact)}/tag?" + urlencode({"repo": repository, "tag": tag}), path)
    return state, ""


def _pull(repository: str, digest: str, credentials: str, path: str) -> str:
    """What went wrong; empty where nothing did."""
    engine = Engine(path)
    try:
        headers = {"X-Registry-Auth": credentials} if credentials else {}
        engine.request("POST", "/images/create?" + urlencode({"fromImage": repository, "tag": digest}), headers=headers)
        answer = engine.getresponse()
        if answer.status != 200:
            return _message(answer.read())
        errors = [str(error) for line in answer if (error := _parsed(line).get("error"))]
        return errors[-1] if errors else ""
    finally:
        engine.close()


def _ask(method: str, url: str, path: str) -> tuple[int, bytes]:
    engine = Engine(path)
    try:
        engine.request(method, url)
        answer = engine.getresponse()
        return answer.status, answer.read()
    finally:
        engine.close()


def _parsed(line: bytes) -> dict[str, object]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _message(body: bytes) -> str:
    return str(_parsed(body).get("message") or body.decode(errors="replace"))


def tell(image: str, state: str, error: str) -> None:
    """One line, at once."""
    line = {"image": image, "node": os.environ.get("NODE_ID", ""), "state": state, "error": error}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Pull what the wish names; 1 where something could not be had."""
    with open(WISH, encoding="utf-8") as handle:
        images = json.load(handle)
    with open(CREDENTIALS, encoding="utf-8") as handle:
        credentials = json.load(handle)

    def one(image: str) -> str:
        try:
            state, error = pull(image, credentials.get(image, ""))
        except (OSError, http.client.HTTPException) as failure:
            state, error = "failed", f"the engine does not answer: {failure}"
        tell(image, state, error)
        return error

    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        return 1 if any(list(pool.map(one, images))) else 0


if __name__ == "__main__":
    raise SystemExit(main())
