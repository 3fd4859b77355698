"""What runs inside an MCP server's container: secrets, transport, readiness."""
