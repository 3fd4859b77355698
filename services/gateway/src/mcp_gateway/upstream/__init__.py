"""Upstream MCP servers: ``server`` (a call's way), ``replicas``, ``admission``, and the two eras on the wire."""
