"""The audit log: who asked for what, which replica answered, how it ended, and how long it took.

`settings` reads the ``audit:`` part of the configuration, `log` takes records, `redact` keeps secrets out of
them, and `sink` is the thread that writes.
"""

from __future__ import annotations

from mcp_gateway.audit.log import Audit
from mcp_gateway.audit.settings import AuditSettings, read

__all__ = ["Audit", "AuditSettings", "read"]
