"""Hypothesis keeps what it found outside of the repository; what matters of it goes into the corpus."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis.configuration import set_hypothesis_home_dir

set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "mcp-gateway-hypothesis")
