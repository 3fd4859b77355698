# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet's one lock: a config whose name can exist once, and whose version moves as long as its holder lives.

A deploy's lock is beaten every two seconds. One that stands still is a crashed holder's and may be taken over; one that
a person took is never taken over. No clock is compared but a manual lock's expiry with this node's.
"""

from __future__ import annotations

import calendar
import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import (
    LABEL,
    RECORD,
    Swarm,
    SwarmError,
    patiently,
)

BEAT_SECONDS = 2.0
# So many beats missed while somebody waits: the holder is gone.
STALE_SECONDS = 15.0
POLL_SECONDS = 0.5
TIME = "%Y-%m-%dT%H:%M:%SZ"
UNLOCK = "ansible-playbook sophia_ai.mcp_swarm.lock -e lock_state=free"


def now() -> str:
    """This moment, UTC, to the second."""
    return time.strftime(TIME, time.gmtime())


@dataclass(frozen=True)
class Holder:
    """Who holds the lock.

    Attributes:
        who, why: as a person would say it.
        kind: ``deploy`` or ``manual``.
        since, expires: UTC times; a lock without expiry lasts until it is freed.
        token: of this one holding.
        node, boot, pid, born: the process that beats it, so that its end is seen at once on its own node.
        beat: how often it was beaten.
    """

    who: str
    why: str
    kind: str
    since: str
    token: str
    expires: str = ""
    node: str = ""
    boot: str = ""
    pid: int = 0
    born: str = ""
    beat: int = 0

    def __str__(self) -> str:
        until = f", until {self.expires}" if self.expires else ""
        return f"{self.who} since {self.since}{until} ({self.why})"

    @property
    def expired(self) -> bool:
        """Whether its own expiry is over."""
        return bool(self.expires) and time.time() > calendar.timegm(time.strptime(self.expires, TIME))

    def dead(self, node: str) -> bool:
        """Whether its process ran on this node and does no more. False where that cannot be told."""
        if self.kind == "manual" or node != self.node:
            return False
        return self.boot != _boot() or self.born != _born(self.pid)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _born(pid: int) -> str:
    """When a process started, in ticks since boot; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def read(swarm: Swarm, fleet: str) -> tuple[Holder, dict[str, Any]] | None:
    """The lock's holder and its config, be it expired; None where there is none."""
    for item in swarm.records(fleet, "lock"):
        return Holder(**json.loads(item["Spec"]["Labels"][f"{LABEL}.lock"])), item
    return None


def holder_of(swarm: Swarm, fleet: str) -> Holder | None:
    """Who holds the lock; None where the fleet is not locked, or no more."""
    there = read(swarm, fleet)
    return there[0] if there and not there[0].expired else None


def _labels(fleet: str, holder: Holder) -> dict[str, str]:
    return {f"{LABEL}.fleet": fleet, RECORD: "lock", f"{LABEL}.lock": json.dumps(asdict(holder), sort_keys=True)}


def _create(swarm: Swarm, fleet: str, holder: Holder) -> bool:
    made = patiently(lambda: swarm.create_config(f"{fleet}_lock", b"locked", _labels(fleet, holder)))
    if made:
        return True
    # The answer to an earlier attempt of ours may have been lost with the engine.
    there = read(swarm, fleet)
    return bool(there and there[0].token == holder.token)


@dataclass
class Lock:
    """A held lock; a context manager that beats it and frees it.

    Attributes:
        holder: ourselves.
        crashed: whose lock this was before, where it was taken over.
    """

    swarm: Swarm
    fleet: str
    holder: Holder
    crashed: Holder | None = None
    lost: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Lock:
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *dummy: object) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(BEAT_SECONDS * 5)
        free(self.swarm, self.fleet, self.holder.token)

    def check(self) -> None:
        """Raises SwarmError where somebody else holds the lock by now."""
        if self.lost:
            raise SwarmError(
                f"the lock of {self.fleet} was taken from this deploy: {self.lost}; nothing more was changed"
            )

    def _beat(self) -> None:
        swarm: Swarm | None = None  # a connection of its own: the SDK's is not for two threads
        beat = 0
        while not self._stop.wait(BEAT_SECONDS):
            beat += 1
            try:
                swarm = swarm or Swarm()
                there = read(swarm, self.fleet)
                if not there or there[0].token != self.holder.token:
                    self.lost = f"it is held by {there[0]}" if there else "somebody freed it"
                    return
                swarm.relabel_config(there[1], _labels(self.fleet, Holder(**asdict(self.holder) | {"beat": beat})))
            except Exception:  # an engine that restarts: the next beat tries again
                continue


def acquire(swarm: Swarm, fleet: str, who: str, why: str, wait: float, say: Callable[[str], None]) -> Lock:
    """Take the lock for a deploy.

    Args:
        wait: seconds to wait for another deploy to end.
        say: takes progress lines.

    Raises:
        SwarmError: somebody holds it; the message says who, since when, why, and how to free it.
    """
    me = Holder(
        who, why, "deploy", now(), uuid.uuid4().hex, "", swarm.node_id, _boot(), os.getpid(), _born(os.getpid())
    )
    deadline = time.monotonic() + wait
    version, still_since, beaten, said = -1, time.monotonic(), False, False
    while not _create(swarm, fleet, me):
        there = read(swarm, fleet)
        if there is None:
            continue  # freed between the two looks
        holder, item = there
        if item["Version"]["Index"] != version:
            beaten = version >= 0
            version, still_since = item["Version"]["Index"], time.monotonic()
        if holder.kind == "manual" and not holder.expired:
            raise SwarmError(f"{fleet} is locked by {holder}; nothing was changed. To free it: {UNLOCK}")
        still = time.monotonic() - still_since
        if holder.expired or holder.dead(swarm.node_id) or still > STALE_SECONDS:
            if swarm.relabel_config(item, _labels(fleet, me)):
                say(
                    f"took over the lock of {holder}, which had expired"
                    if holder.expired
                    else f"took over the lock of {holder}, whose deploy ended without freeing it"
                )
                return Lock(swarm, fleet, me, holder)
            continue
        if not said:
            say(f"waiting for {holder}")
            said = True
        # A holder that was never seen alive is waited for until it is known to be gone.
        if time.monotonic() > deadline and beaten:
            raise SwarmError(
                f"{fleet} is being deployed by {holder}; waited {wait:.0f} s, nothing was changed. Run again when it"
                " is done"
            )
        time.sleep(POLL_SECONDS)
    return Lock(swarm, fleet, me)


def hold(swarm: Swarm, fleet: str, who: str, why: str, expires: str) -> tuple[Holder, bool]:
    """Lock by hand; returns the holder and whether it was not locked before.

    Raises:
        SwarmError: somebody else holds it.
    """
    me = Holder(who, why, "manual", now(), uuid.uuid4().hex, expires)
    while not _create(swarm, fleet, me):
        there = read(swarm, fleet)
        if there is None:
            continue  # freed between the two looks
        holder, item = there
        if holder.expired:  # as if there were none; where somebody else was faster, that one is looked at
            if swarm.relabel_config(item, _labels(fleet, me)):
                break
            continue
        if holder.kind == "manual" and holder.who == who:
            return holder, False
        raise SwarmError(f"{fleet} is locked by {holder}; wait until it is free, or free it: {UNLOCK}")
    return me, True


def free(swarm: Swarm, fleet: str, token: str | None = None) -> Holder | None:
    """Free the lock: that of ``token``, or whoever's it is. Returns who held it until now."""
    there = read(swarm, fleet)
    if there is None or (token is not None and there[0].token != token):
        return None
    patiently(lambda: swarm.api.remove_config(there[1]["ID"]))
    return None if there[0].expired else there[0]
