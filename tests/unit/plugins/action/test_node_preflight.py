# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ssh, sudo and a shell say becomes a finding with the next step."""

from __future__ import annotations

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.action.node_preflight import cause

SAID = [
    ("Failed to connect to the host via ssh: ubuntu@192.0.2.1: Permission denied (publickey).", "login", "ansible_user"),
    ("@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@ Host key verification failed.", "host key", "ssh-keygen -R"),
    ("Host key verification failed.", "host key", "ssh-keygen -R"),
    ("ssh: connect to host 192.0.2.1 port 22: Connection timed out", "connection", "ansible_host"),
    ("ssh: connect to host 192.0.2.1 port 22: Connection refused", "connection", "ansible_port"),
    ("ssh: Could not resolve hostname gpu-1: Name or service not known", "connection", "ansible_host"),
    ("Missing sudo password", "sudo", "--ask-become-pass"),
    ("sudo: a password is required", "sudo", "NOPASSWD"),
    ("ubuntu is not in the sudoers file.", "sudo", "NOPASSWD"),
    ("Incorrect sudo password", "sudo", "--ask-become-pass"),
    ('sudo: The "no new privileges" flag is set, which prevents sudo from running as root.', "sudo", "NOPASSWD"),
    ("/bin/sh: 1: sudo: not found", "sudo", "ansible_user: root"),
    ("/bin/sh: 1: /usr/bin/python3: not found", "python", "apt-get install python3"),
    ("something else entirely", "connection", "what the node could not do"),
]


@pytest.mark.parametrize(("said", "key", "fix"), SAID, ids=[each[0][:40] for each in SAID])
def test_a_cause_has_a_next_step(said: str, key: str, fix: str) -> None:
    found = cause(said)
    assert (found.level, found.key) == ("error", key)
    assert fix in found.fix


def test_a_long_answer_is_cut_in_the_middle() -> None:
    assert len(cause("x " * 1000).value) < 350
