# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other programs. ``AnsibleModule.run_command`` is no choice: builds run in threads, and tests have no module."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

TIMED_OUT = 124
# How long a killed command may take to be gone.
KILL_SECONDS = 2.0


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
    with_input = subprocess.DEVNULL if stdin is None else subprocess.PIPE
    process = subprocess.Popen(  # pylint: disable=ansible-bad-function
        list(command), stdin=with_input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env
    )
    try:
        said, dummy = process.communicate(stdin, timeout)
    except subprocess.TimeoutExpired as error:
        process.kill()
        try:
            said, dummy = process.communicate(timeout=KILL_SECONDS)
        except subprocess.TimeoutExpired as left:
            # It waits in the kernel, for a device that hangs for example, or a child of it has the pipe: it is left.
            said = left.stdout or error.stdout or b""
        return TIMED_OUT, said.decode(errors="replace") + "\ntimed out"
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process.returncode, said.decode(errors="replace")
