# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of several plugins share: the doubles of Lambda Cloud and of GPUs, and a clock that waits for nobody."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic, urls

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda import arguments
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.client import LambdaCloud
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node import gpus

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lambda_cloud"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "gpu"))

from gpu_machine import GpuMachine
from lambda_double import Double, running

KEY = "secret_double_0123456789"
SERVICES = Path(__file__).resolve().parents[2] / "services"


@pytest.fixture
def sources() -> None:
    """What a whole plan takes from the services' sources, which are in a checkout and not in every export of it."""
    if not SERVICES.is_dir():
        pytest.skip("no services in this tree")


class Clock:
    """Time that goes by when somebody sleeps; ``pauses`` has how long each did."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def __call__(self) -> float:
        return self.now


class Cloud(Double):
    """The double, with its address and the clock that its clients have."""

    url = ""

    def __init__(self) -> None:
        super().__init__(KEY)
        self.clock = Clock()

    def client(self, **options: Any) -> LambdaCloud:
        return LambdaCloud(KEY, self.url, sleep=self.clock.sleep, clock=self.clock, **options)

    def fault(self, **what: Any) -> None:
        self.world.faults.append(what)

    def add(self, name: str, **more: Any) -> str:
        """An instance that is active."""
        body = {
            "name": name,
            "region_name": "us-east-1",
            "instance_type_name": "gpu_1x_a10",
            "ssh_key_names": ["operations"],
        }
        instance_id: str = self.launch_instance({**body, **more})["instance_ids"][0]
        address = self.addresses[instance_id]
        self.instances[instance_id].update(
            status="active", ip=address, private_ip=address, actions=self._actions("active")
        )
        self.launches.clear()
        return instance_id

    def statuses(self) -> dict[str, str]:
        return {instance["name"]: instance["status"] for instance in self.instances.values()}

    def asked(self, request: str) -> int:
        return self.requests.count(request)


@pytest.fixture
def gpu_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuMachine:
    """This machine, with two GPUs."""
    machine = GpuMachine(tmp_path / "gpu")
    monkeypatch.setenv("PATH", f"{machine.programs}:{os.environ['PATH']}")
    monkeypatch.setenv("NVIDIA_DOUBLE", str(machine.state_file))
    monkeypatch.setattr(gpus, "DRIVER_FILES", str(machine.proc))
    monkeypatch.setattr(gpus, "PCI_DEVICES", str(machine.sys))
    return machine


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A running double."""
    # Each request reads this machine's authorities, a tenth of a second for a double without TLS.
    monkeypatch.setattr(urls, "make_context", functools.cache(urls.make_context))
    double = Cloud()
    with running(double) as double.url:
        yield double


@pytest.fixture
def run_module(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Run a module against the double, in this process; what it returned."""
    testing = pytest.importorskip("ansible.module_utils.testing")

    def sleep(seconds: float) -> None:
        """As the clock sleeps by then: a test may have changed how."""
        cloud.clock.sleep(seconds)

    patient = functools.partial(LambdaCloud, sleep=sleep, clock=cloud.clock)
    monkeypatch.setattr(arguments, "LambdaCloud", patient)

    warnings: list[str] = []
    # In a process that is a controller too, warnings are the controller's.
    monkeypatch.setattr(basic.AnsibleModule, "warn", lambda dummy, text: warnings.append(text))

    def run(module: Any, check: bool = False, **params: Any) -> dict[str, Any]:
        warnings.clear()
        given = {"api_key": KEY, "api_url": cloud.url, "_ansible_check_mode": check, **params}
        given = {name: value for name, value in given.items() if value is not None}
        with testing.patch_module_args(given), pytest.raises(SystemExit):
            module.main()
        output = capsys.readouterr().out
        assert KEY not in output
        assert "jupyter" not in output
        result: dict[str, Any] = json.loads(output)
        return result | {"warnings": list(warnings)}

    return run
