"""The console at ``/console``: one page that shows the fleet, tries its tools and configures its clients.

``console`` routes and answers, ``session`` signs people in, ``render`` draws the page, ``clients`` knows the clients'
configuration formats. The page works without scripts; ``page.js`` and its modules make it live.
"""

from mcp_gateway.console.console import Backend, Console

__all__ = ["Backend", "Console"]
