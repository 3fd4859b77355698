"""HTTP/1.1 on both sides, free of MCP: ``messages`` what is exchanged, ``server`` to clients, ``client`` to servers."""
