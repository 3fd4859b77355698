# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other programs. ``AnsibleModule.run_command`` is no choice: builds run in threads, and tests have no module."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

TIMED_OUT = 124


def run(
    command: Sequence[str],
    *,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> tuple[int, str]:
    """Exit code and combined output of a command; ``TIMED_OUT`` when it ran past ``timeout`` seconds.

    Raises:
        OSError: it could not be started.
    """
    try:
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            list(command),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return TIMED_OUT, (error.stdout or b"").decode(errors="replace") + "\ntimed out"
    return done.returncode, done.stdout.decode(errors="replace")
