# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a machine, all of it; pure functions of what was seen and what is wanted."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._gpu_terms import LEAST_ENGINE, too_old

from .gpus import GpuError, Gpus, units
from .machine import CONTAINER_LINKS, Machine

GB = 1024**3
MB = 1024**2
# Of a clock's difference, what the way of the question may take.
TRAVEL_SECONDS = 10
# TLS and the Swarm's certificates stand no more.
SKEW_SECONDS = 60
LEAST_INODES_PERCENT = 5
SWARM_PORTS = {("tcp", 2377), ("tcp", 7946), ("udp", 7946), ("udp", 4789)}
ENGINE = ("dockerd", "docker-proxy", "docker-init")
WITHOUT = {
    "overlay": ("error", "the engine cannot store images", "run a kernel with overlay (CONFIG_OVERLAY_FS)"),
    "vxlan": ("error", "Swarm has no networks between containers", "run a kernel with vxlan (CONFIG_VXLAN)"),
    "bridge_netfilter": (
        "warning",
        "rules for containers on one bridge do not hold",
        "run a kernel with br_netfilter (CONFIG_BRIDGE_NETFILTER)",
    ),
    "ipvs": (
        "note",
        "Swarm's virtual addresses and ingress ports do not work here",
        "nothing: this fleet uses neither; it asks for tasks.<service> and publishes in host mode",
    ),
}
CONTROLLERS = ("memory", "cpu", "pids")


@dataclass(frozen=True)
class Finding:
    """Something about a machine that matters.

    Attributes:
        level: ``error`` (it cannot be provisioned), ``warning`` (it can, with this drawback), ``note``.
        key: what was looked at.
        value: what was seen.
        fix: the next step.
    """

    level: str
    key: str
    value: str
    fix: str


@dataclass(frozen=True)
class Wanted:
    """What a machine is to be fit for; the module's options."""

    distributions: Mapping[str, Sequence[str]]
    architectures: Sequence[str]
    memory_mb: int
    disks: Sequence[Mapping[str, Any]] = ()
    ports: Sequence[Mapping[str, Any]] = ()
    advertise: str = ""
    peers: Sequence[str] = ()
    networks: Sequence[Mapping[str, Any]] = ()
    mtu: int = 1500
    firewall: bool = False
    time_sync: bool = False
    gpus: int = 0
    gpu_slots: int = 1
    driver_rules: Sequence[Mapping[str, Any]] = ()
    clock: float = 0.0


def check(machine: Machine, wanted: Wanted) -> list[Finding]:
    """Everything that can be told without asking anybody else."""
    checks = (_system, _kernel, _cgroups, _clock, _memory, _disks, _ports, _firewalls, _address, _networks, _driver)
    return [finding for each in checks for finding in each(machine, wanted)]


def _system(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    fit = wanted.distributions.get(machine.distribution, ())
    if machine.version not in fit:
        names = "; ".join(f"{name} {' or '.join(which)}" for name, which in wanted.distributions.items())
        seen = f"{machine.distribution} {machine.version}".strip() or "unknown"
        yield Finding("error", "os", seen, f"MCP Swarm runs on {names}: install one of them, or name another machine")
    if machine.architecture not in wanted.architectures:
        fix = f"MCP Swarm runs on {' and '.join(wanted.architectures)}: name another machine"
        yield Finding("error", "architecture", machine.architecture, fix)
    if machine.user != "root":
        fix = "run as root, or give the login user sudo and set ansible_become: true"
        yield Finding("error", "user", f"tasks run as user {machine.user}, not as root", fix)


def _kernel(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    missing = dict(WITHOUT)
    if wanted.firewall:
        missing["nf_tables"] = (
            "error",
            "the firewall cannot be loaded",
            "run a kernel with nf_tables (CONFIG_NF_TABLES), or set node_baseline_firewall: false",
        )
    if any(network.get("encrypted") for network in wanted.networks):
        missing["esp"] = (
            "error",
            "encrypted overlay networks carry nothing",
            "run a kernel with esp4 (CONFIG_INET_ESP), or set mcp_fleet.networks.encrypted: false",
        )
    for name, (level, means, fix) in missing.items():
        if machine.features.get(name) is False:
            yield Finding(level, f"kernel {name}", f"{machine.kernel} has none: {means}", fix)


def _cgroups(machine: Machine, dummy: Wanted) -> Iterator[Finding]:
    if machine.cgroup == 1:
        fix = "boot with systemd.unified_cgroup_hierarchy=1 when convenient: newer engines and systemd give it up"
        yield Finding("note", "cgroup", "version 1", fix)
    missing = [name for name in CONTROLLERS if name not in machine.controllers]
    if missing:
        fix = "limits of containers need them: boot with cgroup_enable=memory"
        yield Finding("error", "cgroup", f"no controller {', '.join(missing)}", fix)


def _clock(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    skew = machine.clock - wanted.clock if wanted.clock else 0.0
    fix = "set the clock (timedatectl set-ntp true, or chronyc makestep): certificates and the Swarm depend on it"
    if abs(skew) > TRAVEL_SECONDS:
        level = "error" if abs(skew) > SKEW_SECONDS else "warning"
        way = "ahead of" if skew > 0 else "behind"
        yield Finding(level, "clock", f"{abs(skew):.0f} s {way} the controller's", fix)
    if not machine.clock_synchronised and not machine.container:
        level, then = ("note", "node_baseline sees to it") if wanted.time_sync else ("warning", fix)
        yield Finding(level, "clock", "nothing synchronises it", then)


def _memory(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    # A machine sold with N GB shows some less.
    if machine.memory < wanted.memory_mb * MB * 0.9:
        seen = f"{machine.memory // MB} MB"
        fix = f"at least {wanted.memory_mb} MB are needed: take a larger machine, or lower preflight_memory_mb"
        yield Finding("error", "memory", seen, fix)


def _disks(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    for want in wanted.disks:
        disk = machine.disks[want["path"]]
        if disk.free < want["free_gb"] * GB:
            seen = f"{disk.path}: {disk.free / GB:.1f} GB free of {disk.size / GB:.0f}"
            fix = f"{want['why']} need {want['free_gb']:g} GB: free some (docker system df), or attach a larger disk"
            yield Finding("error", "disk", seen, fix)
        if disk.inodes and disk.inodes_free * 100 < disk.inodes * LEAST_INODES_PERCENT:
            seen = f"{disk.path}: {disk.inodes_free} of {disk.inodes} inodes free"
            yield Finding("error", "disk", seen, "remove what has very many small files (df -i)")


def _ports(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    for want in wanted.ports:
        key = (want["proto"], int(want["port"]))
        for each in machine.listeners:
            if (each.proto, each.port) != key or each.program in ENGINE:
                continue
            if not each.program and key in SWARM_PORTS:
                continue  # an overlay's own socket is the kernel's
            who = f"{each.program} (process {each.pid})" if each.program else "something that /proc does not name"
            seen = f"{key[0]} {key[1]}, which {want['why']} needs, is taken by {who}"
            yield Finding("error", "port", seen, f"stop it (ss -lnp | grep :{key[1]}){want.get('or', '')}")
            break


def _firewalls(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    for name in machine.firewalls if wanted.firewall else ():
        fix = f"turn {name} off: node_baseline does its work, and a packet would have to pass both"
        yield Finding("warning", "firewall", f"{name} is active", fix)


def _address(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    named = [f"{each.address} ({each.interface})" for each in machine.addresses]
    several = bool(wanted.peers)
    if not machine.addresses:
        fix = "give an interface an IPv4 address; others reach the node, and the Swarm advertises it, at one"
        yield Finding("error", "address", "no global IPv4 address", fix)
        return
    if wanted.advertise and wanted.advertise not in {each.address for each in machine.addresses} and several:
        fix = f"set swarm_advertise_addr to one of {', '.join(named)}; the address of a NAT in between is none"
        yield Finding("error", "address", f"{wanted.advertise} is no address of this node", fix)
    elif not wanted.advertise and len(named) > 1 and several:
        fix = f"of {', '.join(named)}, {named[0]} is advertised; set swarm_advertise_addr for another"
        yield Finding("warning", "address", f"{len(named)} candidates for the Swarm", fix)


def check_mtu(path: Mapping[str, int], wanted: Wanted) -> Iterator[Finding]:
    """Whether an overlay's packets get to the other nodes whole.

    Args:
        path: largest packet by peer, in bytes.
        wanted: what the overlay networks count on.
    """
    for peer, mtu in path.items():
        if mtu < wanted.mtu:
            seen = f"packets of {mtu} bytes get to {peer}; the overlay networks count on {wanted.mtu}"
            yield Finding("warning", "mtu", seen, f"raise it on the way, or set mcp_fleet.networks.mtu: {mtu}")


def _networks(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    own = [(f"{a.address}/{a.prefix}", a.interface, "error") for a in machine.addresses]
    routes = [(to, via, "warning") for to, via in machine.routes if not CONTAINER_LINKS.match(via)]
    pools = [(each, ipaddress.ip_network(each["subnet"], strict=False)) for each in wanted.networks]
    for each, subnet in pools:
        for there, interface, level in own + [route for route in routes if route[1] not in {o[1] for o in own}]:
            range_ = ipaddress.ip_network(there, strict=False)
            if subnet.overlaps(range_):
                within = subnet.prefixlen >= range_.prefixlen
                # The engine takes from its pool what overlaps with none of the node's networks.
                level = "warning" if each.get("pool") and not within else level
                seen = f"{each['name']} {subnet} {'lies in' if within else 'holds'} {there} of {interface}"
                yield Finding(level, "network", seen, f"choose another range: {each['option']}")
                break
    for index, (each, subnet) in enumerate(pools):
        for other, range_ in pools[:index]:
            if subnet.overlaps(range_):
                seen = f"{each['name']} {subnet} overlaps {other['name']} {range_}"
                yield Finding("error", "network", seen, f"choose another range: {each['option']} or {other['option']}")


def _driver(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    if not wanted.gpus:
        return
    if not machine.driver:
        fix = "install NVIDIA's driver and restart the machine, or take mcp_node_gpus away"
        yield Finding("error", "driver", f"no NVIDIA driver is loaded, but mcp_node_gpus is {wanted.gpus}", fix)
        return
    for rule in wanted.driver_rules:
        if version(machine.driver) < version(rule["minimum"]):
            seen = f"{machine.driver} is older than {rule['minimum']}, which {rule['what']} needs"
            yield Finding("error", "driver", seen, "upgrade NVIDIA's driver and restart the machine")


def check_gpus(seen: Gpus | GpuError, wanted: Wanted) -> Iterator[Finding]:
    """Whether the GPUs are those of the inventory, and can be handed out.

    Args:
        seen: the node's GPUs, or why they cannot be told.
        wanted: how many there are to be, and how many services may share one.
    """
    if isinstance(seen, GpuError):
        yield Finding("error", "gpu", str(seen), "or take mcp_node_gpus away: nothing can be handed out here")
        return
    for pci, why in sorted(seen.vanished.items()):
        fix = "restart the machine; if it stays away, have the card replaced, and lower mcp_node_gpus until then"
        yield Finding("error", "gpu", f"the GPU at {pci} does not answer: {why}", fix)
    for gpu in seen.gpus:
        if gpu.problems:
            value = f"GPU {gpu.index} ({gpu.uuid}): {'; '.join(gpu.problems)}"
            yield Finding("warning", "gpu", value, "empty the node (playbooks/drain.yml) and restart it; then watch it")
    count = len(seen.gpus)
    if wanted.gpus not in (count, count + len(seen.vanished)):
        fix = f"set it to {count} if these are all; else look for the others (lspci -d 10de:) and restart the machine"
        yield Finding("error", "gpu", f"mcp_node_gpus is {wanted.gpus}, and nvidia-smi shows {count}", fix)
    try:
        units(seen.gpus, wanted.gpu_slots)
    except GpuError as error:
        yield Finding("error", "gpu", str(error), "nothing can be handed out here before")


def check_engine(has: str) -> Iterator[Finding]:
    """Whether a manager's engine is one whose Swarm keeps tasks with GPUs; a deploy refuses them otherwise.

    Args:
        has: the version that is installed, or would be; empty where that is not known.
    """
    if too_old(has):
        seen = f"Docker {has}: managers keep servers with GPUs from {LEAST_ENGINE} on"
        fix = "set docker_engine_source: docker and run playbooks/engine.yml, or upgrade the machine to Debian 13"
        yield Finding("warning", "engine", seen, fix)


def version(dotted: str) -> tuple[int, ...]:
    """A dotted version to compare."""
    return tuple(int(number) for number in re.findall(r"\d+", str(dotted)))


# -- what others answer --------------------------------------------------------------------------


def check_reach(silent: Mapping[str, str], asked: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Findings for addresses that gave no answer.

    Args:
        silent: reason by address, for those without an answer.
        asked: address, ``level``, and ``why`` it is needed.
    """
    for each in asked:
        reason = silent.get(each["url"])
        if reason is None:
            continue
        fix = (
            "its certificate is not trusted here: put the site's authority below"
            " /usr/local/share/ca-certificates and run update-ca-certificates"
            if "CERTIFICATE_VERIFY_FAILED" in reason
            else f"{each['why']}: open the way to it, or name the site's proxy or mirror ({each['option']})"
        )
        yield Finding(each["level"], "reach", f"{each['url']}: {reason}", fix)


def as_dicts(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """As the module returns them, the worst first."""
    order = ("error", "warning", "note")
    return [asdict(each) for each in sorted(findings, key=lambda each: order.index(each.level))]
