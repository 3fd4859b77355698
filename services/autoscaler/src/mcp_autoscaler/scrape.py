"""Metrics of all replicas of a service: every address of its name is asked, at once."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_SECONDS = 3.0
MOST_BYTES = 16 << 20
SIDE_BY_SIDE = 16


@dataclass(frozen=True)
class Sample:
    """One line of the exposition format."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class Scrape:
    """What was answered.

    Attributes:
        samples: by address.
        failed: what did not answer, and why; with any, sums are lower bounds.
    """

    samples: dict[str, list[Sample]]
    failed: list[str]

    @property
    def complete(self) -> bool:
        """Whether there was somebody to ask, and everybody answered."""
        return bool(self.samples) and not self.failed


def addresses(host: str, port: int) -> list[str]:
    """Every address of a name.

    Raises:
        OSError: it has none, or the resolver failed.
    """
    return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})


def parsed(text: str, names: Iterable[str]) -> list[Sample]:
    """The samples whose names begin with one of ``names``.

    Raises:
        ValueError: a line of theirs cannot be read.
    """
    wanted = "\n".join(line for line in text.splitlines() if line.startswith(tuple(names)))
    families = text_string_to_metric_families(wanted + "\n")
    return [Sample(s.name, dict(s.labels), float(s.value)) for family in families for s in family.samples]


class Scraper:
    """Asks one URL's host at all its addresses.

    Args:
        names: what the metrics' names begin with that are of use.
        resolve: from host and port to addresses; raises OSError.
    """

    def __init__(self, url: str, names: Iterable[str], resolve: Callable[[str, int], list[str]] = addresses) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._path = parts.hostname or "", parts.port or 80, parts.path or "/"
        self._names = tuple(names)
        self._resolve = resolve

    def look(self) -> Scrape:
        """Ask now; never raises."""
        try:
            found = self._resolve(self._host, self._port)
        except OSError as failure:
            return Scrape({}, [f"{self._host}: {failure}"])
        with ThreadPoolExecutor(min(SIDE_BY_SIDE, len(found))) as pool:
            answers = list(pool.map(self._ask, found))
        samples = {a: answer for a, answer in zip(found, answers, strict=True) if isinstance(answer, list)}
        return Scrape(samples, [answer for answer in answers if isinstance(answer, str)])

    def _ask(self, address: str) -> list[Sample] | str:
        """The samples of one address, or why there are none."""
        connection = http.client.HTTPConnection(address, self._port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("GET", self._path, headers={"Host": f"{self._host}:{self._port}"})
            answer = connection.getresponse()
            data = answer.read(MOST_BYTES)
            if answer.status != 200:
                return f"{address}: HTTP {answer.status}"
            return parsed(data.decode("utf-8", "replace"), self._names)
        except (OSError, http.client.HTTPException, ValueError) as failure:
            return f"{address}: {type(failure).__name__}: {failure}"
        finally:
            connection.close()
