"""Secrets, prepare steps and the child's stderr."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest
from runtime_harness import Launcher

from mcp_runtime import run
from mcp_runtime.logs import CUT, MAX_LINE_BYTES, StderrPump
from mcp_runtime.spec import Spec, SpecError, Step


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run, "SECRETS_DIR", str(tmp_path))
    return tmp_path


def test_secrets_are_exported_and_other_files_are_not(secrets: Path) -> None:
    (secrets / "token").write_text("s3cret\n")
    given = {"TOKEN_FILE": str(secrets / "token"), "SSL_CERT_FILE": "/etc/ssl/cert.pem"}
    assert run.server_environment(given) == {**given, "TOKEN": "s3cret"}


def test_a_variable_that_is_set_wins(secrets: Path) -> None:
    (secrets / "token").write_text("file")
    given = {"TOKEN_FILE": str(secrets / "token"), "TOKEN": "set"}
    assert run.server_environment(given)["TOKEN"] == "set"


def test_a_missing_secret_is_named(secrets: Path) -> None:
    with pytest.raises(SpecError, match=r"TOKEN_FILE=.*/gone: No such file.*declare the secret for this server"):
        run.server_environment({"TOKEN_FILE": str(secrets / "gone")})


def test_a_step_that_created_its_path_runs_once(tmp_path: Path) -> None:
    mark, count = tmp_path / "mark", tmp_path / "count"
    step = Step(("sh", "-c", f"echo x >>{count}; touch {mark}"), str(mark))
    spec = Spec("x", "stdio", prepare=(step,))
    run.prepare(spec, os.environ)
    run.prepare(spec, os.environ)
    assert count.read_text() == "x\n"


def test_a_failing_step_is_named_with_its_exit_code() -> None:
    with pytest.raises(SpecError, match=r"prepare step \['sh', '-c', 'exit 3'\] ended with exit code 3"):
        run.prepare(Spec("x", "stdio", prepare=(Step(("sh", "-c", "exit 3")),)), os.environ)


def test_long_lines_are_cut_and_the_last_words_kept() -> None:
    target = io.BytesIO()
    pump = StderrPump(target)
    os.write(pump.child_end.fileno(), b"x" * (3 * MAX_LINE_BYTES) + b"\nTOKEN is not set\n\n")
    end = time.monotonic() + 5
    while not target.getvalue().endswith(b"\n\n") and time.monotonic() < end:
        time.sleep(0.01)
    assert target.getvalue() == b"x" * MAX_LINE_BYTES + CUT + b"TOKEN is not set\n\n"
    assert pump.last_words == "TOKEN is not set"


@pytest.mark.parametrize("transport", ["http", "stdio"])
def test_a_command_that_is_not_there_ends_the_start_with_its_name(launch: Launcher, transport: str) -> None:
    running = launch({"transport": transport, "command": ["no-such-server"]})
    assert running.process.wait(20) == 78
    assert "no-such-server" in running.log.read_text()


def test_the_servers_exit_code_is_ours(launch: Launcher) -> None:
    running = launch({"transport": "http", "command": ["sh", "-c", "exit 7"]})
    assert running.process.wait(20) == 7
