"""Search mode: what is found, in which order, and what models are told."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_gateway.reader import Reader
from mcp_gateway.search import DEFINITION, MAX_LIMIT, MAX_QUERY, Index, SearchSettings, answer, read, words

DATA = Path(__file__).parent / "data"
Json = dict[str, Any]


def tool(name: str, description: str = "", *arguments: str, **more: Any) -> Json:
    schema = {"type": "object", "properties": {argument: {"type": "string"} for argument in arguments}}
    return {"name": name, "description": description, "inputSchema": schema, **more}


CATALOGUE = [
    tool(f"{server}__{name}", *rest)
    for server, tools in yaml.safe_load((DATA / "tools.yaml").read_text()).items()
    for name, rest in tools.items()
]
QUERIES: dict[str, list[str]] = yaml.safe_load((DATA / "queries.yaml").read_text())
INDEX = Index(CATALOGUE)


def found(query: str, limit: int = 5, server: str | None = None, index: Index = INDEX) -> list[str]:
    return [hit.tool["name"] for hit in index.find(query, limit, server)]


# -- how good it is ----------------------------------------------------------------------------------------------------


def test_recall_on_a_realistic_fleet() -> None:
    assert len(CATALOGUE) >= 60
    assert len(INDEX.servers) >= 12
    assert len(QUERIES) >= 40
    known = {tool["name"] for tool in CATALOGUE}
    assert all(set(expected) <= known for expected in QUERIES.values())
    missed = {query: found(query) for query, expected in QUERIES.items() if not set(expected) & set(found(query))}
    recall = 1 - len(missed) / len(QUERIES)
    assert recall >= 0.9, missed


def test_the_best_is_mostly_the_first() -> None:
    rank = [next((1 / n for n, name in enumerate(found(q), 1) if name in want), 0.0) for q, want in QUERIES.items()]
    assert sum(rank) / len(rank) >= 0.75


# -- words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("create_issue", ["creat", "issu"]),
        ("createIssue", ["creat", "issu"]),
        ("API-post-search", ["api", "post", "search"]),
        ("getHTTPResponse2", ["get", "http", "respons", "2"]),
        ("repositories and classes", ["repository", "class"]),
        ("running stopped calls", ["run", "stop", "call"]),
        ("Größe in URLs", ["größ", "url"]),
        ("", []),
        ("the of and", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("searched", "there"),
    [("issues", "issue"), ("creating", "create"), ("created", "create"), ("queries", "query"), ("stopping", "stop")],
)
def test_forms_of_a_word_are_one(searched: str, there: str) -> None:
    assert words(searched) == words(there)


def test_a_beginning_finds_the_whole_and_less_than_the_word_itself() -> None:
    index = Index([tool("a__repository_get"), tool("b__repo_get"), tool("c__other")])
    assert found("repo", index=index) == ["b__repo_get", "a__repository_get"]


@pytest.mark.parametrize("field", ["name", "title", "description", "arguments", "server"])
def test_every_field_is_searched(field: str) -> None:
    there = {
        "name": tool("x__zebra"),
        "title": tool("x__a", title="Zebra"),
        "description": tool("x__a", "about the zebra"),
        "arguments": tool("x__a", "", "zebraId"),
        "server": tool("zebra__a"),
    }[field]
    assert found("zebra", index=Index([tool("y__b", "a horse", "id"), there])) == [there["name"]]


def test_a_name_counts_more_than_a_mention() -> None:
    index = Index([tool("a__x", "make an invoice, or not"), tool("a__make_invoice", "does so"), tool("a__z")])
    assert found("invoice", index=index)[0] == "a__make_invoice"


def test_other_scripts_are_searched() -> None:
    index = Index([tool("a__x", "Größe einer Datei ändern"), tool("a__y", "поиск файлов"), tool("a__z", "検索")])
    assert found("größe", index=index) == ["a__x"]
    assert found("ПОИСК", index=index) == ["a__y"]
    assert found("検索", index=index) == ["a__z"]


# -- order -------------------------------------------------------------------------------------------------------------


def test_equals_come_by_name_whatever_the_order_of_the_list() -> None:
    tools = [tool(f"s{n:02}__same", "the same") for n in range(20)]
    for seed in range(5):
        shuffled = random.Random(seed).sample(tools, len(tools))
        assert found("same", 20, index=Index(shuffled)) == sorted(t["name"] for t in tools)


def test_one_server_only() -> None:
    assert {name.split("__")[0] for name in found("create", 50)} > {"github", "linear"}
    assert found("create issue", 50, "linear")[0] == "linear__create_issue"
    assert all(name.startswith("linear__") for name in found("create issue", 50, "linear"))


def test_scores_fall_and_the_limit_holds() -> None:
    hits = INDEX.find("list the issues of a repository", 7)
    assert len(hits) == 7
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(hit.score > 0 for hit in hits)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), st.integers(1, 60))
def test_any_query_is_answered_in_order(query: str, limit: int) -> None:
    hits = INDEX.find(query, limit)
    assert len(hits) <= limit
    assert [(-h.score, h.tool["name"]) for h in hits] == sorted((-h.score, h.tool["name"]) for h in hits)
    assert hits == INDEX.find(query, limit)


def test_odd_definitions_do_no_harm() -> None:
    odd: list[Json] = [
        {"name": "a__x", "description": None, "title": 7, "inputSchema": {"properties": ["a"]}},
        {"name": "plain", "inputSchema": None},
        {"name": "a__y"},
    ]
    index = Index(odd)
    assert index.servers == ("a",)
    assert found("plain", index=index) == ["plain"]
    assert Index([]).find("x") == []


# -- the tool ----------------------------------------------------------------------------------------------------------


def test_the_definition_is_sound() -> None:
    for schema in (DEFINITION["inputSchema"], DEFINITION["outputSchema"]):
        jsonschema.Draft202012Validator.check_schema(schema)
    assert DEFINITION["annotations"]["readOnlyHint"] is True


@pytest.mark.parametrize(
    "arguments",
    [{"query": "create issue"}, {"query": "x" * MAX_QUERY}, {"query": "send", "limit": MAX_LIMIT, "server": "slack"}],
)
def test_answers_are_as_declared(arguments: Json) -> None:
    jsonschema.validate(arguments, DEFINITION["inputSchema"])
    result = answer(INDEX, arguments)
    assert result["isError"] is False
    jsonschema.validate(result["structuredContent"], DEFINITION["outputSchema"])
    # 2026-07-28 server/tools, "Structured Content": the text is the same, for clients of before.
    [content] = result["content"]
    assert orjson.loads(content["text"]) == result["structuredContent"]


def test_an_answer_has_what_a_call_needs() -> None:
    described = tool("s__pay", "pay a bill", "amount", title="Pay", annotations={"destructiveHint": True}, icons=[1])
    assert answer(Index([described, tool("s__b")]), {"query": "pay", "limit": 1.0})["structuredContent"]["tools"] == [
        {key: described[key] for key in ("name", "title", "description", "inputSchema", "annotations")}
    ]


def test_nothing_found_says_what_to_try() -> None:
    result = answer(Index([tool("s__b"), tool("t__c")]), {"query": "quux"})
    assert result["isError"] is False
    assert result["structuredContent"] == {
        "tools": [],
        "hint": "no tool has any of these words; try others, or more general ones; servers: s, t",
    }


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (None, "query is missing; describe in a few words what the tool shall do, such as 'create an issue'"),
        ({"query": " "}, "query is missing; describe in a few words what the tool shall do, such as 'create an issue'"),
        ({"query": 7}, "query is missing; describe in a few words what the tool shall do, such as 'create an issue'"),
        ({"query": "x" * 1001}, "query has 1001 characters; 1000 are allowed, and a few words are enough"),
        ({"query": "x", "limit": 0}, "limit is 0; give a whole number from 1 to 50"),
        ({"query": "x", "limit": True}, "limit is True; give a whole number from 1 to 50"),
        ({"query": "x", "limit": "5"}, "limit is '5'; give a whole number from 1 to 50"),
        ({"query": "x", "server": "nope"}, "there is no server 'nope'; there are s, t"),
        ({"query": "x", "server": ["s"]}, "there is no server ['s']; there are s, t"),
        ({"query": "x", "top": 3}, "unknown argument 'top'; give query, and if you like limit and server"),
    ],
)
def test_mistakes_are_told_to_the_model(arguments: Any, complaint: str) -> None:
    result = answer(Index([tool("s__b"), tool("t__c")]), arguments)
    assert result == {"content": [{"type": "text", "text": f"find_tools: {complaint}"}], "isError": True}


def test_only_what_may_be_seen_is_found_or_named() -> None:
    index = Index([tool("a__pay"), tool("a__pay_all"), tool("b__pay")])
    result = answer(index, {"query": "pay"}, lambda name: name == "a__pay")
    assert [found["name"] for found in result["structuredContent"]["tools"]] == ["a__pay"]
    hint = answer(index, {"query": "quux"}, lambda name: name == "a__pay")["structuredContent"]["hint"]
    assert hint.endswith("; servers: a")
    refused = answer(index, {"query": "pay", "server": "b"}, lambda name: name == "a__pay")
    assert refused["content"][0]["text"] == "find_tools: there is no server 'b'; there are a"


def test_an_index_made_from_the_one_before_is_the_same() -> None:
    before = Index(CATALOGUE)
    tools = [tool("new__issue", "create an issue"), *CATALOGUE[10:]]
    made, fresh = Index(tools, before), Index(tools)
    for query in QUERIES:
        assert made.find(query) == fresh.find(query)
    assert made.servers == fresh.servers


# -- settings ----------------------------------------------------------------------------------------------------------


def test_settings() -> None:
    errors: list[str] = []
    assert read(Reader(None, "search", errors)) == SearchSettings()
    chosen = read(Reader({"enabled": True, "always": ["time__*"]}, "search", errors))
    assert not errors
    shown = [tool["name"] for tool in chosen.listed(CATALOGUE)]
    assert shown == ["find_tools", "time__get_current_time", "time__convert_time"]
    read(Reader({"always": ["x"], "enable": True}, "search", errors))
    assert errors == [
        "search.always: has no effect while search.enabled is not true; set it",
        "search.enable: unknown key; see the configuration reference in the README",
    ]
