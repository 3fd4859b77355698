# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an instance is tried: order, limits, and what is said where there is no room."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.capacity import (
    REGIONS,
    Place,
    Wish,
    check_wish,
    places,
    sold_out,
)
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.errors import LambdaError


def types(**regions: list[str]) -> dict[str, Any]:
    prices = {"small": 75, "large": 249, "huge": 1032}
    return {
        name: {
            "instance_type": {"name": name, "price_cents_per_hour": cents},
            "regions_with_capacity_available": [{"name": region} for region in regions.get(name, [])],
        }
        for name, cents in prices.items()
    }


MARKET = types(small=["us-west-1", "us-east-1"], large=["us-west-1"])


def names(wish: Wish, market: dict[str, Any] | None = None) -> list[str]:
    return [str(place) for place in places(wish, market or MARKET)]


@pytest.mark.parametrize(
    ("wish", "order"),
    [
        (Wish(["small", "large"]), ["small in us-east-1", "small in us-west-1", "large in us-west-1"]),
        (Wish(["large", "small"]), ["large in us-west-1", "small in us-east-1", "small in us-west-1"]),
        (Wish(["small"], ["us-west-1", "us-east-1"]), ["small in us-west-1", "small in us-east-1"]),
        (Wish(["small", "large"], ["us-west-1"]), ["small in us-west-1", "large in us-west-1"]),
        (Wish(["small", "large"], max_price=100), ["small in us-east-1", "small in us-west-1"]),
        (Wish(["small"], only={"file system x": {"us-west-1"}}), ["small in us-west-1"]),
        (Wish(["huge"]), []),
    ],
)
def test_types_come_before_regions_and_both_in_the_order_that_is_wished(wish: Wish, order: list[str]) -> None:
    assert names(wish) == order


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish([]), ["instance_types: is empty", "small ($0.75/h), large ($2.49/h), huge ($10.32/h)"]),
        (Wish(["smal"]), ["there is no smal; there are: small ($0.75/h)"]),
        (Wish(["small"], ["us-easy-1"]), ["regions: there is no us-easy-1; there are: asia-northeast-1"]),
        (Wish(["smal"], ["us-easy-1"]), ["there is no smal", "there is no us-easy-1"]),
        (Wish(["large"], max_price=100), ["max_price_cents_per_hour: 100: the cheapest of instance_types costs 249"]),
        (
            Wish(["small"], ["us-east-1"], only={"file system x": {"us-west-1"}}),
            ["none of us-east-1 has file system x; it is in us-west-1"],
        ),
        (
            Wish(["small"], only={"file system x": {"us-west-1"}, "file system y": {"us-east-1"}}),
            ["no region has all of: file system x, file system y"],
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_there_is(wish: Wish, said: list[str]) -> None:
    with pytest.raises(LambdaError) as raised:
        check_wish(wish, MARKET, REGIONS)
    for text in said:
        assert text in str(raised.value)


def test_what_can_be_is_not_refused_for_being_sold_out() -> None:
    check_wish(Wish(["huge", "small"], ["us-east-1"], 80), MARKET, REGIONS)


def test_no_room_names_what_was_tried_and_what_is_to_be_had() -> None:
    tried = [Place("huge", "us-east-1", 1032)] * 2
    said = str(sold_out(Wish(["huge"], ["us-east-1"], 2000), tried, MARKET, 0))
    assert (
        "no capacity for huge in us-east-1 for $20.00/h at most; Lambda listed and then refused huge in us-east-1;"
        in said
    )
    assert (
        "available now: small in us-east-1 ($0.75/h), small in us-west-1 ($0.75/h), large in us-west-1 ($2.49/h);"
        in said
    )
    assert "add one of these to instance_types and regions, or wait for capacity with capacity_timeout" in said


def test_no_room_anywhere_says_so() -> None:
    said = str(sold_out(Wish(["huge"]), [], types(), 90))
    assert "no capacity for huge in any region; waited 90 s; nothing of Lambda's is available now;" in said
    assert said.endswith("now; wait for capacity with capacity_timeout")


def test_a_long_list_is_cut() -> None:
    market = types(small=[f"r{number:02}" for number in range(14)])
    said = str(sold_out(Wish(["huge"]), [], market, 0))
    assert "small in r11 ($0.75/h) and 2 more; add one of these" in said
    assert "r12" not in said


def test_a_price_is_told_beside_a_region_that_is_none() -> None:
    with pytest.raises(LambdaError, match="there is no us-easy-1;.*the cheapest of instance_types costs 249"):
        check_wish(Wish(["large"], ["us-easy-1"], 100), MARKET, REGIONS)
    with pytest.raises(LambdaError) as raised:  # who knows what the other would cost
        check_wish(Wish(["large", "smal"], (), 100), MARKET, REGIONS)
    assert "cheapest" not in str(raised.value)
