# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine is, read from its kernel and its files; nothing is changed by looking."""

from __future__ import annotations

import ctypes
import glob
import json
import os
import re
import shutil
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._process import run

REACH_SECONDS = 8.0
COMMAND_SECONDS = 20.0
# Kernel module by feature, with the option that builds it in.
FEATURES = {
    "overlay": ("overlay", "CONFIG_OVERLAY_FS"),
    "vxlan": ("vxlan", "CONFIG_VXLAN"),
    "bridge_netfilter": ("br_netfilter", "CONFIG_BRIDGE_NETFILTER"),
    "nf_tables": ("nf_tables", "CONFIG_NF_TABLES"),
    "ipvs": ("ip_vs", "CONFIG_IP_VS"),
    "esp": ("esp4", "CONFIG_INET_ESP"),
}
CONTAINER_LINKS = re.compile(r"docker|br-|veth|vxlan|cni|lo$")
LOOPBACK = ("0100007F", "00000000000000000000000001000000")
# struct timex of clock_adjtime(2): bit of `status` that says that nothing disciplines the clock.
STA_UNSYNC = 0x0040
# ip(7); socket does not name them.
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14
UDP_OVER_IPV4_BYTES = 28
DISCARD_PORT = 9


@dataclass(frozen=True)
class Address:
    """An IPv4 address of the machine that others may reach."""

    interface: str
    address: str
    prefix: int
    mtu: int
    default: bool


@dataclass(frozen=True)
class Listener:
    """A port that something listens on."""

    proto: str
    port: int
    program: str  # "" where the kernel itself listens, or nobody can be named
    pid: int


@dataclass(frozen=True)
class Disk:
    """The file system below a path; sizes in bytes."""

    path: str
    free: int
    size: int
    inodes_free: int
    inodes: int


@dataclass(frozen=True)
class Machine:
    """Everything that the checks look at."""

    user: str
    distribution: str
    version: str
    codename: str
    architecture: str
    kernel: str
    features: Mapping[str, bool | None]  # None: this machine does not tell
    container: bool
    cgroup: int
    controllers: frozenset[str]
    clock_synchronised: bool
    clock: float
    memory: int
    addresses: Sequence[Address] = ()
    routes: Sequence[tuple[str, str]] = ()  # destination, interface
    listeners: Sequence[Listener] = ()
    packages: frozenset[str] = frozenset()
    driver: str = ""
    firewalls: Sequence[str] = ()
    ssh_ports: Sequence[int] = ()
    audit: bool = False
    open_files: int = 0
    disks: Mapping[str, Disk] = field(default_factory=dict)


def text(path: str) -> str:
    """A file's content; empty where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def look(paths: Sequence[str], packages: Sequence[str]) -> Machine:
    """The machine that this runs on.

    Args:
        paths: their disks are looked at; what does not exist yet stands for its nearest parent.
        packages: Debian packages that are asked for.
    """
    release = _release(text("/etc/os-release"))
    hierarchy = text("/sys/fs/cgroup/cgroup.controllers")
    names = {line.split()[0] for line in text("/proc/cgroups").splitlines()[1:] if line.split()[3:4] == ["1"]}
    sockets = look_at_sockets()
    return Machine(
        user=_user(),
        distribution=release.get("ID", "").capitalize(),
        version=release.get("VERSION_ID", ""),
        codename=release.get("VERSION_CODENAME", ""),
        architecture=os.uname().machine,
        kernel=os.uname().release,
        features={name: feature(*where) for name, where in FEATURES.items()},
        container=_container(),
        cgroup=2 if hierarchy else 1,
        controllers=frozenset(hierarchy.split() or names),
        clock_synchronised=_synchronised(),
        clock=_now(),
        memory=int((re.search(r"MemTotal:\s+(\d+) kB", text("/proc/meminfo")) or ["", "0"])[1]) * 1024,
        addresses=addresses(_ip("address", "show"), _ip("-4", "route", "show", "default")),
        routes=[
            (route["dst"], route.get("dev", ""))
            for route in _ip("-4", "route", "show")
            if route.get("dst", "default") != "default"
        ],
        listeners=sockets.listening,
        packages=_installed(packages),
        driver=driver(text("/proc/driver/nvidia/version")),
        firewalls=_firewalls(),
        ssh_ports=sockets.ssh_ports,
        open_files=int((re.search(r"Max open files\s+\d+\s+(\d+)", text("/proc/1/limits")) or ["", "0"])[1]),
        # A kernel with audit shows login ids; of a container they are its host's.
        audit=os.path.exists("/proc/self/loginuid") and not _container(),
        disks={path: _disk(path) for path in paths},
    )


def _release(content: str) -> dict[str, str]:
    return {key: value.strip("\"'") for key, dummy, value in (line.partition("=") for line in content.splitlines())}


def _user() -> str:
    return "root" if os.geteuid() == 0 else str(os.geteuid())


def _now() -> float:
    import time

    return time.time()


def _container() -> bool:
    code, said = run(["systemd-detect-virt", "--container"]) if shutil.which("systemd-detect-virt") else (1, "")
    told = code == 0 and said.strip() != "none"
    return told or any(os.path.exists(mark) for mark in ("/.dockerenv", "/run/.containerenv"))


def feature(module: str, option: str) -> bool | None:
    """Whether the kernel has a module, loaded, loadable or built in; None where it does not tell."""
    if os.path.exists(f"/sys/module/{module}"):
        return True
    if module in text("/proc/filesystems").split():
        return True
    if module == "br_netfilter" and os.path.exists("/proc/sys/net/bridge"):
        return True
    kernel = os.uname().release
    known = False
    for config in ("/proc/config.gz", f"/boot/config-{kernel}", f"/lib/modules/{kernel}/config"):
        content = _config(config)
        if f"\n{option}=y\n" in content or f"\n{option}=m\n" in content:
            return True
        known = known or bool(content)
    index = "".join(text(f"/lib/modules/{kernel}/modules.{which}") for which in ("dep", "builtin"))
    if re.search(rf"/{module}\.ko\b", index):
        return True
    return False if known or index else None


def _config(path: str) -> str:
    if path.endswith(".gz"):
        import gzip

        try:
            with gzip.open(path, "rt", encoding="utf-8") as file:
                return file.read()
        except OSError:
            return ""
    return text(path)


def _synchronised() -> bool:
    """Whether something disciplines the kernel's clock (adjtimex(2), with nothing to set)."""
    timex = (ctypes.c_byte * 512)()
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        state = libc.adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return True
    # modes (int, padded), offset, freq, maxerror, esterror (long), status (int): status is at 8 + 4 longs.
    status = ctypes.c_int.from_buffer(timex, 8 + 4 * ctypes.sizeof(ctypes.c_long)).value
    return state != -1 and not status & STA_UNSYNC


def _ip(*arguments: str) -> list[dict[str, Any]]:
    try:
        code, said = run(["ip", "-json", *arguments], timeout=COMMAND_SECONDS)
        return list(json.loads(said)) if code == 0 and said.strip() else []
    except (OSError, ValueError):
        return []


def addresses(links: Sequence[Mapping[str, Any]], defaults: Sequence[Mapping[str, Any]]) -> list[Address]:
    """The global IPv4 addresses of links that are no container's, that of the default route first."""
    device = defaults[0].get("dev", "") if defaults else ""
    found = [
        Address(link["ifname"], info["local"], info["prefixlen"], link.get("mtu", 0), link["ifname"] == device)
        for link in links
        if not CONTAINER_LINKS.match(link["ifname"])
        for info in link.get("addr_info", ())
        if info.get("family") == "inet" and info.get("scope") == "global"
    ]
    return sorted(found, key=lambda each: not each.default)


@dataclass(frozen=True)
class Sockets:
    """What listens on addresses that others reach, and where SSH is reached."""

    listening: Sequence[Listener]
    ssh_ports: Sequence[int]


def look_at_sockets() -> Sockets:
    """TCP and UDP sockets, from proc(5).

    SSH's ports are those that sshd listens on, those that systemd listens on for it (Ubuntu's ssh.socket), and those
    that a connection of it came in by.
    """
    found = []
    for proto, states in (("tcp", {"0A": "listens", "01": "connected"}), ("udp", {"07": "listens"})):
        for family in ("", "6"):
            for line in text(f"/proc/net/{proto}{family}").splitlines()[1:]:
                words = line.split()
                address, dummy, port = words[1].rpartition(":")
                if words[3] in states and address not in LOOPBACK:
                    found.append((proto, int(port, 16), words[9], states[words[3]]))
    programs = _programs({inode for dummy, dummy2, inode, dummy3 in found if inode != "0"})
    listening = {
        Listener(proto, port, *programs.get(inode, ("", 0)))
        for proto, port, inode, state in found
        if state == "listens"
    }
    open_ports = {each.port for each in listening if each.proto == "tcp"}
    ssh = {
        port
        for proto, port, inode, dummy in found
        if proto == "tcp" and port in open_ports and programs.get(inode, ("",))[0].startswith("sshd")
    }
    ssh |= open_ports & _activated("ssh.socket", "sshd.socket")
    return Sockets(sorted(listening, key=lambda each: (each.proto, each.port)), sorted(ssh))


def _activated(*units: str) -> set[int]:
    """TCP ports on which systemd listens by socket units, active or not."""
    if not shutil.which("systemctl"):
        return set()
    code, said = run(["systemctl", "show", "--property", "Listen", "--value", *units], timeout=COMMAND_SECONDS)
    return {int(port) for port in re.findall(r":(\d+) \(Stream\)", said)} if code == 0 else set()


def _programs(inodes: set[str]) -> dict[str, tuple[str, int]]:
    """Name and process id of who holds a socket, by the socket's inode; of several the one that systemd listens for."""
    found: dict[str, tuple[str, int]] = {}
    for path in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(path))
        except OSError:
            continue
        if match and match[1] in inodes and found.get(match[1], ("", 1))[1] == 1:
            pid = path.split("/")[2]
            found[match[1]] = (text(f"/proc/{pid}/comm").strip(), int(pid))
    return found


def _installed(packages: Sequence[str]) -> frozenset[str]:
    if not packages or shutil.which("dpkg-query") is None:
        return frozenset()
    dummy, said = run(["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${Package}\n", *packages])
    return frozenset(line[3:] for line in said.splitlines() if re.match(r"[ih]i ", line))


def engine(source: str) -> str:
    """Version of the Docker engine that is installed, or that would be; empty where only Docker's repository knows.

    Args:
        source: ``docker_engine_source``.
    """
    ask = ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${Version}\n", "docker-ce", "docker.io"]
    said = run(ask)[1] if shutil.which(ask[0]) else ""
    found = re.findall(r"^[ih]i (?:\d+:)?(\S+)", said, re.MULTILINE)
    if not found and source != "docker" and shutil.which("apt-cache"):
        policy = run(["apt-cache", "policy", "docker.io"], timeout=COMMAND_SECONDS)[1]
        found = re.findall(r"^\s*Candidate: (?:\d+:)?(\d\S*)", policy, re.MULTILINE)
    return found[0] if found else ""


def images_missing(refs: Sequence[str]) -> bool:
    """Whether the engine lacks one of these images, or does not run yet."""
    if not shutil.which("docker"):
        return True
    code, dummy = run(["docker", "image", "inspect", "--format", "{{.Id}}", *refs], timeout=COMMAND_SECONDS)
    return code != 0


def _firewalls() -> list[str]:
    """Other programs that own the machine's firewall."""
    found = ["ufw"] if re.search(r"^ENABLED=yes", text("/etc/ufw/ufw.conf"), re.MULTILINE) else []
    return found + (["firewalld"] if os.path.exists("/run/firewalld") else [])


def driver(version: str) -> str:
    """The NVIDIA kernel module's version, from /proc/driver/nvidia/version."""
    match = re.search(r"(?:Kernel Module|for x86_64|for aarch64)\s+(?:for \S+\s+)?(\d+(?:\.\d+)+)", version)
    return match[1] if match else ""


def _disk(path: str) -> Disk:
    there = path
    while not os.path.exists(there):
        there = os.path.dirname(there)
    status = os.statvfs(there)
    return Disk(
        path, status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize, status.f_favail, status.f_files
    )


# -- the network ---------------------------------------------------------------------------------


def path_mtu(peer: str, mtu: int, seconds: float = 0.3) -> int:
    """The largest packet that gets to a peer in one piece, as far as routers on the way say so (RFC 1191).

    Args:
        peer: IPv4 address.
        mtu: of this machine's interface, in bytes.
        seconds: how long a router may take to answer.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
            probe.connect((peer, DISCARD_PORT))
            probe.send(b"\0" * (mtu - UDP_OVER_IPV4_BYTES))
            probe.settimeout(seconds)
            probe.recv(1)
        except OSError:
            pass  # too long for this interface, refused, or silence: the kernel knows by now
        try:
            return min(mtu, probe.getsockopt(socket.IPPROTO_IP, IP_MTU))
        except OSError:
            return mtu


def apt_sources(directory: str = "/etc/apt") -> list[tuple[str, str]]:
    """Each archive that apt is told of: its address and suite (sources.list(5), both formats)."""
    found = []
    for path in sorted([f"{directory}/sources.list", *glob.glob(f"{directory}/sources.list.d/*")]):
        content = re.sub(r"^\s*#.*$", "", text(path), flags=re.MULTILINE)
        if path.endswith(".list"):
            found += re.findall(r"^deb\s+(?:\[[^\]]*\]\s+)?(https?://\S+)\s+(\S+)", content, re.MULTILINE)
        elif path.endswith(".sources"):
            for paragraph in re.split(r"\n\s*\n", content):
                keys = dict(re.findall(r"^([\w-]+):[ \t]*(.*)$", paragraph, re.MULTILINE))
                if "deb" in keys.get("Types", "").split() and keys.get("Enabled", "yes").lower() != "no":
                    suite = (keys.get("Suites", "").split() or [""])[0]
                    found += [(uri, suite) for uri in keys.get("URIs", "").split() if uri.startswith("http")]
    return list(dict.fromkeys((uri.rstrip("/"), suite) for uri, suite in found))


def apt_settings() -> dict[str, str]:
    """apt's own proxies and authorities, such as ``Acquire::http::Proxy``."""
    if shutil.which("apt-config") is None:
        return {}
    dummy, said = run(["apt-config", "dump", "Acquire"], timeout=COMMAND_SECONDS)
    return dict(re.findall(r'^([\w:]+) "(.*)";$', said, re.MULTILINE))


def reach(url: str, proxies: Mapping[str, str] | None = None, cafile: str | None = None) -> str:
    """Why an address gives no answer; empty where it gives one, whatever it says.

    Args:
        url: http or https.
        proxies: by scheme; without any, those of the environment.
        cafile: authorities to trust; without one, the system's.
    """
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler(dict(proxies) if proxies else None)]
    try:
        handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=cafile or None)))
        opener = urllib.request.build_opener(*handlers)
        with opener.open(urllib.request.Request(url, method="HEAD"), timeout=REACH_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        # A proxy's own words about what is behind it.
        return f"{error.code} {error.reason}" if error.code in (407, 502, 503, 504) else ""
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error) or type(error).__name__)


def reach_all(urls: Sequence[str], **how: Any) -> dict[str, str]:
    """Those that give no answer, with the reason; all are asked at once."""
    if not urls:
        return {}
    with ThreadPoolExecutor(len(urls)) as pool:
        said = list(pool.map(lambda url: reach(url, **how), urls))
    return {url: reason for url, reason in zip(urls, said, strict=True) if reason}
