"""Reading a part of the configuration: typed values out, one line per mistake with its key, nothing guessed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit


class ConfigError(Exception):
    """The configuration cannot be used; ``errors`` holds one line per mistake."""

    def __init__(self, errors: list[str]) -> None:
        self.errors = errors
        super().__init__("\n".join(errors))


def parts_of(url: str) -> SplitResult:
    """The parts of a URL; all empty where it cannot be one."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return urlsplit("")
    return parts


class Reader:
    """Takes keys out of a mapping, notes mistakes, and at the end complains of what is left."""

    def __init__(self, value: Any, path: str, errors: list[str]) -> None:
        self.errors = errors
        self.path = path
        if value is not None and not isinstance(value, dict):
            errors.append(f"{path or 'configuration'}: {value!r} is not a mapping")
            value = {}
        self.left: dict[str, Any] = dict(value or {})

    def at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def take(
        self, key: str, kind: type | tuple[type, ...], default: Any, check: Callable[[Any], bool] | None = None
    ) -> Any:
        value = self.left.pop(key, default)
        if value is default or value is None:
            return default
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if (
            not isinstance(value, kinds)
            or (isinstance(value, bool) and bool not in kinds)
            or (check and not check(value))
        ):
            self.errors.append(
                f"{self.at(key)}: {value!r} is not allowed; expected {' or '.join(k.__name__ for k in kinds)}"
            )
            return default
        return value

    def words(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(item) for item in self.take(key, list, list(default)))

    def secret(self, key: str) -> str:
        path = self.take(key, str, "")
        if not path:
            return ""
        try:
            return Path(path).read_text("utf-8").strip()
        except OSError as error:
            self.errors.append(f"{self.at(key)}: {path}: {error.strerror}")
        except ValueError as error:  # of the path, or of what is in the file
            self.errors.append(f"{self.at(key)}: {path!r} is not a file of UTF-8 text: {error}")
        return ""

    def section(self, key: str) -> Reader:
        return Reader(self.left.pop(key, None), self.at(key), self.errors)

    def done(self) -> None:
        for key in self.left:
            if not str(key).startswith("x-"):
                self.errors.append(f"{self.at(str(key))}: unknown key; see the configuration reference in the README")
