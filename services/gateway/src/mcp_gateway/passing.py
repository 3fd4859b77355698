"""A result of a tool on its way to the client while it still comes from the server.

An answer in JSON has to be changed a little on its way (its id, what an era wants of a result, URIs of the merged
view), which small ones are by being read and written anew. A large or slow one is not held for that: as soon as it is
sure to be the result of a tool (2026-07-28 and 2025-11-25 server/tools, "CallToolResult"), its content is passed on as
it comes. Everything beside the content follows at the end, where it makes no difference (RFC 8259, section 4: the order
of members has no meaning). What is passed on is JSON as far as it goes: a fault in what comes later can only break the
answer off.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Generator
from typing import Any, NoReturn

import orjson

from mcp_gateway.protocol import Json

# Content whose long part is a string that nobody has to look into (2026-07-28 server/tools, "Tool Result").
PASSED = frozenset({"text", "image", "audio"})
_SPACE = re.compile(rb"[ \t\n\r]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_ESCAPE = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_STRUCTURE = re.compile(rb'[^"{}\[\]]*')
_SCALAR = re.compile(rb"[^ \t\n\r,}\]]*")
# The beginning of an escape whose end has not come.
_ESCAPE_BEGUN = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?")
_QUOTE, _OPEN, _CLOSE, _END = b'"{}]'

Steps = Generator[None, None, None]


class Unusual(Exception):
    """It is no plain result of a tool, as far as it came; nothing was passed on yet."""


class Malformed(Exception):
    """It is no JSON, or not the answer that it began as; part of it was passed on."""


class Passing:
    """Rewrites one answer.

    Args:
        expected: the id that it must have.
        identity: the id that it gets.
        item: one of the content's items as the client gets it.
        rest: the result's other members as the client gets them.

    Attributes:
        begun: whether anything was passed on.
        done: whether all was.
        others: the result's other members, once it is done.
    """

    def __init__(
        self, expected: int, identity: object, item: Callable[[Json], Json], rest: Callable[[Json], Json]
    ) -> None:
        self._expected = expected
        self._identity = identity
        self._item = item
        self._rest = rest
        self._in = bytearray()
        self._at = 0
        self._out: list[bytes] = []
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._ended = False
        self.begun = False
        self.done = False
        self.others: Json = {}
        self._steps = self._message()
        next(self._steps)

    def feed(self, data: bytes) -> bytes:
        """Take the next part; returns what can be passed on now.

        Raises:
            Unusual: the usual way must be taken, with all that came.
            Malformed: the answer must be broken off.
        """
        if self.done:
            if data.strip():
                self._fault("more follows")
            return b""
        del self._in[: self._at]
        self._at = 0
        self._in += data
        self._go_on()
        out = b"".join(self._out)
        self._out.clear()
        return out

    def finish(self) -> None:
        """Nothing follows.

        Raises:
            Unusual, Malformed: as ``feed``.
        """
        if not self.done:
            self._fault("it ended too early")

    def _go_on(self) -> None:
        try:
            self._steps.send(None)
        except StopIteration:
            self.done = True
        except ValueError as failure:  # of a value in it, or of its UTF-8
            self._fault(str(failure))

    def _fault(self, why: str) -> NoReturn:
        raise (Malformed if self.begun else Unusual)(why) from None

    # -- reading, as far as there is something to read ------------------------------------------------

    def _next(self) -> Generator[None, None, int]:
        """The next byte that is no white space, which is not taken."""
        while True:
            match = _SPACE.match(self._in, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._in):
                return self._in[self._at]
            yield

    def _take(self, wanted: bytes) -> Generator[None, None, int]:
        """The next byte that is no white space, one of ``wanted``."""
        found = yield from self._next()
        if found not in wanted:
            self._fault(f"{bytes([found])!r} where one of {wanted!r} belongs")
        self._at += 1
        return found

    def _string(self, passed: bool = False) -> Generator[None, None, bytes]:
        """A string in its quotes, the opening one of which is next: ``passed`` on as it comes, else returned."""
        parts = [b'"']
        self._at += 1
        while True:
            match = _PLAIN.match(self._in, self._at)
            start, end = self._at, match.end() if match else self._at
            escape = _ESCAPE.match(self._in, end)
            self._at = escape.end() if escape else end
            part = bytes(self._in[start : self._at])
            self._utf8.decode(part)
            parts.append(part)
            ended = not escape and end < len(self._in) and self._in[end] == _QUOTE
            if ended:
                self._utf8.decode(b"", True)
                self._at += 1
                parts.append(b'"')
            if passed:
                self._out += parts
                parts.clear()
            if ended:
                return b"".join(parts)
            if not escape:
                if end < len(self._in) and not _ESCAPE_BEGUN.fullmatch(self._in, end):
                    self._fault("a string holds what it must not")
                yield

    def _raw(self) -> Generator[None, None, bytes]:
        """Any value, whole; that it is one must be found out by reading it."""
        first = yield from self._next()
        if first == _QUOTE:
            return (yield from self._string())
        pattern = _STRUCTURE if first in b"{[" else _SCALAR
        parts: list[bytes] = []
        depth = 0
        while True:
            match = pattern.match(self._in, self._at)
            end = match.end() if match else self._at
            parts.append(bytes(self._in[self._at : end]))
            self._at = end
            if end == len(self._in):
                yield
                continue
            found = self._in[end]
            if pattern is _SCALAR:
                return b"".join(parts)
            if found == _QUOTE:
                parts.append((yield from self._string()))
                continue
            parts.append(bytes([found]))
            self._at += 1
            depth += 1 if found in b"{[" else -1
            if not depth:
                return b"".join(parts)

    def _value(self) -> Generator[None, None, Any]:
        """Any value, read."""
        return orjson.loads((yield from self._raw()))

    def _member(self, seen: set[str]) -> Generator[None, None, str | None]:
        """The next member's name, which must be new, and its colon; None at the end of the object."""
        found = yield from self._next()
        if found == _CLOSE:
            self._at += 1
            return None
        if seen:
            yield from self._take(b",")
            found = yield from self._next()
        if found != _QUOTE:
            self._fault("a member has no name")
        name = str(orjson.loads((yield from self._string())))
        if name in seen:
            self._fault(f"{name} is there twice")
        seen.add(name)
        yield from self._take(b":")
        return name

    # -- the message ----------------------------------------------------------------------------------

    def _message(self) -> Steps:
        yield
        yield from self._take(b"{")
        seen: set[str] = set()
        while (name := (yield from self._member(seen))) is not None:
            if name == "result":
                yield from self._result()
                continue
            value = yield from self._value()
            if name == "error" or (name == "id" and value != self._expected) or (name == "jsonrpc" and value != "2.0"):
                self._fault(f"{name} is not what it must be")
        if not self.begun or "id" not in seen or self._in[self._at :].strip():
            self._fault("it is not the answer")
        self._out.append(b"}")

    def _result(self) -> Steps:
        yield from self._take(b"{")
        others: Json = {}
        seen: set[str] = set()
        while (name := (yield from self._member(seen))) is not None:
            if name == "content":
                self._check(others)
                yield from self._content()
            else:
                others[name] = yield from self._value()
        self._check(others)
        if not self.begun:
            self._fault("it has no content")
        self.others = others
        text = orjson.dumps(self._rest(others))[1:-1]
        self._out.append(b"," + text + b"}" if text else b"}")

    def _check(self, others: Json) -> None:
        if others.get("resultType", "complete") != "complete":
            self._fault("it is not the last word")

    def _content(self) -> Steps:
        yield from self._take(b"[")
        head = orjson.dumps({"jsonrpc": "2.0", "id": self._identity})
        self._out.append(head[:-1] + b',"result":{"content":[')
        self.begun = True
        if (yield from self._next()) == _END:
            self._at += 1
        else:
            yield from self._one()
            while (yield from self._take(b",]")) != _END:
                self._out.append(b",")
                yield from self._one()
        self._out.append(b"]")

    def _one(self) -> Steps:
        """One item of the content: passed on if it begins as one that nobody has to look into."""
        if (yield from self._next()) != _OPEN:
            self._out.append(orjson.dumps((yield from self._value())))
            return
        self._at += 1
        seen: set[str] = set()
        held: Json = {}
        passed = False
        while (name := (yield from self._member(seen))) is not None:
            if passed or (len(held) == 1 and held.get("type") in PASSED):
                if not passed:
                    self._out.append(orjson.dumps(held)[:-1])
                    passed = True
                self._out.append(b"," + orjson.dumps(name) + b":")
                if (yield from self._next()) == _QUOTE:
                    yield from self._string(passed=True)
                else:
                    self._out.append(orjson.dumps((yield from self._value())))
            else:
                held[name] = yield from self._value()
        self._out.append(b"}" if passed else orjson.dumps(self._item(held)))
