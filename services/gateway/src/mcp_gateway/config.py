"""The configuration file: typed, checked as a whole, every mistake reported with its key."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mcp_gateway import answers, audit, auth, naming, peers, pinning, policy, search, tracing
from mcp_gateway.answers import CacheSettings
from mcp_gateway.audit import AuditSettings
from mcp_gateway.auth import AuthSettings
from mcp_gateway.board.settings import BoardSettings
from mcp_gateway.board.settings import read as read_board
from mcp_gateway.names import scheme
from mcp_gateway.naming import EVERYTHING, Selection
from mcp_gateway.peers import PeersSettings
from mcp_gateway.pinning import PinSettings
from mcp_gateway.policy import Profiles
from mcp_gateway.reader import ConfigError, Reader, parts_of
from mcp_gateway.search import SearchSettings
from mcp_gateway.tracing import TracingSettings
from mcp_gateway.upstream import admission, breaker, health, pools, replicas
from mcp_gateway.upstream.admission import AdmissionSettings, GroupSettings, read_groups
from mcp_gateway.upstream.breaker import BreakerSettings
from mcp_gateway.upstream.budget import HedgeSettings, RetrySettings, read_hedge, read_retry
from mcp_gateway.upstream.health import HealthSettings
from mcp_gateway.upstream.pools import PoolSettings
from mcp_gateway.upstream.replicas import BalancingSettings

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
NAME = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*")


@dataclass(frozen=True)
class Dns:
    """Replicas are all addresses that ``name`` resolves to."""

    name: str
    port: int
    path: str


@dataclass(frozen=True)
class Source:
    """Where replicas are: at ``urls``, or at all addresses of ``dns``."""

    urls: tuple[str, ...] = ()
    dns: Dns | None = None


@dataclass(frozen=True)
class Server:
    """One upstream MCP server; either ``urls`` or ``dns`` says where its replicas are.

    ``concurrency`` is per replica; ``timeout_seconds`` the longest silence of one call, ``max_seconds`` its
    longest duration; ``wake_seconds`` how long a call waits while there is no replica (0: it does not, for the server
    never sleeps); ``headers`` are added to every request to it; ``trusted`` is whether its tools' own word
    for it that they can be called again is taken.
    """

    name: str
    urls: tuple[str, ...] = ()
    dns: Dns | None = None
    sticky: bool = False
    concurrency: int = 16
    timeout_seconds: float = 60.0
    max_seconds: float = 3600.0
    wake_seconds: float = 0.0
    host_header: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    tools: Selection = EVERYTHING
    trusted: bool = False
    gpu: Source | None = None
    pools: PoolSettings = field(default_factory=PoolSettings)
    group: str = ""
    cache: CacheSettings = field(default_factory=CacheSettings)
    tools_in_group: Mapping[str, str] = field(default_factory=dict)
    balancing: BalancingSettings = field(default_factory=BalancingSettings)
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    hedge: HedgeSettings = field(default_factory=HedgeSettings)
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)


@dataclass(frozen=True)
class Config:
    """The whole configuration, secrets read."""

    servers: tuple[Server, ...]
    host: str = "127.0.0.1"
    public_url: str = ""
    port: int = 8080
    auth: AuthSettings = field(default_factory=AuthSettings)
    profiles: Profiles = field(default_factory=Profiles, compare=False)
    audit: AuditSettings = field(default_factory=AuditSettings)
    session_keys: tuple[bytes, ...] = ()
    session_ttl_seconds: int = 86400
    peers: PeersSettings = field(default_factory=PeersSettings)
    board: BoardSettings = field(default_factory=BoardSettings)
    allowed_hosts: tuple[str, ...] = LOOPBACK_HOSTS
    allowed_origins: tuple[str, ...] = ()
    drain_seconds: float = 30.0
    list_ttl_seconds: float = 10.0
    retry: RetrySettings = field(default_factory=RetrySettings)
    groups: Mapping[str, GroupSettings] = field(default_factory=dict)
    pinning: PinSettings = field(default_factory=PinSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    tracing: TracingSettings = field(default_factory=TracingSettings)


def parse(document: Any) -> Config:
    """The configuration in ``document``, a mapping as read from YAML or JSON.

    Raises:
        ConfigError: with every mistake found.
    """
    errors: list[str] = []
    root = Reader(document, "", errors)
    listen, sessions, http = (root.section(name) for name in ("listen", "sessions", "http"))
    access = auth.read(root.section("auth"))
    host = listen.take("host", str, "127.0.0.1")
    session_keys = []
    for index, path in enumerate(sessions.words("key_files", ())):
        session_keys.append(Reader({"file": path}, f"sessions.key_files[{index}]", errors).secret("file").encode())
    port = listen.take("port", int, 8080, lambda v: 0 <= v < 65536)
    servers = tuple(_server(Reader(v, f"servers[{i}]", errors)) for i, v in enumerate(root.take("servers", list, [])))
    profiles = policy.read(root.section("profiles"), [server.name for server in servers])
    errors += profiles.mistakes(access.profiles)
    config = Config(
        servers=servers,
        host=host,
        port=port,
        auth=access,
        profiles=profiles,
        audit=audit.read(root.section("audit")),
        session_keys=tuple(session_keys),
        session_ttl_seconds=sessions.take("ttl_seconds", int, 86400, lambda v: v > 0),
        peers=peers.read(root.section("peers"), port, keys=bool(session_keys)),
        board=read_board(root.section("board"), keys=bool(session_keys)),
        allowed_hosts=http.words("allowed_hosts", LOOPBACK_HOSTS),
        allowed_origins=http.words("allowed_origins", ()),
        drain_seconds=float(root.take("drain_seconds", (int, float), 30.0, lambda v: v >= 0)),
        retry=read_retry(root.section("retry")),
        groups=read_groups(root.section("groups")),
        pinning=pinning.read(root.section("pinning")),
        search=search.read(root.section("search")),
        tracing=tracing.read(root.section("tracing")),
        public_url=http.take("public_url", str, ""),
        list_ttl_seconds=float(root.take("list_ttl_seconds", (int, float), 10.0, lambda v: v >= 0)),
    )
    for reader in (listen, sessions, http, root):
        reader.done()
    if not servers:
        errors.append("servers: empty; name at least one, such as {name: x, url: http://127.0.0.1:9100/mcp}")
    names = [server.name for server in servers]
    errors += [f"servers: the name {name!r} is used twice" for name in sorted({n for n in names if names.count(n) > 1})]
    schemes: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if (other := schemes.setdefault(scheme(name), name)) != name:
            errors.append(
                f"servers: {other!r} and {name!r} differ in - and _ alone, so the URIs of their resources would be the "
                "same; choose another name for one of them"
            )
    if access.open and not _is_loopback(host):
        errors.append(
            f"auth.api_keys: none, but listen.host {host!r} is not loopback; add a key or listen on 127.0.0.1"
        )
    for server in servers:
        for group in {server.group, *server.tools_in_group.values()} - {"", *config.groups}:
            errors.append(f"servers: {server.name}: group {group!r} is not one of groups; add groups.{group}")
        if server.pools.gpu != "none" and not server.gpu:
            errors.append(f"servers: {server.name}: pools.gpu is {server.pools.gpu}, but gpu_pool says not where it is")
    if errors:
        raise ConfigError(errors)
    return config


def load(path: str) -> Config:
    """Read a YAML or JSON file.

    Raises:
        ConfigError: it cannot be read, is not YAML, or holds mistakes.
    """
    try:
        document = yaml.safe_load(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    except Exception as error:  # PyYAML raises not only its own: ValueError for the 30th of February
        raise ConfigError([f"{path}: not YAML: {error}"]) from error
    return parse(document)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _source(reader: Reader) -> Source:
    url, urls = reader.take("url", str, ""), reader.words("urls", ())
    urls = (url, *urls) if url else urls
    dns = None
    if "dns" in reader.left:
        section = reader.section("dns")
        dns = Dns(section.take("name", str, ""), section.take("port", int, 8000), section.take("path", str, "/mcp"))
        section.done()
        if not dns.name:
            reader.errors.append(f"{section.at('name')}: missing; name what to resolve, such as tasks.mcp_time")
    if bool(urls) == bool(dns):
        reader.errors.append(f"{reader.path}: give exactly one of url, urls and dns")
    for value in urls:
        if parts_of(value).scheme not in ("http", "https") or not parts_of(value).hostname:
            reader.errors.append(f"{reader.path}.url: {value!r} is no http(s) URL")
    return Source(urls, dns)


def _server(reader: Reader) -> Server:
    name = reader.take("name", str, "", lambda v: bool(NAME.fullmatch(v)) and len(v) <= 32)
    if not name:
        reader.errors.append(
            f"{reader.at('name')}: missing or not allowed; use lower-case letters, digits, single - or _"
        )
    source = _source(reader)
    gpu = None
    if "gpu_pool" in reader.left:
        section = reader.section("gpu_pool")
        gpu = _source(section)
        section.done()
    headers = {}
    tools = reader.section("tools")
    for synonym, key in (("allow", "include"), ("deny", "exclude")):
        if synonym in tools.left and key in tools.left:
            tools.errors.append(
                f"{tools.at(synonym)}: the same as {tools.at(key)}, which is given too; keep one of them"
            )
        if synonym in tools.left:
            tools.left[key] = tools.left.pop(synonym)
    selection = naming.read(tools, name)
    for header, value in reader.take("headers", dict, {}).items():
        item = Reader(value, reader.at(f"headers.{header}"), reader.errors)
        headers[str(header)] = item.take("prefix", str, "") + (item.secret("file") or item.take("value", str, ""))
        item.done()
    server = Server(
        name=name,
        urls=source.urls,
        dns=source.dns,
        gpu=gpu,
        pools=pools.read(reader.section("pools")),
        group=reader.take("group", str, ""),
        cache=answers.read(reader.section("cache")),
        tools_in_group={str(k): str(v) for k, v in reader.take("tools_in_group", dict, {}).items()},
        balancing=replicas.read(reader.section("balancing")),
        breaker=breaker.read(reader.section("breaker")),
        health=health.read(reader.section("health")),
        hedge=read_hedge(reader.section("hedge")),
        admission=admission.read(reader.section("admission")),
        sticky=reader.take("sessions", str, "stateless", lambda v: v in ("stateless", "sticky")) == "sticky",
        concurrency=reader.take("concurrency", int, 16, lambda v: v > 0),
        timeout_seconds=float(reader.take("timeout_seconds", (int, float), 60.0, lambda v: v > 0)),
        max_seconds=float(reader.take("max_seconds", (int, float), 3600.0, lambda v: v > 0)),
        wake_seconds=float(reader.take("wake_seconds", (int, float), 0.0, lambda v: v >= 0)),
        host_header=reader.take("host_header", str, ""),
        headers=headers,
        tools=selection,
        trusted=reader.take("trust_annotations", bool, False),
    )
    tools.done()
    reader.done()
    return server
