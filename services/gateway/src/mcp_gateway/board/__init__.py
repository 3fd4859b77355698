"""What all gateway replicas must know at once and no configuration tells them: maintenance, and canaries.

A configuration of Swarm cannot change without its tasks being replaced. So a small service of the fleet, the board,
holds one document; each gateway replica looks it up by its DNS name, reads it every second (``follow.py``), and tells
the board with each look what it saw of the canaries. The board adds that up and says it to all (``service.py``).
Messages are sealed with the session keys, as those between gateway replicas are.
"""

from mcp_gateway.board.document import CanaryAt, Document, Notice
from mcp_gateway.board.follow import Board
from mcp_gateway.board.settings import BoardSettings, read

__all__ = ["Board", "BoardSettings", "CanaryAt", "Document", "Notice", "read"]
