"""Search mode: clients see ``find_tools`` instead of hundreds of schemas, and call what they find by its name.

Ranking is BM25F (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, section
3.6): term frequencies of the fields are added up by weight, each normalised by its field's length, before they
saturate. All that does not depend on the query is worked out when the index is built.
"""

from __future__ import annotations

import heapq
import math
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from mcp_gateway import names
from mcp_gateway.policy import ToolPolicy
from mcp_gateway.protocol import Json
from mcp_gateway.reader import Reader

NAME = "find_tools"
MAX_QUERY = 1000
MAX_LIMIT = 50
DEFAULT_LIMIT = 8

# Field: weight, and how much its length counts against it (BM25's b). Names are short for whoever chose them.
_FIELDS = {
    "name": (3.0, 0.3),
    "server": (2.0, 0.0),
    "title": (2.0, 0.3),
    "description": (1.0, 0.75),
    "arguments": (0.7, 0.75),
}
_SATURATION = 1.2
# What a query's word counts where only the beginning of an indexed one is it: "repo", "repositories".
_PREFIX_WEIGHT = 0.6
_MIN_PREFIX = 3
_MAX_WORDS = 64
_MAX_FIELD = 2000
_WORD = re.compile(r"[^\W\d_]+|\d+")
# Where camelCase and HTTPServer are taken apart, and URLs is not.
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z](?!s\b)[a-z])")
_STOP_WORDS = """
a an and are as at be by can do for from has have how i if in into is it its me my of on or our please so some than
that the their them then there these this to tool tools us use used using want was we what when where which who
will with would you your
"""
_STOP = frozenset(_STOP_WORDS.split())

DEFINITION: Json = {
    "name": NAME,
    "title": "Find tools",
    "description": (
        "Find tools by what they do. Describe the task in a few words ('create an issue', 'search web pages'). "
        "Answers with the names, descriptions and input schemas of the tools that fit best, best first. "
        "Each can be called directly by its name, although it is not in the list of tools."
    ),
    "inputSchema": {
        "type": "object",
        "properties": {
            "query": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_QUERY,
                "description": "What the tool shall do, in English words; names of services help",
            },
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_LIMIT,
                "default": DEFAULT_LIMIT,
                "description": "How many tools at most",
            },
            "server": {"type": "string", "description": "Only tools of this server, the part of a name before '__'"},
        },
        "required": ["query"],
        "additionalProperties": False,
    },
    "outputSchema": {
        "type": "object",
        "properties": {
            "tools": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "title": {"type": "string"},
                        "description": {"type": "string"},
                        "inputSchema": {"type": "object"},
                        "annotations": {"type": "object"},
                    },
                    "required": ["name", "inputSchema"],
                },
            },
            "hint": {"type": "string", "description": "What to try where nothing was found"},
        },
        "required": ["tools"],
    },
    "annotations": {"readOnlyHint": True, "idempotentHint": True, "openWorldHint": False},
}


@dataclass(frozen=True)
class SearchSettings:
    """Search mode.

    Attributes:
        always: patterns of merged names of the tools that are listed all the same.
    """

    enabled: bool = False
    always: tuple[str, ...] = ()

    def listed(self, tools: Sequence[Json]) -> list[Json]:
        """What ``tools/list`` shows of the merged tools in search mode."""
        policy = ToolPolicy(self.always, ())
        return [DEFINITION, *(tool for tool in tools if policy.permits(tool["name"]))]


def read(reader: Reader) -> SearchSettings:
    """The section ``search``."""
    settings = SearchSettings(reader.take("enabled", bool, False), reader.words("always", ()))
    if settings.always and not settings.enabled:
        reader.errors.append(f"{reader.at('always')}: has no effect while {reader.at('enabled')} is not true; set it")
    reader.done()
    return settings


class Hit(NamedTuple):
    """A tool that fits; the higher the score the better."""

    tool: Json
    score: float


class Index:
    """Merged tools, searchable; built once for a list.

    Attributes:
        servers: names of those whose tools are in it, sorted.
    """

    def __init__(self, tools: Sequence[Json]) -> None:
        self._tools = list(tools)
        self._owners = [_server(tool) for tool in tools]
        self.servers = tuple(sorted(set(self._owners) - {""}))
        fields = [_fields(tool) for tool in tools]
        self._postings = _postings(fields)
        self._vocabulary = sorted(self._postings)

    def __len__(self) -> int:
        return len(self._tools)

    def find(self, query: str, limit: int = DEFAULT_LIMIT, server: str | None = None) -> list[Hit]:
        """The best tools for the words of the query, best first; of equal ones in the order of their names."""
        scores: defaultdict[int, float] = defaultdict(float)
        for word in dict.fromkeys(words(query[:MAX_QUERY])[:_MAX_WORDS]):
            best: dict[int, float] = {}
            for term, weight in self._terms(word):
                for tool, score in self._postings[term]:
                    if score * weight > best.get(tool, 0.0):
                        best[tool] = score * weight
            for tool, score in best.items():
                scores[tool] += score
        found = scores.items() if server is None else ((t, s) for t, s in scores.items() if self._owners[t] == server)
        ranked = heapq.nsmallest(limit, found, key=lambda item: (-item[1], self._tools[item[0]]["name"]))
        return [Hit(self._tools[tool], score) for tool, score in ranked]

    def _terms(self, word: str) -> Iterator[tuple[str, float]]:
        """The indexed words that a query's word means."""
        if word in self._postings:
            yield word, 1.0
        if len(word) < _MIN_PREFIX:
            return
        at = bisect_left(self._vocabulary, word)
        while at < len(self._vocabulary) and self._vocabulary[at].startswith(word):
            if self._vocabulary[at] != word:
                yield self._vocabulary[at], _PREFIX_WEIGHT
            at += 1


def answer(index: Index, arguments: Any) -> Json:
    """The result of calling ``find_tools``.

    What is wrong with the arguments is told in a result with ``isError``, which models see and can mend
    (2026-07-28 server/tools, "Error Handling"). The structured content is also there as text ("Structured Content").
    """
    given = arguments if isinstance(arguments, dict) else {}
    query, limit, server = given.get("query"), given.get("limit", DEFAULT_LIMIT), given.get("server")
    if unknown := sorted(set(given) - {"query", "limit", "server"}):
        return _mistake(f"unknown argument {unknown[0]!r}; give query, and if you like limit and server")
    if not isinstance(query, str) or not query.strip():
        return _mistake("query is missing; describe in a few words what the tool shall do, such as 'create an issue'")
    if len(query) > MAX_QUERY:
        return _mistake(f"query has {len(query)} characters; {MAX_QUERY} are allowed, and a few words are enough")
    if isinstance(limit, float) and limit.is_integer():
        limit = int(limit)
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MAX_LIMIT:
        return _mistake(f"limit is {limit!r}; give a whole number from 1 to {MAX_LIMIT}")
    if server is not None and server not in index.servers:
        return _mistake(f"there is no server {server!r}; there are {', '.join(index.servers) or 'none'}")
    shown = ("name", "title", "description", "inputSchema", "annotations")
    found = [{key: hit.tool[key] for key in shown if key in hit.tool} for hit in index.find(query, limit, server)]
    content: Json = {"tools": found}
    if not found:
        where = f"; servers: {', '.join(index.servers)}" if index.servers and server is None else ""
        content["hint"] = f"no tool has any of these words; try others, or more general ones{where}"
    return {
        "content": [{"type": "text", "text": orjson.dumps(content).decode()}],
        "structuredContent": content,
        "isError": False,
    }


def _mistake(text: str) -> Json:
    return {"content": [{"type": "text", "text": f"{NAME}: {text}"}], "isError": True}


# -- words -------------------------------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """The words that count, in lower case and without endings; ``camelCase`` and ``snake_case`` are taken apart."""
    return [_stem(word) for word in _WORD.findall(_CAMEL.sub(" ", text).lower()) if word not in _STOP]


def _stem(word: str) -> str:
    """Without the endings of plurals and verbs: crude, but the same for what is searched and what is found."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 5 and word.endswith("ing"):
        return _undoubled(word[:-3])
    if len(word) > 4 and word.endswith("ed"):
        return _undoubled(word[:-2])
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def _undoubled(word: str) -> str:
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
        return word[:-1]
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


# -- the index ---------------------------------------------------------------------------------------------------------


def _server(tool: Json) -> str:
    server, separator, _ = tool["name"].partition(names.SEPARATOR)
    return server if separator else ""


def _fields(tool: Json) -> dict[str, Counter[str]]:
    server, separator, rest = tool["name"].partition(names.SEPARATOR)
    texts = {
        "name": rest if separator else server,
        "server": server if separator else "",
        "title": tool.get("title"),
        "description": tool.get("description"),
        "arguments": " ".join(_arguments(tool.get("inputSchema"))),
    }
    return {name: Counter(words(text[:_MAX_FIELD])) for name, text in texts.items() if isinstance(text, str)}


def _arguments(schema: Any) -> list[str]:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return list(properties) if isinstance(properties, dict) else []


def _postings(fields: list[dict[str, Counter[str]]]) -> dict[str, list[tuple[int, float]]]:
    """By term: the tools that have it, and what it adds to their score."""
    mean = {
        name: (sum(tool[name].total() for tool in fields if name in tool) or 1) / max(1, len(fields))
        for name in _FIELDS
    }
    frequencies: defaultdict[str, dict[int, float]] = defaultdict(dict)
    for number, tool in enumerate(fields):
        for name, counts in tool.items():
            weight, b = _FIELDS[name]
            share = weight / (1 - b + b * counts.total() / mean[name])
            for term, count in counts.items():
                of_term = frequencies[term]
                of_term[number] = of_term.get(number, 0.0) + count * share
    postings: dict[str, list[tuple[int, float]]] = {}
    for term, of_term in frequencies.items():
        rarity = math.log(1 + (len(fields) - len(of_term) + 0.5) / (len(of_term) + 0.5))
        postings[term] = [(tool, rarity * f / (_SATURATION + f)) for tool, f in of_term.items()]
    return postings
