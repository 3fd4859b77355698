"""Loads from what the gateway really exposes: the texts are made by its own metrics."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_autoscaler.readings import NAMES, Readings, gpu_use, quantile
from mcp_autoscaler.scrape import Sample, Scrape, parsed
from mcp_gateway.metrics import Metrics


class Gateway:
    """One replica's numbers."""

    def __init__(self) -> None:
        self.metrics = Metrics()

    def set(self, running: float = 0, waiting: float = 0, pool: str = "") -> Gateway:
        self.metrics.inflight.labels(f"time{pool}").set(running)
        self.metrics.queued.labels(f"time{pool}").set(waiting)
        return self

    def answer(self, *seconds: float) -> Gateway:
        for one in seconds:
            self.metrics.upstream_seconds.of("time").observe(one)
        return self

    def samples(self) -> list[Sample]:
        return parsed(self.metrics.text().decode(), NAMES)


def scrape(failed: list[str] | None = None, **gateways: Gateway) -> Scrape:
    return Scrape({address: gateway.samples() for address, gateway in gateways.items()}, failed or [])


def test_all_replicas_are_added() -> None:
    load = Readings().of(scrape(a=Gateway().set(3, 1), b=Gateway().set(4, 2)))["time"]
    assert (load.running, load.waiting, load.calls, load.complete) == (7, 3, 10, True)


def test_calls_on_gpus_are_no_work_of_the_cpu_twin() -> None:
    known = Readings().of(scrape(a=Gateway().set(1, 0).set(16, 4, " (gpu)")))
    assert (known["time"].running, known["time"].waiting, set(known)) == (1, 0, {"time"})


def test_one_that_does_not_answer_makes_them_lower_bounds() -> None:
    load = Readings().of(scrape(["b: timed out"], a=Gateway().set(3)))["time"]
    assert (load.running, load.complete, load.latency) == (3, False, None)


def test_latency_is_of_the_answers_since_the_look_before() -> None:
    gateway, readings = Gateway().set().answer(*[20.0] * 50), Readings()
    assert readings.of(scrape(a=gateway))["time"].latency is None
    gateway.answer(*[0.2] * 100)
    assert readings.of(scrape(a=gateway))["time"].latency == pytest.approx(0.2425)
    assert readings.of(scrape(a=gateway))["time"].latency == 0


def test_answers_under_way_leave_it_unknown() -> None:
    gateway, readings = Gateway().set(1), Readings()
    readings.of(scrape(a=gateway))
    assert readings.of(scrape(a=gateway))["time"].latency is None


def test_activity_is_seen_between_looks() -> None:
    gateway, readings = Gateway().set(), Readings()
    assert not readings.of(scrape(a=gateway))["time"].busy
    gateway.answer(0.01)
    assert readings.of(scrape(a=gateway))["time"].busy
    assert not readings.of(scrape(a=gateway))["time"].busy


def test_what_was_counted_before_the_first_look_may_have_been_just_now() -> None:
    assert Readings().of(scrape(a=Gateway().set().answer(0.01)))["time"].active


def test_a_call_without_a_replica_is_activity_and_a_list_is_not() -> None:
    gateway, readings = Gateway().set(), Readings()
    readings.of(scrape(a=gateway))
    gateway.metrics.request("time", "tools/list", "ok", 0.1)
    gateway.metrics.request("time", "ping", "ok", 0.1)
    assert not readings.of(scrape(a=gateway))["time"].active
    gateway.metrics.request("time", "tools/call", "error", 0.1)
    assert readings.of(scrape(a=gateway))["time"].active


def test_a_gateway_that_began_anew_counts_from_nothing() -> None:
    readings = Readings()
    readings.of(scrape(a=Gateway().set().answer(*[0.1] * 9)))
    load = readings.of(scrape(a=Gateway().set().answer(0.1)))["time"]
    assert load.active and load.latency == pytest.approx(0.0975)


def test_parked_calls() -> None:
    samples = parsed('mcp_gateway_wanted{server="time"} 2.0\nmcp_gateway_inflight{server="time"} 0.0\n', NAMES)
    load = Readings().of(Scrape({"a": samples}, []))["time"]
    assert (load.parked, load.calls, load.busy) == (2, 2, True)


def test_a_gateway_away_for_a_look_is_remembered() -> None:
    one, other, readings = Gateway().set().answer(0.1), Gateway().set().answer(0.1), Readings()
    readings.of(scrape(a=one, b=other))
    readings.of(scrape(["b: timed out"], a=one))
    assert not readings.of(scrape(a=one, b=other))["time"].active


@given(values=st.lists(st.floats(0.0001, 50), min_size=1, max_size=60), q=st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_that_holds_it(values: list[float], q: float) -> None:
    bounds = [0.01, 0.1, 1.0, 10.0, math.inf]
    found = quantile(q, {bound: float(sum(v <= bound for v in values)) for bound in bounds})
    exact = sorted(values)[math.ceil(q * len(values) - 1e-9) - 1]
    upper = next(bound for bound in bounds if exact <= bound)
    lower = max([0.0, *(bound for bound in bounds if bound < exact)])
    assert found is not None
    assert lower - 1e-9 <= found <= min(upper, 10.0) + 1e-9


def test_a_quantile_of_nothing() -> None:
    assert quantile(0.95, {}) is None
    assert quantile(0.95, {1.0: 0.0, math.inf: 0.0}) is None


@pytest.mark.parametrize("value", ["NaN", "9223372036854775794", "-1", "101"])
def test_gpus_whose_use_cannot_be_are_not_known(value: str) -> None:
    text = f'DCGM_FI_DEV_GPU_UTIL{{gpu="0",UUID="GPU-a"}} 80\nDCGM_FI_DEV_GPU_UTIL{{gpu="1",UUID="GPU-b"}} {value}\n'
    assert gpu_use(Scrape({"x": parsed(text, ["DCGM"])}, []), "UUID", 100) == {"GPU-a": 0.8}


def test_of_a_gpu_s_parts_the_busiest_counts() -> None:
    part = 'DCGM_FI_PROF_GR_ENGINE_ACTIVE{{gpu="0",UUID="GPU-a",GPU_I_PROFILE="1g.5gb",GPU_I_ID="{}"}} {}\n'
    text = part.format(7, 0.25) + part.format(8, 0.5) + part.format(9, 0.125)
    assert gpu_use(Scrape({"x": parsed(text, ["DCGM"])}, []), "UUID", 1) == {"GPU-a": 0.5}
