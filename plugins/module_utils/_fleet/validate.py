# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the catalogue and the settings: every mistake at once, each with its place, its value and the fix."""

from __future__ import annotations

import copy
import difflib
import ipaddress
import math
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._services import gpu_service_of, service_of

from .edge import is_address
from .facts import Host
from .gpus import allot, host_rules, server_rules
from .placing import placing_rules
from .registry import own_secrets, registry_rules, settle
from .scaling import scale_rules
from .schema import FLEET, SECRET, SERVER, TIERS, Key

FILES_DIR = "/etc/mcp/"
FILE_BELOW = r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*"
RUNTIME_FILES = ("server.json", "openapi.json")
BUILT_IN_SECRETS = ("gateway_api_key", "gateway_session_key")
AUTHORITY = "edge_ca"
# A server's service and image are named after it; these are the fleet's own.
OWN_NAMES = {
    **dict.fromkeys(("gateway", "edge", "edge-config", "autoscaler", "docker-proxy"), "service"),
    **dict.fromkeys(("os", "builder", "runtime-python", "runtime-node", "registry"), "image"),
}
# What a volume must not hide in a server's container.
NEEDED_PATHS = ("/tmp", "/run/secrets", "/etc/mcp", "/opt/mcp", "/opt/server")


class FleetError(Exception):
    """The fleet cannot be planned. ``errors`` holds one line per mistake."""

    def __init__(self, errors: Sequence[str]) -> None:
        self.errors = list(errors)
        lines = [f"{number}. {error}" for number, error in enumerate(self.errors, 1)]
        count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
        super().__init__("\n".join([f"The fleet's description has {count}; nothing was changed.", *lines]))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _scalar(value: Any, key: Key, path: str, errors: list[str]) -> Any:
    kinds: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "number": (int, float), "bool": (bool,)}
    if key.quoted and isinstance(value, float):
        errors.append(f"{path}: {value!r} was read as a number, which drops zeros at its end; put it in quotes")
        return None
    if isinstance(value, bool) and str(value).lower() in key.choices:  # YAML's true, where other words are allowed too
        value = str(value).lower()
    if key.type == "str" and isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    fits = isinstance(value, kinds[key.type])
    if isinstance(value, bool):
        fits = key.type == "bool"
    elif isinstance(value, float):
        fits = fits and math.isfinite(value)
    if not fits:
        article = {"str": "a text", "int": "a whole number", "number": "a number", "bool": "true or false"}[key.type]
        errors.append(f"{path}: {_shown(value)} is not {article}")
        return None
    if key.type == "str":
        value = str(value)  # a plain string: Ansible's tagged ones do not survive serialisation unchanged
    if key.choices and value not in key.choices:
        errors.append(f"{path}: {_shown(value)} is unknown; use one of {', '.join(key.choices)}")
    elif key.pattern and value != key.default and not re.fullmatch(key.pattern, value):
        errors.append(f"{path}: {_shown(value)} is not allowed; {key.hint or 'it must match ' + key.pattern}")
    elif key.minimum is not None and value < key.minimum:
        errors.append(f"{path}: {_shown(value)} is too small; use at least {key.minimum:g}")
    elif key.maximum is not None and value > key.maximum:
        errors.append(f"{path}: {_shown(value)} is too large; use at most {key.maximum:g}")
    return value


def _value(value: Any, key: Key, path: str, errors: list[str]) -> Any:
    """The value with defaults filled in; mistakes are appended to ``errors``."""
    if key.type == "list":
        if not isinstance(value, (list, tuple)):
            errors.append(f"{path}: {_shown(value)} is not a list")
            return []
        return [_value(v, key.item, f"{path}[{i}]", errors) if key.item else v for i, v in enumerate(value)]
    if key.type in ("map", "object") and not isinstance(value, Mapping):
        errors.append(f"{path}: {_shown(value)} is not a mapping")
        return {}
    if key.type == "map":
        for name in value:
            if key.key_pattern and not re.fullmatch(key.key_pattern, str(name)):
                errors.append(f"{path}: the key {_shown(name)} is not allowed; it must match {key.key_pattern}")
        return {str(k): _value(v, key.item, f"{path}.{k}", errors) if key.item else v for k, v in value.items()}
    if key.type == "object":
        keys = dict(key.keys)
        if key.tag:
            tag = value.get(key.tag)
            if not isinstance(tag, str) or tag not in key.variants:
                known = ", ".join(key.variants)
                errors.append(f"{path}.{key.tag}: {_shown(tag)} is unknown; use one of {known}")
                return {key.tag: None}
            keys = {key.tag: Key("str", required=True), **key.variants[tag]}
        return _object(value, keys, path, errors)
    return _scalar(value, key, path, errors)


def _object(value: Mapping[str, Any], keys: Mapping[str, Key], path: str, errors: list[str]) -> dict[str, Any]:
    prefix = f"{path}." if path else ""
    for name in value:
        if name not in keys and not str(name).startswith("x-"):
            close = difflib.get_close_matches(str(name), keys, n=1)
            meant = f"; did you mean {close[0]!r}?" if close else f"; known keys: {', '.join(keys)}"
            errors.append(f"{prefix}{name}: unknown key{meant}")
    result: dict[str, Any] = {}
    for name, key in keys.items():
        if value.get(name) is not None:
            result[name] = _value(value[name], key, prefix + name, errors)
        elif key.required:
            errors.append(f"{prefix}{name}: missing; {key.doc or 'it is required'}")
            result[name] = None
        elif key.type == "object" and key.default is not None:
            result[name] = _object({}, key.keys, prefix + name, errors)
        else:
            result[name] = list(key.default) if isinstance(key.default, tuple) else copy.deepcopy(key.default)
    return result


def _server_rules(server: dict[str, Any], path: str, secrets: Mapping[str, Any], errors: list[str]) -> None:
    """What one entry's keys demand of each other."""
    kind = server["source"].get("kind")
    told = any(error.startswith(f"{path}.command") for error in errors)
    if kind in ("pypi", "npm") and not server["command"] and not told:
        errors.append(f"{path}.command: missing; name the program that the package installs")
    if kind in ("python", "openapi", "image", "remote") and server["command"] and kind != "image":
        errors.append(f"{path}.command: {_shown(server['command'])} has no effect with kind {kind}; remove it")
    if kind == "pypi":
        for index, extra in enumerate(server["source"]["with"]):
            if extra and "==" not in extra:
                errors.append(f"{path}.source.with[{index}]: {extra!r} is not pinned; write name==version")
    if kind == "openapi" and (variable := server["source"].get("credential")) and variable not in server["secrets"]:
        errors.append(f"{path}.source.credential: {variable!r} is not among this server's secrets; add it there")
    for variable, secret in server["secrets"].items():
        if secret and secret not in secrets:
            errors.append(f"{path}.secrets.{variable}: no secret {secret!r}; declare it in mcp_fleet.secrets")
        for name in (variable, f"{variable}_FILE"):
            if name in server["env"]:
                errors.append(f"{path}.env.{name}: is also set by secrets.{variable}; remove one of them")
    _volume_rules(server["volumes"], path, errors)
    for header, value in server["headers"].items():
        if value.get("secret") and value["secret"] not in secrets:
            errors.append(f"{path}.headers.{header}: no secret {value['secret']!r}; declare it in mcp_fleet.secrets")
    for file in server["files"]:
        below = file.removeprefix(FILES_DIR)
        if file == below or not re.fullmatch(FILE_BELOW, below) or ".." in below.split("/"):
            errors.append(f"{path}.files: {file!r} is not allowed; write a path below {FILES_DIR} without '..'")
        elif below in RUNTIME_FILES:
            errors.append(f"{path}.files: {file!r} is written by the fleet plan itself; choose another name")
    if kind == "image" and server["files"]:
        errors.append(f"{path}.files: has no effect with kind image, which is not built here; remove it")
    if kind == "remote":
        for name in ("volumes", "packages", "prepare", "files", "secrets", "env", "node"):
            if server[name]:
                errors.append(f"{path}.{name}: has no effect with kind remote; remove it (credentials go to headers)")


def _volume_rules(volumes: Mapping[str, Any], path: str, errors: list[str]) -> None:
    taken: dict[str, str] = {}
    for name, target in volumes.items():
        if not isinstance(target, str):
            continue
        place = "/" + posixpath.normpath(target).lstrip("/")
        if place in taken:
            errors.append(f"{path}.volumes.{name}: {target!r} is also the path of {taken[place]}; choose another")
        taken.setdefault(place, name)
        hidden = [needed for needed in NEEDED_PATHS if f"{needed}/".startswith(f"{place.rstrip('/')}/")]
        if hidden:
            errors.append(f"{path}.volumes.{name}: {target!r} would hide {hidden[0]}; choose another path")


def _edge_rules(fleet: dict[str, Any], edge_nodes: int, errors: list[str]) -> None:
    edge = fleet["edge"]
    if edge["tls"] == "acme" and not edge["acme_email"]:
        errors.append("mcp_fleet.edge.acme_email: missing; ACME needs a contact address")
    if edge["port"] == edge["http_port"]:
        errors.append(f"mcp_fleet.edge.http_port: {edge['http_port']} is also edge.port; use another")
    if not edge["hosts"]:
        errors.append("mcp_fleet.edge.hosts: empty; name at least one host that clients use")
    for index, host in enumerate(edge["hosts"]):
        if isinstance(host, str) and ":" in host and not is_address(host):
            errors.append(f"mcp_fleet.edge.hosts[{index}]: {host!r} is no IPv6 address; write one such as 2001:db8::7")
    if edge["tls"] == "acme" and edge_nodes > 1:
        errors.append(
            f"mcp_fleet.edge.tls: 'acme' with {edge_nodes} edge nodes: the authority's challenge reaches any of them,"
            " and only the one that asked for the certificate can answer; use files or internal, or one edge node"
        )
    if edge["tls"] == "files":
        errors += [
            f"mcp_fleet.secrets.{name}: missing; edge.tls files needs it, such as {{file: /path/{file}.pem}}"
            for name, file in (("edge_certificate", "fullchain"), ("edge_key", "privkey"))
            if name not in fleet["secrets"]
        ]
    elif edge["ca_file"]:
        errors.append(f"mcp_fleet.edge.ca_file: has no effect with edge.tls {edge['tls']}; remove it")


def _fleet_rules(fleet: dict[str, Any], errors: list[str]) -> None:
    if "digest_key" in fleet["secrets"]:
        errors.append("mcp_fleet.secrets.digest_key: the controller keeps a key of its own by this name; use another")
    for name, secret in fleet["secrets"].items():
        given = [k for k, v in secret.items() if v not in (None, "")]
        if len(given) != 1:
            errors.append(
                f"mcp_fleet.secrets.{name}: has {len(given)} sources; give exactly one of generate, env, value, file"
            )
    nets: list[tuple[str, Any]] = []
    for name in TIERS:
        subnet = fleet["networks"].get(name)
        try:
            net = ipaddress.ip_network(subnet)
        except (ValueError, TypeError) as error:
            errors.append(f"mcp_fleet.networks.{name}: {_shown(subnet)} is no subnet ({error}); write 10.98.0.0/22")
            continue
        errors += [
            f"mcp_fleet.networks.{name}: {subnet} overlaps networks.{other}; choose another"
            for other, n in nets
            if n.overlaps(net)
        ]
        nets.append((name, net))


def _take_names(server: Mapping[str, Any], path: str, taken: dict[str, str], errors: list[str]) -> None:
    """A server's services must be its own; ``taken`` has those of others, each with whose it is."""
    name = server["name"]
    if (service := service_of(name)) in taken:
        errors.append(f"{path}.name: {name!r} is also {taken[service]}; choose another name")
    taken.setdefault(service, path)
    if server["gpu"] != "preferred":
        return
    if (service := gpu_service_of(name)) in taken:
        errors.append(
            f"{path}.gpu: 'preferred' makes the service {service}, which is also {taken[service]}; choose another name"
        )
    taken.setdefault(service, f"the GPU service of {path}")


def validate(catalogue: Any, settings: Any, hosts: Sequence[Host] = ()) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The catalogue and the settings with all defaults filled in.

    Args:
        catalogue: the list ``mcp_servers``.
        settings: the mapping ``mcp_fleet``.
        hosts: the inventory's nodes.

    Raises:
        FleetError: with every mistake found.
    """
    errors: list[str] = []
    fleet = _value(settings or {}, Key("object", keys=FLEET), "mcp_fleet", errors)
    fleet = fleet or _object({}, FLEET, "mcp_fleet", [])
    registry_rules(fleet, [host.name for host in hosts if host.manager], errors)
    settle(fleet["registry"], str(fleet["name"]), len(hosts))
    own = dict.fromkeys(BUILT_IN_SECRETS, False) | ({AUTHORITY: True} if fleet["edge"]["tls"] == "internal" else {})
    for name, authority in own.items():
        if name not in fleet["secrets"]:
            fleet["secrets"][name] = _object({"generate": {"authority": authority}}, SECRET.keys, "", [])
    for name, source in own_secrets(fleet["registry"], fleet["name"]).items():
        fleet["secrets"].setdefault(name, source)
    if not isinstance(catalogue, (list, tuple)) or not catalogue:
        errors.append(f"mcp_servers: {_shown(catalogue)} is not a list with at least one server")
        catalogue = []
    servers: list[dict[str, Any]] = []
    sound: list[dict[str, Any]] = []
    taken: dict[str, str] = {name: f"the fleet's own {what} {name}" for name, what in OWN_NAMES.items()}
    for index, entry in enumerate(catalogue):
        path = f"mcp_servers[{index}]"
        before = len(errors)
        server = _value(entry, Key("object", keys=SERVER), path, errors)
        if not isinstance(entry, Mapping):
            sound.append({"gpu": "none"})
            continue
        if isinstance(server["name"], str):
            _take_names(server, path, taken, errors)
        if len(errors) == before or server["source"]:
            _server_rules(server, path, fleet["secrets"], errors)
            scale_rules(server, path, fleet["autoscaling"]["gpu"]["url"], errors)
            server_rules(server, path, errors)
        servers.append(server)
        # Of one with mistakes nothing is known that GPUs could be given by.
        sound.append(server if len(errors) == before else {"gpu": "none"})
    _edge_rules(fleet, sum(1 for host in hosts if host.edge), errors)
    _fleet_rules(fleet, errors)
    placing_rules(servers, fleet["data_node"], hosts, errors)
    odd = len(errors)
    host_rules(hosts, errors)
    if len(errors) == odd:
        errors += allot(sound, fleet["data_node"], hosts).errors
    if errors:
        raise FleetError(list(dict.fromkeys(errors)))
    return servers, fleet
