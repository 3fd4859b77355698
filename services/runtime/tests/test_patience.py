"""A container that starts is probed until it is ready; one that had its time is probed once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mcp_runtime import health
from mcp_runtime.health import NotReady, patiently


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the next probes say; without any more, it is ready."""
    reasons: list[str] = []

    def check(dummy: str) -> None:
        if reasons:
            raise NotReady(reasons.pop(0))

    monkeypatch.setattr(health, "check", check)
    monkeypatch.setattr(health, "RETRY_SECONDS", 0.01)
    return reasons


def test_it_is_ready_as_soon_as_it_is(refusals: list[str], tmp_path: Path) -> None:
    refusals += ["refused", "no tools"]
    begun = time.monotonic()
    patiently(60, str(tmp_path / "state"), lambda: 1.0)
    assert refusals == []
    assert time.monotonic() - begun < 5


def test_when_its_time_is_over_the_last_reason_is_told(refusals: list[str], tmp_path: Path) -> None:
    refusals += ["refused", "no tools", "never asked"]
    ages = [59.9, 60.0]
    with pytest.raises(NotReady, match="no tools"):
        patiently(60, str(tmp_path / "state"), lambda: ages.pop(0))
    assert refusals == ["never asked"]


def test_a_container_s_age_is_that_of_its_first_process() -> None:
    first = health.container_age()
    time.sleep(0.05)
    assert 0 < first < health.container_age() < first + 60
    assert first < time.clock_gettime(time.CLOCK_BOOTTIME)


@pytest.mark.parametrize("arguments", [["health", "x"], ["health", "1", "2"], ["run", "1"], [], ["other"]])
def test_usage(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp_runtime import cli

    monkeypatch.setattr(cli.sys, "argv", ["mcp-runtime", *arguments])
    with pytest.raises(SystemExit, match="usage: mcp-runtime run"):
        cli.main()


def test_seconds_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp_runtime import cli

    monkeypatch.setattr(cli.sys, "argv", ["mcp-runtime", "health", "60"])
    monkeypatch.setattr(health, "main", lambda seconds: int(seconds) + 1)
    with pytest.raises(SystemExit) as raised:
        cli.main()
    assert raised.value.code == 61
