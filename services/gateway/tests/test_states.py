"""What sessions set, as replicas keep it: the last write wins, in whatever order they hear of it, and within bounds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_gateway import states as module
from mcp_gateway.hub import Hub, Listener
from mcp_gateway.peers import envelope
from mcp_gateway.peers.envelope import Envelope, Refused
from mcp_gateway.peers.peer import MAX_CANCELS, MAX_PENDING, Peer
from mcp_gateway.protocol import RpcError
from mcp_gateway.registers import MAX_RESOURCE_CHARS
from mcp_gateway.sessions import Pin, Sealer, Session
from mcp_gateway.states import States

TTL = 3600
KEYS = (b"one",)
Json = dict[str, Any]


@dataclass
class Replica:
    """One replica's states, what they told, and what they made of it."""

    clock: Callable[[], float] = time.time
    told: list[str] = field(default_factory=list)
    pinned: list[tuple[str, str, Pin]] = field(default_factory=list)
    over: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sealer = Sealer(KEYS, TTL)
        self.hub = Hub(lambda _server: None)
        self.states = States(self.sealer, self.hub, self.clock)
        self.states.tell = self.told.append
        self.states.pinned = lambda *news: self.pinned.append(news)
        self.states.over = self.over.append

    def open(self, session: Session) -> Session:
        """The client comes with its session id."""
        found = self.sealer.open(self.sealer.seal(session), session.principal, session.endpoint)
        assert found
        return found

    def learn(self, other: Replica, session: Session) -> None:
        """Hear of a session from another."""
        news = other.states.news(session.id)
        if news:
            self.states.learn(news)

    def seen(self, session: Session) -> tuple[Any, ...]:
        """What it would go by."""
        state = self.states.find(session.id)
        ended = self.sealer.ended_until(session.id) is not None
        return (ended,) if ended or not state else (state.level, state.resources, state.pins)


def new_session(issued: int | None = None, principal: str = "me") -> Session:
    return Session(Sealer.new_id(), "2025-11-25", principal, "/mcp", int(time.time()) if issued is None else issued)


# -- agreement ---------------------------------------------------------------------------------------------------------

OPERATIONS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.one_of(
            st.tuples(st.just("level"), st.sampled_from(["debug", "error", "warning"])),
            st.tuples(st.just("subscribe"), st.sampled_from("abc")),
            st.tuples(st.just("unsubscribe"), st.sampled_from("abc")),
            st.tuples(st.just("pin"), st.sampled_from("xyz")),
            st.tuples(st.just("end"), st.just("")),
        ),
    ),
    max_size=12,
)


@given(OPERATIONS, st.randoms(use_true_random=False), st.lists(st.integers(-5000, 5000), min_size=3, max_size=3))
@settings(max_examples=150, deadline=None)
def test_replicas_agree_whatever_they_hear_in_which_order(
    operations: list[tuple[int, tuple[str, str]]], chance: random.Random, skews: list[int]
) -> None:
    """Their clocks differ, messages come late, twice, or overtake each other."""
    replicas = [Replica(lambda skew=skew: time.time() + skew / 1000) for skew in skews]  # type: ignore[misc]
    session = new_session()
    heard: list[Json] = []
    for index, (kind, value) in operations:
        replica = replicas[index]
        if replica.sealer.ended_until(session.id) is not None:
            continue
        own = replica.open(session)
        if kind == "level":
            replica.states.set_level(own, value)
        elif kind == "pin":
            replica.states.repin("held", f"me/{session.id}", Pin(f"http://{value}", value, "v"))
        elif kind == "end":
            replica.states.end(own)
        else:
            replica.states.subscribe(own, {("s", value): f"s+{value}"}, wanted=kind == "subscribe")
        if news := replica.states.news(session.id):
            heard.append(news)
        if heard and chance.random() < 0.5:
            chance.choice(replicas).states.learn(chance.choice(heard))
    heard += [news for replica in replicas if (news := replica.states.news(session.id))]
    for replica in replicas:
        for news in chance.sample(heard, len(heard)):
            replica.states.learn(news)
    assert replicas[0].seen(session) == replicas[1].seen(session) == replicas[2].seen(session)


def test_a_write_after_another_was_heard_of_wins_whatever_the_clock() -> None:
    ahead, behind = Replica(lambda: time.time() + 500), Replica()
    session = new_session()
    ahead.states.set_level(session, "debug")
    behind.learn(ahead, session)
    behind.states.set_level(session, "error")
    ahead.learn(behind, session)
    assert [replica.states.of(session).level for replica in (ahead, behind)] == ["error", "error"]


def test_what_is_heard_reaches_streams_servers_and_nobody_again() -> None:
    one, two = Replica(), Replica()
    session = new_session()
    listener = Listener(lambda: frozenset({"s"}), lambda _method, _params: None)
    two.states.of(session).listeners.append(listener)
    two.hub.add(listener)
    one.open(session)
    one.states.subscribe(session, {("s", "a"): "s+a"}, wanted=True)
    assert one.states.repin("held", f"me/{session.id}", Pin("http://r", "id", "v"))
    two.learn(one, session)
    two.learn(one, session)
    assert two.hub.resources("s") == {"a"}
    assert two.pinned == [("held", f"me/{session.id}", Pin("http://r", "id", "v"))]
    one.states.end(session)
    ended = two.states.of(session).ended
    two.learn(one, session)
    two.learn(one, session)
    assert ended.is_set()
    assert two.over == [f"me/{session.id}"]
    assert two.told == [], "who is told does not tell on"
    assert one.told == [session.id] * 3


@pytest.mark.parametrize("key", ["me", "me {}", "other/{id}", "me/unknown"])
def test_sessions_of_nobody_are_not_told(key: str) -> None:
    """Clients of 2026 share their sessions; those being opened are not sealed yet."""
    replica, session = Replica(), new_session()
    replica.open(session)
    assert not replica.states.repin("held", key.replace("{id}", session.id), Pin("http://r", "id", "v"))
    assert replica.told == []


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_subscriptions_are_bounded_and_giving_up_makes_room() -> None:
    replica, session = Replica(), new_session()
    uri = "x" * 1000

    def change(number: int, *, wanted: bool) -> None:
        replica.states.subscribe(session, {("s", f"{uri}{number}"): uri}, wanted=wanted)

    taken = 0
    with pytest.raises(RpcError, match="unsubscribe from some"):
        while taken * 2000 <= 2 * MAX_RESOURCE_CHARS:
            change(taken, wanted=True)
            taken += 1
    state = replica.states.of(session)
    assert 0.9 * MAX_RESOURCE_CHARS < taken * 2000 <= MAX_RESOURCE_CHARS
    assert len(state.resources) == len(state.stamps) == taken
    change(0, wanted=False)
    change(taken, wanted=True)
    for number in range(100, 300):  # what was given up is not remembered for ever
        change(1, wanted=False)
        change(number, wanted=False)
    assert sum(len(name[2]) for name in state.stamps) <= MAX_RESOURCE_CHARS


def test_the_states_of_sessions_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STATES", 3)
    monkeypatch.setattr(module, "MAX_RECENT", 3)
    replica = Replica()
    sessions = [new_session() for _ in range(5)]
    for session in sessions[:3]:
        replica.states.set_level(session, "error")
    replica.states.find(sessions[0].id)
    for session in sessions[3:]:
        replica.states.set_level(session, "error")
    kept = [session for session in sessions if replica.states.find(session.id)]
    assert kept == [sessions[0], sessions[3], sessions[4]]
    assert len(replica.states.recent()) == 3
    for session in (new_session() for _ in range(5)):
        replica.states.end(session)
    assert len(list(replica.states)) == 6


def test_a_state_ends_with_its_session() -> None:
    now = time.time()
    replica = Replica(lambda: now)
    old, other = new_session(int(now) - TTL + 1), Replica()
    replica.states.set_level(old, "error")
    other.states.set_level(old, "error")
    ended = replica.states.of(old).ended
    now += 100
    assert len(replica.states) == 1
    replica.states.set_level(new_session(), "error")
    assert (len(replica.states), ended.is_set(), replica.states.recent()[:-1]) == (1, True, [old.id])
    late = Replica(lambda: now)
    late.learn(other, old)
    assert len(late.states) == 0, "news of sessions that are over is no news"


def test_news_never_live_longer_than_a_session_does() -> None:
    replica, session = Replica(), new_session()
    fields = [[["level"], "error", 1, "x"]]
    replica.states.learn({"session": session.id, "principal": "me", "expires": 10**15, "fields": fields})
    state = replica.states.find(session.id)
    assert state
    assert state.expires <= time.time() + TTL + 1


@pytest.mark.parametrize(
    "news",
    [
        {},
        {"session": 1, "principal": "me", "expires": 2**40},
        {"session": "s", "principal": "me", "expires": "soon"},
        *(
            {"session": "s", "principal": "me", "expires": 2**40, "fields": [item]}
            for item in (
                None,
                [],
                [["level"], "loud", 1, "x"],
                [["level"], None, 1, "x"],
                [["level"], "error", 0, "x"],
                [["level"], "error", 2**63, "x"],
                [["level"], "error", 1.5, "x"],
                [["level"], "error", 1, None],
                [["resource", "s"], "uri", 1, "x"],
                [["resource", "s", "u"], 1, 1, "x"],
                [["pin", "s"], ["u", "i"], 1, "x"],
                [["pin", "s"], None, 1, "x"],
                [["other"], "x", 1, "x"],
            )
        ),
    ],
)
def test_what_is_no_news_changes_nothing(news: Json) -> None:
    replica = Replica()
    with pytest.raises(ValueError, match=r"missing|no field|no time"):
        replica.states.learn(news)
    assert len(replica.states) == 0


def test_what_a_peer_has_yet_to_be_told_is_bounded() -> None:
    """It may be away for long: nothing here runs, so nothing is told."""
    peer = Peer("http://127.0.0.1:1", None, None, Envelope(KEYS))  # type: ignore[arg-type]
    for number in range(MAX_PENDING + 10):
        peer.tell(str(number))
        peer.tell("the same")
    for number in range(MAX_CANCELS + 10):
        peer.cancel(["/mcp", "session", number])
    assert peer.pending == MAX_PENDING + MAX_CANCELS


# -- messages ----------------------------------------------------------------------------------------------------------


def test_a_message_is_good_once_and_for_some_time() -> None:
    now = 1e9
    sender, receiver = Envelope(KEYS, lambda: now), Envelope((b"new", *KEYS), lambda: now)
    sealed = sender.request({"a": 1})
    assert receiver.open_request(sealed)["a"] == 1
    with pytest.raises(Refused, match="came before"):
        receiver.open_request(sealed)
    late = sender.request({})
    now += envelope.GOOD_SECONDS + 1
    for message in (sealed, late):
        with pytest.raises(Refused, match="do the clocks agree"):
            receiver.open_request(message)
    early = sender.request({})
    now -= 2 * envelope.GOOD_SECONDS
    with pytest.raises(Refused, match="do the clocks agree"):
        receiver.open_request(early)


def test_replays_are_refused_however_many_messages_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "MAX_SEEN", 10)
    now = 1e9
    sender, receiver = Envelope(KEYS, lambda: now), Envelope(KEYS, lambda: now)
    messages = []
    for _ in range(30):
        now += 0.1
        messages.append(sender.request({}))
        receiver.open_request(messages[-1])
    for message in messages:
        with pytest.raises(Refused, match="came before"):
            receiver.open_request(message)


def test_an_answer_is_good_for_its_request_and_its_place() -> None:
    sender, receiver = Envelope(KEYS), Envelope(KEYS)
    one, two = sender.request({}), sender.request({})
    answer = receiver.answer({"a": 1}, one, 1)
    assert sender.open_answer(answer, one, 1) == {"a": 1}
    for request, number in ((two, 1), (one, 0)):
        with pytest.raises(Refused):
            sender.open_answer(answer, request, number)
    with pytest.raises(Refused):
        receiver.open_request(answer)
    with pytest.raises(Refused):
        sender.open_answer(one, one)
