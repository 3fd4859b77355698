# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a node, its connection included; see plugins/modules/node_preflight.py for the documentation."""

from __future__ import annotations

import re
import time
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node.preflight import Finding, as_dicts

# What a connection says, what it is about, and the next step. The first that matches counts.
CAUSES = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key verification failed",
        "host key",
        "make sure that it is the machine you mean; then ssh-keygen -R its address, and connect once by hand",
    ),
    (
        r"Permission denied|Too many authentication failures|Authentication failure",
        "login",
        "the machine does not know this key or user: set ansible_user and ansible_ssh_private_key_file",
    ),
    (
        r"not in the sudoers|may not run sudo|not allowed to execute|a password is required|[Mm]issing sudo password"
        r"|Incorrect sudo password|sudo: \d+ incorrect|no new privileges|Premature end of stream waiting for become",
        "sudo",
        "the login user needs sudo: give it NOPASSWD in /etc/sudoers.d, or run with --ask-become-pass",
    ),
    (r"sudo: (command )?not found|sudo: No such file", "sudo", "install sudo, or log in as root (ansible_user: root)"),
    (
        r"python\S*: (command )?not found|No such file or directory|No python interpreters|interpreter .* not found",
        "python",
        "install it (apt-get install python3), or set ansible_python_interpreter",
    ),
    (
        r"timed out|Timeout|No route to host|Network is unreachable|Connection refused|Could not resolve|not known",
        "connection",
        "check ansible_host and ansible_port, that the machine runs, and the firewalls in between",
    ),
)


class ActionModule(ActionBase):
    """Runs the module; whatever keeps it from running is a finding as well."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        # What the nodes' addresses are compared by.
        result["advertise"] = self._task.args.get("advertise", "")
        arguments = {**self._task.args, "clock": time.time()}
        try:
            done = self._execute_module(module_args=arguments, task_vars=task_vars)
        except AnsibleError as error:
            return result | {"changed": False, "findings": as_dicts([cause(str(error))])}
        # Wrong arguments are the playbook's fault, and no finding.
        if "findings" in done or "invocation" in done:
            return result | done
        said = " ".join(str(done[key]) for key in ("module_stderr", "module_stdout", "msg") if done.get(key))
        return result | {"changed": False, "findings": as_dicts([cause(said)])}


def cause(said: str) -> Finding:
    """A connection's words as a finding."""
    words = re.sub(r"\s+", " ", said).strip()
    short = words if len(words) <= 300 else f"{words[:150]} … {words[-150:]}"
    for pattern, key, fix in CAUSES:
        if re.search(pattern, words):
            return Finding("error", key, short, fix)
    return Finding("error", "connection", short or "no answer", "the message says what the node could not do")
