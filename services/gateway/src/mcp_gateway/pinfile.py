"""The file of pinned tool definitions: its format, the hashes, reading it, and writing it whole or not at all.

Several gateway replicas and the command line may share a file: each writer takes a lock, reads what is there, puts
its own changes on top, and replaces the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mcp_gateway.protocol import Json

FORMAT = 1
# What a model reads, or a client acts upon.
FIELDS = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")


class PinFileError(Exception):
    """The file cannot be used; says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What is hashed of a tool.

    Attributes:
        hash: SHA-256 of the canonical form, hexadecimal.
        fields: the definition; None where somebody accepted a hash and no more.
    """

    hash: str
    fields: Json | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One tool: the definition that is pinned, and one that waits to be accepted."""

    pinned: Definition | None = None
    waiting: Definition | None = None


Entries = dict[tuple[str, str], Entry]
Stamp = tuple[int, int, int]


def canonical(value: Any) -> bytes:
    """JSON that is the same for equal values: sorted keys, no whitespace, whole numbers without a fraction.

    As RFC 8785 (sections 3.2.2 and 3.2.3) has it, but for how fractions are written.
    """
    return orjson.dumps(_sorted(value))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value, key=lambda key: key.encode("utf-16-be"))}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def define(tool: Json) -> Definition:
    """What is pinned of a tool as a server lists it."""
    fields = {name: tool[name] for name in FIELDS if tool.get(name) is not None}
    return Definition(hashlib.sha256(canonical(fields)).hexdigest(), fields)


# -- format ------------------------------------------------------------------------------------------------------------


def encode(entries: Mapping[tuple[str, str], Entry]) -> bytes:
    """The file's content, sorted and indented for readers and version control."""
    servers: Json = {}
    for (server, tool), entry in entries.items():
        parts = (("pinned", entry.pinned), ("waiting", entry.waiting))
        servers.setdefault(server, {})[tool] = {
            name: {"sha256": part.hash} | ({"definition": part.fields} if part.fields is not None else {})
            for name, part in parts
            if part
        }
    document = {"format": FORMAT, "servers": servers}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def decode(content: bytes, path: str) -> Entries:
    """The entries in a file's content.

    Raises:
        PinFileError: it is not such a file, or a definition does not have its hash.
    """
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise PinFileError(f"{path}: not JSON: {error}; restore it from a backup, or remove it to pin anew") from None
    version = document.get("format") if isinstance(document, dict) else None
    if version != FORMAT:
        raise PinFileError(f"{path}: format: {version!r} is unknown; this version of mcp-gateway reads {FORMAT}")
    servers = _mapping(document.get("servers"), path, "servers")
    entries: Entries = {}
    for server, tools in servers.items():
        for tool, parts in _mapping(tools, path, f"servers.{server}").items():
            key = f"servers.{server}.{tool}"
            parts = _mapping(parts, path, key)
            if unknown := sorted(set(parts) - {"pinned", "waiting"}):
                raise PinFileError(f"{path}: {key}.{unknown[0]}: unknown key; known are pinned and waiting")
            pinned, waiting = (
                _definition(parts[name], path, f"{key}.{name}") if name in parts else None
                for name in ("pinned", "waiting")
            )
            entries[(server, tool)] = Entry(pinned, waiting)
    return entries


def _definition(value: Any, path: str, key: str) -> Definition:
    value = _mapping(value, path, key)
    digest, fields = value.get("sha256"), value.get("definition")
    if not isinstance(digest, str) or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise PinFileError(f"{path}: {key}.sha256: {digest!r} is no SHA-256; 64 hexadecimal digits are")
    if fields is not None and define(_mapping(fields, path, f"{key}.definition")).hash != digest:
        raise PinFileError(
            f"{path}: {key}: the definition does not have this sha256; it was edited by hand. "
            "Remove the definition to keep the hash, or the entry to pin anew"
        )
    return Definition(digest, fields)


def _mapping(value: Any, path: str, key: str) -> Json:
    if not isinstance(value, dict):
        raise PinFileError(f"{path}: {key}: {value!r} is not a mapping; restore it from a backup")
    return value


def pin_all(server_tools: Mapping[str, Sequence[Json]]) -> bytes:
    """The content of a lock file that pins these tools as they are, the same for the same tools."""
    return encode({(s, tool["name"]): Entry(define(tool)) for s, tools in server_tools.items() for tool in tools})


# -- on disk -----------------------------------------------------------------------------------------------------------


def stamp(path: str) -> Stamp | None:
    """Differs when the file does; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def load(path: str) -> Entries:
    """The entries of a file; none where there is no file yet.

    Raises:
        PinFileError: it cannot be read or is broken.
    """
    try:
        return decode(Path(path).read_bytes(), path)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PinFileError(f"{path}: {error.strerror}") from error


def read_only(path: str) -> bool:
    """Whether the file is meant to be read only: nobody may write it, or its file system (a Swarm config) refuses."""
    try:
        return not os.stat(path).st_mode & 0o222 or not os.access(path, os.W_OK)
    except OSError:
        return False


def update(path: str, change: Callable[[Entries], Entries]) -> Entries:
    """Replace the file by ``change`` of its content; other writers wait, readers see the old or the new file.

    Returns:
        What is in the file now.

    Raises:
        BlockingIOError: another writer holds the lock; try again later.
        PinFileError: what is there is broken; it is left alone.
        OSError: it cannot be written.
    """
    with _locked(path):
        before = load(path)
        after = change(before)
        if after != before:
            _replace(path, encode(after))
        return after


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    # The file itself is replaced, so the lock is beside it.
    with open(f"{path}.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _replace(path: str, content: bytes) -> None:
    folder = os.path.dirname(os.path.abspath(path))
    mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o644
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    # A rename is not on the disk before its folder is.
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
