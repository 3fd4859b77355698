"""Where the other replicas of the gateway are: the section ``peers`` of the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_gateway.reader import Reader, parts_of


@dataclass(frozen=True)
class PeersName:
    """Replicas are at all addresses that ``name`` resolves to."""

    name: str
    port: int
    path: str = ""


@dataclass(frozen=True)
class PeersSettings:
    """``dns`` or ``urls`` says where the replicas are, this one may be among them; with neither it is alone."""

    dns: PeersName | None = None
    urls: tuple[str, ...] = ()

    @property
    def enabled(self) -> bool:
        """Whether there may be others."""
        return bool(self.dns or self.urls)


def read(reader: Reader, port: int, *, keys: bool) -> PeersSettings:
    """The section.

    Args:
        port: the one that this replica listens on, which is most likely that of the others.
        keys: whether there are session keys, which messages are sealed with.
    """
    urls = tuple(url.rstrip("/") for url in reader.words("urls", ()))
    dns = None
    if "dns" in reader.left:
        section = reader.section("dns")
        dns = PeersName(section.take("name", str, ""), section.take("port", int, port, lambda v: 0 < v < 65536))
        section.done()
        if not dns.name:
            reader.errors.append(f"{section.at('name')}: missing; name what to resolve, such as tasks.mcp_gateway")
    reader.done()
    if dns and urls:
        reader.errors.append(f"{reader.path}: give one of urls and dns")
    for url in urls:
        parts = parts_of(url)
        if parts.scheme != "http" or not parts.hostname or parts.path:
            reader.errors.append(
                f"{reader.at('urls')}: {url!r} is not where a gateway listens; write http://host:port, such as "
                "http://10.0.0.2:8080"
            )
    settings = PeersSettings(dns, urls)
    if settings.enabled and not keys:
        reader.errors.append(
            f"{reader.path}: sessions.key_files is missing; replicas know each other by the same session keys on all"
        )
    return settings
