"""Who may do what: patterns, profiles, and that lists and calls go by the same answer."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway import audit, auth, policy
from mcp_gateway.limits import Limits, Rate
from mcp_gateway.policy import Patterns, Profile, Profiles, ToolPolicy
from mcp_gateway.policy import patterns as patterns_module
from mcp_gateway.policy import profiles as profiles_module
from mcp_gateway.principal import Principal
from mcp_gateway.reader import Reader

SERVERS = ("time", "git", "files_x")
READ_ONLY = {"readOnlyHint": True}


def read(text: str) -> tuple[Profiles, list[str]]:
    errors: list[str] = []
    return policy.read(Reader(yaml.safe_load(text), "profiles", errors), SERVERS), errors


def profile(text: str, name: str = "p") -> Profile:
    found, errors = read(f"{name}: {text}")
    assert errors == []
    return found.of(Principal("x", name))


names = st.text("abx_-.*[]é", max_size=6)
globs = st.lists(st.text("abx*?_-", min_size=1, max_size=5), max_size=3).map(tuple)


@given(allow=globs, deny=globs, given_names=st.lists(names, max_size=20))
def test_patterns_are_the_shells_whatever_was_asked_before(
    allow: tuple[str, ...], deny: tuple[str, ...], given_names: list[str]
) -> None:
    rules = ToolPolicy(allow, deny)
    for name in given_names + given_names:
        wanted = any(fnmatch.fnmatchcase(name, p) for p in allow) and not any(
            fnmatch.fnmatchcase(name, p) for p in deny
        )
        assert rules.permits(name) is wanted


def test_what_is_remembered_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns_module, "_MAX_REMEMBERED", 10)
    monkeypatch.setattr(profiles_module, "_MAX_REMEMBERED", 10)
    rules, some = Patterns(("a*",), ("ab*",)), Profile(tools=Patterns(("git__a*",)))
    for index in range(100):
        assert rules.permits(f"a{index}")
        assert some.permits("git", f"a{index}", None, frozenset())
        assert len(rules._known) <= 10
        assert len(some._statics) <= 10
    assert rules.permits("a" * 5000)
    assert not some.permits("git", "b" * 5000, None, frozenset())
    assert max(map(len, rules._known)) < 300


scopes = st.frozensets(st.sampled_from(["r", "w", "x"]), max_size=3)
tools = st.tuples(st.sampled_from(SERVERS), st.sampled_from(["get", "get_all", "set", "drop"]))
hints = st.sampled_from([None, {}, {"readOnlyHint": True}, {"readOnlyHint": False}, {"readOnlyHint": 1}])


@st.composite
def profiles(draw: st.DrawFn) -> dict[str, Any]:
    tool = st.sampled_from(["*", "*__get*", "time__*", "git__set", "files_x__???", "*drop"])
    server = st.sampled_from(["*", "time", "g*", "files_?"])
    return {
        "servers": {"allow": draw(st.lists(server, max_size=2)), "deny": draw(st.lists(server, max_size=1))},
        "tools": {"allow": draw(st.lists(tool, max_size=3)), "deny": draw(st.lists(tool, max_size=2))},
        "read_only": draw(st.booleans()),
        "scopes": draw(st.dictionaries(tool, st.lists(st.sampled_from(["r", "w", "x"]), min_size=1), max_size=2)),
    }


@given(document=profiles(), asked=st.lists(st.tuples(tools, hints, scopes), max_size=12))
def test_a_profile_answers_by_its_rules_and_the_same_each_time(
    document: dict[str, Any], asked: list[tuple[tuple[str, str], Any, frozenset[str]]]
) -> None:
    some = profile(yaml.safe_dump(document, default_flow_style=True, width=10_000))

    def matches(patterns: list[str], name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    for (server, tool), hint, granted in asked + asked:
        full = f"{server}__{tool}"
        sees = matches(document["servers"]["allow"], server) and not matches(document["servers"]["deny"], server)
        allowed = matches(document["tools"]["allow"], full) and not matches(document["tools"]["deny"], full)
        marked = not document["read_only"] or (hint or {}).get("readOnlyHint") is True
        needed = {s for pattern, wanted in document["scopes"].items() if matches([pattern], full) for s in wanted}
        decision = some.decide(server, tool, hint, granted)
        assert some.sees_server(server) is sees
        assert decision.permitted is (sees and allowed and marked and needed <= granted)
        assert some.permits(server, tool, hint, granted) is decision.permitted
        assert bool(decision.reason) is not decision.permitted
        # A challenge for scopes only where scopes would help, and then for all of them.
        assert decision.scopes == (
            tuple(sorted(needed)) if sees and allowed and marked and not needed <= granted else ()
        )


@given(granted=scopes, more=scopes, document=profiles(), tool=tools)
def test_more_scopes_never_close_anything(
    granted: frozenset[str], more: frozenset[str], document: dict[str, Any], tool: tuple[str, str]
) -> None:
    some = profile(yaml.safe_dump(document, default_flow_style=True, width=10_000))
    if some.permits(*tool, READ_ONLY, granted):
        assert some.permits(*tool, READ_ONLY, granted | more)


def test_reasons_say_what_refused() -> None:
    some = profile(
        "{servers: {deny: [git]}, tools: {deny: [time__set]}, read_only: true, scopes: {time__*: [t:r, t:a]}}"
    )
    none = frozenset[str]()
    assert "does not see server git" in some.decide("git", "log", READ_ONLY, none).reason
    assert "does not allow this tool" in some.decide("time", "set", READ_ONLY, none).reason
    assert "read-only" in some.decide("time", "get", {"readOnlyHint": "yes"}, none).reason
    decision = some.decide("time", "get", READ_ONLY, frozenset({"t:r"}))
    assert "missing: t:a" in decision.reason
    assert decision.scopes == ("t:a", "t:r")
    assert some.decide("time", "get", READ_ONLY, frozenset({"t:r", "t:a"})).permitted


def test_everything_is_read() -> None:
    some = profile("""{
        rename: {time.get_time: clock, git.log.all: git_history}, description: {time.get_time: What time it is.},
        limits: {requests_per_minute: 60, burst: 2, max_in_flight: 4}, search: true}""")
    assert some.rename("time", "get_time") == "clock"
    assert some.rename("git", "log.all") == "git_history"
    assert some.rename("git", "get_time") is None
    assert some.original("clock") == ("time", "get_time")
    assert some.original("get_time") is None
    assert some.description("time", "get_time") == "What time it is."
    assert some.limits == Limits(Rate(1.0, 2), {}, 4)
    assert some.search is True


def test_who_has_which_profile() -> None:
    found, errors = read("{default: {read_only: true}, all: {}}")
    assert errors == []
    assert found.of(Principal("a")).read_only
    assert found.of(Principal("a", "default")).read_only
    assert not found.of(Principal("a", "all")).read_only
    gone = found.of(Principal("a", "removed"))
    assert not gone.sees_server("time")
    assert not gone.permits("time", "get", READ_ONLY, frozenset({"r"}))
    assert found.mistakes(["all", "default", "removed"]) == [
        "auth: profile 'removed' does not exist; there are all, default"
    ]


def test_without_profiles_everything_is_permitted() -> None:
    found, errors = read("{}")
    assert errors == []
    assert found.of(Principal("a")).permits("time", "get", None, frozenset())
    assert found.of(Principal("a")).limits == Limits()


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (
            "{servers: {allow: [tmie]}}",
            "profiles.p.servers.allow: 'tmie': no server 'tmie'; there are files_x, git, time",
        ),
        ("{tools: {allow: [tmie__*]}}", "profiles.p.tools.allow: 'tmie__*': no server 'tmie'"),
        ("{tools: {deny: [get_time]}}", "'get_time' names no tool; write <server>__<tool>, such as files_x__*"),
        ("{tools: {deny: ['time__[a']}}", "has a [ without ]"),
        ("{tools: {deny: ['time__[!]']}}", "has a [ without ]"),
        ("{tools: {deny: ['']}}", "'' is no pattern"),
        ("{tools: {deny: [7]}}", "7 is no pattern"),
        ("{tools: [time__*]}", "profiles.p.tools: ['time__*'] is not a mapping"),
        ("{tools: {alow: []}}", "profiles.p.tools.alow: unknown key"),
        ("{scopes: {time__*: [offline_access]}}", "profiles.p.scopes.time__*: 'offline_access'"),
        ("{scopes: {time__*: []}}", "profiles.p.scopes.time__*: no scope"),
        ("{scopes: {tmie__*: [a]}}", "no server 'tmie'"),
        ("{rename: {time: x}}", "profiles.p.rename.time: names no tool"),
        ("{rename: {tmie.get: x}}", "profiles.p.rename.tmie.get: no server 'tmie'"),
        ("{rename: {time.a: x, git.b: x}}", "profiles.p.rename.git.b: 'x' is the new name of time.a already"),
        ("{rename: {time.a: git__b}}", "'git__b' could be a tool of server 'git'"),
        ("{rename: {time.a: 'a b'}}", "'a b' is not allowed"),
        ("{rename: {time.a: find_tools}}", "'find_tools' is a tool of the gateway itself"),
        ("{rename: {time.a: 7}}", "7 is not allowed; expected text"),
        ("{description: {time.a: ''}}", "profiles.p.description.time.a: ''"),
        ("{limits: {servers: {tmie: {}}}}", "profiles.p.limits.servers.tmie: no such server"),
        ("{read_only: maybe}", "profiles.p.read_only: 'maybe'"),
        ("{read_onyl: true}", "profiles.p.read_onyl: unknown key"),
    ],
)
def test_a_mistake_names_its_key(text: str, mistake: str) -> None:
    _, errors = read(f"p: {text}")
    assert len(errors) == 1, errors
    assert mistake in errors[0]


def test_all_mistakes_are_reported_at_once() -> None:
    _, errors = read("{'a b': {}, p: {servers: {allow: [x, y]}, rename: {time.a: 'q!', nope.b: z}}}")
    assert len(errors) == 5, errors


def test_the_example_of_the_documentation_is_good(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "access.md").read_text("utf-8")
    (tmp_path / "key").write_text("secret")
    example = text.split("```yaml\n")[1].split("```")[0]
    for there in ("/run/secrets/ci_key", "/var/log/mcp-gateway/audit.log"):
        example = example.replace(there, str(tmp_path / "key"))
    root = yaml.safe_load(example)
    errors: list[str] = []
    credentials = auth.read(Reader(root["auth"], "auth", errors))
    profiles = policy.read(Reader(root["profiles"], "profiles", errors), ("time", "files", "gpu"))
    audit.read(Reader(root["audit"], "audit", errors))
    assert errors + profiles.mistakes(credentials.profiles) == []
    operator = profiles.of(Principal("x", "operators"))
    assert operator.decide("files", "write_file", None, frozenset()).scopes == ("files-write",)
    assert operator.permits("files", "write_file", None, frozenset({"files-write"}))
    assert not profiles.of(Principal("grafana")).sees_server("files")
