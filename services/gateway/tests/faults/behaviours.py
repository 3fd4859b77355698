"""Every fault the misbehaving server commits, with what a client behind the gateway must see of it."""

from __future__ import annotations

from faults import breaks, eras, floods, framing, messages, statuses, timing
from faults.fault import FAULTS, Fault

__all__ = ["FAULTS", "Fault", "breaks", "eras", "floods", "framing", "messages", "statuses", "timing"]
