"""What the merged view changes in results."""

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
                with_own_uri(server, item)
    return result


def with_merged_uri(server: str, item: Json) -> Json:
    """An item of a tool's content with the URI that clients of the merged view use."""
    kind = item.get("type")
    if kind == "resource_link":
        with_own_uri(server, item)
    elif kind == "resource" and isinstance(item.get("resource"), dict):
        with_own_uri(server, item["resource"])
    return item


def with_own_uri(server: str, item: Json) -> Json:
    """What has a URI of its own, as what a resource consists of does, likewise."""
    if isinstance(item.get("uri"), str):
        item["uri"] = names.exposed_uri(server, item["uri"])
    return item
