# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry from which nodes get their images: none, one that the fleet runs in its Swarm, or another.

The fleet's own is a stack of its own, for it must serve before the fleet's images can be pushed. Nodes know it by a
name that stands in each one's /etc/hosts, so that neither its certificate nor the images' names change when it moves.
It is the registry of the CNCF project Distribution, 2.8, as Debian packages it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

USERNAME = "mcp"
CERTIFICATE, PASSWORD, AUTHORITY = "registry_certificate", "registry_password", "registry_ca"
PORT = 5000
DATA = "/var/lib/registry"
CONFIG = "/etc/mcp-registry/config.yml"
READ_ONLY_CONFIG = "/etc/mcp-registry/read-only.yml"
# How long an upload that was never finished is kept.
UPLOAD_HOURS = 24

_CONFIG = f"""# Written by the fleet plan; see https://distribution.github.io/distribution/about/configuration/
version: 0.1
log:
  level: warn
  accesslog: {{disabled: true}}
storage:
  filesystem: {{rootdirectory: {DATA}}}
  cache: {{blobdescriptor: inmemory}}
  delete: {{enabled: true}}
  maintenance:
    uploadpurging: {{enabled: true, age: {UPLOAD_HOURS}h, interval: 1h, dryrun: false}}
    readonly: {{enabled: READ_ONLY}}
http:
  addr: :{PORT}
  draintimeout: 15s
  headers: {{X-Content-Type-Options: [nosniff]}}
  tls:
    certificate: /run/secrets/{CERTIFICATE}
    key: /run/secrets/{CERTIFICATE}
    minimumtls: tls1.2
auth:
  htpasswd: {{realm: MCP Swarm, path: /tmp/htpasswd}}
health:
  storagedriver: {{enabled: true, interval: 10s, threshold: 3}}
"""

SERVE = f"""#!/bin/sh
# Serve the registry. A HUP has it begin anew: for reading only while /tmp/read-only is there.
set -eu
umask 077
htpasswd -niB {USERNAME} </run/secrets/{PASSWORD} >/tmp/htpasswd
echo $$ >/tmp/registry.pid
child='' again=''
trap 'again=1; kill "$child" 2>/dev/null || :' HUP
trap 'kill "$child" 2>/dev/null || :; wait "$child" || :; exit 0' TERM INT
while :; do
    again=''
    config={CONFIG}
    [ ! -e /tmp/read-only ] || config={READ_ONLY_CONFIG}
    docker-registry serve $config &
    child=$!
    echo $config >/tmp/serving
    code=0
    wait "$child" || code=$?
    [ -n "$again" ] || exit "$code"
    wait "$child" 2>/dev/null || :
done
"""

# Runs in the image, with the Python of Debian 13.
COLLECT = f'''#!/usr/bin/env python3
"""Delete images that nobody keeps, then the data that none needs. Meanwhile the registry serves for reading only.

Reads from standard input {{"keep": [names], "fresh_seconds": n, "check": false}}: names are repository:tag or
repository@digest, and what came within that time stays, too, for somebody may be about to deploy it. Writes
{{"deleted": [names], "kept": n, "freed": bytes}}. With check it only says what would go.
"""

import base64
import contextlib
import fcntl
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

STORE = Path("{DATA}/docker/registry/v2")
REPOSITORIES, BLOBS = STORE / "repositories", STORE / "blobs"
READ_ONLY = Path("/tmp/read-only")
START_SECONDS = 60


def ask(method, path):
    """The status of the registry's answer. It is asked on this container's own loopback: no certificate names that."""
    connection = http.client.HTTPSConnection("127.0.0.1", {PORT}, timeout=30, context=ssl._create_unverified_context())
    password = Path("/run/secrets/{PASSWORD}").read_text()
    token = base64.b64encode(f"{USERNAME}:{{password}}".encode()).decode()
    with contextlib.closing(connection):
        connection.request(method, path, headers={{"Authorization": f"Basic {{token}}"}})
        return connection.getresponse().status


def serve(read_only):
    """Have the registry begin anew, and wait until it serves."""
    READ_ONLY.touch() if read_only else READ_ONLY.unlink(missing_ok=True)
    Path("/tmp/serving").unlink(missing_ok=True)
    os.kill(int(Path("/tmp/registry.pid").read_text()), signal.SIGHUP)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if Path("/tmp/serving").exists() and ask("GET", "/v2/") == 200:
                return
        time.sleep(0.1)
    sys.exit(f"the registry did not serve again within {{START_SECONDS}} s; look at its log")


def size():
    return sum(path.stat().st_size for path in STORE.rglob("data"))


def doomed(keep, fresh_seconds):
    """Of each repository the manifests that nobody keeps, as (repository, digest, tags); and how many stay."""
    found, kept = [], 0
    for manifests in sorted(REPOSITORIES.rglob("_manifests")):
        repository = str(manifests.parent.relative_to(REPOSITORIES))
        tags = {{}}
        for link in manifests.glob("tags/*/current/link"):
            tags.setdefault(link.read_text().strip(), []).append(link.parts[-3])
        for link in sorted(manifests.glob("revisions/*/*/link")):
            digest = link.read_text().strip()
            names = [f"{{repository}}:{{tag}}" for tag in sorted(tags.get(digest, []))]
            fresh = time.time() - link.stat().st_mtime < fresh_seconds
            if fresh or keep.intersection([*names, f"{{repository}}@{{digest}}"]):
                kept += 1
            else:
                found.append((repository, digest, names))
    return found, kept


def main():
    lock = open("/tmp/collect.lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit("the registry is being cleaned already; run again when that is done")
    wish = json.load(sys.stdin)
    gone, kept = doomed(set(wish["keep"]), wish["fresh_seconds"])
    deleted = [name for repository, digest, names in gone for name in names or [f"{{repository}}@{{digest}}"]]
    if wish.get("check"):
        print(json.dumps({{"deleted": deleted, "kept": kept, "freed": 0}}))
        return
    before = size()
    for repository, digest, dummy in gone:
        status = ask("DELETE", f"/v2/{{repository}}/manifests/{{digest}}")
        if status not in (202, 404):
            sys.exit(f"the registry answered {{status}} to deleting {{repository}}@{{digest}}; look at its log")
    failed = ""
    try:
        serve(read_only=True)
        # What was being uploaded broke off, now if not before: whoever pushes begins anew.
        for uploads in list(REPOSITORIES.rglob("_uploads")):
            shutil.rmtree(uploads)
        if BLOBS.is_dir():  # it fails where nothing was ever stored
            collect = ["docker-registry", "garbage-collect", "{CONFIG}"]
            done = subprocess.run(collect, capture_output=True, text=True, check=False)
            if done.returncode:
                failed = (done.stdout + done.stderr).strip()[-500:] or f"exit code {{done.returncode}}"
    finally:
        serve(read_only=False)
    if failed:
        sys.exit(f"the registry's data could not be collected: {{failed}}")
    print(json.dumps({{"deleted": deleted, "kept": kept, "freed": before - size()}}))


main()
'''

HEALTH = f"""#!/usr/bin/env python3
# Whether it answers. Without credentials that is a refusal; while it begins anew it is given a moment.
import http.client
import ssl
import time

for attempt in range(3):
    try:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", {PORT}, timeout=3, context=ssl._create_unverified_context()
        )
        connection.request("GET", "/v2/")
        status = connection.getresponse().status
        raise SystemExit(0 if status == 401 else f"the registry answers {{status}}")
    except OSError as error:
        last = error
        time.sleep(1)
raise SystemExit(f"the registry does not answer: {{last}}")
"""

FILES = {
    "config.yml": _CONFIG.replace("READ_ONLY", "false"),
    "read-only.yml": _CONFIG.replace("READ_ONLY", "true"),
    "registry": SERVE,
    "registry-collect": COLLECT,
    "registry-health": HEALTH,
}


def stack_name(fleet: str) -> str:
    """The registry's stack, and the name by which nodes know it."""
    return f"{fleet}-registry"


def settle(settings: dict[str, Any], fleet: str, nodes: int) -> None:
    """Decide what ``auto`` is, and where the images are."""
    if settings.get("kind") == "auto":
        settings["kind"] = "swarm" if nodes > 1 else "none"
    if settings.get("kind") == "swarm":
        settings["address"] = f"{stack_name(fleet)}:{settings['port']}"
        settings["username"], settings["password"] = USERNAME, PASSWORD


def registry_rules(fleet: Mapping[str, Any], managers: Sequence[str], errors: list[str]) -> None:
    """What ``registry`` demands of its keys and of others.

    Args:
        fleet: the settings, with defaults filled in and ``auto`` as it is written.
        managers: hosts of the inventory that are managers.
        errors: takes one line per mistake.
    """
    settings, path = fleet["registry"], "mcp_fleet.registry"
    if not settings:  # no mapping, which has been told
        return
    kind = settings["kind"]
    foreign = {
        "none": ("node", "address", "username", "password", "ca_file"),
        "auto": ("address", "username", "password", "ca_file"),
        "swarm": ("address", "username", "password", "ca_file"),
        "external": ("node",),
    }
    errors += [
        f"{path}.{key}: {settings[key]!r} has no effect with kind {kind}; remove it"
        for key in foreign.get(kind, ())
        if settings[key]
    ]
    if kind == "external":
        if not settings["address"]:
            errors.append(f"{path}.address: missing; name the registry, such as registry.example.com/team")
        for one, other in (("username", "password"), ("password", "username")):
            if settings[one] and not settings[other]:
                errors.append(f"{path}.{other}: missing; {one} needs it")
        if settings["password"] and settings["password"] not in fleet["secrets"]:
            errors.append(f"{path}.password: no secret {settings['password']!r}; declare it in mcp_fleet.secrets")
    if kind in ("auto", "swarm"):
        if settings["node"] and managers and settings["node"] not in managers:
            errors.append(
                f"{path}.node: {settings['node']!r} is none of mcp_managers; use one of {', '.join(managers)}"
            )
        if settings["port"] in (fleet["edge"].get("port"), fleet["edge"].get("http_port")):
            errors.append(f"{path}.port: {settings['port']} is also a port of the edge; use another")
        if CERTIFICATE in fleet["secrets"]:
            errors.append(f"mcp_fleet.secrets.{CERTIFICATE}: the fleet makes this one itself; use another name")


def own_secrets(settings: Mapping[str, Any], fleet: str) -> dict[str, dict[str, Any]]:
    """The secrets that the fleet's own registry needs, with their sources: the last one is signed by the first."""
    if settings.get("kind") != "swarm":
        return {}
    return {
        AUTHORITY: {"generate": {"authority": True, "days": 3650}},
        PASSWORD: {"generate": {"bytes": 32}},
        CERTIFICATE: {"certificate": {"authority": AUTHORITY, "names": [stack_name(fleet)]}},
    }


def plan_registry(
    fleet: Mapping[str, Any], label: str, refs: Mapping[str, str], secrets: Mapping[str, str], authority: str
) -> dict[str, Any]:
    """The plan's ``registry``.

    Args:
        fleet: validated settings.
        label: prefix of labels.
        refs: image name to reference on the engine that builds.
        secrets: secret name to the name of its Swarm object.
        authority: certificate that nodes are to trust, as PEM; empty where those that they trust already do.
    """
    settings, name = fleet["registry"], fleet["name"]
    kind = settings["kind"]
    plan = {
        "kind": kind,
        "address": settings["address"] if kind != "none" else "",
        # What precedes the path: what a node trusts and logs in to.
        "host": settings["address"].partition("/")[0] if kind != "none" else "",
        "username": settings["username"] or "",
        "password": settings["password"] or "",
        "authority": authority,
        # Root's alone, and gone when the machine restarts.
        "docker_config": f"/run/mcp-swarm/{name}" if kind != "none" else "",
    }
    if kind != "swarm":
        return plan
    stack = stack_name(name)
    node_label = f"{label}.registry.{name}"
    return plan | {
        "name": stack,
        "node": settings["node"] or "",
        "node_label": node_label,
        "stack_file": f"{fleet['config_dir']}/docker-compose.registry.yml",
        "stack": _stack(stack, label, refs["registry"], settings["port"], node_label, secrets),
    }


def _stack(name: str, label: str, image: str, port: int, node_label: str, secrets: Mapping[str, str]) -> dict[str, Any]:
    labels = {f"{label}.fleet": name, f"{label}.part": "registry"}
    mounted = (PASSWORD, CERTIFICATE)
    service = {
        "image": image,
        "cap_drop": ["ALL"],
        "read_only": True,
        "secrets": [
            {"source": secret, "target": secret, "uid": "10001", "gid": "10001", "mode": 0o400} for secret in mounted
        ],
        "volumes": [
            {"type": "tmpfs", "target": "/tmp", "tmpfs": {"size": 16777216}},
            {"type": "volume", "source": "data", "target": DATA},
        ],
        "ports": [{"target": PORT, "published": port, "protocol": "tcp", "mode": "host"}],
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
        "labels": labels,
        "stop_grace_period": "20s",
        "deploy": {
            "endpoint_mode": "dnsrr",
            "labels": labels,
            "replicas": 1,
            "placement": {"constraints": [f"node.labels.{node_label} == true"]},
            "restart_policy": {"condition": "any", "delay": "2s", "max_attempts": 0},
            "update_config": {"parallelism": 1, "order": "stop-first", "failure_action": "rollback", "monitor": "5s"},
            "rollback_config": {"parallelism": 0, "order": "stop-first"},
            "resources": {"limits": {"cpus": "2", "memory": "512M"}},
        },
    }
    return {
        "version": "3.8",
        "services": {"registry": service},
        # Of its own, or docker stack deploy makes one that nothing removes.
        "networks": {"default": {"driver": "overlay", "labels": {f"{label}.fleet": name}}},
        "volumes": {"data": {"name": f"{name}_data", "labels": {f"{label}.fleet": name}}},
        "secrets": {secret: {"external": True, "name": secrets[secret]} for secret in mounted},
    }
