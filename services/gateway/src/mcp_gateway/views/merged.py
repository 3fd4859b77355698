"""What the merged view changes in results, and what no result may say."""

from __future__ import annotations

from mcp_gateway import names
from mcp_gateway.protocol import Json


def with_merged_uris(server: str, result: Json) -> Json:
    """URIs in a result as clients of the merged view must send them back."""
    content = result.get("content")
    if isinstance(content, list):
        for item in content:
            if isinstance(item, dict):
                with_merged_uri(server, item)
    if "contents" in result and isinstance(result["contents"], list):
        for item in result["contents"]:
            if isinstance(item, dict):
                _rename_uri(server, item)
    return result


def with_merged_uri(server: str, item: Json) -> Json:
    """An item of a tool's content with the URI that clients of the merged view use."""
    kind = item.get("type")
    if kind == "resource_link":
        _rename_uri(server, item)
    elif kind == "resource" and isinstance(item.get("resource"), dict):
        _rename_uri(server, item["resource"])
    return item


def _rename_uri(server: str, item: Json) -> None:
    if isinstance(item.get("uri"), str):
        item["uri"] = names.exposed_uri(server, item["uri"])


def check_hints(result: Json) -> None:
    """What a server says of caching, where it is allowed to (2026-07-28 server/utilities/caching)."""
    ttl = result.get("ttlMs", 0)
    if not isinstance(ttl, int) or isinstance(ttl, bool) or ttl < 0:
        result["ttlMs"] = 0
    if result.get("cacheScope", "private") not in ("public", "private"):
        result["cacheScope"] = "private"
