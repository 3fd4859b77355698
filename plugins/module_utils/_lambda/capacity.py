# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an instance can be launched: what is wanted, matched with what the API says it has. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.errors import (
    InsufficientCapacity,
    LambdaError,
)

# PublicRegionCode of the API's description, 1.8.3. Others that the account's images or capacity name exist too.
REGIONS = frozenset(
    {
        "asia-northeast-1",
        "asia-northeast-2",
        "asia-south-1",
        "australia-east-1",
        "europe-central-1",
        "me-west-1",
        "us-east-1",
        "us-east-2",
        "us-east-3",
        "us-midwest-1",
        "us-midwest-2",
        "us-south-1",
        "us-south-2",
        "us-south-3",
        "us-west-1",
        "us-west-2",
        "us-west-3",
    }
)
MOST_NAMED = 12


@dataclass(frozen=True)
class Place:
    """One type in one region, and what an hour costs there in US cents."""

    instance_type: str
    region: str
    price: int

    def __str__(self) -> str:
        return f"{self.instance_type} in {self.region}"


@dataclass(frozen=True)
class Wish:
    """What is wanted.

    Attributes:
        types: names of instance types, the best first.
        regions: names of regions, the best first; empty is any.
        max_price: US cents an hour; None is any.
        only: by what the instance is launched with (a file system, a ruleset), the regions that have it.
    """

    types: Sequence[str]
    regions: Sequence[str] = ()
    max_price: int | None = None
    only: Mapping[str, Collection[str]] = field(default_factory=dict)


def price(cents: float) -> str:
    """US cents an hour as people read them."""
    return f"${cents / 100:.2f}/h"


def offered(types: Mapping[str, Mapping[str, Any]]) -> list[Place]:
    """Every place that has capacity now, cheapest first."""
    places = [
        Place(name, region["name"], int(entry["instance_type"]["price_cents_per_hour"]))
        for name, entry in types.items()
        for region in entry["regions_with_capacity_available"]
    ]
    return sorted(places, key=lambda place: (place.price, place.instance_type, place.region))


def check_wish(wish: Wish, types: Mapping[str, Mapping[str, Any]], regions: Collection[str]) -> None:
    """Refuse what cannot exist, all of it at once.

    Args:
        wish: what is wanted.
        types: the answer of ``/instance-types``.
        regions: every region that is known.

    Raises:
        LambdaError: naming key, value and what there is instead.
    """
    wrong: list[str] = []
    if not wish.types:
        wrong.append(f"instance_types: is empty; name at least one of: {_types(types)}")
    if no_types := [name for name in wish.types if name not in types]:
        wrong.append(f"instance_types: there is no {', '.join(no_types)}; there are: {_types(types)}")
    if unknown := [name for name in wish.regions if name not in regions]:
        wrong.append(f"regions: there is no {', '.join(unknown)}; there are: {', '.join(sorted(regions))}")
    if wish.max_price is not None and not no_types:
        known = [int(types[name]["instance_type"]["price_cents_per_hour"]) for name in wish.types]
        if known and min(known) > wish.max_price:
            wrong.append(
                f"max_price_cents_per_hour: {wish.max_price}: the cheapest of instance_types costs {min(known)};"
                " raise it, or name a cheaper type"
            )
    for reason, left in wish.only.items():
        if wish.regions and not set(wish.regions) & set(left):
            wrong.append(f"regions: none of {', '.join(wish.regions)} has {reason}; it is in {_list(sorted(left))}")
    if len(wish.only) > 1 and not set.intersection(*(set(left) for left in wish.only.values())):
        wrong.append(f"no region has all of: {', '.join(wish.only)}; leave one of them out")
    if wrong:
        raise LambdaError("; ".join(wrong))


def places(wish: Wish, types: Mapping[str, Mapping[str, Any]]) -> list[Place]:
    """Where to try, in order: the first type in every region, then the next type."""
    found: list[Place] = []
    for name in wish.types:
        here = [place for place in offered(types) if place.instance_type == name and _fits(wish, place)]
        order = {region: number for number, region in enumerate(wish.regions)}
        found += sorted(here, key=lambda place: order.get(place.region, 0))
    return found


def sold_out(
    wish: Wish, tried: Iterable[Place], types: Mapping[str, Mapping[str, Any]], waited: float
) -> InsufficientCapacity:
    """The error that names what was tried where, and what is to be had instead."""
    refused = list(dict.fromkeys(str(place) for place in tried))
    where = ", ".join(wish.regions) if wish.regions else "any region"
    only = "".join(f" that has {reason}" for reason in wish.only)
    tells = f"no capacity for {', '.join(wish.types)} in {where}{only}"
    if wish.max_price is not None:
        tells += f" for {price(wish.max_price)} at most"
    if refused:
        tells += f"; Lambda listed and then refused {', '.join(refused)}"
    if waited >= 1:
        tells += f"; waited {waited:.0f} s"
    instead = [f"{place} ({price(place.price)})" for place in offered(types) if str(place) not in refused]
    tells += f"; available now: {_list(instead)}" if instead else "; nothing of Lambda's is available now"
    error = InsufficientCapacity(
        f"{tells}; add one of these to instance_types and regions, or wait for capacity with capacity_timeout"
        if instead
        else f"{tells}; wait for capacity with capacity_timeout"
    )
    error.code = "instance-operations/launch/insufficient-capacity"
    return error


def _fits(wish: Wish, place: Place) -> bool:
    return (
        (not wish.regions or place.region in wish.regions)
        and (wish.max_price is None or place.price <= wish.max_price)
        and all(place.region in left for left in wish.only.values())
    )


def _types(types: Mapping[str, Mapping[str, Any]]) -> str:
    costs = {name: int(entry["instance_type"]["price_cents_per_hour"]) for name, entry in types.items()}
    return ", ".join(f"{name} ({price(costs[name])})" for name in sorted(costs, key=lambda name: (costs[name], name)))


def _list(words: Sequence[str]) -> str:
    more = len(words) - MOST_NAMED
    return ", ".join(words[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
