"""The official SDK's rules for envelopes and headers (``mcp.shared.inbound``), without the rest of the SDK.

Importing the package ``mcp`` imports its clients and servers, which takes seconds on a busy machine: a gateway that
starts in the place of another has better things to do. This module of it needs none of them.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp.shared import inbound
else:

    def _load():
        package = importlib.util.find_spec("mcp")
        path = Path(package.submodule_search_locations[0]) / "shared" / "inbound.py"
        name = "mcp_gateway._sdk_inbound"
        spec = importlib.util.spec_from_file_location(name, path)
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    inbound = _load()

ERROR_CODE_HTTP_STATUS = inbound.ERROR_CODE_HTTP_STATUS
InboundLadderRejection = inbound.InboundLadderRejection
classify_inbound_request = inbound.classify_inbound_request
decode_header_value = inbound.decode_header_value
encode_header_value = inbound.encode_header_value
find_invalid_x_mcp_header = inbound.find_invalid_x_mcp_header
mcp_param_headers = inbound.mcp_param_headers
validate_mcp_param_headers = inbound.validate_mcp_param_headers
x_mcp_header_map = inbound.x_mcp_header_map
