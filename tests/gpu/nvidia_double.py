# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands for NVIDIA's programs on a machine without a GPU: what it is called by decides which of them it is.

Whoever installs it puts ``#!/usr/bin/python3`` before it.

What is doubled is told by one file, JSON, at ``$NVIDIA_DOUBLE`` or ``/etc/nvidia-double.json``:

- ``driver``, ``cuda``, ``toolkit``: versions. ``log``: what the kernel has logged.
- ``fault``: ``no_driver``, ``mismatch``, ``hang`` or nothing.
- ``ignores_swarm``: the runtime does not look at what Swarm assigned (NVIDIA/nvidia-container-toolkit#1599).
- ``device_nodes``: nvidia-smi shows what has its node in /dev, as the real one does; a container sees what its runtime gave it.
- ``gpus``: each with ``uuid``, ``pci`` and, where it matters, ``name``, ``memory``, ``used``, ``persistence``, ``minor``, ``mig`` (a
  list of ``uuid`` and ``profile``; null where it cannot be divided), ``values`` (a query's value over its own), ``lost`` (it does not
  answer: the driver's words), ``hidden`` (the driver does not know it any more). ``lost_hides``: a lost GPU hides the others.

Where each format comes from:

- ``nvidia-smi --query-gpu``: nvidia-smi(1), with values as drivers 535 to 570 print them, ``[N/A]`` and ``[Unknown Error]`` included.
- ``nvidia-smi -L``: the examples of NVIDIA's "MIG User Guide".
- exit codes: nvidia-smi(1), "RETURN VALUE"; the words for a lost GPU, for no driver and for a mismatch are those of reports in
  public trackers (leptonai/gpud and NVIDIA's forum have the first in two spellings, with and without an index).
- ``nvidia-ctk config`` and ``runtime configure``: ``recorded/`` has what nvidia-ctk 1.19.1, built from its source, printed;
  tests/unit/plugins/module_utils/test_node_gpus.py compares.
- ``nvidia-ctk cdi generate``: the CDI specification 0.5, with the parts that nvidia-ctk 1.19.1 writes (pkg/nvcdi): device nodes by
  device, mounts and control nodes for all.
- ``nvidia-container-runtime``: internal/config/image/cuda_image.go of 1.19.1 for which environment variable counts and for ``void``,
  internal/modifier/cdi.go for ``mode``: ``auto`` knows UUIDs and indexes, ``cdi`` what the files of ``spec-dirs`` name. 1.18 knows no
  ``swarm-resource``. What it changes it changes in the container's configuration, and then it is the first of ``runtimes``.
  test_runtime_double.py has a table that the vendor's own programs were held to as well.
"""

from __future__ import annotations

import glob
import json
import os
import re
import sys
import time
from typing import Any

STATE = os.environ.get("NVIDIA_DOUBLE", "/etc/nvidia-double.json")
CONFIG = os.path.join(os.environ.get("XDG_CONFIG_HOME", "/etc"), "nvidia-container-runtime", "config.toml")
# What `nvidia-ctk config` makes of an empty file, by section; what is commented out is the default and shown as such.
DEFAULTS = {
    "": {
        "#accept-nvidia-visible-devices-as-volume-mounts": "false",
        "#accept-nvidia-visible-devices-envvar-when-unprivileged": "true",
        "disable-require": "false",
        "supported-driver-capabilities": '"compat32,compute,display,graphics,ngx,utility,video"',
        "#swarm-resource": '"DOCKER_RESOURCE_GPU"',
    },
    "nvidia-container-cli": {
        "#debug": '"/var/log/nvidia-container-toolkit.log"',
        "environment": "[]",
        "#ldcache": '"/etc/ld.so.cache"',
        "ldconfig": '"@/sbin/ldconfig"',
        "load-kmods": "true",
        "#no-cgroups": "false",
        "#path": '"/usr/bin/nvidia-container-cli"',
        "#root": '"/run/nvidia/driver"',
        "#user": '"root:video"',
    },
    "nvidia-container-runtime": {
        "#debug": '"/var/log/nvidia-container-runtime.log"',
        "log-level": '"info"',
        "mode": '"auto"',
        "runtimes": '["runc", "crun"]',
    },
    "nvidia-container-runtime.modes": {},
    "nvidia-container-runtime.modes.cdi": {
        "annotation-prefixes": '["cdi.k8s.io/"]',
        "default-kind": '"nvidia.com/gpu"',
        "spec-dirs": '["/etc/cdi", "/var/run/cdi"]',
    },
    "nvidia-container-runtime.modes.csv": {
        "mount-spec-path": '"/etc/nvidia-container-runtime/host-files-for-container.d"',
    },
    "nvidia-container-runtime.modes.legacy": {"cuda-compat-mode": '"ldconfig"'},
    "nvidia-container-runtime-hook": {"path": '"nvidia-container-runtime-hook"', "skip-mode-detection": "false"},
    "nvidia-ctk": {"path": '"nvidia-ctk"'},
}


def load() -> dict[str, Any]:
    with open(STATE, encoding="utf-8") as file:
        return dict(json.load(file))


def text(path: str) -> str:
    """A file's content; empty where there is none."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read()


def node(state: dict[str, Any], name: str) -> dict[str, str]:
    """A device as a CDI specification has it: ``nodes`` is where it is on the host, if not in /dev."""
    there = f"{state['nodes']}/dev/{name}" if "nodes" in state else ""
    return {"path": f"/dev/{name}", **({"hostPath": there} if there else {})}


def minor(gpu: dict[str, Any], number: int) -> int:
    return int(gpu.get("minor", number))


def present(state: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """The GPUs that the driver knows here, with the number of each."""
    known = [gpu for gpu in state["gpus"] if not gpu.get("hidden")]
    if state.get("device_nodes"):
        known = [gpu for gpu in known if os.path.exists(f"/dev/nvidia{minor(gpu, state['gpus'].index(gpu))}")]
    return list(enumerate(known))


def bus(gpu: dict[str, Any]) -> str:
    """As the driver writes it: eight digits of domain, and capitals."""
    return f"0000{gpu['pci']}".upper()


# -- nvidia-smi ----------------------------------------------------------------------------------


def smi(arguments: list[str]) -> int:
    state = load()
    fault = state.get("fault")
    if fault == "hang":
        time.sleep(3600)
    if fault == "no_driver":
        print(
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA"
            " driver is installed and running.\n"
        )
        return 9
    if fault == "mismatch":
        print(f"Failed to initialize NVML: Driver/library version mismatch\nNVML library version: {state['driver'].rpartition('.')[0]}")
        return 18
    if state.get("device_nodes") and not present(state):
        print("Failed to initialize NVML: Unknown Error" if not os.path.exists("/dev/nvidiactl") else "No devices were found")
        return 255 if not os.path.exists("/dev/nvidiactl") else 6
    gpus, code = present(state), 0
    if wish := next((each.partition("=")[2] for each in arguments if each.startswith(("--id=", "-i="))), ""):
        gpus = [(number, gpu) for number, gpu in gpus if wish in (str(number), gpu["uuid"], gpu["pci"])]
    lost = [(number, gpu) for number, gpu in gpus if gpu.get("lost")]
    for number, gpu in lost:
        index = f"{number}: " if state.get("lost_index") else ""
        print(f"Unable to determine the device handle for GPU{index}{gpu['pci'].upper()}: {gpu['lost']}")
        code = 15 if "lost" in gpu["lost"] else 255
    if lost and state.get("lost_hides"):
        return code
    gpus = [(number, gpu) for number, gpu in gpus if not gpu.get("lost")]
    query = next((each.partition("=")[2].split(",") for each in arguments if each.startswith("--query-gpu=")), [])
    if not gpus and not lost:
        print("No devices were found")
        return 6
    if query:
        for number, gpu in gpus:
            print(", ".join(value(state, number, gpu, key) for key in query))
    elif "-L" in arguments or "--list-gpus" in arguments:
        for number, gpu in gpus:
            print(f"GPU {number}: {gpu.get('name', 'NVIDIA A100-SXM4-40GB')} (UUID: {gpu['uuid']})")
            for place, part in enumerate(gpu.get("mig") or ()):
                print(f"  MIG {part['profile']:<11} Device  {place}: (UUID: {part['uuid']})")
    elif "-q" in arguments:
        print("\n==============NVSMI LOG==============\n")
        print(f"Driver Version                            : {state['driver']}")
        print(f"CUDA Version                              : {state['cuda']}\n")
        print(f"Attached GPUs                             : {len(gpus)}")
    elif "-pm" in arguments:
        for dummy, gpu in gpus:
            gpu["persistence"] = arguments[arguments.index("-pm") + 1] == "1"
            print(f"Enabled persistence mode for GPU {bus(gpu)}.")
        with open(STATE, "w", encoding="utf-8") as file:
            json.dump(state, file)
        print("All done.")
    return code


def value(state: dict[str, Any], number: int, gpu: dict[str, Any], key: str) -> str:
    mig = gpu.get("mig", [])
    values = {
        "index": str(number),
        "uuid": gpu["uuid"],
        "name": gpu.get("name", "NVIDIA A100-SXM4-40GB"),
        "pci.bus_id": bus(gpu),
        "driver_version": state["driver"],
        "memory.total": str(gpu.get("memory", 40960)),
        "memory.used": str(gpu.get("used", 4)),
        "utilization.gpu": "[N/A]" if mig else "0",
        "temperature.gpu": "31",
        "persistence_mode": "Enabled" if gpu.get("persistence") else "Disabled",
        "mig.mode.current": "[N/A]" if mig is None else "Enabled" if mig or gpu.get("mig_empty") else "Disabled",
    }
    return str({**values, **gpu.get("values", {})}[key])


# -- nvidia-ctk ----------------------------------------------------------------------------------


def option(arguments: list[str], *names: str) -> str:
    """The value of an option, given apart or after "="."""
    for number, each in enumerate(arguments):
        name, equals, given = each.partition("=")
        if name in names:
            return given if equals else arguments[number + 1]
    return ""


def ctk(arguments: list[str]) -> int:
    words = [each for each in arguments if not each.startswith("-")]
    if "--version" in arguments:
        print(f"NVIDIA Container Toolkit CLI version {load()['toolkit']}")
    elif words[:1] == ["config"]:
        return ctk_config(arguments)
    elif words[:2] == ["runtime", "configure"] and "--dry-run" in arguments:
        path = option(arguments, "--config")
        settings = json.loads(text(path) or "{}")
        settings.setdefault("runtimes", {})["nvidia"] = {"args": [], "path": "nvidia-container-runtime"}
        if "--nvidia-set-as-default" in arguments:
            settings["default-runtime"] = "nvidia"
        print('time="…" level=info msg="Config file does not exist; using empty config"', file=sys.stderr)
        print(json.dumps(settings, indent=4, sort_keys=True))
    elif words[:2] == ["cdi", "generate"]:
        print('time="…" level=info msg="Auto-detected mode as \'nvml\'"', file=sys.stderr)
        json.dump(cdi(load()), sys.stdout, indent=2)
    else:
        print(f"the double knows no nvidia-ctk {' '.join(arguments)}", file=sys.stderr)
        return 1
    return 0


def read_toml(path: str) -> dict[str, dict[str, str]]:
    """Section to key to the value as it is written; a comment's key begins with #."""
    settings: dict[str, dict[str, str]] = {"": {}}
    section = ""
    for line in text(path).splitlines():
        if match := re.match(r"\[(.+)\]$", line.strip()):
            section = match[1]
            settings[section] = {}
        elif " = " in line:
            key, dummy, written = line.strip().partition(" = ")
            settings[section][key] = written
    return settings


def ctk_config(arguments: list[str]) -> int:
    path = option(arguments, "--config-file", "--config", "-c") or CONFIG
    settings = read_toml(path) if text(path) else json.loads(json.dumps(DEFAULTS))
    for number, each in enumerate(arguments):
        if each != "--set" and not each.startswith("--set="):
            continue
        given = arguments[number + 1] if each == "--set" else each.partition("=")[2]
        name, dummy, new = given.partition("=")
        section, dummy, key = name.rpartition(".")
        settings.setdefault(section, {}).pop(f"#{key}", None)
        settings[section][key] = json.dumps(new)
    blocks = []
    for section, values in settings.items():
        lines = [f"{key} = {written}" for key, written in sorted(values.items(), key=lambda pair: pair[0].lstrip("#"))]
        blocks.append("\n".join(([f"[{section}]"] if section else []) + lines))
    whole = "\n\n".join(blocks) + "\n"
    if "--in-place" in arguments or "-i" in arguments:
        with open(path, "w", encoding="utf-8") as file:
            file.write(whole)
    else:
        sys.stdout.write(whole)
    return 0


def cdi(state: dict[str, Any]) -> dict[str, Any]:
    """The specification of all GPUs, named by their UUIDs, and of all of them together."""
    devices = []
    for number, gpu in present(state):
        if not gpu.get("lost"):
            nodes = [node(state, f"nvidia{minor(gpu, number)}")]
            devices.append({"name": gpu["uuid"], "containerEdits": {"deviceNodes": nodes}})
    together = [each for device in devices for each in device["containerEdits"]["deviceNodes"]]
    read_only = ["ro", "nosuid", "nodev", "rbind", "rprivate"]
    mounts = [{"hostPath": path, "containerPath": path, "options": read_only} for path in ("/usr/bin/nvidia-smi", STATE)]
    return {
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "devices": [*devices, {"name": "all", "containerEdits": {"deviceNodes": together}}],
        "containerEdits": {
            "env": ["NVIDIA_CTK_LIBCUDA_DIR=/usr/lib", f"NVIDIA_DOUBLE={STATE}", "NVIDIA_VISIBLE_DEVICES=void"],
            "deviceNodes": [node(state, "nvidiactl")],
            "mounts": mounts,
        },
    }


# -- nvidia-container-runtime --------------------------------------------------------------------


def runtime(arguments: list[str]) -> int:
    """Change the configuration of a container that is to be made, and be runc."""
    if "create" in arguments:
        bundle = option(arguments, "--bundle", "-b") or os.getcwd()
        path = os.path.join(bundle, "config.json")
        with open(path, encoding="utf-8") as file:
            container = json.load(file)
        settings = read_toml(CONFIG)
        try:
            devices = wished(load(), settings, dict(each.split("=", 1) for each in container["process"]["env"]))
            changed = inject(container, devices, settings)
        except ValueError as error:
            said = f"could not apply required modification to OCI specification: error modifying OCI spec: {error}"
            print(f'time="…" level=error msg="{said}"', file=sys.stderr)
            return 1
        if changed:
            with open(path, "w", encoding="utf-8") as file:
                json.dump(container, file)
    below = listed(read_toml(CONFIG), "nvidia-container-runtime", "runtimes", ["runc"])[0]
    return os.execvp(below, [os.path.basename(below), *arguments])  # never returns: it becomes runc


def listed(settings: dict[str, dict[str, str]], section: str, key: str, default: Any) -> Any:
    """A setting; what TOML writes of strings and lists of them, JSON does as well."""
    written = settings.get(section, {}).get(key)
    return default if written is None else json.loads(written)


def wished(state: dict[str, Any], settings: dict[str, dict[str, str]], environment: dict[str, str]) -> list[str]:
    """The devices that a container asks for, as cuda_image.go has it."""
    preferred = listed(settings, "", "swarm-resource", "")
    knows = not state.get("ignores_swarm") and not state["toolkit"].startswith("1.18.")
    name = preferred if knows and preferred in environment else "NVIDIA_VISIBLE_DEVICES"
    devices = [each.strip() for each in environment.get(name, "").split(",") if each.strip()]
    return [] if "void" in devices else devices


def inject(container: dict[str, Any], devices: list[str], settings: dict[str, dict[str, str]]) -> bool:
    """Give a container devices; false where it gets none. Raises ValueError for one that is not there."""
    if not devices or devices == ["none"]:
        return False
    how = listed(settings, "nvidia-container-runtime", "mode", "auto")
    places = listed(settings, "nvidia-container-runtime.modes.cdi", "spec-dirs", ["/etc/cdi", "/var/run/cdi"])
    files = [path for place in places for path in sorted(glob.glob(f"{place}/*.json"))]
    specs = [json.loads(text(path)) for path in files] if how == "cdi" else [cdi(load())]
    known = {device["name"]: (spec, device) for spec in specs for device in spec["devices"]}
    if how != "cdi":
        known |= {str(number): known[gpu["uuid"]] for number, gpu in present(load()) if gpu["uuid"] in known}
    used: list[dict[str, Any]] = []
    for name in devices:
        if name not in known:
            unknown = "failed to inject CDI devices: unresolvable CDI devices nvidia.com/gpu="
            why = unknown if how == "cdi" else "failed to create the automatic CDI modifier: identifier is not a valid UUID or index: "
            raise ValueError(f"{why}{name}")
        spec, device = known[name]
        used += [edits for edits in (spec["containerEdits"], device["containerEdits"]) if edits not in used]
    for edits in used:
        apply(container, edits)
    return True


def apply(container: dict[str, Any], edits: dict[str, Any]) -> None:
    """Edits of a container as the CDI specification has them."""
    for line in edits.get("env", ()):
        name = line.partition("=")[0] + "="
        container["process"]["env"] = [each for each in container["process"]["env"] if not each.startswith(name)] + [line]
    for mount in edits.get("mounts", ()):
        container["mounts"].append(
            {"source": mount["hostPath"], "destination": mount["containerPath"], "type": "bind", "options": mount["options"]}
        )
    linux = container.setdefault("linux", {})
    for each in edits.get("deviceNodes", ()):
        status = os.stat(each.get("hostPath", each["path"]))
        number = {"type": "c", "major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev)}
        linux.setdefault("devices", []).append({"path": each["path"], "fileMode": 0o666, "uid": 0, "gid": 0, **number})
        rules = linux.setdefault("resources", {}).setdefault("devices", [])
        rules.append({"allow": True, "access": "rwm", **number})


def main() -> int:
    program, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
    if program == "dmesg":
        print(load().get("log", ""))
        return 0
    return {"nvidia-smi": smi, "nvidia-ctk": ctk, "nvidia-container-runtime": runtime}[program](arguments)


if __name__ == "__main__":
    sys.exit(main())
