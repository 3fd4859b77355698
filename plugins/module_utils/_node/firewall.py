# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's firewall: one table of nftables that is tried before it is kept.

``/etc/mcp-node/firewall.nft`` is what holds, and what a boot loads. New rules lie beside it and run on trial, with a
timer that puts the old ones back; only when they are confirmed do they take its place.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._process import run

TABLE = "inet mcp_swarm"
# Created if it is missing, then deleted: the one transaction that replaces a table, whether it was there or not.
REPLACE = f"table {TABLE}\ndelete table {TABLE}\n"
DIRECTORY = "/etc/mcp-node"
UNIT = "mcp-firewall-revert"
COMMAND_SECONDS = 30.0


class FirewallError(Exception):
    """What is wrong, with the next step."""


class Firewall:
    """The table ``inet mcp_swarm`` of this machine; other tables are never touched.

    Args:
        directory: where the rules are kept.
        runtime: where what a boot forgets is kept.
    """

    def __init__(self, directory: str = DIRECTORY, runtime: str = "/run") -> None:
        self.kept = os.path.join(directory, "firewall.nft")
        self.next = os.path.join(directory, "firewall.next.nft")
        self.back = os.path.join(directory, "firewall.revert.nft")
        self._directory = directory
        self._reverted = os.path.join(runtime, f"{UNIT}.done")
        self._pid = os.path.join(runtime, f"{UNIT}.pid")

    def before(self) -> str:
        """The rules that are kept; empty where there are none."""
        return _read(self.kept)

    def holds(self, rules: str) -> bool:
        """Whether exactly these rules are kept and loaded."""
        if self.before() != REPLACE + rules or not shutil.which("nft"):
            return False
        code, loaded = _run("nft", "--stateless", "list", "table", *TABLE.split())
        # What they look like when nft lists them: loaded once in a network of its own, that ends with the command.
        script = f"nft --file {self.kept} && exec nft --stateless list table {TABLE}"
        there, canonical = _run("unshare", "--net", "sh", "-c", script)
        return code == 0 and (there != 0 or loaded == canonical)

    def check(self, rules: str) -> None:
        """Have nft read rules, and load none.

        Raises:
            FirewallError: nft refuses them; or they would touch other tables.
        """
        if "flush ruleset" in rules:
            raise FirewallError("the rules flush those of others (flush ruleset); they may only fill their own table")
        if not shutil.which("nft"):
            raise FirewallError("nft is not installed: apt-get install nftables")
        code, said = _run("nft", "--check", "--file", "-", stdin=REPLACE + rules)
        if code != 0:
            raise FirewallError(f"nft refuses the rules; those before go on:\n{said.strip()}")

    def load(self, rules: str, seconds: int) -> None:
        """Run rules on trial: after so many seconds without :meth:`confirm` those before are back.

        Raises:
            FirewallError: they are refused, or no timer can be set; those before go on.
        """
        self.check(rules)
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        _write(self.next, REPLACE + rules)
        _write(self.back, self.before() or REPLACE)
        self._disarm()
        with suppress(FileNotFoundError):
            os.unlink(self._reverted)
        try:
            self._arm(seconds)
            code, said = _run("nft", "--file", self.next)
            if code != 0:
                self._disarm()
                raise FirewallError(f"nft cannot load the rules; those before go on:\n{said.strip()}")
        except FirewallError:  # nothing is on trial: a confirmation finds nothing to keep
            os.unlink(self.next)
            os.unlink(self.back)
            raise

    def confirm(self) -> None:
        """Keep the rules on trial.

        Raises:
            FirewallError: there are none, or the timer was quicker.
        """
        self._disarm()
        if os.path.exists(self._reverted):
            raise FirewallError("the timer had put the rules before back already; run again")
        if not os.path.exists(self.next):
            raise FirewallError("no rules are on trial; run again")
        os.replace(self.next, self.kept)
        with suppress(FileNotFoundError):
            os.unlink(self.back)

    def remove(self, dry: bool = False) -> bool:
        """Take the table and its files away; whether there was anything."""
        self._disarm()
        code = _run("nft", "list", "table", *TABLE.split())[0] if shutil.which("nft") else 1
        files = [path for path in (self.kept, self.next, self.back) if os.path.exists(path)]
        if not dry:
            if code == 0:
                _run("nft", "--file", "-", stdin=REPLACE)
            for path in files:
                os.unlink(path)
        return code == 0 or bool(files)

    def _arm(self, seconds: int) -> None:
        script = f"nft --file {self.back} && rm -f {self.next} && touch {self._reverted}"
        if os.path.isdir("/run/systemd/system"):
            code, said = _run(
                "systemd-run", "--quiet", f"--unit={UNIT}", f"--on-active={seconds}s",
                "--timer-property=AccuracySec=1s", "--description=Put the firewall's rules before back",
                "/bin/sh", "-c", script,
            )  # fmt: skip
            if code != 0:
                raise FirewallError(f"no timer could be set, so that no rules were tried: {said.strip()}")
            return
        # In a session of its own it outlives the connection that it guards.
        timer = subprocess.Popen(  # pylint: disable=ansible-bad-function,consider-using-with
            ["sh", "-c", f"sleep {seconds} && {script}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _write(self._pid, str(timer.pid))

    def _disarm(self) -> None:
        if os.path.isdir("/run/systemd/system"):
            _run("systemctl", "stop", f"{UNIT}.timer")
            _run("systemctl", "reset-failed", f"{UNIT}.service")
        with suppress(OSError, ValueError):
            os.killpg(int(_read(self._pid)), signal.SIGTERM)
        with suppress(FileNotFoundError):
            os.unlink(self._pid)


def _run(*command: str, stdin: str | None = None) -> tuple[int, str]:
    try:
        return run(command, stdin=stdin.encode() if stdin is not None else None, timeout=COMMAND_SECONDS)
    except OSError as error:
        return 127, str(error)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _write(path: str, content: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
