"""MCP gateway: one endpoint, both protocol eras, many servers and replicas."""

__version__ = "0.1.0"
