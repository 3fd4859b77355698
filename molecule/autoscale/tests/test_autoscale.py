# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replicas as they are needed: a day of a fleet in some minutes, in the order in which it happens."""

from __future__ import annotations

import time

from conftest import Fleet, Load

LEAST, MOST = 1, 3
WINDOW_SECONDS = 20.0


def test_nothing_is_done_without_need(fleet: Fleet) -> None:
    fleet.until("worker at its least", lambda: fleet.replicas("worker") == LEAST, 60)
    assert fleet.status()["servers"]["worker"]["reason"] in ("steady", "bounds", "window")


def test_load_raises_replicas_to_the_most_and_no_further(fleet: Fleet, load: Load) -> None:
    with load(8):
        fleet.until("worker at its most", lambda: fleet.all_ready("worker", MOST), 90)
        fleet.watch("worker", 10, lambda replicas: LEAST <= replicas <= MOST)
        change = fleet.changes("worker")[-1]
        assert (change["to"], change["reason"]) == (MOST, "load")
        assert "in_flight is" in change["why"]


def test_a_deploy_keeps_what_was_scaled(fleet: Fleet, load: Load) -> None:
    with load(8):
        fleet.until("worker at its most", lambda: fleet.all_ready("worker", MOST), 90)
        assert fleet.deploy() == "changed=0"
        assert fleet.replicas("worker") == MOST


def test_without_docker_nothing_happens_and_then_everything_goes_on(fleet: Fleet, load: Load) -> None:
    with load(8):
        fleet.until("worker at its most", lambda: fleet.all_ready("worker", MOST), 90)
        fleet.scale("docker-proxy", 0)
        fleet.until("it is told", lambda: fleet.status()["sources"]["docker"] != "ok", 60)
    fleet.watch("worker", WINDOW_SECONDS + 10, lambda replicas: replicas == MOST)
    fleet.scale("docker-proxy", 1)
    fleet.until("it is back", lambda: fleet.status()["sources"]["docker"] == "ok", 90)
    fleet.until("worker at its least", lambda: fleet.replicas("worker") == LEAST, 90)


def test_a_restart_shrinks_nothing_for_a_whole_window(fleet: Fleet, load: Load) -> None:
    with load(8):
        fleet.until("worker at its most", lambda: fleet.all_ready("worker", MOST), 90)
    since = fleet.status()["since"]
    fleet.sh("docker service update --detach --force mcp_autoscaler")
    fleet.until("it runs anew", lambda: fleet.status()["since"] != since, 90)
    begun = time.monotonic()
    fleet.until("worker at its least", lambda: fleet.replicas("worker") == LEAST, 90)
    assert time.monotonic() - begun > WINDOW_SECONDS - 5


def test_an_idle_server_sleeps_and_its_tools_stay(fleet: Fleet) -> None:
    fleet.until("time asleep", lambda: fleet.replicas("time") == 0 and fleet.running("time") == 0, 120)
    assert "time__get_current_time" in fleet.tools()
    assert fleet.gateway_status()["time"]["asleep"] is True
    assert fleet.services()["mcp_time"] == "asleep"
    fleet.watch("time", 5, lambda replicas: replicas == 0)  # a list wakes nobody


def test_a_call_wakes_it(fleet: Fleet) -> None:
    fleet.until("time asleep", lambda: fleet.replicas("time") == 0 and fleet.running("time") == 0, 120)
    assert "UTC" in fleet.call("time__get_current_time", timezone="UTC")
    assert fleet.gateway_status()["time"]["asleep"] is False
    assert fleet.replicas("time") == 1
    assert fleet.changes("time")[-1]["reason"] == "wake"


def test_what_it_did_is_in_its_metrics_and_its_log(fleet: Fleet) -> None:
    metrics = fleet.sh(
        f"docker exec {fleet.container('autoscaler')} python3 -c "
        "\"import urllib.request as r; print(r.urlopen('http://127.0.0.1:8090/metrics').read().decode())\""
    )
    assert 'mcp_autoscaler_changes_total{direction="up",reason="wake",server="time"}' in metrics
    log = fleet.sh(f"docker logs {fleet.container('autoscaler')} 2>&1")
    assert '"reason": "wake"' in log
    assert "Traceback" not in log
