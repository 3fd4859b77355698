"""Where the board is: the section ``board`` of the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_gateway.reader import Reader

PATH = "/board"


@dataclass(frozen=True)
class BoardSettings:
    """``name`` resolves to the board's addresses; empty where there is none."""

    name: str = ""
    port: int = 8080
    path: str = PATH

    @property
    def enabled(self) -> bool:
        """Whether there may be a board."""
        return bool(self.name)


def read(reader: Reader, *, keys: bool) -> BoardSettings:
    """The section.

    Args:
        keys: whether there are session keys, which messages are sealed with.
    """
    given = bool(reader.left)
    section = reader.section("dns")
    settings = BoardSettings(section.take("name", str, ""), section.take("port", int, 8080, lambda v: 0 < v < 65536))
    section.done()
    reader.done()
    if given and not settings.name:
        reader.errors.append(f"{section.at('name')}: missing; name what to resolve, such as tasks.mcp_board")
    if settings.enabled and not keys:
        reader.errors.append(
            f"{reader.path}: sessions.key_files is missing; what the board says is sealed with the session keys"
        )
    return settings
