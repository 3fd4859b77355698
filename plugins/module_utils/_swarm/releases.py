# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases live in the Swarm: a config each, its data what was deployed, its labels what became of it.

Any manager can list them and go back to one. The record is made before anything changes, with the outcome ``running``:
a record that still says so when nobody deploys is a deploy that died.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import documents
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.changes import without_scale
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import (
    LABEL,
    RECORD,
    Swarm,
    SwarmError,
    patiently,
)

# What Swarm takes is 500 KiB; above the first limit a record is packed.
PLAIN_BYTES = 200_000
MOST_BYTES = 500_000
RUNNING, DEPLOYED, RESTORED, FAILED, ABANDONED = "running", "deployed", "restored", "failed", "abandoned"


@dataclass
class Release:
    """One deploy.

    Attributes:
        number: counts up; ``<fleet>_release_<number>`` is the config's name.
        document: the compose document, images pinned.
        images: service to what its image is: a content tag, or a tag with its digest.
        verification: what the gate asks, as the action plugin gave it.
        started, who, why, revision, catalogue: when (UTC), by whom, for what, of which source revision and plan.
        outcome: running, deployed, restored (it failed and the one before serves again), failed (that too), abandoned.
        finished, seconds, message: when and after how long it ended, and what it said.
        services: service to the digest of its specification as it ran: what drift is measured against.
        strangers: services that ran before any release did, where this is a first one. They are not its own to remove.
        back_to: number of the release whose content this one has again, where it came of going back; 0 otherwise.
    """

    number: int
    document: dict[str, Any]
    images: dict[str, str]
    verification: dict[str, Any]
    started: str
    who: str
    why: str = ""
    revision: str = ""
    catalogue: str = ""
    outcome: str = RUNNING
    finished: str = ""
    seconds: float = 0.0
    message: str = ""
    services: dict[str, str] = field(default_factory=dict)
    strangers: list[str] = field(default_factory=list)
    back_to: int = 0

    def summary(self) -> dict[str, Any]:
        """What lists show: everything but the documents."""
        return {
            "release": self.number,
            "outcome": self.outcome,
            "started": self.started,
            "finished": self.finished,
            "seconds": self.seconds,
            "who": self.who,
            "why": self.why,
            "revision": self.revision,
            "catalogue": self.catalogue,
            "images": self.images,
            "message": self.message,
        }

    def __str__(self) -> str:
        return f"release {self.number} of {self.started} by {self.who}"

    def objects(self) -> set[str]:
        """Names of the secrets and configs that it needs."""
        return documents.names(self.document, "secrets") | documents.names(self.document, "configs")

    def same_content(self, other: Release) -> bool:
        """Whether both describe the same fleet, whatever replicas an autoscaler had chosen."""
        return without_scale(self.document) == without_scale(other.document)

    @property
    def origin(self) -> int:
        """Number of the release that had its content first, as far as going back tells."""
        return self.back_to or self.number


CONTENT = (
    *("document", "images", "verification", "started", "who", "why", "revision", "catalogue"),
    *("strangers", "back_to"),  # older records lack these
)
RESULT = ("finished", "seconds", "message", "services")


def pack(release: Release) -> bytes:
    """The record's data.

    Raises:
        SwarmError: it is larger than Swarm can keep.
    """
    data = json.dumps({key: getattr(release, key) for key in CONTENT}, sort_keys=True).encode()
    if len(data) > PLAIN_BYTES:
        data = zlib.compress(data, 9)
    if len(data) > MOST_BYTES:
        raise SwarmError(
            f"the release's record is {len(data)} bytes, Swarm keeps at most {MOST_BYTES};"
            " move large env values of mcp_servers into files of the image"
        )
    return data


def unpack(number: int, data: bytes, labels: dict[str, str]) -> Release:
    """A record as it was packed."""
    content = json.loads(data if data[:1] == b"{" else zlib.decompress(data))
    content.pop("files", None)  # older records: the edge's configuration was no part of the document
    return Release(
        number,
        outcome=labels[f"{LABEL}.outcome"],
        **content,
        **json.loads(labels.get(f"{LABEL}.result", "{}")),
    )


def _labels(fleet: str, release: Release) -> dict[str, str]:
    return {
        f"{LABEL}.fleet": fleet,
        RECORD: "release",
        f"{LABEL}.release": str(release.number),
        f"{LABEL}.outcome": release.outcome,
        f"{LABEL}.result": json.dumps({key: getattr(release, key) for key in RESULT}, sort_keys=True),
    }


class Releases:
    """The releases of one fleet, oldest first, as the Swarm has them now."""

    def __init__(self, swarm: Swarm, fleet: str) -> None:
        self._swarm, self._fleet = swarm, fleet
        self._load()

    def _load(self) -> None:
        self._items: dict[int, dict[str, Any]] = {}
        self.all: list[Release] = []
        for item in self._swarm.records(self._fleet, "release"):
            labels = item["Spec"]["Labels"]
            number = int(labels[f"{LABEL}.release"])
            self._items[number] = item
            self.all.append(unpack(number, base64.b64decode(item["Spec"]["Data"]), labels))
        self.all.sort(key=lambda release: release.number)

    @property
    def good(self) -> list[Release]:
        """Those that were deployed."""
        return [release for release in self.all if release.outcome == DEPLOYED]

    @property
    def current(self) -> Release | None:
        """The one that serves: the newest that was deployed."""
        return self.good[-1] if self.good else None

    @property
    def unfinished(self) -> Release | None:
        """One whose deploy has not ended; without a live holder of the lock it never will."""
        return next((release for release in reversed(self.all) if release.outcome == RUNNING), None)

    def previous(self) -> Release:
        """The newest that was deployed before what runs now, and is another: one further back each time.

        Raises:
            SwarmError: there is none.
        """
        if not self.current:
            raise SwarmError(f"{self._fleet} has no release: deploy first")
        if found := self._other(self.current.origin):
            return found
        raise SwarmError(f"{self._fleet} has no release before {self.current}: there is nothing to go back to")

    @property
    def replaced(self) -> Release | None:
        """What ran until the current one did, be that older or newer."""
        return self._other(self.current.number) if self.current else None

    def _other(self, number: int) -> Release | None:
        """The newest below a number that was deployed and is not what runs now."""
        below = [release for release in self.good if release.number < number]
        return next((r for r in reversed(below) if self.current and not r.same_content(self.current)), None)

    def find(self, number: int) -> Release:
        """A deployed release by number.

        Raises:
            SwarmError: there is none, or it was never deployed; the message lists those there are.
        """
        there = ", ".join(str(release.number) for release in self.good) or "none"
        for release in self.all:
            if release.number == number:
                if release.outcome != DEPLOYED:
                    raise SwarmError(
                        f"release {number} of {self._fleet} was never deployed (it {_ended(release)});"
                        f" there are: {there}"
                    )
                return release
        raise SwarmError(f"{self._fleet} has no release {number}; there are: {there}")

    def begin(self, release: Release) -> Release:
        """Write a record before anything changes; its number is the next free one."""
        data = pack(release)
        release.number = max(self._items, default=0) + 1
        while not self._make(release, data):
            release.number += 1
        self._load()
        return self._again(release.number)

    def _make(self, release: Release, data: bytes) -> bool:
        """Make a record; False where another deploy's has its number."""
        name, labels = self._name(release), _labels(self._fleet, release)
        tries = count()

        def make() -> bool:
            again = next(tries) > 0
            if self._swarm.create_config(name, data, labels):
                return True
            # The answer to an earlier attempt of ours may have been lost with the engine. A second record would leave
            # the first as one of a deploy that died.
            return again and any(
                item["Spec"]["Name"] == name
                and item["Spec"]["Labels"] == labels
                and base64.b64decode(item["Spec"]["Data"]) == data
                for item in self._swarm.records(self._fleet, "release")
            )

        return patiently(make)

    def finish(self, release: Release) -> None:
        """Write what became of it.

        Raises:
            SwarmError: the record is gone.
        """
        for dummy in range(10):  # only its deploy writes to a record: a conflict is an answer that got lost
            self._load()
            item = self._items.get(release.number)
            if item is None:
                break
            labels = _labels(self._fleet, release)
            if patiently(partial(self._swarm.relabel_config, item, labels)):
                self._load()
                return
        raise SwarmError(f"the record of {release} is gone: somebody removed the config {self._name(release)}")

    def beyond(self, keep: int) -> list[Release]:
        """Those beyond the newest ``keep`` that were deployed, and failures older than those."""
        oldest = self.good[-keep:][0].number if self.good else 0
        return [release for release in self.all if release.number < oldest and release.outcome != RUNNING]

    def drop(self, keep: int) -> list[Release]:
        """Remove the records beyond ``keep``; returns them."""
        gone = self.beyond(keep)
        for release in gone:
            patiently(partial(self._swarm.api.remove_config, self._items[release.number]["ID"]))
        if gone:
            self._load()
        return gone

    def _name(self, release: Release) -> str:
        return f"{self._fleet}_release_{release.number}"

    def _again(self, number: int) -> Release:
        return next(release for release in self.all if release.number == number)


def _ended(release: Release) -> str:
    return {RESTORED: "failed", FAILED: "failed", ABANDONED: "was left unfinished", RUNNING: "is running"}[
        release.outcome
    ]
