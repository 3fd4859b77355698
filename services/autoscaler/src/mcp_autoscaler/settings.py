"""The configuration file: typed, checked as a whole, every mistake reported with its key, its value and the fix."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mcp_autoscaler.history import DISABLED, DOWN, MAX, MIN, PERCENT, REPLICAS, UP, Direction, Policy
from mcp_autoscaler.hpa import TOLERANCE

IN_FLIGHT, QUEUE, LATENCY, GPU = "in_flight", "queue", "latency_ms", "gpu_percent"
TARGETS = (IN_FLIGHT, QUEUE, LATENCY, GPU)
MAX_WINDOW_SECONDS = 3600.0
MAX_PERIOD_SECONDS = 1800.0


class SettingsError(Exception):
    """The configuration cannot be used; ``errors`` holds one line per mistake."""

    def __init__(self, errors: list[str]) -> None:
        self.errors = errors
        super().__init__("\n".join(errors))


@dataclass(frozen=True)
class Rule:
    """How one server is scaled; its bounds are labels of its service.

    Attributes:
        targets: metric to what each replica is to have of it: ``in_flight`` and ``queue`` in calls, ``latency_ms``
            (which all replicas share) in milliseconds, ``gpu_percent`` in per cent of its GPUs.
        tolerance: how far a metric may be from its target before anything changes, as a fraction.
        idle_seconds: without a call for so long, a server whose lower bound is 0 goes to sleep.
    """

    targets: Mapping[str, float]
    tolerance: float = TOLERANCE
    idle_seconds: float = 300.0
    up: Direction = UP
    down: Direction = DOWN


@dataclass(frozen=True)
class GpuExporter:
    """Where the use of GPUs is read.

    Attributes:
        url: of its metrics; all addresses of its host are asked.
        metric: the gauge's name.
        label: which of its labels names the GPU as Swarm does.
        full: the value of a GPU that is used wholly.
    """

    url: str
    metric: str = "DCGM_FI_DEV_GPU_UTIL"
    label: str = "UUID"
    full: float = 100.0


@dataclass(frozen=True)
class Settings:
    """The whole configuration.

    Attributes:
        docker: URL of the proxy.
        gateway: URL of the gateway's metrics; all addresses of its host are asked.
        interval_seconds: between two looks.
    """

    fleet: str
    docker: str
    gateway: str
    servers: Mapping[str, Rule]
    host: str = "0.0.0.0"
    port: int = 8090
    interval_seconds: float = 5.0
    gpu: GpuExporter | None = None


@dataclass
class _Part:
    """A mapping of the configuration; keys are taken out, and what is left is a mistake."""

    value: Any
    path: str
    errors: list[str]
    _left: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.value, dict):
            self._left = dict(self.value)
        else:
            self.errors.append(f"{self.path or 'configuration'}: {self.value!r} is not a mapping")

    def at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def has(self, key: str) -> bool:
        return key in self._left

    def text(self, key: str, default: str, good: Callable[[str], bool] = bool, fix: str = "give a text") -> str:
        value = self._left.pop(key, default)
        if not isinstance(value, str) or not good(value):
            self.errors.append(f"{self.at(key)}: {value!r} is not allowed; {fix}")
            return default
        return value

    def url(self, key: str) -> str:
        return self.text(key, "", _is_url, "give a URL such as http://tasks.mcp_gateway:8080/metrics")

    def number(self, key: str, default: float, low: float, high: float, whole: bool = False) -> float:
        value = self._left.pop(key, default)
        kinds = (int,) if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            kind = "a whole number" if whole else "a number"
            self.errors.append(f"{self.at(key)}: {value!r} is not allowed; give {kind} from {low:g} to {high:g}")
            return default
        return value

    def part(self, key: str) -> _Part:
        return _Part(self._left.pop(key, {}), self.at(key), self.errors)

    def parts(self, key: str) -> list[_Part]:
        value = self._left.pop(key)
        if not isinstance(value, list) or not value:
            self.errors.append(f"{self.at(key)}: {value!r} is not allowed; give a list with at least one entry")
            return []
        return [_Part(item, f"{self.at(key)}[{index}]", self.errors) for index, item in enumerate(value)]

    @property
    def names(self) -> list[str]:
        return list(self._left)

    def done(self) -> None:
        self.errors += [f"{self.at(str(key))}: unknown key; remove it" for key in self._left]


def _is_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme == "http" and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _direction(part: _Part, default: Direction) -> Direction:
    window = part.number("stabilization_seconds", default.window, 0, MAX_WINDOW_SECONDS)
    select = part.text("select", default.select, lambda v: v in (MAX, MIN, DISABLED), "use max, min or disabled")
    policies = default.policies
    if part.has("policies"):
        found = []
        for item in part.parts("policies"):
            kind = item.text("type", REPLICAS, lambda v: v in (REPLICAS, PERCENT), "use replicas or percent")
            value = item.number("value", 1, 1, 1_000_000, whole=True)
            found.append(Policy(kind, int(value), item.number("period_seconds", 15.0, 1, MAX_PERIOD_SECONDS)))
            item.done()
        policies = tuple(found) or policies
    part.done()
    return Direction(window, policies, select)


def _rule(part: _Part) -> Rule:
    targets = part.part("targets")
    wanted = {key: targets.number(key, 1, 0.001, 1_000_000) for key in TARGETS if targets.has(key)}
    targets.done()
    if not wanted:
        part.errors.append(f"{targets.path}: empty; name at least one of {', '.join(TARGETS)}")
    rule = Rule(
        wanted,
        part.number("tolerance", TOLERANCE, 0, 1),
        part.number("idle_seconds", 300.0, 1, 86400 * 7),
        _direction(part.part("up"), UP),
        _direction(part.part("down"), DOWN),
    )
    part.done()
    return rule


def parse(document: Any) -> Settings:
    """The configuration in a document as read from JSON.

    Raises:
        SettingsError: with every mistake found.
    """
    errors: list[str] = []
    root = _Part(document, "", errors)
    listen, servers = root.part("listen"), root.part("servers")
    gpu = None
    if root.has("gpu"):
        part, plain = root.part("gpu"), GpuExporter("")
        metric, label = part.text("metric", plain.metric), part.text("label", plain.label)
        gpu = GpuExporter(part.url("url"), metric, label, part.number("full", plain.full, 0.001, 1_000_000))
        part.done()
    settings = Settings(
        fleet=root.text("fleet", ""),
        docker=root.url("docker"),
        gateway=root.url("gateway"),
        servers={name: _rule(servers.part(name)) for name in servers.names},
        host=listen.text("host", "0.0.0.0"),
        port=int(listen.number("port", 8090, 0, 65535, whole=True)),
        interval_seconds=root.number("interval_seconds", 5.0, 0.1, 300),
        gpu=gpu,
    )
    for part in (listen, root):
        part.done()
    for name, rule in settings.servers.items():
        if GPU in rule.targets and not gpu:
            errors.append(f"servers.{name}.targets.{GPU}: nothing tells of GPUs; add gpu.url, or remove it")
    if errors:
        raise SettingsError(errors)
    return settings


def load(path: str) -> Settings:
    """Read the file.

    Raises:
        SettingsError: it cannot be read, is no JSON, or holds mistakes.
    """
    try:
        return parse(json.loads(Path(path).read_text("utf-8")))
    except OSError as error:
        raise SettingsError([f"{path}: {error.strerror}"]) from error
    except ValueError as error:
        raise SettingsError([f"{path}: is no JSON: {error}"]) from error
