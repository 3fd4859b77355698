# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewall's trial on a machine without systemd, in a network of its own: nothing here touches this machine's."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OLD = "table inet mcp_swarm { chain arriving { type filter hook prerouting priority -150; tcp dport 22 accept; }; }\n"
NEW = OLD.replace("22", "2222")
HEAD = """
import os, sys, time
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node.firewall import Firewall, FirewallError
OLD, NEW, place = sys.argv[1:]
firewall = Firewall(place, place)
loaded = lambda: os.popen("nft --stateless list table inet mcp_swarm 2>&1").read()
"""


def run(place: Path, script: str) -> str:
    """What a script prints in a network and a view of files of its own, without systemd."""
    text = HEAD + textwrap.dedent(script)
    hide = 'mkdir -p /run/systemd && mount -t tmpfs none /run/systemd && exec "$@"'
    command = ["unshare", "--net", "--mount", "sh", "-c", hide, "sh", sys.executable, "-c", text, OLD, NEW, str(place)]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "collections")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_that_are_confirmed_stay(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
        firewall.load(OLD, 2)
        firewall.confirm()
        time.sleep(3)
        print("22 accept" in loaded(), firewall.holds(OLD), firewall.holds(NEW))
        """,
    )
    assert said.split() == ["True", "True", "False"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["firewall.nft"]


def test_rules_that_nobody_confirms_are_taken_back(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
        firewall.load(OLD, 20)
        firewall.confirm()
        firewall.load(NEW, 2)
        print("2222 accept" in loaded())
        time.sleep(4)
        print("22 accept" in loaded(), "2222" in loaded(), firewall.holds(OLD))
        try:
            firewall.confirm()
        except FirewallError as error:
            print(error)
        """,
    )
    assert said.splitlines() == ["True", "True False True", "the timer had put the rules before back already; run again"]


def test_the_first_rules_are_taken_back_to_none(tmp_path: Path) -> None:
    said = run(tmp_path, "firewall.load(OLD, 2)\ntime.sleep(4)\nprint('No such file' in loaded(), firewall.before() == '')")
    assert said.split() == ["True", "True"]


def test_what_was_changed_by_hand_is_seen_and_what_is_removed_is_gone(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
        firewall.load(OLD, 20)
        firewall.confirm()
        os.system("nft insert rule inet mcp_swarm arriving tcp dport 1 accept; nft add table inet other")
        print(firewall.holds(OLD), firewall.remove(), firewall.remove())
        print("No such file" in loaded(), os.popen("nft list tables").read().split())
        """,
    )
    assert said.splitlines() == ["False True False", "True ['table', 'inet', 'other']"]


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ("flush ruleset\n" + OLD, "may only fill their own table"),
        ("table inet mcp_swarm { chain x { nonsense; }; }", "nft refuses the rules; those before go on"),
    ],
)
def test_rules_that_are_refused_change_nothing(tmp_path: Path, rules: str, why: str) -> None:
    said = run(
        tmp_path,
        f"""
        firewall.load(OLD, 20)
        firewall.confirm()
        try:
            firewall.load({rules!r}, 20)
        except FirewallError as error:
            print(error)
        print(firewall.holds(OLD))
        """,
    )
    assert why in said
    assert said.split()[-1] == "True"
