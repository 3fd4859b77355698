# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the preflight finds on machines that are and are not fit, all at once, each with its fix."""

from __future__ import annotations

import http.server
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gpu_machine import FIRST, SECOND, GpuMachine

from ansible_collections.sophia_ai.mcp_swarm.plugins.filter.preflight_report import preflight_report
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node import machine as look
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node.machine import Address, Disk, Listener, Machine
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node.preflight import (
    GB,
    MB,
    Finding,
    Wanted,
    as_dicts,
    check,
    check_engine,
    check_gpus,
    check_mtu,
    check_reach,
)
from ansible_collections.sophia_ai.mcp_swarm.plugins.modules import node_preflight

FIT = Machine(
    user="root",
    distribution="Debian",
    version="12",
    codename="bookworm",
    architecture="x86_64",
    kernel="6.1.0",
    features=dict.fromkeys(look.FEATURES, True),
    container=False,
    cgroup=2,
    controllers=frozenset({"cpu", "memory", "pids", "io"}),
    clock_synchronised=True,
    clock=1000.0,
    memory=4096 * MB,
    addresses=[Address("eth0", "192.0.2.5", 24, 1500, True)],
    disks={"/var/lib/docker": Disk("/var/lib/docker", 50 * GB, 100 * GB, 900, 1000)},
)
WANTED = Wanted(
    distributions={"Debian": ["12", "13"], "Ubuntu": ["22.04"]},
    architectures=["x86_64"],
    memory_mb=2048,
    disks=[{"path": "/var/lib/docker", "free_gb": 5, "why": "images"}],
    ports=[{"port": 443, "proto": "tcp", "why": "the edge", "or": ", or set mcp_fleet.edge.port"}],
    networks=[{"name": "mcp_edge", "subnet": "10.98.0.0/22", "option": "mcp_fleet.networks.edge"}],
    clock=1000.0,
)
SEVERAL = replace(WANTED, peers=["192.0.2.6"])
POOL = replace(WANTED, networks=[{**WANTED.networks[0], "pool": True}])
TWO = [Address("eth0", "192.0.2.5", 24, 1500, True), Address("eth1", "198.51.100.7", 24, 1500, False)]
NETWORKS = [*WANTED.networks, {"name": "mcp_backend", "subnet": "10.98.2.0/24", "option": "mcp_fleet.networks.backend"}]


def lines(machine: Machine, wanted: Wanted = WANTED) -> list[str]:
    return [f"{each.level} {each.key}: {each.value} → {each.fix}" for each in check(machine, wanted)]


def features(**missing: bool | None) -> dict[str, bool | None]:
    return {**FIT.features, **missing}


def test_a_fit_machine_has_nothing_to_say() -> None:
    assert lines(FIT) == []
    assert lines(replace(FIT, distribution="Ubuntu", version="22.04")) == []


CASES = [
    (
        {"version": "11"},
        WANTED,
        "error os: Debian 11 → MCP Swarm runs on Debian 12 or 13; Ubuntu 22.04: install one of them, or name another machine",
    ),
    ({"distribution": "", "version": ""}, WANTED, "error os: unknown → MCP Swarm runs on"),
    ({"distribution": "Fedora", "version": "41"}, WANTED, "error os: Fedora 41"),
    ({"architecture": "riscv64"}, WANTED, "error architecture: riscv64 → MCP Swarm runs on x86_64: name another machine"),
    ({"user": "1000"}, WANTED, "error user: tasks run as user 1000, not as root → run as root, or give"),
    ({"features": features(overlay=False)}, WANTED, "error kernel overlay: 6.1.0 has none: the engine cannot store images"),
    ({"features": features(vxlan=False)}, WANTED, "error kernel vxlan: 6.1.0 has none: Swarm has no networks"),
    ({"features": features(bridge_netfilter=False)}, WANTED, "warning kernel bridge_netfilter"),
    ({"features": features(ipvs=False)}, WANTED, "note kernel ipvs: 6.1.0 has none: Swarm's virtual addresses and ingress ports do not work here → nothing"),
    ({"features": features(nf_tables=False)}, replace(WANTED, firewall=True), "error kernel nf_tables: 6.1.0 has none: the firewall cannot be loaded"),
    (
        {"features": features(esp=False)},
        replace(WANTED, networks=[{**WANTED.networks[0], "encrypted": True}]),
        "error kernel esp: 6.1.0 has none: encrypted overlay networks carry nothing",
    ),
    ({"cgroup": 1}, WANTED, "note cgroup: version 1 → boot with systemd.unified_cgroup_hierarchy=1 when convenient"),
    ({"controllers": frozenset({"cpu", "pids"})}, WANTED, "error cgroup: no controller memory → limits of containers need them"),
    ({"clock_synchronised": False}, WANTED, "warning clock: nothing synchronises it → set the clock"),
    ({"clock_synchronised": False}, replace(WANTED, time_sync=True), "note clock: nothing synchronises it → node_baseline"),
    ({"clock": 1020.0}, WANTED, "warning clock: 20 s ahead of the controller's"),
    ({"clock": 400.0}, WANTED, "error clock: 600 s behind the controller's → set the clock"),
    (
        {"memory": 1024 * MB},
        WANTED,
        "error memory: 1024 MB → at least 2048 MB are needed: take a larger machine, or lower preflight_memory_mb",
    ),
    (
        {"disks": {"/var/lib/docker": Disk("/var/lib/docker", 3 * GB, 100 * GB, 900, 1000)}},
        WANTED,
        "error disk: /var/lib/docker: 3.0 GB free of 100 → images need 5 GB: free some",
    ),
    (
        {"disks": {"/var/lib/docker": Disk("/var/lib/docker", 9 * GB, 100 * GB, 10, 1000)}},
        WANTED,
        "error disk: /var/lib/docker: 10 of 1000 inodes free → remove what has very many small files (df -i)",
    ),
    (
        {"listeners": [Listener("tcp", 443, "nginx", 812)]},
        WANTED,
        "error port: tcp 443, which the edge needs, is taken by nginx (process 812) → stop it (ss -lnp | grep :443), or set mcp_fleet.edge.port",
    ),
    ({"listeners": [Listener("tcp", 443, "", 0)]}, WANTED, "error port: tcp 443, which the edge needs, is taken by something that /proc does not name"),
    ({"firewalls": ["ufw"]}, replace(WANTED, firewall=True), "warning firewall: ufw is active → turn ufw off: node_baseline does its work"),
    ({"addresses": []}, WANTED, "error address: no global IPv4 address"),
    (
        {"addresses": TWO},
        SEVERAL,
        "warning address: 2 candidates for the Swarm → of 192.0.2.5 (eth0), 198.51.100.7 (eth1), 192.0.2.5 (eth0) is advertised; set swarm_advertise_addr",
    ),
    (
        {},
        replace(SEVERAL, advertise="203.0.113.9"),
        "error address: 203.0.113.9 is no address of this node → set swarm_advertise_addr to one of 192.0.2.5 (eth0)",
    ),
    (
        {"addresses": [Address("eth0", "10.98.1.4", 16, 1500, True)]},
        WANTED,
        "error network: mcp_edge 10.98.0.0/22 lies in 10.98.1.4/16 of eth0 → choose another range: mcp_fleet.networks.edge",
    ),
    ({"addresses": [Address("eth0", "10.98.1.4", 24, 1500, True)]}, WANTED, "error network: mcp_edge 10.98.0.0/22 holds 10.98.1.4/24 of eth0"),
    ({"addresses": [Address("eth0", "10.98.1.4", 24, 1500, True)]}, POOL, "warning network: mcp_edge 10.98.0.0/22 holds 10.98.1.4/24 of eth0"),
    ({"addresses": [Address("eth0", "10.98.1.4", 16, 1500, True)]}, POOL, "error network: mcp_edge 10.98.0.0/22 lies in 10.98.1.4/16 of eth0"),
    ({"routes": [("10.0.0.0/8", "wg0")]}, WANTED, "warning network: mcp_edge 10.98.0.0/22 lies in 10.0.0.0/8 of wg0"),
    (
        {},
        replace(WANTED, networks=NETWORKS),
        "error network: mcp_backend 10.98.2.0/24 overlaps mcp_edge 10.98.0.0/22 → choose another range: mcp_fleet.networks.backend or mcp_fleet.networks.edge",
    ),
    ({}, replace(WANTED, gpus=2), "error driver: no NVIDIA driver is loaded, but mcp_node_gpus is 2"),
    (
        {"driver": "470.82.01"},
        replace(WANTED, gpus=1, driver_rules=[{"what": "CUDA 12", "minimum": "525.60.13"}]),
        "error driver: 470.82.01 is older than 525.60.13, which CUDA 12 needs",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("differs", "wanted", "said"), CASES, ids=[case[2][:48] for case in CASES])
def test_what_is_wrong_is_said_with_the_fix(differs: dict[str, Any], wanted: Wanted, said: str) -> None:
    (line,) = lines(replace(FIT, **differs), wanted)
    assert line.startswith(said), line


def test_everything_is_said_at_once() -> None:
    bad = replace(FIT, version="9", memory=0, user="1000", listeners=[Listener("tcp", 443, "nginx", 8)], clock=0.0)
    assert [each.key for each in check(bad, WANTED)] == ["os", "user", "clock", "memory", "port"]


def test_what_belongs_to_the_engine_is_not_in_its_own_way() -> None:
    swarm = [{"port": 2377, "proto": "tcp", "why": "Swarm"}, {"port": 4789, "proto": "udp", "why": "Swarm"}]
    there = [Listener("tcp", 443, "docker-proxy", 7), Listener("tcp", 2377, "dockerd", 5), Listener("udp", 4789, "", 0)]
    routes = [("10.98.0.0/24", "docker_gwbridge"), ("192.0.2.0/24", "eth0")]
    assert lines(replace(FIT, listeners=there, routes=routes), replace(WANTED, ports=[*WANTED.ports, *swarm])) == []


def test_one_node_may_have_many_addresses_and_a_kernel_that_does_not_tell_is_no_error() -> None:
    unknown: dict[str, bool | None] = dict.fromkeys(look.FEATURES)
    assert lines(replace(FIT, addresses=TWO, features=unknown), replace(WANTED, firewall=True)) == []


def test_a_drivers_rules_hold_where_there_are_gpus_alone() -> None:
    rules = [{"what": "CUDA 12", "minimum": "525.60.13"}]
    assert lines(FIT, replace(WANTED, driver_rules=rules)) == []
    assert lines(replace(FIT, driver="525.60.13"), replace(WANTED, gpus=1, driver_rules=rules)) == []


def gpu_lines(count: int, slots: int = 1) -> list[str]:
    found = check_gpus(node_preflight.seen_gpus(), replace(WANTED, gpus=count, gpu_slots=slots))
    return [f"{each.level} {each.key}: {each.value} → {each.fix}" for each in found]


def test_gpus_that_are_those_of_the_inventory(gpu_machine: GpuMachine) -> None:
    assert gpu_lines(2) == []
    assert gpu_lines(2, slots=3) == []


def test_another_number_of_gpus_is_said_with_both(gpu_machine: GpuMachine) -> None:
    (line,) = gpu_lines(3)
    assert line == (
        "error gpu: mcp_node_gpus is 3, and nvidia-smi shows 2 → set it to 2 if these are all;"
        " else look for the others (lspci -d 10de:) and restart the machine"
    )


def test_a_vanished_gpu_is_said_once_with_its_place(gpu_machine: GpuMachine) -> None:
    gpu_machine.gpu(1, hidden=True)
    (line,) = gpu_lines(2)
    assert line.startswith("error gpu: the GPU at 0000:0f:00.0 does not answer: the driver does not show it → restart the machine; if it")


def test_a_gpu_that_is_not_well_is_a_warning(gpu_machine: GpuMachine) -> None:
    gpu_machine.write(log="NVRM: Xid (PCI:0000:0f:00): 95, pid=3")
    (line,) = gpu_lines(2)
    assert line.startswith(f"warning gpu: GPU 1 ({SECOND}): Xid 95: uncontained memory error → empty the node (playbooks/drain.yml)")


def test_gpus_that_cannot_be_told_or_handed_out(gpu_machine: GpuMachine) -> None:
    gpu_machine.gpu(0, mig_empty=True)
    (line,) = gpu_lines(2)
    assert f"{FIRST} has MIG on and no instances" in line
    assert line.endswith("→ nothing can be handed out here before")
    gpu_machine.write(fault="mismatch")
    (line,) = gpu_lines(2)
    assert line.endswith("it was upgraded; restart the machine → or take mcp_node_gpus away: nothing can be handed out here")


@pytest.mark.parametrize("has", ["", "23.0.2", "26.1.5+dfsg1-9+b9", "5:28.5.2-1~debian.12~bookworm", "dev"])
def test_engines_that_keep_tasks_with_gpus(has: str) -> None:
    assert not list(check_engine(has))


def test_an_engine_that_ends_tasks_with_gpus_is_a_warning() -> None:
    (found,) = check_engine("20.10.24+dfsg1-1")
    assert (found.level, found.key) == ("warning", "engine")
    assert found.value == "Docker 20.10.24+dfsg1-1: managers keep servers with GPUs from 23.0.2 on"
    assert found.fix.startswith("set docker_engine_source: docker and run playbooks/engine.yml")


@pytest.mark.parametrize(
    ("installed", "source", "version"),
    [
        ("ii 5:28.5.2-1~debian.12~bookworm", "auto", "28.5.2-1~debian.12~bookworm"),
        ("hi 20.10.24+dfsg1-1", "docker", "20.10.24+dfsg1-1"),
        ("rc 20.10.24+dfsg1-1", "auto", "26.1.5+dfsg1-9+b9"),
        ("", "distribution", "26.1.5+dfsg1-9+b9"),
        ("", "docker", ""),
    ],
)
def test_the_engine_that_there_is_or_would_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installed: str, source: str, version: str
) -> None:
    said = {"dpkg-query": installed, "apt-cache": "docker.io:\n  Installed: (none)\n  Candidate: 26.1.5+dfsg1-9+b9\n"}
    for name, text in said.items():
        (tmp_path / name).write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n", "utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert look.engine(source) == version


def test_a_small_packet_is_told_with_the_setting() -> None:
    (found,) = check_mtu({"192.0.2.6": 1420, "192.0.2.7": 1500}, SEVERAL)
    assert (found.level, found.key) == ("warning", "mtu")
    assert found.value == "packets of 1420 bytes get to 192.0.2.6; the overlay networks count on 1500"
    assert found.fix.endswith("set mcp_fleet.networks.mtu: 1420")


def test_the_way_to_this_machine_itself_is_as_wide_as_asked() -> None:
    assert look.path_mtu("127.0.0.1", 1500, 0.05) == 1500


# -- what others answer ------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(503 if "gone" in self.path else 404)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_any_answer_will_do_and_silence_is_named(server: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        silent = look.reach_all([f"{server}/", f"{server}/gone", nobody, "http://no.such.host.invalid/"], proxies={})
    assert set(silent) == {f"{server}/gone", nobody, "http://no.such.host.invalid/"}
    assert silent[f"{server}/gone"].startswith("503")
    assert "refused" in silent[nobody]


def test_a_proxy_of_the_site_is_asked(server: str) -> None:
    assert look.reach("http://no.such.host.invalid/", proxies={"http": server}) == ""


def test_findings_of_silence() -> None:
    asked = [
        {"url": "http://mirror/", "level": "error", "why": "packages come from there", "option": "sources.list"},
        {"url": "https://index/", "level": "warning", "why": "images need it", "option": "site.pypi_index"},
        {"url": "https://fine/", "level": "error", "why": "-", "option": "-"},
    ]
    silent = {"http://mirror/": "timed out", "https://index/": "[SSL: CERTIFICATE_VERIFY_FAILED] unable to get issuer"}
    mirror, index = check_reach(silent, asked)
    assert (mirror.level, mirror.value) == ("error", "http://mirror/: timed out")
    assert mirror.fix == "packages come from there: open the way to it, or name the site's proxy or mirror (sources.list)"
    assert index.level == "warning"
    assert index.fix == (
        "its certificate is not trusted here: put the site's authority below /usr/local/share/ca-certificates and run"
        " update-ca-certificates"
    )


@pytest.mark.parametrize("archives", [[], [("http://mirror/debian", "bookworm")]])
def test_packages_that_are_missing_come_from_an_archive(
    monkeypatch: pytest.MonkeyPatch, archives: list[tuple[str, str]]
) -> None:
    monkeypatch.setattr(look, "apt_settings", dict)
    monkeypatch.setattr(look, "apt_sources", lambda: archives)
    monkeypatch.setattr(look, "reach_all", lambda urls, **dummy: dict.fromkeys(urls, "timed out"))
    params = {"packages": ["docker.io|docker-ce", "iptables"], "images": [], "reach": []}
    found = node_preflight.missing_answers(params, replace(FIT, packages=frozenset({"docker-ce"})))
    assert [(each.level, each.key, each.value, each.fix) for each in found] == [
        (
            ("error", "reach", "http://mirror/debian/dists/bookworm/InRelease: timed out",
             "packages are missing, and come from there: open the way to it, or name the site's proxy or mirror"
             " (/etc/apt/sources.list.d)")
            if archives
            else ("error", "reach", "apt knows no archive",
                  "name the distribution's archive in /etc/apt/sources.list.d: packages are missing")
        )
    ]  # fmt: skip
    assert node_preflight.missing_answers(params, replace(FIT, packages=frozenset({"docker-ce", "iptables"}))) == []


# -- reading a machine -------------------------------------------------------------------------


def test_apts_archives_in_both_formats(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text("# deb http://no/ x\ndeb [arch=amd64] http://a/debian bookworm main\n")
    (parts / "b.sources").write_text(
        "Types: deb deb-src\nURIs: http://b/debian/ https://c/debian\nSuites: trixie trixie-updates\nComponents: main\n\n"
        "Types: deb\nURIs: http://off/\nSuites: x\nEnabled: no\n\nTypes: deb-src\nURIs: http://src/\nSuites: x\n"
    )
    (parts / "c.list").write_text("deb file:///srv ./\ndeb http://a/debian bookworm main\n")
    assert look.apt_sources(str(tmp_path)) == [
        ("http://a/debian", "bookworm"),
        ("http://b/debian", "trixie"),
        ("https://c/debian", "trixie"),
    ]


def test_addresses_are_those_that_others_reach_the_default_first() -> None:
    def link(name: str, address: str, scope: str = "global", family: str = "inet") -> dict[str, Any]:
        info = {"family": family, "local": address, "prefixlen": 24, "scope": scope}
        return {"ifname": name, "mtu": 1500, "addr_info": [info]}

    links = [
        link("lo", "127.0.0.1", "host"),
        link("docker0", "172.17.0.1"),
        link("br-12ab", "10.97.0.1"),
        link("ens4", "10.0.0.4"),
        link("ens3", "192.0.2.3"),
        link("ens5", "fe80::1", "link", "inet6"),
    ]
    found = look.addresses(links, [{"dst": "default", "dev": "ens3"}])
    assert [(each.interface, each.address, each.default) for each in found] == [
        ("ens3", "192.0.2.3", True),
        ("ens4", "10.0.0.4", False),
    ]


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version: 12.2.0", "550.54.15"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder)", "570.86.15"),
        ("", ""),
    ],
)
def test_the_drivers_version(said: str, version: str) -> None:
    assert look.driver(said) == version


def test_a_listener_is_found_with_its_program() -> None:
    with socket.socket() as listening:
        listening.bind(("0.0.0.0", 0))
        listening.listen()
        port = listening.getsockname()[1]
        (found,) = [each for each in look.look_at_sockets().listening if each.port == port and each.proto == "tcp"]
        assert found.program
        assert port not in look.look_at_sockets().ssh_ports


def test_a_socket_that_systemd_holds_for_a_daemon_is_the_daemons(monkeypatch: pytest.MonkeyPatch) -> None:
    comm = {"/proc/1/comm": "systemd\n", "/proc/77/comm": "sshd\n"}
    monkeypatch.setattr(look.glob, "glob", lambda pattern: ["/proc/1/fd/3", "/proc/77/fd/4", "/proc/9/fd/1"])
    monkeypatch.setattr(look.os, "readlink", lambda path: "socket:[6]" if path.startswith("/proc/9/") else "socket:[5]")
    monkeypatch.setattr(look, "text", comm.__getitem__)
    assert look._programs({"5"}) == {"5": ("sshd", 77)}


def test_ports_that_systemd_listens_on_for_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ubuntu 24.04 starts sshd when somebody comes; until then nothing of that name holds the port."""
    (tmp_path / "systemctl").write_text("#!/bin/sh\necho '[::]:%s (Stream)'\necho '/run/x (Stream)'\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with socket.socket() as listening:
        listening.bind(("0.0.0.0", 0))
        listening.listen()
        port = listening.getsockname()[1]
        assert port not in look.look_at_sockets().ssh_ports
        told = (tmp_path / "systemctl").read_text()
        (tmp_path / "systemctl").write_text(told.replace("%s", f"{port}"))
        assert port in look.look_at_sockets().ssh_ports
    assert port not in look.look_at_sockets().ssh_ports


def test_this_machine_can_be_looked_at() -> None:
    seen = look.look(["/var/lib/no/such/directory"], ["python3", "no-such-package"])
    assert seen.memory > 0
    assert seen.disks["/var/lib/no/such/directory"].size > 0
    assert "memory" in seen.controllers
    assert "no-such-package" not in seen.packages
    assert seen.features["overlay"] in (True, None)


# -- one message for all -----------------------------------------------------------------------


def result(*findings: Finding, name: str = "", address: str = "192.0.2.5") -> dict[str, Any]:
    node = {"hostname": name, "addresses": [{"address": address}]}
    return {"findings": as_dicts(list(findings)), "ansible_facts": {"mcp_node": node}, "advertise": ""}


def test_all_nodes_in_one_message_the_worst_first() -> None:
    disk, note = Finding("error", "disk", "full", "free some"), Finding("note", "cgroup", "version 1", "none")
    said = preflight_report({"a": result(note, disk, name="a"), "b": result(note, name="b"), "c": result(name="c")})
    assert (said["errors"], said["findings"]) == (1, 3)
    assert said["text"].splitlines() == [
        "1 error on 1 node; nothing was changed.",
        "a",
        "  error    disk: full",
        "           → free some",
        "  note     cgroup: version 1",
        "           → none",
        "b",
        "  note     cgroup: version 1",
        "           → none",
    ]


def test_what_only_shows_together() -> None:
    said = preflight_report({"a": result(name="x", address="10.0.0.1"), "b": result(name="x", address="8.8.8.8")})
    assert said["errors"] == 0
    assert "a, b are all called x" in said["text"]
    assert "private: a at 10.0.0.1; public: b at 8.8.8.8" in said["text"]
    assert "→ set swarm_advertise_addr of each to addresses of one network: a Swarm does not cross a NAT" in said["text"]


def test_a_node_that_said_nothing_is_no_fault_of_the_others() -> None:
    said = preflight_report({"a": {"findings": as_dicts([Finding("error", "login", "denied", "key")])}, "b": result()})
    assert said["errors"] == 1
