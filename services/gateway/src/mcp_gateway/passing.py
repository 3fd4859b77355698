"""The result of a tool, or of reading a resource, on its way to the client while it still comes from the server.

An answer in JSON has to be changed a little on its way (its id, what an era wants of a result, URIs of the merged
view), which small ones are by being read and written anew. A large or slow one is not held for that: as soon as it is
sure to be such a result (2026-07-28 and 2025-11-25 server/tools, "CallToolResult", server/resources, "Reading
Resources"), its content is passed on as it comes, and structured content that follows. All else follows at the end,
where it makes no difference (RFC 8259, section 4: the order of members has no meaning). A fault in what comes later can
only break the answer off.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Generator
from typing import Any, NoReturn

import orjson

from mcp_gateway.protocol import Json

# By method: the result's list whose items are passed on.
LISTS = {"tools/call": "content", "resources/read": "contents"}
# Strings in an item that nobody has to look into (2026-07-28 server/tools, "Tool Result", server/resources).
LONG = frozenset({"text", "data", "blob"})
# Of what nobody has to look into, so much is checked at a time.
CHECK_BYTES = 16 * 1024
MAX_DEPTH = 512
_SPACE = re.compile(rb"[ \t\n\r]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_ESCAPE = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_STRUCTURE = re.compile(rb'[^"{}\[\]]*')
_BETWEEN = re.compile(rb'[^"{}\[\],]*')
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
        item: one of the content's items as the client gets it; its ``LONG`` members are not always among it.
        rest: the result's other members as the client gets them.
        content: which of the result's members has the content.

    Attributes:
        begun: whether anything was passed on.
        done: whether all was.
        others: the result's other members, once it is done.
    """

    def __init__(
        self,
        expected: int,
        identity: object,
        item: Callable[[Json], Json],
        rest: Callable[[Json], Json],
        content: str = "content",
    ) -> None:
        self._expected = expected
        self._identity = identity
        self._item = item
        self._rest = rest
        self._content_in = content
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
            if name == self._content_in:
                self._check(others)
                yield from self._content()
            elif name == "structuredContent" and self.begun:
                self._out.append(b',"structuredContent":')
                yield from self._passed()
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
        self._out.append(head[:-1] + b',"result":{"%b":[' % self._content_in.encode())
        self.begun = True
        if (yield from self._next()) == _END:
            self._at += 1
        else:
            yield from self._one(self._item, typed=self._content_in == "content")
            while (yield from self._take(b",]")) != _END:
                self._out.append(b",")
                yield from self._one(self._item, typed=self._content_in == "content")
        self._out.append(b"]")

    def _one(self, item: Callable[[Json], Json], *, typed: bool) -> Steps:
        """One item of the content, its long members passed on; ``typed`` if its type says what the others mean."""
        if (yield from self._next()) != _OPEN:
            self._out.append(orjson.dumps((yield from self._value())))
            return
        self._at += 1
        self._out.append(b"{")
        seen: set[str] = set()
        held: Json = {}
        kind: Json = {}  # the type, where it was passed on
        comma = b""
        while (name := (yield from self._member(seen))) is not None:
            first = yield from self._next()
            resource = name == "resource" and first == _OPEN and (kind or held).get("type") == "resource"
            if not resource and not (name in LONG and first == _QUOTE):
                held[name] = yield from self._value()
                continue
            if held and ("type" in held or not typed):
                self._out += [comma, orjson.dumps(item(held))[1:-1]]
                comma = b","
                kind, held = ({"type": held["type"]} if "type" in held else kind), {}
            self._out += [comma, orjson.dumps(name), b":"]
            comma = b","
            if resource:
                yield from self._one(
                    lambda inner: dict(item({"type": "resource", "resource": inner})["resource"]), typed=False
                )
            else:
                yield from self._string(passed=True)
        if held:
            last = item({**held, **kind})
            for name in kind:
                del last[name]
            self._out += [comma, orjson.dumps(last)[1:-1]]
        self._out.append(b"}")

    # -- what nobody has to look into -----------------------------------------------------------------

    def _passed(self) -> Steps:
        """Any value, passed on as it comes. That it is one is found out part by part, each soon after it left."""
        stack = bytearray()
        piece = bytearray()  # what was passed on and is not checked yet
        before = b""  # what was open where that begins
        if (yield from self._next()) not in b'{["':
            self._out.append(orjson.dumps((yield from self._value())))
            return
        while True:
            match = _BETWEEN.match(self._in, self._at)
            end = match.end() if match else self._at
            part = bytes(self._in[self._at : end])
            self._at = end
            if end == len(self._in):
                self._put(part, piece)
                yield
                continue
            found = self._in[end]
            if found == _QUOTE:
                self._put(part, piece)
                yield from self._string(passed=True)
                piece += b'""'  # it was checked by itself
            else:
                self._at += 1
                self._put(part + bytes([found]), piece)
                if found in b"{[":
                    stack.append(found)
                elif found in b"}]":
                    if not stack:
                        self._fault("it is closed before it was opened")
                    stack.pop()
                elif len(piece) > CHECK_BYTES:
                    _checked(before, piece[:-1], stack)
                    piece.clear()
                    before = bytes(stack)
            if len(stack) > MAX_DEPTH:
                self._fault(f"it is nested deeper than {MAX_DEPTH}")
            if not stack:
                _checked(before, piece, stack)
                return

    def _put(self, part: bytes, piece: bytearray) -> None:
        piece += part
        self._out.append(part.translate(None, b"\r\n"))  # white space between values: an event could not have it


def _checked(opened: bytes, piece: bytes | bytearray, still_open: bytes | bytearray) -> None:
    """Whether a part of a JSON value is one.

    Args:
        opened: the brackets that were open where it begins, after a comma or at the value's beginning.
        still_open: those at its end, which is before a comma or the value's end.

    Raises:
        ValueError: it is none.
    """
    if opened and piece.lstrip()[:1] in (b"}", b"]"):
        raise ValueError("nothing follows a comma")
    outer = b"".join(b'{"":' if bracket == _OPEN else b"[" for bracket in opened[:-1])
    ends = bytes(b"}"[0] if bracket == _OPEN else b"]"[0] for bracket in reversed(still_open))
    orjson.loads(outer + opened[-1:] + piece + ends)
