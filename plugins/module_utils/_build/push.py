# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring images to the registry: names carry content, so one that is there is right and is not sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any, Protocol

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._registry import RegistryError

PARALLEL = 3


class Client(Protocol):
    """What of a registry is used here."""

    def digest(self, image: str) -> str:
        """The digest that the registry has for an image; empty where it has none."""

    def push(self, local: str, remote: str) -> None:
        """Push an image."""


@dataclass
class Pushed:
    """Seconds by image for those that were sent, the reason by image for those that could not be."""

    sent: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def absent(client: Client, images: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of these images those that the registry does not have.

    Raises:
        RegistryError: it could not be asked.
    """
    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        digests = list(pool.map(lambda image: client.digest(image["remote"]), images))
    return [image for image, digest in zip(images, digests) if not digest]  # noqa: B905 (Python 3.10 runs this too)


def push(client: Client, images: Sequence[dict[str, Any]], say: Callable[[str], None]) -> Pushed:
    """Send images, some side by side; one failure does not stop the others.

    Args:
        client: the registry.
        images: each with ``ref``, its name on this engine, and ``remote``, its name in the registry.
        say: takes progress lines.
    """
    pushed = Pushed()
    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        futures = {pool.submit(_timed, client, image): image["remote"] for image in images}
        for future in as_completed(futures):
            remote = futures[future]
            try:
                pushed.sent[remote] = future.result()
                done = len(pushed.sent) + len(pushed.failed)
                say(f"[{done}/{len(images)}] pushed {remote} in {pushed.sent[remote]:.0f} s")
            except RegistryError as error:
                pushed.failed[remote] = str(error)
                say(f"FAILED {remote}")
    return pushed


def _timed(client: Client, image: dict[str, Any]) -> float:
    start = time.monotonic()
    client.push(image["ref"], image["remote"])
    return round(time.monotonic() - start, 1)
