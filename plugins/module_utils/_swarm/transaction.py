# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deploy as one transaction: lock, plan, apply, watch, verify, record; on failure the release before, as a whole."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._services import reserved, service_of, whole
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import board, documents
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import changes as diff
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import releases as records
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import stack as stacks
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import trial as trials
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Swarm, SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.convergence import ended, settle, watch
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.distribution import distribute
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.hooks import HookFailed, Hooks
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.images import images_of, pinned, prune_images
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.judging import Terms
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.lock import Lock, acquire, now
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.nodes import nodes
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.objects import prune_objects
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.placement import unreservable
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.prune import named_images
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.releases import Release, Releases

Say = Callable[[str], None]
# Asks whoever started this to call the fleet; ``problem`` of the answer is empty where all is well.
Ask = Callable[[dict[str, Any]], dict[str, Any]]


class DeployFailed(SwarmError):
    """A deploy that failed after something had changed.

    Attributes:
        reports: one per service that failed.
        serving: what serves now.
    """

    def __init__(self, head: str, reports: list[str], serving: str) -> None:
        self.reports, self.serving = reports, serving
        super().__init__("\n".join([head, *reports, serving]))


class NotUp(Exception):
    """What was applied does not work: one report per service."""

    def __init__(self, reports: list[str]) -> None:
        super().__init__("\n".join(reports))
        self.reports = reports


@dataclass
class Wish:
    """What is to be deployed, by whom and how.

    Attributes:
        document: the compose document.
        verification: what the gate asks; empty where there is nothing to call.
        who, why, revision, catalogue: for the record.
        timeout, settle, wait: seconds to converge, to have run, to wait for another's lock.
        keep: how many deployed releases are kept.
        only: services to deploy, each with its server's other one; all where empty.
        keep_images: images that stay even if no release names them.
        trial: whether a changed server's new version is tried beside the old one before it is updated.
        terms: the share of the calls that it takes then, and how it is judged.
        docker_config: directory with credentials of registries, which nodes are given to pull; empty for none.
        back_to: number of the release whose content this is, where it is gone back to; 0 otherwise.
    """

    document: dict[str, Any]
    verification: dict[str, Any] = field(default_factory=dict)
    who: str = "unknown"
    why: str = ""
    revision: str = ""
    catalogue: str = ""
    timeout: float = 300.0
    settle: float = 25.0
    wait: float = 60.0
    keep: int = 10
    only: list[str] = field(default_factory=list)
    keep_images: list[str] = field(default_factory=list)
    trial: bool = True
    terms: Terms = field(default_factory=Terms)
    docker_config: str = ""
    back_to: int = 0


@dataclass
class Plan:
    """What a deploy would do."""

    release: Release
    changes: list[diff.Change]
    drift: list[str]

    @property
    def lines(self) -> list[str]:
        """One per service, in people's words."""
        return [change.line for change in self.changes] + self.drift

    @property
    def diff(self) -> list[dict[str, str]]:
        """Settings before and after, as Ansible shows them."""
        return [
            {
                "before_header": change.service,
                "after_header": change.service,
                "before": "".join(f"{line}\n" for line in change.before),
                "after": "".join(f"{line}\n" for line in change.after),
            }
            for change in self.changes
        ]


class Transaction:
    """Deploys of one fleet from this manager.

    Args:
        swarm: the manager.
        fleet: the stack's name.
        stack_file: where the document of what runs is kept for people; the one before lies beside it.
        say, ask: progress, and the gate; None where there is nobody to ask.
        hooks: what is run before and after each stage.
    """

    def __init__(
        self, swarm: Swarm, fleet: str, stack_file: str, say: Say, ask: Ask | None, hooks: Hooks | None = None
    ) -> None:
        self.swarm, self.fleet, self.stack_file = swarm, fleet, stack_file
        self.say, self.ask, self.hooks = say, ask, hooks or Hooks()
        self.recovered = ""

    # -- planning ----------------------------------------------------------------------------------------------

    def plan(self, wish: Wish, releases: Releases, foreseen: Collection[str] = ()) -> Plan:
        """What would change. Reads only.

        Args:
            wish: what is to be deployed.
            releases: those there are.
            foreseen: names of secrets and configs that need not be there yet.

        Raises:
            SwarmError: something that the document names does not exist; nothing was changed.
        """
        if short := documents.short_forms(wish.document):
            raise SwarmError("\n".join([*short, "Nothing was changed."]))
        live = self.swarm.services(self.fleet)
        current = releases.current
        document, verification = copy.deepcopy(wish.document), wish.verification
        if wish.only and current:
            names = whole(wish.only, current.document, document)
            document = diff.only(current.document, document, names)
            verification = _merged(current.verification, verification, names)
        images = pinned(self.swarm, images_of(document))
        for name, image in images.items():
            document["services"][name]["image"] = image
        document = self._scaled(document, live)
        if missing := stacks.missing_objects(self.swarm, document, foreseen):
            raise SwarmError("\n".join([*missing, "Nothing was changed; run the deploy playbook, which makes them."]))
        if wrong := self._unreservable(document):
            raise SwarmError("\n".join([*wrong, "Nothing was changed."]))
        if taken := stacks.taken_ports(self.swarm, self.fleet, document):
            raise SwarmError(
                f"{'; '.join(taken)}. Stop what listens there (ss -ltnp shows it) or set another mcp_fleet.edge.port;"
                " nothing was changed"
            )
        release = Release(
            0, document, images, verification, now(), wish.who, wish.why, wish.revision, wish.catalogue
        )
        release.back_to = wish.back_to
        if current and not wish.back_to and release.same_content(current):
            release.back_to = current.back_to  # what was changed by hand is put back: the same place as before
        before = current.document if current else None
        found = diff.changes(self.fleet, before and diff.without_scale(before), diff.without_scale(document))
        return Plan(release, found, drift(self.fleet, current, live))

    def _scaled(self, document: dict[str, Any], live: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """A document with as many replicas as the autoscaler has running now, within its bounds."""
        running = {name.removeprefix(f"{self.fleet}_"): r for name, item in live.items() if (r := _replicas(item))}
        return diff.with_scale(document, running)

    def _unreservable(self, document: dict[str, Any]) -> list[str]:
        """Why what reserves GPUs cannot have them; nobody is asked where nothing does."""
        some = any(reserved(service) for service in document["services"].values())
        return unreservable(document, nodes(self.swarm)) if some else []

    def preview(self, wish: Wish, foreseen: Collection[str] = ()) -> Plan:
        """The plan without a lock, for check mode, in which nobody has made what a deploy finds made."""
        return self.plan(wish, Releases(self.swarm, self.fleet), foreseen)

    def preview_rollback(self, wish: Wish, number: int | None) -> Plan:
        """The same of a rollback."""
        releases = Releases(self.swarm, self.fleet)
        self._aim(wish, releases, number)
        return self.plan(wish, releases)

    def idle(self, wish: Wish) -> dict[str, Any] | None:
        """What a deploy returns that has nothing to do; None where one is to be run, if only to say what is wrong.

        Takes no lock. Where nobody holds it, no deploy was left unfinished, and what is wished for is recorded and
        runs, a deploy would take the lock, find the same, and free it; whoever takes it now could as well have come
        right after that.
        """
        try:
            releases = Releases(self.swarm, self.fleet)
            if not releases.current or releases.unfinished or self.swarm.records(self.fleet, "lock"):
                return None
            plan = self.plan(wish, releases)
        except SwarmError:
            return None
        stale = any(not stacks.same_file(path, text) for path, text in self._for_people(releases).items())
        return None if plan.lines or stale else self._result(False, releases.current, plan, {})

    # -- doing -------------------------------------------------------------------------------------------------

    def deploy(self, wish: Wish) -> dict[str, Any]:
        """Deploy, or leave everything as it was.

        Raises:
            DeployFailed: it did not come up; the release before serves again.
            SwarmError: it was refused before anything changed.
        """
        with self._locked(wish) as lock:
            releases = Releases(self.swarm, self.fleet)
            self._sweep()
            forced = self._recover(lock, releases, wish)
            self._adopt(releases, wish)
            with self._told("deploy", wish).stage("plan"):
                plan = self.plan(wish, releases)
            if not plan.lines and not forced:
                self._people(releases)
                return self._result(False, releases.current, plan, {})
            return self._carry_out(lock, releases, plan, wish)

    def rollback(self, wish: Wish, number: int | None) -> dict[str, Any]:
        """Go back to a release as a whole: the one before where no number is given.

        Raises:
            DeployFailed: it did not come up; what ran before serves again.
            SwarmError: there is no such release, or what it needs is gone; nothing was changed.
        """
        with self._locked(wish) as lock:
            releases = Releases(self.swarm, self.fleet)
            self._sweep()
            self._abandon(releases, "a rollback took its place")
            self._adopt(releases, wish)
            target = self._aim(wish, releases, number)
            with self._told("rollback", wish).stage("plan"):
                try:
                    plan = self.plan(wish, releases)
                except SwarmError as error:
                    raise SwarmError(f"{target} cannot be gone back to:\n{error}") from error
            if not plan.lines:
                return self._result(False, releases.current, plan, {})
            self.hooks.run("on_rollback")
            return self._carry_out(lock, releases, plan, wish)

    def _aim(self, wish: Wish, releases: Releases, number: int | None) -> Release:
        """Wish for what a release is."""
        target = releases.find(number) if number is not None else releases.previous()
        wish.why = wish.why or f"rollback to release {target.number}"
        wish.document, wish.verification = target.document, target.verification
        wish.revision, wish.catalogue, wish.only = target.revision, target.catalogue, []
        wish.back_to = target.origin
        return target

    def _locked(self, wish: Wish) -> Lock:
        return acquire(self.swarm, self.fleet, wish.who, wish.why or "deploy", wish.wait, self.say)

    def _carry_out(self, lock: Lock, releases: Releases, plan: Plan, wish: Wish) -> dict[str, Any]:
        start = time.monotonic()
        before = releases.current
        self._distribute(plan, before, wish, lock)
        if before is None:
            plan.release.strangers = self._strangers(releases)
        release = releases.begin(plan.release)
        touched = {change.service for change in plan.changes}
        self.hooks.facts |= {"MCP_RELEASE": str(release.number), "MCP_CHANGED": " ".join(sorted(touched))}
        applied = False
        try:
            tried = self._try(release, before, wish, lock)
            self.hooks.run("before_apply")
            applied = True
            converged = self._put(release, before, wish, lock)
            known = ended(self.swarm, self.fleet)
            board.refresh(self.swarm, self.fleet)
            self.hooks.run("after_apply")
            with self.hooks.stage("verify"):
                self._gate(release)
                # What was tried beside the old version has proved already that it stays up.
                young = touched - {f"{self.fleet}_{name}" for name in tried.services}
                if failures := settle(self.swarm, self.fleet, young, wish.settle, self.say, lock.check, known):
                    raise NotUp(failures)
            with self.hooks.stage("record"):
                release.outcome = records.DEPLOYED
                live = self.swarm.services(self.fleet)
                release.services = _digests(self.fleet, release.document, live)
                self._end(releases, release, start)
        except Exception as error:  # whatever it is, what served before is to serve again
            lock.check()
            reports = _reports(error)
            self.hooks.facts["MCP_ERROR"] = "\n".join(reports)[:4000]
            if applied:
                msg = "The fleet did not come up; services that ran before go on serving."
                self.hooks.run("on_rollback")
                release.outcome, serving = self._restore(before, release, wish, lock)
            else:
                msg = "The new version did not pass its trial; nothing of what serves was touched."
                if isinstance(error, HookFailed):
                    msg = "A hook stopped the deploy; nothing of what serves was touched."
                what = before or ", ".join(release.strangers) or "nothing"
                release.outcome, serving = records.RESTORED, f"Serving now: {what}, untouched."
            release.message = "\n".join(reports)[:4000]
            self._end(releases, release, start)
            self._prune(releases, wish)
            self.hooks.run("on_failure")
            raise DeployFailed(msg, [*reports, *self.hooks.problems], serving) from error
        self._people(releases)
        self._prune(releases, wish)
        return self._result(True, release, plan, converged, tried.words)

    def _told(self, action: str, wish: Wish) -> Hooks:
        """The hooks, told what they are run for."""
        self.hooks.facts |= {
            "MCP_FLEET": self.fleet,
            "MCP_ACTION": action,
            "MCP_RELEASE": "",
            "MCP_WHO": wish.who,
            "MCP_WHY": wish.why,
            "MCP_REVISION": wish.revision,
            "MCP_CHANGED": "",
            "MCP_ERROR": "",
        }
        return self.hooks

    def _sweep(self) -> None:
        """Take away what the trial of a deploy that died left."""
        if trials.sweep(self.swarm, self.fleet):
            self.say("removed replicas on trial that another deploy had left")

    def _try(self, release: Release, before: Release | None, wish: Wish, lock: Lock) -> trials.Tried:
        """Try what can be tried of a release beside the one that serves.

        Raises:
            TrialFailed: a new version did not pass.
        """
        if not wish.trial or before is None:
            return trials.Tried()
        names, words = trials.candidates(before.document, release.document)
        for line in words:
            self.say(line)
        if not names:
            return trials.Tried(words=words)
        servers = [s for s in release.verification.get("servers", []) if service_of(s["name"]) in names]
        question = {**before.verification, "servers": servers}
        silent = self._why_silent(before, servers)
        if silent and wish.terms.share:
            raise trials.TrialFailed([f"canary: {wish.terms.share:g} %: nobody can judge it: {silent}; deploy without"])
        trial = trials.Trial(self.swarm, self.fleet, self.say, lock.check, self.ask, wish.docker_config)
        waits = trials.Waits(wish.timeout, wish.settle, wish.terms)
        with self.hooks.stage("trial"):
            tried = trial.run(release.document, names, question, silent, waits)
        return trials.Tried(tried.services, words + tried.words)

    def _why_silent(self, before: Release, servers: list[dict[str, Any]]) -> str:
        """Why replicas on trial cannot be called through the gateway that serves; empty where they can."""
        if not self.ask or not servers:
            return "nobody is there to call them"
        if "session_key" not in before.verification:
            return "the gateway that serves knows no trials; the one that is deployed now does"
        live = self.swarm.services(self.fleet)
        away = [part for part in ("gateway", "edge") if not _is_up(live.get(f"{self.fleet}_{part}", {}))]
        return f"{' and '.join(away)} of what serves {'are' if away[1:] else 'is'} not up" if away else ""

    def _distribute(self, plan: Plan, before: Release | None, wish: Wish, lock: Lock) -> None:
        """Have the images of what will move on every node that may run them.

        Raises:
            SwarmError: a node cannot have one; nothing was changed.
        """
        if not wish.docker_config:
            return
        document = plan.release.document
        old: dict[str, Any] = before.document if before else {"services": {}}
        moving = [n for n, service in document["services"].items() if _place(service) != _place(old["services"].get(n))]
        distribute(self.swarm, self.fleet, document, old, moving, wish.timeout, self.say, lock.check)

    def _put(self, release: Release, before: Release | None, wish: Wish, lock: Lock) -> dict[str, float]:
        """Bring a release's services to life."""
        lock.check()
        live = self.swarm.services(self.fleet)
        stamps = {name: item["UpdatedAt"] for name, item in live.items()}
        # A record has the replicas of then, and a trial takes long enough for the autoscaler to choose others.
        stacks.apply(self.fleet, self._scaled(release.document, live), wish.docker_config)
        converged, failures = watch(self.swarm, self.fleet, stamps, wish.timeout, self.say, lock.check)
        if failures:
            raise NotUp(failures)
        return converged

    def _gate(self, release: Release) -> None:
        if not self.ask or not release.verification.get("servers"):
            return
        self.say("asking every server through the edge")
        if problem := self.ask(release.verification)["problem"]:
            raise NotUp([problem])

    def _restore(self, before: Release | None, failed: Release, wish: Wish, lock: Lock) -> tuple[str, str]:
        """The release before, as a whole; returns the failed release's outcome and what serves now."""
        try:
            if before is None:
                return records.RESTORED, self._undo(failed)
            self.say(f"going back to {before}")
            self._put(before, None, wish, lock)
        except Exception as error:
            services = self.swarm.services(self.fleet)
            up = sum(1 for s in services.values() if _is_up(s))
            what, why = before or "how it was", "\n".join(_reports(error))
            return records.FAILED, (
                f"Serving now: {up} of {len(services)} services run. Going back to {what} failed too:\n{why}"
            )
        self._people(Releases(self.swarm, self.fleet))
        count = len(before.document["services"])
        note = f"Serving now: {before}, {count}/{count} services"
        if not self.ask or not before.verification.get("servers"):
            return records.RESTORED, f"{note}."
        problem = self.ask(before.verification)["problem"]
        return records.RESTORED, f"{note}, {'but ' + problem if problem else 'verified'}."

    def _undo(self, first: Release) -> str:
        """Take away what a first release started, and only that; returns what serves now."""
        gone = stacks.remove_services(self.swarm, self.fleet, first.strangers)
        self.say(f"removed {len(gone)} services that did not run before")
        if not first.strangers:
            return "Serving now: nothing. No release ran before, so what this one started was removed."
        names, live = first.strangers, self.swarm.services(self.fleet)
        up = sum(1 for name in names if name in live and _is_up(live[name]))
        return (
            f"Serving now: what Swarm kept of {', '.join(names)}: {up} of {len(names)} services run."
            " They ran without a record, so there is nothing to go back to."
        )

    def _strangers(self, releases: Releases) -> list[str]:
        """Services that run and that no deploy of ours started: none has succeeded yet, but some may have died."""
        ours: set[str] = set()
        for release in releases.all:
            if release.outcome == records.RESTORED:  # what it and those before it had started is gone
                ours.clear()
                continue
            ours |= {f"{self.fleet}_{name}" for name in release.document["services"]}
            ours -= set(release.strangers)
        return sorted(set(self.swarm.services(self.fleet)) - ours)

    def _recover(self, lock: Lock, releases: Releases, wish: Wish) -> bool:
        """Deal with a deploy that died; returns whether the present one must be carried out whatever the plan says."""
        dead = releases.unfinished
        if dead is None:
            return False
        serves = releases.current
        if serves is None or unpinned(dead.document) == unpinned(wish.document):
            self.recovered = f"{dead} was left unfinished; this deploy finishes it"
        else:
            self.recovered = f"{dead} was left unfinished; restored {serves} first"
            self.say(f"{dead} was left unfinished: restoring {serves}")
            try:
                self._put(serves, None, wish, lock)
            except NotUp as error:  # the deploy that follows may be what repairs it
                self.recovered = f"{dead} was left unfinished, and {serves} does not come up any more: {error}"
        self.say(self.recovered)
        self._abandon(releases, self.recovered)
        return True

    def _abandon(self, releases: Releases, why: str) -> None:
        while dead := releases.unfinished:
            dead.outcome, dead.message, dead.finished = records.ABANDONED, why, now()
            releases.finish(dead)

    def _adopt(self, releases: Releases, wish: Wish) -> None:
        """A fleet that runs without a record (deployed by hand, or before there were records) becomes a release."""
        live = self.swarm.services(self.fleet)
        if releases.all or not live:  # with any record, what runs may be what a deploy that died has left
            return
        try:
            document = stacks.read(Path(self.stack_file).read_text("utf-8"))
        except (OSError, ValueError):
            return
        if {f"{self.fleet}_{name}" for name in document.get("services", {})} != set(live):
            return
        adopted = releases.begin(
            Release(
                0,
                document,
                images_of(document),
                {},
                now(),
                wish.who,
                "it ran before releases were recorded",
                strangers=sorted(live),  # for whoever finds this record unfinished
            )
        )
        adopted.outcome, adopted.finished = records.DEPLOYED, now()
        adopted.services = _digests(self.fleet, document, live)
        releases.finish(adopted)

    def _end(self, releases: Releases, release: Release, start: float) -> None:
        release.finished, release.seconds = now(), round(time.monotonic() - start, 1)
        releases.finish(release)

    def _people(self, releases: Releases) -> None:
        for path, text in self._for_people(releases).items():
            try:
                stacks.write_file(path, text)
            except OSError as error:  # nobody but people reads it
                self.say(f"{path} could not be written: {error.strerror}; the next deploy writes it")

    def _for_people(self, releases: Releases) -> dict[str, str]:
        """The stack files on this manager, path to text: what runs, and what ran before."""
        files = {}
        if releases.current:
            files[self.stack_file] = stacks.document(releases.current.document)
        if replaced := releases.replaced:
            head, dot, tail = self.stack_file.rpartition(".")
            files[f"{head}.previous{dot}{tail}"] = stacks.document(replaced.document)
        return files

    def _prune(self, releases: Releases, wish: Wish) -> None:
        """Remove what no kept release needs; a failed release keeps its record and nothing else."""
        try:
            self._drop(releases, wish)
        except Exception as error:  # what became of the deploy is recorded by then, and more important
            self.say(f"what no release needs was not removed: {error}; the next deploy, or make prune, removes it")

    def _drop(self, releases: Releases, wish: Wish) -> None:
        known = {name for release in releases.all for name in release.objects()}
        dropped = releases.drop(wish.keep)
        keep = {name for release in releases.good for name in release.objects()}
        prune_objects(self.swarm, self.fleet, keep, known)
        if images := {image for release in dropped for image in release.images.values()}:
            # Other fleets of this Swarm may have been built from the same sources.
            prune_images(self.swarm, images, named_images(self.swarm, self.fleet) | set(wish.keep_images))

    def _result(
        self,
        changed: bool,
        release: Release | None,
        plan: Plan,
        converged: dict[str, float],
        tried: list[str] | None = None,
    ) -> dict[str, Any]:
        return {
            "changed": changed,
            "differences": plan.lines,
            "diff": plan.diff,
            "converged": converged,
            "release": release.number if release else 0,
            "recovered": self.recovered,
            "trial": tried or [],
            "hook_problems": self.hooks.problems,
        }


def _reports(error: Exception) -> list[str]:
    """What a deploy failed of, one report per service where services did."""
    if isinstance(error, (NotUp, trials.TrialFailed)):
        return error.reports
    if isinstance(error, SwarmError):
        return [str(error)]
    return [f"the deploy met an error that nobody foresaw: {type(error).__name__}: {error}"]


def drift(fleet: str, release: Release | None, live: dict[str, dict[str, Any]]) -> list[str]:
    """What of the running services is not what the release says, one line each."""
    if release is None:
        return []
    lines = []
    for name, service in sorted(release.document["services"].items()):
        full = f"{fleet}_{name}"
        if full not in live:
            lines.append(f"{full}: is gone, though {release} has it")
            continue
        scaled = diff.scale(service) is not None
        if release.services.get(full) == stacks.digest(live[full], scaled):
            continue
        parts = []
        container = live[full]["Spec"]["TaskTemplate"].get("ContainerSpec") or {}
        if container.get("Image") != service["image"]:
            parts.append(f"runs {container.get('Image')} instead of {service['image']}")
        wanted, has = (service.get("deploy") or {}).get("replicas"), _replicas(live[full])
        if not scaled and wanted is not None and has != wanted:
            parts.append(f"has {has} replicas instead of {wanted}")
        lines.append(f"{full}: {', '.join(parts) or 'was changed'} since {release}")
    known = {f"{fleet}_{name}" for name in release.document["services"]}
    return lines + [f"{name}: runs, though {release} does not have it" for name in sorted(set(live) - known)]


def _digests(fleet: str, document: dict[str, Any], live: dict[str, dict[str, Any]]) -> dict[str, str]:
    services = {f"{fleet}_{name}": service for name, service in document["services"].items()}
    return {name: stacks.digest(item, diff.scale(services.get(name, {})) is not None) for name, item in live.items()}


def _place(service: dict[str, Any] | None) -> Any:
    """What decides on which nodes an image is needed."""
    placement = ((service or {}).get("deploy") or {}).get("placement") or {}
    return (service or {}).get("image"), placement.get("constraints")


def _replicas(service: dict[str, Any]) -> int | None:
    replicated = (service["Spec"].get("Mode") or {}).get("Replicated")
    return int(replicated.get("Replicas", 1)) if replicated else None


def _is_up(service: dict[str, Any]) -> bool:
    status = service.get("ServiceStatus") or {}
    return bool(status.get("RunningTasks", 0) >= status.get("DesiredTasks", 1))


def unpinned(document: dict[str, Any]) -> dict[str, Any]:
    """A document without what a deploy adds to it: digests of images, and replicas that an autoscaler chose."""
    plain = diff.without_scale(document)
    for service in plain["services"].values():
        service["image"] = str(service["image"]).partition("@")[0]
    return plain


def _merged(current: dict[str, Any], wanted: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """What the gate asks when only some services were deployed."""
    new = {server["name"]: server for server in wanted.get("servers", []) if service_of(server["name"]) in names}
    old = {s["name"]: s for s in current.get("servers", []) if service_of(s["name"]) not in names}
    return {**wanted, **current, "servers": list({**old, **new}.values())}
