"""Several gateway replicas as one: a request goes on at the replica that holds it (``handover``), and what clients set
in their sessions is known to all (``replication``), each message sealed (``envelope``)."""

from mcp_gateway.peers.handover import FORWARDED, hand_over, own_address
from mcp_gateway.peers.replication import PATH, Peers
from mcp_gateway.peers.settings import PeersSettings, read

__all__ = ["FORWARDED", "PATH", "Peers", "PeersSettings", "hand_over", "own_address", "read"]
