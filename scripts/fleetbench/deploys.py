# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploys of a fleet that runs: without a change, of one server, and back; and how soon convergence is seen."""

from __future__ import annotations

import statistics
import sys

from fleetbench.node import HERE, BenchError, Node
from fleetbench.table import Row

ROUNDS = 7
STACK_FILE = "/etc/mcp-swarm/docker-compose.cloud.yml"
NO_CHANGE, ROLLBACK_SECONDS, SEEN_SECONDS = 3.0, 45.0, 1.0
DEPLOY = "Deploy the stack, or go back to the release before"


def no_change(node: Node) -> list[Row]:
    """A deploy that changes nothing, beside a plain ``docker stack deploy`` of the same file, in turn."""
    shell = node.program(HERE / "plain.py", STACK_FILE, str(ROUNDS))
    # The first round packs the modules; that is once a playbook.
    played = node.play(HERE / "nochange.yml", "-e", f"bench_rounds={ROUNDS + 1}", "-e", f"bench_file={STACK_FILE}")
    if "changed=0" not in played.output:
        raise BenchError(f"a deploy without a change says that it changed something\n{played.output[-3000:]}")
    floor, plain, deploy = (statistics.median(played.of(name)[1:]) for name in ("| floor", "| plain", DEPLOY))
    alone = statistics.median(shell["seconds"])
    net = (deploy - floor) / alone
    return [
        Row("plain `docker stack deploy`, on the manager's shell", alone),
        Row("a task that does nothing", floor),
        Row("a task that is a plain `docker stack deploy`", plain),
        Row("a task that is a deploy without a change (`changed=0`)", deploy),
        Row("of the plain one, each as a task", deploy / plain, NO_CHANGE, "times"),
        Row("of the plain one on the shell, without what a task that does nothing takes", net, NO_CHANGE, "times"),
        Row("of the plain one on the shell, with all that Ansible takes", deploy / alone, None, "times"),
    ]


def seen(node: Node) -> list[Row]:
    """How long after a service had converged that was seen."""
    late = node.program(HERE / "watcher.py", "mcp", "mcp_time", "5")["late"]
    node.play("playbooks/deploy.yml")  # what the program changed is put back
    return [Row("convergence seen after it happened, worst of 5", max(late), SEEN_SECONDS)]


def one_server(node: Node) -> list[Row]:
    """A change of one server."""
    before = node.tasks()
    node.write(node.changed({"thinking"}, "1"))
    played = node.play("playbooks/deploy.yml")
    after = node.tasks()
    touched = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    node.write(node.servers)
    node.play("playbooks/deploy.yml")
    if touched != ["mcp_thinking"]:
        raise BenchError(f"a change of thinking touched the tasks of {', '.join(touched) or 'nobody'}")
    return [Row(f"a change of one server; tasks of {len(touched)} of {len(before)} services replaced", played.seconds)]


def back(node: Node) -> list[Row]:
    """A rollback of a release that changed every server."""
    node.write(node.changed({server["name"] for server in node.servers}, "2"))
    node.play("playbooks/deploy.yml")
    node.write(node.servers)
    before = node.tasks()
    played = node.play("playbooks/rollback.yml")
    after = node.tasks()
    touched = sum(1 for name in before if before[name] != after.get(name))
    if "12/12 operational" not in played.output or touched != len(node.servers):
        raise BenchError(f"{touched} services went back, and this was said:\n{played.output[-3000:]}")
    return [Row("rollback of all twelve servers, to `12/12 operational`", played.seconds, ROLLBACK_SECONDS)]


def rows(node: Node) -> list[Row]:
    """All of these; the fleet runs before and after."""
    found: list[Row] = []
    for part in (no_change, seen, one_server, back):
        found += (more := part(node))
        print("\n".join(row.line() for row in more), file=sys.stderr, flush=True)
    return found
