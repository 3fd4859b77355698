"""What an endpoint shows and does; ``view`` is its front."""

from mcp_gateway.views.request import Forbidden, Request
from mcp_gateway.views.site import Site
from mcp_gateway.views.view import View

__all__ = ["Forbidden", "Request", "Site", "View"]
