"""The health matrix, the summary above it and the recent errors, as HTML. ``fleet.js`` draws the very same live."""

from __future__ import annotations

from typing import Any

from mcp_gateway.console.markup import Markup, join, tag
from mcp_gateway.protocol import Json

DASH = "–"
# State: the shape that tells it apart without colour.
SHAPES = {
    "healthy": "●",
    "degraded": "◐",
    "probation": "◐",
    "draining": "◌",
    "ejected": "✕",
    "down": "✕",
    "asleep": "☾",
    "unknown": "○",
}
COLUMNS = ("Server", "Replicas", "Era", "Queue", "Latency", "Requests", "Offers", "Sessions")


def number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else DASH


def milliseconds(value: Any) -> str:
    """A duration in milliseconds, with two digits or three."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return DASH
    if value >= 10_000:
        return f"{int(value / 1000 + 0.5):,} s"
    return f"{int(value * 10 + 0.5) / 10:.1f} ms" if value < 10 else f"{int(value + 0.5):,} ms"


def uptime(seconds: Any) -> str:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return DASH
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def state_of_replica(replica: Json) -> str:
    state = replica.get("state")
    if state in SHAPES:
        return str(state)
    healthy = replica.get("healthy")
    return "unknown" if healthy is None else "healthy" if healthy else "ejected"


def state_of_server(server: Json) -> str:
    """Healthy if all replicas are, down if none takes calls, degraded between; asleep if it needs none now."""
    if server.get("asleep") is True:
        return "asleep"
    states = [state_of_replica(one) for one in server.get("replicas") or []]
    if not states or set(states) == {"unknown"}:
        return "unknown"
    if all(state == "healthy" for state in states):
        return "healthy"
    return "down" if all(state in ("ejected", "unknown") for state in states) else "degraded"


def state(name: str) -> Markup:
    return tag("span", {"class": f"state {name}"}, tag("span", {"aria-hidden": "true"}, SHAPES[name]), f" {name}")


def summary(status: Json) -> Markup:
    """The tiles at the top."""
    servers = status.get("servers") or []
    replicas = [one for server in servers for one in server.get("replicas") or []]
    healthy = sum(state_of_server(one) in ("healthy", "asleep") for one in servers)
    serving = sum(state_of_replica(one) == "healthy" for one in replicas)
    calls = [one.get("requests") for one in servers if isinstance(one.get("requests"), int)]
    errors = [one.get("errors") for one in servers if isinstance(one.get("errors"), int)]
    tone = "good" if healthy == len(servers) else "bad" if healthy == 0 else "warn"
    tiles = [
        ("Servers healthy", f"{healthy} of {len(servers)}", tone if servers else ""),
        ("Replicas serving", f"{serving} of {len(replicas)}", "good" if serving == len(replicas) else "warn"),
        ("In flight", number(status.get("inflight")), ""),
        ("Requests", number(sum(calls)) if calls else DASH, ""),
        ("Errors", number(sum(errors)) if errors else DASH, "warn" if sum(errors) else ""),
        ("Principals", number(status.get("principal_count")), ""),
        ("Uptime", uptime(status.get("uptime_seconds")), ""),
        ("Gateway", "draining" if status.get("draining") else "serving", "warn" if status.get("draining") else "good"),
    ]
    return join(
        *(
            tag("div", {"class": f"tile {tone}".strip()}, tag("dt", None, label), tag("dd", None, value))
            for label, value, tone in tiles
        )
    )


def _replica(replica: Json) -> Markup:
    name = state_of_replica(replica)
    breaker = replica.get("breaker")
    facts = [milliseconds(replica.get("latency_ms")), f"{number(replica.get('inflight'))} in flight"]
    if breaker:
        facts.append(f"breaker {breaker}")
    return tag(
        "li",
        {"class": f"replica {name}"},
        tag("span", {"class": "address"}, str(replica.get("address") or DASH)),
        state(name),
        tag("span", {"class": f"facts breaker-{breaker or 'none'}"}, " · ".join(facts)),
    )


def _queue(queue: Any) -> Markup:
    if not isinstance(queue, dict):
        return join(DASH)
    full = bool(queue.get("places")) and (queue.get("running") or 0) >= queue["places"]
    waiting = queue.get("waiting") or 0
    running, places, queued, limit = (number(queue.get(key)) for key in ("running", "places", "waiting", "limit"))
    return join(
        tag("span", {"class": "full" if full else "free"}, f"{running} / {places}"),
        tag("small", {"class": "waiting" if waiting else ""}, f"{queued} of {limit} waiting"),
    )


def _latency(latency: Any) -> Markup:
    if not isinstance(latency, dict):
        return tag("span", None, milliseconds(latency))
    return join(
        tag("span", None, milliseconds(latency.get("p50"))),
        tag("small", None, f"p95 {milliseconds(latency.get('p95'))} · p99 {milliseconds(latency.get('p99'))}"),
    )


def _name(server: Json) -> Markup:
    parts: list[str] = [
        state(state_of_server(server)),
        tag("span", {"class": "name"}, str(server.get("name", ""))),
    ]
    if server.get("pool"):
        parts.append(tag("span", {"class": "badge"}, f"pool {server['pool']}"))
    pins = server.get("pins")
    changed = pins.get("changed") if isinstance(pins, dict) else None
    if changed:
        parts.append(tag("span", {"class": "badge warn"}, f"changed: {', '.join(map(str, changed))}"))
    if server.get("last_error"):
        parts.append(tag("small", {"class": "last-error"}, str(server["last_error"])))
    return join(*parts)


def _row(server: Json) -> Markup:
    errors = server.get("errors")
    replicas = [_replica(one) for one in server.get("replicas") or []]
    prompts, resources = number(server.get("prompts")), number(server.get("resources"))
    cells: list[str] = [
        tag("ul", {"class": "replicas"}, *replicas) if replicas else DASH,
        tag("span", {"class": "era"}, str(server.get("era") or DASH)),
        _queue(server.get("queue")),
        _latency(server.get("latency_ms")),
        join(
            tag("span", None, number(server.get("requests"))),
            tag("small", {"class": "failed" if errors else ""}, f"{number(errors)} failed"),
        ),
        join(
            tag("span", None, f"{number(server.get('tools'))} tools"),
            tag("small", None, f"{prompts} prompts · {resources} resources"),
        ),
        tag("span", None, number(server.get("sessions"))),
    ]
    return tag(
        "tr",
        {"data-server": str(server.get("name", "")), "class": state_of_server(server)},
        tag("th", {"scope": "row"}, _name(server)),
        *(tag("td", {"data-label": label}, cell) for label, cell in zip(COLUMNS[1:], cells, strict=True)),
    )


def matrix(status: Json) -> Markup:
    """The rows of the health matrix."""
    rows = [_row(server) for server in status.get("servers") or []]
    return (
        join(*rows)
        if rows
        else tag("tr", None, tag("td", {"colspan": str(len(COLUMNS))}, "No servers are configured."))
    )


def errors(status: Json) -> Markup:
    """The recent errors, newest first as the gateway gives them."""
    found = status.get("recent_errors") or []
    if not found:
        return tag("li", {"class": "none"}, "No errors lately.")
    return join(*(_error(one) for one in found))


def _error(one: Json) -> Markup:
    code = one.get("code")
    what = [str(one[key]) for key in ("server", "method", "target") if one.get(key)]
    by = [str(one[key]) for key in ("principal", "replica") if one.get(key)]
    return tag(
        "li",
        None,
        tag("time", {"datetime": str(one.get("time") or "")}, str(one.get("time") or DASH)[:19].replace("T", " ")),
        tag("span", {"class": "code"}, DASH if code is None else str(code)),
        tag("span", {"class": "what"}, " ".join(what)),
        tag("span", {"class": "message"}, str(one.get("message") or DASH)),
        tag("small", None, " · ".join(by)),
    )
