# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's NVIDIA GPUs: what its driver and its kernel say of them, and by which names the Swarm is to know them.

Sources: nvidia-smi(1) for its queries, exit codes and what stands for a value that there is none of; NVIDIA's "MIG User
Guide" for ``nvidia-smi -L``; NVIDIA's "XID Errors" for the numbers in the kernel's log.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._process import TIMED_OUT, run

# Without persistence mode the driver initialises each GPU for each question, some seconds a GPU.
SMI_SECONDS = 60.0
LOG_SECONDS = 20.0
QUERY = (
    "index",
    "uuid",
    "name",
    "pci.bus_id",
    "driver_version",
    "memory.total",
    "memory.used",
    "utilization.gpu",
    "temperature.gpu",
    "persistence_mode",
    "mig.mode.current",
)
DRIVER_FILES = "/proc/driver/nvidia"
PCI_DEVICES = "/sys/bus/pci/devices"
NVIDIA_VENDOR = "0x10de"
# Display controllers: VGA and 3D ones are GPUs; the audio functions of the same cards have another class.
DISPLAY_CLASS = "0x03"
DRIVER_NOT_LOADED, NO_DEVICES, NO_LIBRARY = 9, 6, 12
LOST = re.compile(
    r"Unable to determine the device handle for GPU\s*(?:\d+:\s+)?([0-9A-Fa-f]{4,8}:[0-9A-Fa-f:.]+): (.+)"
)
XID = re.compile(r"NVRM: Xid \(PCI:([0-9A-Fa-f:]+)[0-9A-Fa-f.]*\): (\d+)")
# Errors of the GPU itself. The others are those of programs that use it (13, 31, 43, 45), or for nobody to act on.
FATAL_XIDS = {
    48: "double-bit memory error",
    62: "its microcontroller halted",
    64: "memory row could not be remapped",
    74: "NVLink error",
    79: "fell off the bus",
    95: "uncontained memory error",
    119: "its system processor does not answer",
    120: "its system processor failed",
    140: "unrecovered memory error",
}
NOT_THERE = re.compile(r"\[?(?:N/A|Not Supported|Not Found)\]?$")


class GpuError(Exception):
    """The node's GPUs cannot be told or used; the message says why and what to do."""


@dataclass(frozen=True)
class Part:
    """A MIG instance: a part of a GPU that is handed out as a whole."""

    uuid: str
    profile: str


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        pci: its address on the bus, as the kernel writes it.
        memory_total_mib, memory_used_mib: in MiB; None where the driver does not tell.
        utilisation_percent: of the last second or so; None where the driver does not tell, as with MIG.
        temperature_celsius: of the GPU.
        persistence: whether the driver keeps it initialised while nobody uses it.
        mig: whether it is divided.
        parts: its MIG instances.
        xids: errors that the kernel logged of it since it booted, each number once.
        problems: what is wrong with it.
    """

    index: int
    uuid: str
    model: str
    pci: str
    memory_total_mib: int | None
    memory_used_mib: int | None
    utilisation_percent: int | None
    temperature_celsius: int | None
    persistence: bool
    mig: bool
    parts: tuple[Part, ...] = ()
    xids: tuple[int, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gpus:
    """All of a node's.

    Attributes:
        driver: version of the driver.
        cuda: the newest CUDA that it is fit for; empty where it does not tell.
        gpus: those that answer, by index.
        vanished: address on the bus to the reason, of those that the kernel sees and that do not answer.
    """

    driver: str
    cuda: str
    gpus: tuple[Gpu, ...]
    vanished: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """As the module returns it."""
        found = [
            {
                **{key: value for key, value in asdict(gpu).items() if key != "parts"},
                "instances": [asdict(part) for part in gpu.parts],
                "xids": list(gpu.xids),
                "problems": list(gpu.problems),
                "healthy": not gpu.problems,
            }
            for gpu in self.gpus
        ]
        vanished = [{"pci": pci, "why": why} for pci, why in sorted(self.vanished.items())]
        return {"driver": self.driver, "cuda": self.cuda, "gpus": found, "vanished": vanished}


def look(timeout: float = SMI_SECONDS) -> Gpus:
    """The GPUs of the node that this runs on.

    Args:
        timeout: of each question to nvidia-smi, in seconds.

    Raises:
        GpuError: nvidia-smi is missing, fails or hangs.
    """
    answer = _ask(["--query-gpu=" + ",".join(QUERY), "--format=csv,noheader,nounits"], timeout)
    there = seen_by_kernel()
    rows, vanished = read_query(answer)
    if vanished and not rows:
        # Some drivers say nothing of the others when one is lost: each is asked alone.
        for pci in sorted(there - set(vanished)):
            alone = _ask([f"--id={pci}", "--query-gpu=" + ",".join(QUERY), "--format=csv,noheader,nounits"], timeout)
            more, lost = read_query(alone)
            rows += more
            vanished |= lost
    driver = rows[0]["driver_version"] if rows else ""
    parts = read_list(_ask(["-L"], timeout)) if any(row["mig.mode.current"] == "Enabled" for row in rows) else {}
    xids = read_xids(_kernel_log())
    gpus = [_gpu(row, parts.get(row["uuid"], ()), xids) for row in rows]
    answering = {gpu.pci for gpu in gpus}
    for pci in there - answering - set(vanished):
        vanished[pci] = "the driver does not show it"
    told = {pci: f"{why}{_told(xids.get(pci, ()))}" for pci, why in vanished.items()}
    return Gpus(driver, _cuda(timeout) if rows else "", tuple(sorted(gpus, key=lambda gpu: gpu.index)), told)


def _ask(arguments: Sequence[str], timeout: float) -> str:
    """What nvidia-smi says.

    Raises:
        GpuError: it is missing, hangs, or can say nothing.
    """
    program = shutil.which("nvidia-smi", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")
    if program is None:
        raise GpuError(
            "nvidia-smi is not installed: install it with NVIDIA's driver (Debian: nvidia-driver and nvidia-smi,"
            " Ubuntu: nvidia-driver-<n>-server) and restart the machine"
        )
    code, said = run([program, *arguments], timeout=timeout)
    flat = " ".join(said.split())[:300]
    if code == TIMED_OUT:
        raise GpuError(
            f"nvidia-smi gave no answer within {timeout:g} s: a GPU or its driver hangs; look at dmesg (NVRM: Xid) and"
            " restart the machine"
        )
    if code == DRIVER_NOT_LOADED or "couldn't communicate with the NVIDIA driver" in said:
        raise GpuError(
            "nvidia-smi reaches no driver: the kernel module nvidia is not loaded; load it (modprobe nvidia), or"
            " build it for this kernel (apt install linux-headers-$(uname -r); dkms autoinstall); then restart"
            " the machine"
        )
    if "Driver/library version mismatch" in said:
        raise GpuError(
            "the driver's libraries are of another version than its kernel module that is loaded (Driver/library"
            " version mismatch): it was upgraded; restart the machine"
        )
    if code and not LOST.search(said) and "No devices were found" not in said:
        missing = "; libnvidia-ml.so.1 is missing: reinstall the driver" if code == NO_LIBRARY else ""
        raise GpuError(f"nvidia-smi ended with {code}{missing}; it said: {flat or 'nothing'}")
    return said


def read_query(said: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The rows of ``--query-gpu`` with ``csv,noheader,nounits``, and the GPUs that are lost, with the reason.

    Raises:
        GpuError: it is something else.
    """
    rows, vanished = [], {}
    for line in said.splitlines():
        values = [value.strip() for value in line.split(",")]
        if lost := LOST.search(line):
            vanished[address(lost[1])] = lost[2].strip()
        elif len(values) == len(QUERY) and values[0].isdigit():
            rows.append(dict(zip(QUERY, values, strict=True)))
        elif line.strip() and "No devices were found" not in line and not line.startswith(("WARNING", "Warning")):
            raise GpuError(
                f"nvidia-smi said what is no row of {len(QUERY)} values: {line.strip()[:200]}; is the driver older than"
                " 450, or is it not NVIDIA's nvidia-smi?"
            )
    return rows, vanished


def read_list(said: str) -> dict[str, tuple[Part, ...]]:
    """The MIG instances of each GPU, by its UUID, from ``nvidia-smi -L``."""
    found: dict[str, list[Part]] = {}
    gpu = ""
    for line in said.splitlines():
        if match := re.match(r"GPU \d+: .*\(UUID: (GPU-[^)]+)\)", line):
            gpu = match[1]
            found[gpu] = []
        elif gpu and (match := re.match(r"\s+MIG (\S+)\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)", line)):
            found[gpu].append(Part(match[2], match[1]))
    return {uuid: tuple(parts) for uuid, parts in found.items()}


def visible(said: str) -> list[str]:
    """What ``nvidia-smi -L`` lists that can be computed on: MIG instances, and GPUs that are not divided into any."""
    parts = read_list(said)
    return [uuid for gpu, own in parts.items() for uuid in ([part.uuid for part in own] or [gpu])]


def read_xids(log: str) -> dict[str, tuple[int, ...]]:
    """The errors in a kernel's log, by the GPU's address on the bus."""
    found: dict[str, list[int]] = {}
    for pci, number in XID.findall(log):
        # Some lines have the function, some have not; a GPU's is 0.
        found.setdefault(address(pci if "." in pci else f"{pci}.0"), []).append(int(number))
    return {pci: tuple(dict.fromkeys(numbers)) for pci, numbers in found.items()}


def _told(xids: Iterable[int]) -> str:
    names = [f"Xid {number} ({FATAL_XIDS[number]})" for number in xids if number in FATAL_XIDS]
    return f"; the kernel logged {', '.join(names)}" if names else ""


def _kernel_log() -> str:
    """Empty where it may not be read."""
    program = shutil.which("dmesg", path=os.environ.get("PATH", "") + ":/usr/bin:/bin")
    if program is None:
        return ""
    code, said = run([program], timeout=LOG_SECONDS)
    return said if code == 0 else ""


def _cuda(timeout: float) -> str:
    match = re.search(r"CUDA (?:UMD )?Version\s*:\s*(\d+(?:\.\d+)*)", _ask(["-q", "-d", "COMPUTE"], timeout))
    return match[1] if match else ""


def _gpu(row: Mapping[str, str], parts: Sequence[Part], xids: Mapping[str, tuple[int, ...]]) -> Gpu:
    problems: list[str] = []

    def number(key: str) -> int | None:
        value = row[key]
        if re.fullmatch(r"\d+(?:\.\d+)?", value):
            return int(float(value))
        if not NOT_THERE.match(value):
            problems.append(f"{key} is {value}")
        return None

    pci = address(row["pci.bus_id"])
    gpu = Gpu(
        index=int(row["index"]),
        uuid=row["uuid"],
        model=row["name"],
        pci=pci,
        memory_total_mib=number("memory.total"),
        memory_used_mib=number("memory.used"),
        utilisation_percent=number("utilization.gpu"),
        temperature_celsius=number("temperature.gpu"),
        persistence=row["persistence_mode"] == "Enabled",
        mig=row["mig.mode.current"] == "Enabled",
        parts=tuple(parts),
        xids=xids.get(pci, ()),
    )
    problems += [f"Xid {number}: {FATAL_XIDS[number]}" for number in gpu.xids if number in FATAL_XIDS]
    return replace(gpu, problems=tuple(problems))


def address(pci: str) -> str:
    """An address on the bus as the kernel writes it: nvidia-smi's has eight digits of domain, and capitals."""
    domain, colon, rest = pci.lower().partition(":")
    return f"{domain[-4:].zfill(4)}{colon}{rest}"


def seen_by_kernel() -> set[str]:
    """The addresses of NVIDIA's GPUs, whatever their driver says of them."""
    found = {address(os.path.basename(path)) for path in glob.glob(f"{DRIVER_FILES}/gpus/*")}
    for path in glob.glob(f"{PCI_DEVICES}/*"):
        if _text(f"{path}/vendor") == NVIDIA_VENDOR and _text(f"{path}/class").startswith(DISPLAY_CLASS):
            found.add(address(os.path.basename(path)))
    return found


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


# -- what the Swarm is told ----------------------------------------------------------------------


def units(gpus: Sequence[Gpu], slots: int = 1) -> list[str]:
    """The names of what a service can reserve one of, in the order in which Swarm hands them out.

    SwarmKit assigns named resources from the beginning of a node's list (api/genericresource/resource_management.go,
    ``selectNodeResources``): the first slots of all GPUs come before the second of any, so that services spread over
    GPUs before they share one. What is given back goes to the end of the list (``reclaimResources``), so that later it
    depends on who ended when.

    Args:
        gpus: of the node.
        slots: how many services may share a GPU.

    Returns:
        With one slot each GPU's UUID, or those of its MIG instances; with more ``UUID.1``, ``UUID.2`` and so on.

    Raises:
        GpuError: the GPUs cannot be handed out so.
    """
    if slots < 1:
        raise GpuError(f"mcp_node_gpu_slots: {slots}: at least 1, the number of services that may share a GPU")
    divided = [gpu for gpu in gpus if gpu.mig]
    if divided and slots > 1:
        raise GpuError(
            f"mcp_node_gpu_slots: {slots}: {divided[0].uuid} is divided by MIG, and a MIG instance is handed out as a"
            f" whole; set it to 1, or turn MIG off (nvidia-smi -i {divided[0].index} -mig 0)"
        )
    if empty := [gpu for gpu in divided if not gpu.parts]:
        raise GpuError(
            f"{empty[0].uuid} has MIG on and no instances, so that nothing can use it: make some (nvidia-smi mig -i"
            f" {empty[0].index} -cgi <profiles> -C), or turn MIG off (nvidia-smi -i {empty[0].index} -mig 0)"
        )
    whole = [uuid for gpu in gpus for uuid in ([part.uuid for part in gpu.parts] if gpu.mig else [gpu.uuid])]
    names = whole if slots == 1 else [f"{uuid}.{slot}" for slot in range(1, slots + 1) for uuid in whole]
    for name in names:
        # SwarmKit splits at "=" and knows no quotes (api/genericresource/parse.go).
        if "=" in name or not name.startswith(("GPU-", "MIG-")) or names.count(name) > 1:
            raise GpuError(
                f"{name!r} cannot be the name of a GPU in the Swarm: such a name begins with GPU- or MIG-, is there"
                " once and has no =; look at nvidia-smi -L"
            )
    return names


def device_of(unit: str) -> str:
    """The UUID of the device behind a unit's name: that of a slot is its GPU's."""
    return re.sub(r"^(GPU-[^.]+)\.\d+$", r"\1", unit)
