"""The soak, short; and that its verdict sees a leak."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from soak.flat import rise, slope


def test_a_leak_is_seen_and_noise_is_not() -> None:
    noise = [(float(x), 100.0 + (x * 7919 % 13) / 13) for x in range(120)]
    assert abs(rise(noise)) < 0.5
    assert rise([(x, y + 0.1 * x) for x, y in noise]) == pytest.approx(8, rel=0.2)
    assert slope([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) == pytest.approx(2)
    warm_up = [(float(x), 100.0 + min(x, 30)) for x in range(120)]
    assert abs(rise(warm_up)) < 0.5


@pytest.mark.integration
def test_half_a_minute_is_flat() -> None:
    program = Path(__file__).parent / "soak.py"
    command = [sys.executable, str(program), "--minutes", "0.5", "--every", "0.5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
