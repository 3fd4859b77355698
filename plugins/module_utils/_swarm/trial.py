# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The trial: before a changed server is updated, one replica of its new version runs beside it and has to prove itself.

The replicas on trial are a stack of their own, ``<fleet>_trial``. They become ready, are asked as MCP servers through
the gateway, and live for a while; with a share of the calls they are judged besides. What serves is not touched so far.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._services import reserved, server_of, service_of
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import board
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import changes as diff
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import stack as stacks
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import (
    LABEL,
    Swarm,
    SwarmError,
    patiently,
)
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.convergence import (
    ENDED,
    Verdict,
    describe,
    settle,
    watch,
)
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.judging import Judgement, Terms, judge

# Of a service's name before "_canary", with the longest fleet's "_trial_" before it.
LONGEST = 63 - 20 - len("_trial_") - len("_canary")
# What of a service its tasks do not depend on.
NOT_OF_TASKS = ("deploy.replicas", "deploy.labels", "deploy.update_config", "deploy.rollback_config", "deploy.mode")
LOOK_SECONDS = 3.0
# A share ends so long after its time at the latest, should whoever gave it be gone.
GRACE_SECONDS = 120.0

Say = Callable[[str], None]
Ask = Callable[[dict[str, Any]], dict[str, Any]]


class TrialFailed(Exception):
    """A new version did not pass: one report per server. What serves was not touched."""

    def __init__(self, reports: list[str]) -> None:
        super().__init__("\n".join(reports))
        self.reports = reports


@dataclass
class Tried:
    """What came of a trial.

    Attributes:
        services: those that were tried.
        words: why others were not, and what the canaries showed.
    """

    services: set[str] = field(default_factory=set)
    words: list[str] = field(default_factory=list)


def stack_of(fleet: str) -> str:
    """The name of the stack of the replicas on trial. No fleet's name has an underscore."""
    return f"{fleet}_trial"


def key_of(service: str) -> str:
    """A replica's service in that stack; its alias in the network must be nobody else's.

    A service's name has 63 characters at most, with the stack's before it; of a long one the rest is told by a digest.
    """
    if len(service) > LONGEST:
        service = f"{service[: LONGEST - 7]}_{hashlib.sha256(service.encode()).hexdigest()[:6]}"
    return f"{service}_canary"


def candidates(before: dict[str, Any], after: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Servers that change and can be tried; and for those that cannot a line each, why not."""
    able, words = [], []
    for name, service in sorted(after["services"].items()):
        if name not in before["services"] or not server_of(service):
            continue
        if _of_tasks(before, name) == _of_tasks(after, name):
            continue
        if why := why_not(service):
            words.append(f"{name}: not tried beside the old one, {why}")
        else:
            able.append(name)
    return able, words


def why_not(service: dict[str, Any]) -> str:
    """Why a second replica of a service cannot run beside the others; empty where it can."""
    deploy = service.get("deploy") or {}
    kept = [volume.get("source", "") for volume in service.get("volumes") or [] if volume.get("type") != "tmpfs"]
    if kept:
        return f"for two versions must not share its data ({', '.join(kept)})"
    if kinds := sorted(reserved(service)):
        return f"for that would take a second {' and '.join(kinds)}"
    if (deploy.get("update_config") or {}).get("order") == "stop-first":
        return "for the old one has to stop before the new one starts"
    if service.get("ports"):
        return "for it holds a port of the host"
    if deploy.get("mode", "replicated") != "replicated":
        return f"for its mode is {deploy['mode']}"
    return ""


def _of_tasks(document: dict[str, Any], name: str) -> dict[str, str]:
    """What a service's tasks are made from."""
    settings = diff.settings(document, name)
    return {
        path: value
        for path, value in settings.items()
        if not any(f"{path}.".startswith(f"{key}.") for key in NOT_OF_TASKS)
    }


def document_of(fleet: str, document: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The compose document of the replicas on trial: the same image, secrets, networks and limits."""
    services = {}
    for name in names:
        service = copy.deepcopy(document["services"][name])
        labels = {f"{LABEL}.fleet": fleet, f"{LABEL}.part": "canary"}
        service["labels"] = dict(labels)
        service["deploy"] = {
            **service.get("deploy", {}),
            "replicas": 1,
            "labels": dict(labels),  # none of an autoscaler's
            "restart_policy": {"condition": "none"},  # one that ends has failed
        }
        services[key_of(name)] = service
    used = {
        kind: {item["source"] for service in services.values() for item in service.get(kind) or []}
        for kind in ("secrets", "configs")
    }
    trial = {"version": document.get("version", "3.8"), "services": services}
    for kind, names_used in used.items():
        trial[kind] = {key: value for key, value in (document.get(kind) or {}).items() if key in names_used}
    trial["networks"] = copy.deepcopy(document.get("networks") or {})
    return trial


def sweep(swarm: Swarm, fleet: str) -> bool:
    """Remove what a trial left behind whose deploy died; returns whether there was anything."""
    left = swarm.services(stack_of(fleet))
    shares = board.read(swarm, fleet).get("canaries") or {}
    if not left and not shares:
        return False
    _end(swarm, fleet, drained=any(at.get("share") for at in shares.values()))
    return True


def _end(swarm: Swarm, fleet: str, drained: bool) -> None:
    """Take the replicas on trial away; with a share, only after nobody sends them calls any more."""
    from docker.errors import NotFound

    told = board.read(swarm, fleet)
    if told.get("canaries") and (drained or told.get("maintenance")):
        board.post(swarm, fleet, lambda document: {**document, "canaries": {}})
        if drained:
            board.learn()
    for service in swarm.services(stack_of(fleet)).values():
        with contextlib.suppress(NotFound):
            patiently(partial(swarm.api.remove_service, service["ID"]))
    board.take_down(swarm, fleet)


class Trial:
    """The trial of one deploy.

    Args:
        swarm: the manager.
        fleet: the stack's name.
        say: takes progress lines.
        alive: called at each look; raises where the deploy is to end.
        ask: asks whoever deploys to call the fleet; None where nobody is there.
        docker_config: directory with credentials of registries, which nodes are given to pull; empty for none.
    """

    def __init__(
        self, swarm: Swarm, fleet: str, say: Say, alive: Callable[[], None], ask: Ask | None, docker_config: str = ""
    ) -> None:
        self._docker_config = docker_config
        self._swarm, self._fleet, self._say, self._alive, self._ask = swarm, fleet, say, alive, ask
        self._number = int(time.time() * 1000)

    def run(
        self, document: dict[str, Any], names: list[str], question: dict[str, Any], why_silent: str, wait: Waits
    ) -> Tried:
        """Try new versions beside the old ones; all that is left of it when it ends is what it says.

        Args:
            document: the compose document of the new release.
            names: services to be tried.
            question: what the gate is asked.
            why_silent: why nobody can be asked; empty where somebody can.
            wait: how long, and on which terms.

        Raises:
            TrialFailed: one report per server that did not pass.
        """
        tried = Tried(set(names))
        self._say(f"trying {', '.join(names)} beside what serves")
        try:
            stacks.apply(stack_of(self._fleet), document_of(self._fleet, document, names), self._docker_config)
            if not why_silent:
                self._post(question, 0.0, wait)
            dummy, failures = watch(self._swarm, stack_of(self._fleet), {}, wait.timeout, self._say, self._alive)
            self._fail(failures)
            if why_silent:
                tried.words.append(f"{', '.join(names)}: tried without calls: {why_silent}")
                self._say(tried.words[-1])
            elif self._ask:
                self._say(f"asking {', '.join(names)} through the gateway, as MCP servers")
                if problem := self._ask({**question, "kind": "trial"}).get("problem"):
                    raise TrialFailed([problem])
            stack = stack_of(self._fleet)
            whole = {f"{stack}_{key_of(name)}" for name in names}
            # Of a stack that was made just now no task may have ended, be it while it was called.
            self._fail(settle(self._swarm, stack, whole, wait.settle, self._say, self._alive, set()))
            if wait.terms.share and self._ask and not why_silent:
                tried.words += self._share(self._ask, question, wait)
        finally:
            _end(self._swarm, self._fleet, drained=bool(wait.terms.share))
        return tried

    def _post(self, question: dict[str, Any], share: float, wait: Waits) -> None:
        """Tell the gateway's replicas where they are, and their share."""
        now = int(time.time())
        until = now + wait.terms.seconds + wait.timeout + GRACE_SECONDS if share else 0
        stack = stack_of(self._fleet)
        canaries = {
            server["name"]: {
                "name": f"tasks.{stack}_{key_of(service_of(server['name']))}",
                "port": server["upstream"]["port"],
                "path": server["upstream"]["path"],
                "share": share,
                "since": now,
                "until": until,
                "number": self._number,
            }
            for server in question["servers"]
        }
        board.post(self._swarm, self._fleet, lambda document: {**document, "canaries": canaries})

    def _share(self, ask: Ask, question: dict[str, Any], wait: Waits) -> list[str]:
        """Let them take a share of the calls, and judge them by it; returns what was seen, in people's words."""
        terms = wait.terms
        names = [server["name"] for server in question["servers"]]
        self._post(question, terms.share, wait)
        self._say(f"{', '.join(names)}: {terms.share:g} % of the calls go to the new version for {terms.seconds:.0f} s")
        deadline, said = time.monotonic() + board.LEARN_SECONDS + terms.seconds, time.monotonic()
        while True:
            self._alive()
            over = time.monotonic() > deadline
            self._fail(self._ended())
            judged = _look(ask, question, names, terms, over)
            if any(one.verdict == "bad" for one in judged) or over:
                break
            if time.monotonic() - said > 15:
                said = time.monotonic()
                for one in judged:
                    self._say(one.words)
            time.sleep(min(LOOK_SECONDS, max(0.1, deadline - time.monotonic())))
        bad = [one.words for one in judged if not one.promoted(terms)]
        if bad:
            raise TrialFailed([f"canary withdrawn: {words}" for words in bad])
        lines = [f"canary promoted: {one.words}" for one in judged]
        for line in lines:
            self._say(line)
        return lines

    def _ended(self) -> list[str]:
        """A report per replica that ended while it had its share."""
        stack = stack_of(self._fleet)
        services, tasks = self._swarm.services(stack), self._swarm.stack_tasks(stack)
        reports = []
        for name, service in services.items():
            ended = [task for task in tasks.get(service["ID"], []) if task["Status"]["State"] in ENDED]
            if ended:
                reports.append(describe(self._swarm, name, Verdict("failed", "it ended as a canary", ended[0])))
        return reports

    def _fail(self, reports: list[str]) -> None:
        """Raise what was found, under the names that people know."""
        if not reports:
            return
        stack = stack_of(self._fleet)
        plain = []
        for report in reports:
            head, dot, rest = report.partition(":")
            name = head.removeprefix(f"service {stack}_").removesuffix("_canary")
            plain.append(f"service {self._fleet}_{name}, in its trial{dot}{rest}")
        raise TrialFailed(plain)


def _look(ask: Ask, question: dict[str, Any], names: list[str], terms: Terms, over: bool) -> list[Judgement]:
    """How each canary fares by what all gateway replicas saw."""
    answer = ask({**question, "kind": "canary"})
    if problem := answer.get("problem"):
        raise TrialFailed([f"canary withdrawn: {problem}"])
    return [judge(name, (answer.get("seen") or {}).get(name), terms, over) for name in names]


@dataclass(frozen=True)
class Waits:
    """How long: seconds to become ready and to live, and the terms of a share."""

    timeout: float
    settle: float
    terms: Terms


def check(terms: Terms) -> None:
    """Raises SwarmError, naming key, value and what is allowed, where terms make no sense."""
    rules = [
        ("canary", terms.share, 0 <= terms.share <= 100, "a percentage, 0 to 100"),
        ("canary_seconds", terms.seconds, 1 <= terms.seconds <= 86_400, "1 to 86400 seconds"),
        ("canary_calls", terms.calls, terms.calls >= 1, "at least 1"),
        ("canary_errors", terms.errors, 0 <= terms.errors <= 100, "percentage points, 0 to 100"),
        ("canary_latency", terms.latency, terms.latency >= 1, "at least 1: how many times as long it may take"),
    ]
    wrong = [f"{key}: {value:g}: {allowed}" for key, value, good, allowed in rules if not good]
    if wrong:
        raise SwarmError(f"{'; '.join(wrong)}; nothing was changed")
