"""Names of the merged lists: include, exclude, rename, and what must hold whatever servers are called."""

from __future__ import annotations

import re
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_gateway.naming import Names, Selection, Target, guess, read
from mcp_gateway.reader import Reader

Lists = dict[str, list[dict[str, Any]]]


def tools(*own: str) -> list[dict[str, Any]]:
    return [{"name": name, "inputSchema": {"type": "object"}} for name in own]


def listed(names: Names) -> list[str]:
    return [item["name"] for _, item in names.items()]


def selection(tools: dict[str, Any], server: str = "github") -> tuple[Selection, list[str]]:
    errors: list[str] = []
    reader = Reader(tools, "servers[0].tools", errors)
    chosen = read(reader, server)
    reader.done()
    return chosen, errors


# -- configuration -----------------------------------------------------------------------------------------------------


def test_selection_is_read_and_applied() -> None:
    chosen, errors = selection({"include": ["get_*", "make"], "exclude": ["get_secret"], "rename": {"make": "create"}})
    assert not errors
    names = Names({"github": tools("get_a", "get_secret", "make", "drop")}, {"github": chosen})
    assert listed(names) == ["github__get_a", "github__create"]
    assert names.find("github__create") == Target("github", "make")
    assert names.find("github__make") is None  # a renamed tool has one name
    assert names.find("github__get_secret") is None
    assert names.exposed("github", "make") == "github__create"
    assert not names.problems


@pytest.mark.parametrize(
    ("rename", "complaint"),
    [
        ({"a": "b c"}, "servers[0].tools.rename.a: 'b c' is no tool name; use letters, digits, _ and - only"),
        ({"a": ""}, "servers[0].tools.rename.a: '' is no tool name; use letters, digits, _ and - only"),
        (
            {"a": "x" * 57},
            f"servers[0].tools.rename.a: {'x' * 57!r} has 57 characters; with the prefix 'github__' 56 fit into 64; "
            "shorten it",
        ),
        ({"a": "x", "b": "x"}, "servers[0].tools.rename.b: 'a' is called 'x' already; choose another name"),
        (
            {"hidden": "x"},
            "servers[0].tools.rename.hidden: 'hidden' is not shown; drop this key, or include it and do not exclude it",
        ),
    ],
)
def test_impossible_renames_are_refused_with_the_fix(rename: dict[str, str], complaint: str) -> None:
    assert selection({"rename": rename, "exclude": ["hidden"]})[1] == [complaint]


def test_the_longest_rename_that_is_accepted_is_shown_as_it_is() -> None:
    chosen, errors = selection({"rename": {"a": "x" * 56}})
    assert not errors
    assert listed(Names({"github": tools("a")}, {"github": chosen})) == [f"github__{'x' * 56}"]


# -- collisions --------------------------------------------------------------------------------------------------------


def problems(names: Names) -> list[str]:
    return [str(problem) for problem in names.problems]


def test_a_rename_onto_another_tool_is_undone_and_reported() -> None:
    names = Names({"s": tools("a", "b", "c")}, {"s": Selection(rename={"a": "b", "c": "a"})})
    assert listed(names) == ["s__a", "s__b", "s__c"]
    assert [names.find(name) for name in listed(names)] == [Target("s", "a"), Target("s", "b"), Target("s", "c")]
    assert problems(names) == [
        "server s: 'a' cannot be renamed to 'b', which 'b' is; "
        "rename or exclude 'b' too, or choose another name; it keeps its own",
        "server s: 'c' cannot be renamed to 'a', which 'a' is; "
        "rename or exclude 'a' too, or choose another name; it keeps its own",
    ]


def test_names_may_be_swapped() -> None:
    names = Names({"s": tools("a", "b")}, {"s": Selection(rename={"a": "b", "b": "a"})})
    assert names.find("s__a") == Target("s", "b")
    assert names.find("s__b") == Target("s", "a")
    assert not names.problems


def test_a_name_that_looks_like_a_shortened_one_keeps_it() -> None:
    """A server that offers the very name which another tool of its is shortened to."""
    long = "x" * 70
    short = listed(Names({"s": tools(long)}))[0].removeprefix("s__")
    for order in ((long, short), (short, long)):
        names = Names({"s": tools(*order)})
        assert names.find(f"s__{short}") == Target("s", short)
        assert names.exposed("s", long) is None
        assert problems(names) == [
            f"server s: {long!r} would be shown as 's__{short}', which {short!r} is; "
            f"give it another name in tools.rename: {{{long!r}: ...}}; left out until then"
        ]


def test_items_without_a_name_and_named_twice_are_reported() -> None:
    names = Names({"s": [{"title": "?"}, {"name": ""}, {"name": "a", "n": 1}, {"name": "a", "n": 2}]})
    assert [item for _, item in names.items()] == [{"name": "s__a", "n": 1}]
    assert [problem.text for problem in names.problems] == ["is no name", "is no name", "is listed twice"]


def test_a_rename_of_what_is_not_there_says_what_is_meant() -> None:
    names = Names({"s": tools("create_issue")}, {"s": Selection(rename={"creat_issue": "new", "zzz": "q"})})
    assert problems(names) == [
        "server s: 'creat_issue' is renamed but not offered; write 'create_issue' in tools.rename",
        "server s: 'zzz' is renamed but not offered; remove it from tools.rename",
    ]


# -- views and order ---------------------------------------------------------------------------------------------------


def test_order_is_by_server_name_then_the_servers_own() -> None:
    lists = {"zoo": tools("b", "a"), "art": tools("z", "y")}
    expected = ["art__z", "art__y", "zoo__b", "zoo__a"]
    assert listed(Names(lists)) == listed(Names(dict(reversed(lists.items())))) == expected


def test_a_view_of_one_server_has_its_own_names() -> None:
    names = Names({"s": tools("a.b", "old")}, {"s": Selection(rename={"old": "new"})}, merged=False)
    assert listed(names) == ["a.b", "new"]
    assert names.find("new") == Target("s", "old")
    with pytest.raises(ValueError, match="one server"):
        Names({"s": [], "t": []}, merged=False)


def test_the_items_themselves_are_left_alone() -> None:
    mine = tools("a")
    Names({"s": mine})
    assert mine == tools("a")


def test_names_of_a_server_that_cannot_be_asked() -> None:
    known = {"s": Selection(exclude=("secret",), rename={"old": "new"})}
    assert guess("s__a", known) == Target("s", "a")
    assert guess("s__new", known) == Target("s", "old")
    assert guess("s__old", known) is None
    assert guess("s__secret", known) is None
    assert guess("t__a", known) is None
    assert guess("plain", known) is None
    assert guess("s__a b", known) is None
    assert guess("s__x_deadbeef", known) is None  # may be short for something longer


# -- whatever they are called ------------------------------------------------------------------------------------------

SERVERS = st.from_regex(re.compile(r"[a-z][a-z0-9]{0,6}([_-][a-z0-9]{1,6}){0,3}"), fullmatch=True)
OWN = st.one_of(
    st.sampled_from(["a", "b", "c", "a__b", "_a", "a_", "A", "a.b", "a b", "x" * 62, "x" * 63, "ä"]),
    st.text(alphabet=string.ascii_letters + string.digits + "_-./ é", min_size=1, max_size=130),
)
SELECTIONS = st.builds(
    Selection,
    include=st.sampled_from([("*",), ("a*", "b"), ("[ab]", "x*")]),
    exclude=st.sampled_from([(), ("b",), ("*_",)]),
    rename=st.dictionaries(OWN, st.sampled_from(["a", "b", "c", "renamed", "x" * 30]), max_size=4),
)
FLEETS = st.dictionaries(
    SERVERS, st.tuples(st.lists(OWN, max_size=12).map(lambda own: tools(*own)), SELECTIONS), max_size=5
)


def table(fleet: dict[str, tuple[list[dict[str, Any]], Selection]]) -> Names:
    return Names({s: i for s, (i, _) in fleet.items()}, {s: chosen for s, (_, chosen) in fleet.items()})


@settings(max_examples=300, deadline=None)
@given(FLEETS)
def test_what_is_listed_can_be_called_and_nothing_else(fleet: dict[str, Any]) -> None:
    names = table(fleet)
    shown = listed(names)
    assert len(shown) == len(set(shown)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in shown)
    targets = [names.find(name) for name in shown]
    assert None not in targets
    assert len(set(targets)) == len(targets)
    for (server, item), target in zip(names.items(), targets, strict=True):
        assert target is not None
        assert target.server == server
        assert names.exposed(*target) == item["name"]
        assert fleet[server][1].permits(target.name)
    hidden = {(s, i["name"]) for s, (items, _) in fleet.items() for i in items} - {tuple(t) for t in targets if t}
    assert all(names.exposed(*pair) is None for pair in hidden)
    # Whoever is permitted and not shown is complained of.
    for server, own in hidden:
        if fleet[server][1].permits(own):
            assert any(p.server == server and p.name == own for p in names.problems)


@settings(max_examples=200, deadline=None)
@given(FLEETS, st.data())
def test_a_servers_names_do_not_depend_on_other_servers(fleet: dict[str, Any], data: st.DataObject) -> None:
    names = table(fleet)
    some = data.draw(st.lists(st.sampled_from(sorted(fleet)), unique=True)) if fleet else []
    fewer = table({server: fleet[server] for server in some})
    assert listed(fewer) == [item["name"] for server, item in names.items() if server in some]


@settings(max_examples=200, deadline=None)
@given(FLEETS, st.randoms(use_true_random=False))
def test_a_servers_names_do_not_depend_on_its_order(fleet: dict[str, Any], random: Any) -> None:
    unique = {s: ([*{i["name"]: i for i in items}.values()], chosen) for s, (items, chosen) in fleet.items()}
    shuffled = {s: (random.sample(items, len(items)), chosen) for s, (items, chosen) in unique.items()}
    assert sorted(listed(table(unique))) == sorted(listed(table(shuffled)))


@settings(max_examples=200, deadline=None)
@given(FLEETS, OWN)
def test_a_guess_agrees_with_the_list(fleet: dict[str, Any], old: str) -> None:
    """Where renames are onto names that nobody else has."""
    free = {server: (items, Selection(c.include, c.exclude, {old: "new_name"})) for server, (items, c) in fleet.items()}
    names, chosen = table(free), {server: selected for server, (_, selected) in free.items()}
    for exposed in listed(names):
        assert guess(exposed, chosen) in (names.find(exposed), None)
