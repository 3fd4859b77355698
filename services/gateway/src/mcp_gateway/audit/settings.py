"""The ``audit:`` part of the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mcp_gateway.reader import Reader

STDOUT = "stdout"
# Keys of arguments whose values are secrets wherever they appear; case does not matter.
REDACTED = (
    "*password*",
    "*passwd*",
    "*passphrase*",
    "*secret*",
    "*token*",
    "*api_key*",
    "*apikey*",
    "*api-key*",
    "*private_key*",
    "*privatekey*",
    "*private-key*",
    "*credential*",
    "authorization",
    "*cookie*",
)


@dataclass(frozen=True)
class AuditSettings:
    """What is recorded, and where to.

    Attributes:
        enabled: whether anything is.
        destination: ``stdout`` or a file's path.
        arguments: whether the arguments of tools are recorded.
        redact: patterns of argument keys whose values are not, whatever ``arguments`` says.
        max_bytes: the most of one record's arguments, encoded.
    """

    enabled: bool = True
    destination: str = STDOUT
    arguments: bool = False
    redact: tuple[str, ...] = REDACTED
    max_bytes: int = 2048


def read(reader: Reader) -> AuditSettings:
    """The settings under ``audit:``; mistakes are noted in the reader."""
    settings = AuditSettings(
        enabled=reader.take("enabled", bool, True),
        destination=reader.take("destination", str, STDOUT, lambda v: bool(v)),
        arguments=reader.take("arguments", bool, False),
        redact=REDACTED + tuple(word.lower() for word in reader.words("redact", ())),
        max_bytes=reader.take("max_bytes", int, 2048, lambda v: 64 <= v <= 65536),
    )
    reader.done()
    if settings.destination != STDOUT:
        path = Path(settings.destination)
        if not path.is_absolute():
            reader.errors.append(
                f"{reader.at('destination')}: {settings.destination!r} is not allowed; "
                "use stdout or the absolute path of a file"
            )
        elif path.is_dir() or not path.parent.is_dir():
            reader.errors.append(f"{reader.at('destination')}: {path}: no file can be there; create {path.parent}")
    return settings
