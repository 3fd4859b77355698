"""Whether large answers are held: how long after the upstream sent a part it arrives, by time stamps in the parts."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass
from statistics import median

from bench.lab import Candidate, Lab
from bench.messages import EXPECT, MARK, Endpoint
from bench.table import Row, measure
from bench.upstream import PARTS

STAMP = re.compile(rb"sent=(\d{20});")


@dataclass(frozen=True)
class Lag:
    """Milliseconds from sending to arrival, over the parts of one answer.

    Attributes:
        first: of the first part.
    """

    name: str
    first: float
    median: float
    worst: float


def lag(name: str, endpoint: Endpoint, tool: str, session: str = "") -> Lag:
    """Call a tool that drips and read what arrives.

    Raises:
        RuntimeError: the answer is not whole.
    """
    params = {"name": tool, "arguments": {"text": ""}, "_meta": {"progressToken": 1000000000}}
    request = endpoint.request("tools/call", params, session).replace(MARK.encode(), b"1000000000")
    seen: dict[bytes, float] = {}
    tail, received = b"", 0
    with socket.create_connection(("127.0.0.1", endpoint.port), 30) as connection:
        connection.sendall(request)
        while not (tail.endswith(b"0\r\n\r\n") or b'"isError":false' in tail):
            data = connection.recv(1 << 18)
            now = time.monotonic_ns()
            if not data:
                raise RuntimeError(f"{name}, {tool}: the connection ended after {received} bytes: {tail[-200:]!r}")
            received += len(data)
            for stamp in STAMP.findall(tail + data):
                seen.setdefault(stamp, (now - int(stamp)) / 1e6)
            tail = (tail + data)[-400:]
    if len(seen) != PARTS:
        raise RuntimeError(f"{name}, {tool}: {len(seen)} of {PARTS} parts arrived")
    lags = list(seen.values())
    return Lag(name, lags[0], median(lags), max(lags))


def throughput(lab: Lab, candidate: Candidate, endpoint: Endpoint, prefix: str, session: str) -> list[Row]:
    """One megabyte of JSON, and a thousand events, as fast as they come."""
    rows = []
    for tool in ("large", "events"):
        params = {"name": prefix + tool, "arguments": {"text": EXPECT}, "_meta": {"progressToken": 1000000000}}
        requests = [endpoint.request("tools/call", params, session)]
        rows += measure(
            lab, [Candidate(candidate.name, candidate.process, candidate.port, requests)], 1, 2.0, connections=4
        )
    return rows
