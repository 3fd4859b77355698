# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a long module tells the controller, and asks it, while it runs: the module's side of a file."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from typing import Any

# The controller looks every second.
SEEN_SECONDS = 15.0
# The controller asks each server for verify_timeout seconds; so much longer may its answer take.
ANSWER_SECONDS = 40


class Progress:
    """Appends lines to a file that the controller follows; without a file it does nothing."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._asked = 0
        self._alone = False

    def __call__(self, line: str) -> None:
        self._write({"time": time.time(), "line": line})

    def ask(self, question: dict[str, Any], seconds: float) -> dict[str, Any] | None:
        """Have the controller answer a question; None where it does not within ``seconds`` or nobody follows.

        The answer comes as a file beside the progress file, named by the question's number. Before it, another one
        says that the question was seen: a controller that is gone is not waited for, and not asked again.
        """
        if not self._path or self._alone:
            return None
        self._asked += 1
        self._write({"time": time.time(), "ask": question, "number": self._asked})
        path, asked = f"{self._path}.{self._asked}", time.monotonic()
        while time.monotonic() < asked + (seconds if os.path.exists(f"{path}.seen") else SEEN_SECONDS):
            try:
                with open(path, encoding="utf-8") as handle:
                    answer: dict[str, Any] = json.load(handle)
                return answer
            except (OSError, ValueError):  # not there yet, or not whole
                time.sleep(0.2)
        self._alone = True
        return None

    def _write(self, entry: dict[str, Any]) -> None:
        if self._path:
            # Who looks on is no reason to end what is being done: a full disk keeps lines from them, and nothing else.
            with contextlib.suppress(OSError), self._lock, open(self._path, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(entry) + "\n")
