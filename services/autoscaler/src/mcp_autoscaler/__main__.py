"""``python -m mcp_autoscaler``."""

from mcp_autoscaler.cli import main

if __name__ == "__main__":
    main()
