# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node lets in, asked from another machine, from the other node, and from containers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from commands import sh, until
from conftest import IMAGE, NODES, OUTSIDE, SSH_PORT, connects, play

FIRST, SECOND = NODES
SERVE = "python3 -m http.server --bind 0.0.0.0"
# On the first node: what listens where, and who is behind it.
PUBLISHED, HOST_MODE, HOST_NETWORK, PROGRAM, EDGE = 9000, 9001, 9002, 9003, 443
CLOSED = {"published": PUBLISHED, "host mode": HOST_MODE, "host network": HOST_NETWORK, "program": PROGRAM}
SWARM = {"managers": 2377, "gossip": 7946}
PREFIX = "fd95:7::"
# What listens for IPv6 as well: one that is let in, and one that is not.
OPEN_6, CLOSED_6 = 80, 9004


@pytest.fixture(scope="module", autouse=True)
def listeners(images: None, outsider: str) -> Iterator[None]:
    """Everything that may listen on a node: containers in each way, and a program."""
    run = "docker run --detach --label probe"
    publish = f"--publish mode=host,published={HOST_MODE},target=8000"
    place = f"--no-resolve-image --constraint node.hostname=={FIRST}"
    units = {"probe": f"{SERVE} {PROGRAM}"} | {f"probe-{port}": f"python3 -m http.server --bind :: {port}" for port in (OPEN_6, CLOSED_6)}
    try:
        sh(FIRST, f"{run} --publish {PUBLISHED}:8000 --name published {IMAGE} {SERVE} 8000")
        sh(FIRST, f"{run} --publish {EDGE}:8000 --name edge {IMAGE} {SERVE} 8000")
        sh(FIRST, f"{run} --network host {IMAGE} {SERVE} {HOST_NETWORK}")
        sh(FIRST, f"docker service create --quiet --detach --name probe {place} {publish} {IMAGE} {SERVE} 8000")
        # A network without IPv6 has it switched off, on the way to oneself too: both get an address of the site's own.
        for name, number in ((FIRST, 11), (outsider, 66)):
            sh(name, f"sysctl --quiet net.ipv6.conf.{{lo,eth0}}.disable_ipv6=0 && ip address replace {PREFIX}{number}/64 dev eth0 nodad")
        for unit, command in units.items():
            sh(FIRST, f"systemd-run --unit {unit} {command}")
        for port in (*CLOSED.values(), EDGE):
            until(f"port {port} listens", lambda port=port: connects(FIRST, "127.0.0.1", port), 180)
        for port in (OPEN_6, CLOSED_6):
            until(f"port {port} listens", lambda port=port: connects(FIRST, f"{PREFIX}11", port), 180)
        yield
    finally:
        sh(FIRST, "docker service rm probe; docker rm -f $(docker ps -aq --filter label=probe); systemctl stop 'probe*'", check=False)
        sh(FIRST, f"ip address del {PREFIX}11/64 dev eth0", check=False)


@pytest.mark.parametrize("port", [SSH_PORT, EDGE])
def test_what_should_be_open_is_open(outsider: str, port: int) -> None:
    assert connects(outsider, NODES[FIRST], port)


@pytest.mark.parametrize("port", [*CLOSED.values(), *SWARM.values()], ids=[*CLOSED, *SWARM])
def test_what_should_be_closed_is_closed(outsider: str, port: int) -> None:
    assert connects(FIRST, NODES[FIRST], port), "it listens"
    assert not connects(outsider, NODES[FIRST], port)


def test_over_ipv6_too(outsider: str) -> None:
    assert connects(outsider, f"{PREFIX}11", OPEN_6)
    for port in (CLOSED_6, *SWARM.values()):
        assert connects(FIRST, f"{PREFIX}11", port), port
        assert not connects(outsider, f"{PREFIX}11", port), port


def test_between_nodes_the_swarm_is_open_and_nothing_else() -> None:
    for port in SWARM.values():
        assert connects(SECOND, NODES[FIRST], port), port
    for port in CLOSED.values():
        assert not connects(SECOND, NODES[FIRST], port), port


def dropped(name: str, chain: str) -> int:
    return int(sh(name, f"nft list chain inet mcp_swarm {chain} | grep -oP 'counter packets \\K[0-9]+'"))


def test_overlay_packets_come_from_nodes_alone(outsider: str) -> None:
    send = f"python3 -c \"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('{NODES[FIRST]}', 4789))\""
    before = dropped(FIRST, "arriving")
    sh(SECOND, send)
    assert dropped(FIRST, "arriving") == before
    sh(outsider, send)
    until("the packet is refused", lambda: dropped(FIRST, "arriving") > before, 5)


def test_a_containers_own_address_is_no_way_in(outsider: str) -> None:
    """A neighbour may send packets for it to the node, which passes packets on."""
    address = sh(FIRST, "docker inspect published --format '{{.NetworkSettings.IPAddress}}'")
    assert connects(FIRST, address, 8000)
    sh(outsider, f"ip route replace {address}/32 via {NODES[FIRST]}")
    assert not connects(outsider, address, 8000)


def inside(address: str, port: int) -> bool:
    attempt = f"import socket; socket.create_connection(('{address}', {port}), 2)"
    return not sh(FIRST, f'docker exec edge python3 -c "{attempt}" 2>&1', check=False)


def test_a_container_reaches_others_and_the_edge_but_no_node(outsider: str) -> None:
    sh(outsider, f"setsid --fork {SERVE} 8080 >/dev/null 2>&1")
    until("it listens", lambda: connects(outsider, "127.0.0.1", 8080))
    assert inside(OUTSIDE, 8080)
    assert inside(NODES[FIRST], EDGE)
    for port in (SSH_PORT, PROGRAM, *SWARM.values()):
        assert not inside(NODES[FIRST], port), port
    # Seen from the other node it would be this node that asks.
    for port in SWARM.values():
        assert not inside(NODES[SECOND], port), port


def test_a_container_asks_the_clouds_address_for_names_and_for_nothing_else(outsider: str) -> None:
    cloud = "169.254.169.254"
    sh(outsider, f"ip address replace {cloud}/32 dev eth0")
    for port in (53, 81):
        sh(outsider, f"setsid --fork {SERVE} {port} >/dev/null 2>&1")
        until("it listens", lambda port=port: connects(outsider, "127.0.0.1", port))
    sh(FIRST, f"ip route replace {cloud}/32 dev eth0")
    try:
        assert connects(FIRST, cloud, 81)
        assert inside(cloud, 53)
        assert not inside(cloud, 81)
    finally:
        sh(FIRST, f"ip route del {cloud}/32 dev eth0")


def test_containers_of_the_default_network_do_not_reach_each_other() -> None:
    address = sh(FIRST, "docker inspect published --format '{{.NetworkSettings.IPAddress}}'")
    assert not inside(address, 8000)


def test_it_is_the_table_that_closes_and_the_engines_chains_are_left_alone(outsider: str) -> None:
    before = sh(FIRST, "iptables-save | grep -v '^[#:]'")
    assert "-A DOCKER" in before
    sh(FIRST, "nft delete table inet mcp_swarm")
    try:
        for port in (PUBLISHED, HOST_MODE, PROGRAM, 2377):
            assert connects(outsider, NODES[FIRST], port), port
    finally:
        sh(FIRST, "systemctl reload mcp-firewall")
    assert not connects(outsider, NODES[FIRST], PUBLISHED)
    assert sh(FIRST, "iptables-save | grep -v '^[#:]'") == before


def test_the_distributions_own_unit_flushes_and_the_rules_are_back(outsider: str) -> None:
    sh(FIRST, "systemctl start nftables && systemctl reload nftables")
    until("the table is back", lambda: "chain arriving" in sh(FIRST, "nft list table inet mcp_swarm", check=False), 20)
    sh(FIRST, "systemctl restart nftables")
    until("the table is back", lambda: "chain arriving" in sh(FIRST, "nft list table inet mcp_swarm", check=False), 20)
    sh(FIRST, "systemctl stop nftables; systemctl restart docker && systemctl restart mcp-firewall")
    until("the engine is back", lambda: connects(FIRST, "127.0.0.1", 2377))
    assert not connects(outsider, NODES[FIRST], 2377)


def test_rules_that_were_changed_by_hand_are_put_right(outsider: str) -> None:
    sh(SECOND, "nft insert rule inet mcp_swarm arriving tcp dport 7946 accept")
    assert connects(outsider, NODES[SECOND], 7946)
    done = play("provision.yml", "--tags", "firewall", "--limit", SECOND)
    assert done.code == 0, done.output
    assert not connects(outsider, NODES[SECOND], 7946)
    # The run left a node out, which is in the Swarm all the same.
    assert connects(FIRST, NODES[SECOND], 7946)


def test_rules_that_lock_out_are_taken_back() -> None:
    rules = "nft --stateless list table inet mcp_swarm; cat /etc/mcp-node/firewall.nft"
    before = sh(SECOND, rules)
    done = play("provision.yml", "--tags", "firewall", "--limit", SECOND, node_baseline_firewall_ssh_ports=[9])
    assert done.code != 0
    assert "The firewall's new rules let no new connection in: within 20 s they were taken back" in done.output
    assert "correct node_baseline_firewall_ssh_ports" in done.output
    assert sh(SECOND, rules) == before
    assert sh(SECOND, "ls /etc/mcp-node") == "firewall.nft\nfirewall.revert.nft"
    assert play("provision.yml", "--tags", "firewall").output.count("changed=0") == len(NODES)


def test_rules_that_nft_refuses_change_nothing() -> None:
    before = sh(SECOND, "nft --stateless list table inet mcp_swarm")
    done = play("provision.yml", "--tags", "firewall", "--limit", SECOND, node_baseline_firewall_ssh_from=["no address"])
    assert done.code != 0
    assert "nft refuses the rules; those before go on" in done.output
    assert sh(SECOND, "nft --stateless list table inet mcp_swarm") == before
