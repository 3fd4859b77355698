"""``mcp-gateway pins list|diff|accept|write``: what is pinned, what changed, and accepting it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from mcp_gateway import pinfile
from mcp_gateway.pindiff import difference, visible
from mcp_gateway.pinfile import Definition, Entries, Entry, PinFileError
from mcp_gateway.pinning import SHORT_HASH, accept_command

MIN_PREFIX = 8
LOCK_SECONDS = 10.0


def main(arguments: list[str]) -> int:
    """Run the command.

    Returns:
        0 if done, 1 if there is no such change or the file cannot be used, 2 for wrong usage.
    """
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    try:
        if options.command == "list":
            return _list(pinfile.load(_existing(options.file)))
        if options.command == "diff":
            return _diff(pinfile.load(_existing(options.file)), options)
        if options.command == "accept":
            return _accept(options)
        return _write(options.tools)
    except (PinFileError, OSError) as error:
        return _fail(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mcp-gateway pins", description="Pinned tool definitions.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("list", "every pinned tool, its hash, and whether a change waits"),
        ("diff", "what differs in the definitions that wait; exit status 1 if any does"),
        ("accept", "pin the definition that waits"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--file", required=True, help="pinning.file of the gateway's configuration")
        if name == "diff":
            command.add_argument("server", nargs="?", help="of this server only")
            command.add_argument("tool", nargs="?", help="this tool only")
        if name == "accept":
            command.add_argument("server")
            command.add_argument("tool")
            command.add_argument(
                "hash", help=f"the first {MIN_PREFIX} or more digits; all 64 where none waits in the file"
            )
    write = commands.add_parser("write", help="print a pin file for the tools in a JSON file")
    write.add_argument(
        "tools", help='JSON: {"<server>": <result of tools/list, or its array of tools>, ...}; - for stdin'
    )
    return parser


def _existing(file: str) -> str:
    if not Path(file).exists():
        raise PinFileError(f"{file}: there is no such file; give --file what pinning.file is in the configuration")
    return file


def _list(entries: Entries) -> int:
    rows = [("SERVER", "TOOL", "PINNED", "WAITING")]
    rows += [
        (visible(server), visible(tool), _short(entry.pinned), _short(entry.waiting))
        for (server, tool), entry in sorted(entries.items())
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _short(definition: Definition | None) -> str:
    return definition.hash[:SHORT_HASH] if definition else "-"


def _waiting(entries: Entries, server: str | None, tool: str | None) -> Iterator[tuple[str, str, Entry, Definition]]:
    for (owner, name), entry in sorted(entries.items()):
        if entry.waiting and server in (None, owner) and tool in (None, name):
            yield owner, name, entry, entry.waiting


def _diff(entries: Entries, options: argparse.Namespace) -> int:
    found = list(_waiting(entries, options.server, options.tool))
    for server, tool, entry, waiting in found:
        kind = "changed" if entry.pinned else "new"
        print(f"{visible(server)} {visible(tool)}: {kind}, {_short(entry.pinned)} -> {_short(waiting)}")
        print(difference(entry.pinned, waiting))
        print(f"accept: {accept_command(server, tool, waiting.hash[:SHORT_HASH], options.file)}\n")
    if not found:
        print("nothing waits")
    return 1 if found else 0


def _accept(options: argparse.Namespace) -> int:
    file, key, prefix = _existing(options.file), (options.server, options.tool), options.hash.lower()
    if len(prefix) < MIN_PREFIX or set(prefix) - set("0123456789abcdef") or len(prefix) > 64:
        return _fail(f"{options.hash!r} is no hash; give {MIN_PREFIX} to 64 hexadecimal digits")
    if pinfile.read_only(file):
        return _fail(f"{file}: is read-only; accept in the file that it is made from")
    refused = ""

    def change(entries: Entries) -> Entries:
        nonlocal refused
        entry, accepted = entries.get(key, Entry()), None
        if entry.waiting and entry.waiting.hash.startswith(prefix):
            accepted = entry.waiting
        elif entry.pinned and entry.pinned.hash.startswith(prefix):
            accepted = entry.pinned
        elif len(prefix) == 64:
            accepted = Definition(prefix)
        elif entry.waiting:
            refused = f"what waits of {options.tool!r} of {options.server!r} is {entry.waiting.hash}, not {prefix}..."
        else:
            waiting = [f"{s} {t}" for s, t, _, _ in _waiting(entries, None, None)]
            refused = (
                f"nothing waits of {options.tool!r} of {options.server!r} "
                f"(waiting: {', '.join(waiting) or 'nothing'}); give all 64 digits to pin what is not there"
            )
        return {**entries, key: Entry(accepted)} if accepted else entries

    _patiently(file, change)
    if refused:
        return _fail(refused)
    print(f"accepted: {options.server} {options.tool}; gateways that use the file notice within seconds")
    return 0


def _patiently(file: str, change: Callable[[Entries], Entries]) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            pinfile.update(file, change)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise PinFileError(f"{file}: another process holds {file}.lock; try again when it has ended") from None
            time.sleep(0.1)


def _write(source: str) -> int:
    content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    try:
        document = orjson.loads(content)
        lists = {server: value["tools"] if isinstance(value, dict) else value for server, value in document.items()}
        sys.stdout.buffer.write(pinfile.pin_all(lists))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return _fail(f"{source}: {error!r}; expected {{server: {{tools: [...]}}}} as tools/list answers")
    sys.stdout.buffer.flush()
    return 0


def _fail(problem: str) -> int:
    print(f"mcp-gateway pins: {problem}", file=sys.stderr)
    return 1
