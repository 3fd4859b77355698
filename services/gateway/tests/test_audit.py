"""The audit log: what is in it, what must never be, and that nothing is lost without a word."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import IO, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway import audit
from mcp_gateway.audit import Audit, AuditSettings
from mcp_gateway.audit.redact import Redactor, encode, hide
from mcp_gateway.audit.settings import REDACTED
from mcp_gateway.principal import Principal
from mcp_gateway.reader import Reader

WHO = Principal("ci", "readers")


def say(log: Audit, name: str = "get_time", **more: Any) -> None:
    fields: dict[str, Any] = {
        "principal": WHO,
        "session": "session-secret",
        "method": "tools/call",
        "server": "time",
        "name": name,
        "replica": "10.0.0.7:8000",
        "outcome": "ok",
        "code": 0,
        "duration_ms": 1.23456,
        "request_bytes": 120,
        "response_bytes": 340,
    }
    log.record(**{**fields, **more})


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def written(tmp_path: Path, work: Callable[[Audit], Any], **settings: Any) -> list[dict[str, Any]]:
    """What is in the file after ``work``."""
    path = tmp_path / "audit.log"

    async def run() -> None:
        log = Audit(AuditSettings(destination=str(path), **settings), sys.stdout)
        log.start()
        if isinstance(result := work(log), Coroutine):
            await result
        await log.close()

    asyncio.run(run())
    return records(path)


def test_a_record_says_who_what_where_and_how_it_ended(tmp_path: Path) -> None:
    def work(log: Audit) -> None:
        say(log, trace_id="4bf92f3577b34da6a3ce929d0e0e4736")
        say(log, principal=None, session="", outcome="refused", code=401, reason="the key has expired", replica="")

    first, second = written(tmp_path, work)
    assert first.pop("time").endswith("Z")
    assert len(first.pop("session")) == 12
    assert first == {
        "principal": "ci",
        "profile": "readers",
        "method": "tools/call",
        "server": "time",
        "target": "get_time",
        "replica": "10.0.0.7:8000",
        "outcome": "ok",
        "duration_ms": 1.235,
        "request_bytes": 120,
        "response_bytes": 340,
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    }
    assert (second["outcome"], second["code"], second["reason"]) == ("refused", 401, "the key has expired")
    assert not {"principal", "session", "replica"} & set(second)


def test_a_session_is_told_by_its_digest_alone(tmp_path: Path) -> None:
    def work(log: Audit) -> None:
        for session in ("one-session", "one-session", "other"):
            say(log, session=session)

    found = written(tmp_path, work)
    assert found[0]["session"] == found[1]["session"] != found[2]["session"]
    assert "one-session" not in (tmp_path / "audit.log").read_text()


def test_arguments_are_written_only_if_asked_for(tmp_path: Path) -> None:
    arguments = {
        "zone": "Europe/Paris",
        "deep": [{"API_Key": "k-123"}],
        "Authorization": "x",
        "note": "Bearer abcdefghij",
    }
    assert "arguments" not in written(tmp_path, lambda log: say(log, arguments=arguments))[0]
    asked = written(tmp_path, lambda log: say(log, arguments=arguments), arguments=True)[-1]
    assert asked["arguments"] == {
        "zone": "Europe/Paris",
        "deep": [{"API_Key": "[redacted]"}],
        "Authorization": "[redacted]",
        "note": "[redacted]",
    }


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=20), inner, max_size=6),
    max_leaves=40,
)


@given(values, st.integers(64, 600))
def test_arguments_stay_within_their_bound_and_one_line(value: Any, max_bytes: int) -> None:
    line = Redactor(REDACTED, max_bytes).encode(value)
    assert len(line) <= max_bytes
    assert len(line.decode().splitlines()) == 1
    json.loads(line)


@given(
    st.sampled_from(["password", "Token", "x_api_key", "clientSecret", "authorization", "Set-Cookie", "private_key"]),
    st.lists(st.sampled_from(["list", "dict"]), max_size=8),
    st.integers(64, 4096),
)
def test_a_redacted_key_keeps_its_secret_at_any_depth(key: str, nesting: list[str], max_bytes: int) -> None:
    value: Any = {key: {"inner": ["S3CR3T"]}}
    for kind in nesting:
        value = [value] if kind == "list" else {"x": value}
    assert b"S3CR3T" not in Redactor(REDACTED, max_bytes).encode(value)


@pytest.mark.parametrize(
    "text",
    [
        "curl -H 'Authorization: Bearer S3CR3T-abcdef'",
        "x basic S3CR3T12345==",
        "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJTM0NSM1QifQ.S3CR3T",
        "postgres://user:S3CR3T@host/db",
        "-----BEGIN RSA PRIVATE KEY-----\nS3CR3T\n-----END RSA PRIVATE KEY-----",
    ],
)
@pytest.mark.parametrize("before", [0, 40, 90, 2000])
def test_credentials_inside_text_are_recognised_even_where_it_is_cut(text: str, before: int) -> None:
    assert "S3CR3T" not in hide(f"{'.' * before} {text} tail")
    assert b"S3CR3T" not in Redactor(REDACTED, 100).encode({"note": f"{'.' * before} {text} tail"})


def test_a_uri_is_told_without_query_fragment_and_user(tmp_path: Path) -> None:
    uri = "https://joe:S3CR3T@files.example.com/a/b?sig=S3CR3T#S3CR3T"
    found = written(tmp_path, lambda log: say(log, name=uri, method="resources/read"))
    assert found[0]["target"] == "https://[redacted]files.example.com/a/b"


@given(st.text(max_size=200), st.text(max_size=200))
def test_no_text_breaks_a_line_or_commands_a_screen(key: str, value: str) -> None:
    line = encode({key: value}).decode()
    assert len(line.splitlines()) == 1
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0x202A <= ord(c) <= 0x202E for c in line)
    assert json.loads(line) == {key: value}


def test_odd_values_lose_no_record(tmp_path: Path) -> None:
    def work(log: Audit) -> None:
        say(log, name="\ud800\x1b[2J\n", arguments={"n": 1 << 80, "lone": "\udc00"}, session="\udfff")
        say(log, name="x" * 100_000)

    first, second = written(tmp_path, work, arguments=True)
    assert first["target"] == "\ud800\x1b[2J\n"
    assert first["arguments"]["n"] == 1 << 80
    assert len(second["target"]) < 600
    assert b"\x1b" not in (tmp_path / "audit.log").read_bytes()


def test_everything_is_written_in_order_and_by_itself(tmp_path: Path) -> None:
    async def work(log: Audit) -> None:
        for index in range(3000):
            say(log, name=f"t{index}")
            if index % 700 == 0:
                await asyncio.sleep(0)
        # A file has no event to wait for.
        while not (tmp_path / "audit.log").exists() or len(records(tmp_path / "audit.log")) < 3000:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    assert [record["target"] for record in written(tmp_path, work)] == [f"t{i}" for i in range(3000)]


def test_switched_off_nothing_is_written(tmp_path: Path) -> None:
    async def run() -> None:
        log = Audit(AuditSettings(enabled=False, destination=str(tmp_path / "a")), sys.stdout)
        say(log)
        await log.close()

    asyncio.run(run())
    assert not (tmp_path / "a").exists()


def test_a_rotated_file_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"

    async def work(log: Audit) -> None:
        for index in range(4):
            say(log, name=f"t{index}")
            assert await log.flush()
            if index == 0:
                path.rename(tmp_path / "audit.log.1")
            elif index == 1:
                log.reopen()
            elif index == 2:
                path.unlink()

    assert [record["target"] for record in written(tmp_path, work)] == ["t3"]
    assert [record["target"] for record in records(tmp_path / "audit.log.1")] == ["t0"]


def test_a_changed_destination_counts_from_the_next_record(tmp_path: Path) -> None:
    async def work(log: Audit) -> None:
        say(log, name="before")
        await log.flush()
        log.update(AuditSettings(destination=str(tmp_path / "other")))
        say(log, name="after")
        await log.flush()

    assert [record["target"] for record in written(tmp_path, work)] == ["before"]
    assert [record["target"] for record in records(tmp_path / "other")] == ["after"]
    assert (tmp_path / "other").stat().st_mode & 0o007 == 0


def test_a_blocked_pipe_holds_nothing_up_and_what_is_dropped_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    reading, writing = os.pipe()

    async def run(stream: IO[Any]) -> int:
        log = Audit(AuditSettings(), stream, max_pending=400)
        log.start()
        for _ in range(20):
            for index in range(100):
                say(log, name=f"t{index}")
            await asyncio.sleep(0.01)
        assert log.dropped > 0
        assert len(log._records) <= 400
        assert sum("LOST" in message for message in caplog.messages) == 1, "loud, and once"
        got = bytearray()

        def drain() -> None:
            while part := os.read(reading, 65536):
                got.extend(part)

        reader = threading.Thread(target=drain)
        reader.start()
        assert await log.flush()
        say(log, name="last")
        await log.close()
        stream.close()
        reader.join()
        lines = [json.loads(line) for line in got.splitlines()]
        told = sum(line["records"] for line in lines if line.get("event") == "dropped")
        assert told == log.dropped
        assert len([line for line in lines if "target" in line]) == 2001 - log.dropped
        assert lines[-1]["target"] == "last"
        return log.dropped

    with caplog.at_level(logging.INFO, "mcp_gateway.audit"), os.fdopen(writing, "wb") as stream:
        assert asyncio.run(run(stream)) > 0
    os.close(reading)


def test_at_the_end_a_reader_that_stands_still_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    reading, writing = os.pipe()

    async def run(stream: IO[Any]) -> None:
        log = Audit(AuditSettings(), stream)
        log.start()
        for index in range(2000):
            say(log, name=f"t{index}")
        await log.close(0.3)

    with os.fdopen(writing, "wb") as stream:
        asyncio.run(run(stream))
        assert "records lost at the end" in caplog.messages[-1]
        os.set_blocking(reading, False)
        with pytest.raises(BlockingIOError):  # let the thread's write end
            while True:
                os.read(reading, 1 << 20)
    os.close(reading)


FULL = """
import asyncio, os, resource, signal, sys
from mcp_gateway.audit import Audit, AuditSettings
from mcp_gateway.principal import Principal

async def main(path):
    log = Audit(AuditSettings(destination=path), sys.stdout)
    log.start()
    for index in range(100):
        log.record(Principal("ci"), "", "tools/call", "time", f"t{index}", "", "ok", 0, 1.0, 1, 1)
    print("flushed", await log.flush(0.5), flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await log.close()
    print("dropped", log.dropped)

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
asyncio.run(main(sys.argv[1]))
"""


def test_a_full_disk_loses_nothing_that_there_is_room_for(tmp_path: Path) -> None:
    """A limit on the file's size fails a write half-way, as a full disk does; then it is lifted."""
    path = tmp_path / "audit.log"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "flushed False\ndropped 0\n"
    assert f"cannot write to {path}" in done.stderr
    assert [record["target"] for record in records(path)] == [f"t{i}" for i in range(100)]


def test_settings_are_read() -> None:
    errors: list[str] = []
    text = "{arguments: true, redact: [Iban, '*_pin'], max_bytes: 512, destination: /tmp/audit.log}"
    found = audit.read(Reader(yaml.safe_load(text), "audit", errors))
    assert errors == []
    assert found == AuditSettings(True, "/tmp/audit.log", True, (*REDACTED, "iban", "*_pin"), 512)
    assert audit.read(Reader(None, "audit", errors)) == AuditSettings()


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("destination: audit.log", "audit.destination: 'audit.log' is not allowed; use stdout or"),
        ("destination: /nowhere/audit.log", "create /nowhere"),
        ("destination: /tmp", "no file can be there"),
        ("max_bytes: 1", "audit.max_bytes: 1"),
        ("sample: 10", "audit.sample: unknown key"),
        ("arguments: 1", "audit.arguments: 1"),
    ],
)
def test_a_mistake_names_its_key(text: str, mistake: str) -> None:
    errors: list[str] = []
    audit.read(Reader(yaml.safe_load(text), "audit", errors))
    assert len(errors) == 1
    assert mistake in errors[0]
