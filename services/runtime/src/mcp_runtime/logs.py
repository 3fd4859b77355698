"""Carries a child's stderr to ours with bounded lines, and remembers its last words.

The last line that a server wrote before it died usually says what is missing ("X_TOKEN is not set"): the
readiness probe repeats it, so that the reason is seen where the failure is seen.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import IO, TextIO

MAX_LINE_BYTES = 8192
CUT = b" ... [cut]\n"


class StderrPump:
    """A pipe for a child's stderr, read by a thread for as long as this process lives.

    Attributes:
        last_words: the newest line that is not blank, at most 300 characters.
    """

    def __init__(self, target: IO[bytes] | None = None) -> None:
        self.last_words = ""
        self._target = target or sys.stderr.buffer
        reading, writing = os.pipe()
        self._source = os.fdopen(reading, "rb")
        # The child gets a copy of this end; ours stays open, so that the pipe outlives each child.
        self.child_end: TextIO = os.fdopen(writing, "w")
        threading.Thread(target=self._pump, name="child-stderr", daemon=True).start()

    def _pump(self) -> None:
        while line := self._source.readline(MAX_LINE_BYTES):
            cut = not line.endswith(b"\n")
            self._target.write(line + CUT if cut else line)
            self._target.flush()
            self.last_words = line.decode(errors="replace").strip()[:300] or self.last_words
            while cut and (rest := self._source.readline(MAX_LINE_BYTES)):
                cut = not rest.endswith(b"\n")
