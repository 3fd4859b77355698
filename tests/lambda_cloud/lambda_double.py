# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A local double of the Lambda Cloud API: a real HTTP server that obeys api.yaml, with capacity, quota, boots,
rates and faults that a test sets.

Requests are checked against the description (key, bodies), and so is every answer before it leaves. Instances are
entries alone, or real machines: ``Containers`` makes a container that waits become the instance of its name.

    python lambda_double.py --port 18431 --key KEY --containers    the API below /api/v1; its own settings below /double
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import ipaddress
import json
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import yaml

SPECIFICATION = yaml.safe_load(Path(__file__).with_name("api.yaml").read_text("utf-8"))
PREFIX = "/api/v1"
# Two requests that a client spaced by a second may arrive a little closer than that.
TOLERANCE_SECONDS = 0.1
PLACES = {
    "us-east-1": "Virginia, USA",
    "us-west-1": "California, USA",
    "us-south-1": "Texas, USA",
    "europe-central-1": "Germany",
}
ENDED = ("terminated", "terminating", "preempted")
JUPYTER_SECRET = "the-token-of-jupyterlab"


def kind(name: str, cents: int, gpus: int, gpu: str) -> dict[str, Any]:
    """An instance type."""
    return {
        "name": name,
        "description": f"{gpus}x {gpu}",
        "gpu_description": gpu,
        "price_cents_per_hour": cents,
        "specs": {"vcpus": 30 * gpus, "memory_gib": 200 * gpus, "storage_gib": 1400, "gpus": gpus},
    }


@dataclass
class World:
    """What a test sets.

    Attributes:
        capacity: how many more instances of a type there are room for, by region.
        listed: places that are listed as having room and refuse a launch, as ``type/region``.
        boot_polls: how often a booting instance is looked at before it is active.
        fates: what becomes of an instance while it boots, by its name: ``stuck`` or one of the API's states.
        quota: how many instances the account may have.
        faults: answers that replace others. Each has ``times`` and may have ``method`` and ``path`` (which requests),
            ``status``, ``code``, ``text`` (a body that is not JSON), ``headers``, ``drop`` (the connection ends without
            an answer) and ``done`` (the request was carried out all the same).
        request_seconds, launch_seconds: how far apart requests and launches must be; 0 is any.
    """

    capacity: dict[str, dict[str, int]] = field(
        default_factory=lambda: {
            "gpu_1x_a10": {"us-east-1": 2, "us-west-1": 2},
            "gpu_1x_h100_pcie": {"us-west-1": 1},
            "gpu_8x_a100": {},
        }
    )
    listed: list[str] = field(default_factory=list)
    boot_polls: int = 2
    fates: dict[str, str] = field(default_factory=dict)
    quota: int = 10
    faults: list[dict[str, Any]] = field(default_factory=list)
    request_seconds: float = 0.0
    launch_seconds: float = 0.0


class Machines:
    """Instances that are entries alone."""

    def __init__(self) -> None:
        self._next = 10

    def start(self, instance: dict[str, Any], public_key: str) -> str:
        """The new machine's address."""
        self._next += 1
        return f"198.51.100.{self._next}"

    def end(self, instance: dict[str, Any]) -> None:
        """The machine is gone."""


class Containers(Machines):
    """Each instance is the container of its name, which waits already; ubuntu may log in with the launch's key."""

    def start(self, instance: dict[str, Any], public_key: str) -> str:
        name = instance["name"]
        script = (
            "install -d -m 700 -o ubuntu -g ubuntu /home/ubuntu/.ssh"
            " && cat > /home/ubuntu/.ssh/authorized_keys && chown ubuntu: /home/ubuntu/.ssh/authorized_keys"
        )
        self._docker("exec", "--interactive", name, "sh", "-c", script, stdin=public_key + "\n")
        return self._docker("inspect", "--format", "{{.NetworkSettings.Networks.bridge.IPAddress}}", name).strip()

    def end(self, instance: dict[str, Any]) -> None:
        self._docker("rm", "--force", "--volumes", instance["name"])

    @staticmethod
    def _docker(*arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["docker", *arguments], input=stdin, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout


class Refusal(Exception):
    """An error of the API."""

    def __init__(self, status: int, code: str, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.error = {"code": code, "message": message} | ({"suggestion": suggestion} if suggestion else {})


def missing(what: str) -> Refusal:
    return Refusal(404, "global/object-does-not-exist", f"Specified {what} does not exist.")


def invalid(message: str, suggestion: str = "") -> Refusal:
    return Refusal(400, "global/invalid-parameters", message, suggestion)


FORMATS = jsonschema.FormatChecker(formats=())


@FORMATS.checks("ipv4network", raises=ValueError)
def is_network(value: object) -> bool:
    """IPv4 addresses in CIDR notation."""
    return bool(ipaddress.IPv4Network(str(value)))


def problems(schema: Mapping[str, Any], value: Any) -> list[str]:
    """What of a value does not fit its schema."""
    whole = {**schema, "components": SPECIFICATION["components"]}
    validator = jsonschema.Draft202012Validator(whole, format_checker=FORMATS)
    return [f"{'.'.join(map(str, error.path)) or 'body'}: {error.message}" for error in validator.iter_errors(value)]


class Double:
    """One account of the API, and what a test knows of it.

    Attributes:
        world: what a test sets.
        requests: each request's method and path.
        mistakes: answers that were not as api.yaml has them: the double's own fault.
    """

    def __init__(self, key: str, machines: Machines | None = None) -> None:
        self.key = key
        self.machines = machines or Machines()
        self.lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """A new account: one key, one file system, SSH from everywhere."""
        self.world = World()
        self.requests: list[str] = []
        self.launches: list[dict[str, Any]] = []
        self.mistakes: list[str] = []
        self.polls: dict[str, int] = {}
        self.addresses: dict[str, str] = {}
        self.last = {"request": float("-inf"), "launch": float("-inf")}
        self.types = {
            one["name"]: one
            for one in (
                kind("gpu_1x_a10", 75, 1, "A10 (24 GB PCIe)"),
                kind("gpu_1x_a100_sxm4", 129, 1, "A100 (40 GB SXM4)"),
                kind("gpu_1x_h100_pcie", 249, 1, "H100 (80 GB PCIe)"),
                kind("gpu_8x_a100", 1032, 8, "A100 (40 GB SXM4)"),
            )
        }
        self.instances: dict[str, dict[str, Any]] = {}
        self.keys = {
            "key-0": {"id": "key-0", "name": "operations", "public_key": "ssh-ed25519 AAAAC3operations me@here"}
        }
        self.systems = [self._system("models", "us-east-1"), self._system("archive", "us-west-1")]
        self.rulesets: dict[str, dict[str, Any]] = {}
        self.rules = [
            {"protocol": "tcp", "port_range": [22, 22], "source_network": "0.0.0.0/0", "description": "Allow SSH"}
        ]

    # HTTP

    def answer(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes] | None:
        """Status, headers and body; None ends the connection without an answer."""
        with self.lock:
            self.requests.append(f"{method} {path}")
            fault = self._fault(method, path)
            if fault and not fault.get("done"):
                return self._faulty(fault)
            if limited := self._limited(path):
                return limited
            try:
                self._authorise(headers.get("Authorization", ""))
                status, payload = 200, {"data": self._carry_out(method, path, body)}
            except Refusal as refusal:
                status, payload = refusal.status, {"error": refusal.error}
                self.mistakes += problems({"$ref": "#/components/schemas/Error"}, refusal.error)
            if fault:
                return self._faulty(fault)
            return status, {"Content-Type": "application/json"}, json.dumps(payload).encode()

    def _fault(self, method: str, path: str) -> dict[str, Any] | None:
        for fault in self.world.faults:
            if fault.get("times", 1) > 0 and fault.get("method", method) == method and fault.get("path", path) == path:
                fault["times"] = fault.get("times", 1) - 1
                return fault
        return None

    @staticmethod
    def _faulty(fault: dict[str, Any]) -> tuple[int, dict[str, str], bytes] | None:
        if fault.get("drop"):
            return None
        headers = {"Content-Type": "application/json", **fault.get("headers", {})}
        if "text" in fault:
            return fault["status"], {**headers, "Content-Type": "text/html"}, fault["text"].encode()
        error = {"code": fault["code"], "message": fault.get("message", "It failed."), "suggestion": "Try again."}
        return fault["status"], headers, json.dumps({"error": error}).encode()

    def _limited(self, path: str) -> tuple[int, dict[str, str], bytes] | None:
        now = time.monotonic()
        spans = {"request": self.world.request_seconds}
        if path == "/instance-operations/launch":
            spans["launch"] = self.world.launch_seconds
        wait = max(self.last[what] + span - TOLERANCE_SECONDS - now for what, span in spans.items())
        if wait > 0:
            # What the API's body is in this case is not published.
            return 429, {"Retry-After": str(int(wait) + 1), "Content-Type": "text/plain"}, b"Too Many Requests"
        self.last.update(dict.fromkeys(spans, now))
        return None

    def _authorise(self, header: str) -> None:
        scheme, dummy, given = header.partition(" ")
        if scheme == "Basic":
            given = base64.b64decode(given).decode().rstrip(":")
        if given != self.key:
            raise Refusal(
                401,
                "global/invalid-api-key",
                "API key was invalid, expired, or deleted.",
                "Check your API key or create a new one, then try again.",
            )

    def _carry_out(self, method: str, path: str, body: bytes) -> Any:
        for template, methods in SPECIFICATION["paths"].items():
            fixed, brace, dummy = template.partition("{")
            rest = path.removeprefix(fixed)
            known = any(path == other for other in SPECIFICATION["paths"])
            if not (path == template or (brace and path.startswith(fixed) and rest and "/" not in rest and not known)):
                continue
            if not (operation := methods.get(method.lower())):
                raise Refusal(405, "global/invalid-parameters", f"{method} is not possible here.")
            arguments: list[Any] = [rest] if brace else []
            if "request" in operation:
                try:
                    content = json.loads(body)
                except ValueError:
                    raise invalid("Invalid request data.") from None
                if wrong := problems(operation["request"], content):
                    raise invalid("Invalid request data: " + "; ".join(wrong))
                arguments.append(content)
            carry_out: Callable[..., Any] = getattr(self, operation["operationId"])
            data = carry_out(*arguments)
            self.mistakes += problems(operation["responses"]["200"], data)
            return data
        raise missing("path")

    # Instances

    def list_instances(self) -> list[dict[str, Any]]:
        seen = [self._look(one) for one in self.instances.values()]
        return [one for one in seen if one["status"] != "terminated"]

    def get_instance(self, instance_id: str) -> dict[str, Any]:
        return self._look(self._one(instance_id))

    def modify_instance(self, instance_id: str, body: dict[str, Any]) -> dict[str, Any]:
        instance = self._one(instance_id)
        instance.update(body)
        return instance

    def list_instance_types(self) -> dict[str, Any]:
        listed = {name: {r for r, room in self.world.capacity.get(name, {}).items() if room > 0} for name in self.types}
        for place in self.world.listed:
            name, dummy, region = place.partition("/")
            listed[name].add(region)
        return {
            name: {
                "instance_type": self.types[name],
                "regions_with_capacity_available": [self._region(r) for r in sorted(regions)],
            }
            for name, regions in listed.items()
        }

    def launch_instance(self, body: dict[str, Any]) -> dict[str, Any]:
        self.launches.append(body)
        name, region = body["instance_type_name"], body["region_name"]
        if name not in self.types:
            raise missing("instance type")
        public_keys = [key["public_key"] for key in self.keys.values() if key["name"] in body["ssh_key_names"]]
        if not public_keys:
            raise missing("SSH key")
        for system in body.get("file_system_names", []):
            where = {one["region"]["name"] for one in self.systems if one["name"] == system}
            if not where:
                raise missing("filesystem")
            if region not in where:
                raise Refusal(
                    400, "instance-operations/launch/file-system-in-wrong-region", f"{system} is not in {region}."
                )
        for ruleset in body.get("firewall_rulesets", []):
            if ruleset["id"] not in self.rulesets or self.rulesets[ruleset["id"]]["region"]["name"] != region:
                raise missing("firewall ruleset")
        if sum(one["status"] not in ENDED for one in self.instances.values()) >= self.world.quota:
            raise Refusal(400, "global/quota-exceeded", "Quota exceeded.", "Contact Support to increase your quota.")
        if self.world.capacity.get(name, {}).get(region, 0) < 1:
            raise Refusal(
                400,
                "instance-operations/launch/insufficient-capacity",
                "Not enough capacity to fulfill launch request.",
            )
        self.world.capacity[name][region] -= 1
        instance_id = uuid.uuid4().hex
        instance: dict[str, Any] = {
            "id": instance_id,
            "name": body.get("name", ""),
            "status": "booting",
            "ssh_key_names": body["ssh_key_names"],
            "file_system_names": body.get("file_system_names", []),
            "region": self._region(region),
            "instance_type": self.types[name],
            "jupyter_token": JUPYTER_SECRET,
            "jupyter_url": f"https://jupyter.example/?token={JUPYTER_SECRET}",
            "tags": body.get("tags", []),
            "firewall_rulesets": body.get("firewall_rulesets", []),
        }
        instance["actions"] = self._actions("booting")
        for ruleset in body.get("firewall_rulesets", []):
            self.rulesets[ruleset["id"]]["instance_ids"].append(instance_id)
        self.instances[instance_id] = instance
        self.polls[instance_id] = 0
        self.addresses[instance_id] = self.machines.start(instance, public_keys[0])
        return {"instance_ids": [instance_id]}

    def restart_instances(self, body: dict[str, Any]) -> dict[str, Any]:
        found = [self._one(one) for one in body["instance_ids"]]
        for instance in found:
            instance.update(status="booting", actions=self._actions("booting"))
            self.polls[instance["id"]] = 0
        return {"restarted_instances": found}

    def terminate_instances(self, body: dict[str, Any]) -> dict[str, Any]:
        found = [self._one(one) for one in body["instance_ids"]]
        for instance in found:
            if instance["status"] in ENDED:
                continue
            name, region = instance["instance_type"]["name"], instance["region"]["name"]
            room = self.world.capacity.setdefault(name, {})
            room[region] = room.get(region, 0) + 1
            instance.update(status="terminating", actions=self._actions("terminating"))
            for ruleset in self.rulesets.values():
                ruleset["instance_ids"] = [one for one in ruleset["instance_ids"] if one != instance["id"]]
            self.machines.end(instance)
        return {"terminated_instances": found}

    def _one(self, instance_id: str) -> dict[str, Any]:
        instance = self.instances.get(instance_id)
        if not instance:
            raise missing("instance")
        return instance

    def _look(self, instance: dict[str, Any]) -> dict[str, Any]:
        """Time goes by when somebody looks."""
        before = dict(instance)
        fate = self.world.fates.get(instance["name"], "active")
        if instance["status"] == "booting":
            self.polls[instance["id"]] += 1
            if self.polls[instance["id"]] > self.world.boot_polls and fate != "stuck":
                address = self.addresses[instance["id"]]
                instance.update(
                    status=fate, ip=address, private_ip=address, hostname=address, actions=self._actions(fate)
                )
        elif instance["status"] == "terminating":
            instance["status"] = "terminated"
        return before

    @staticmethod
    def _actions(status: str) -> dict[str, Any]:
        blocked = {
            "booting": ("vm-has-not-launched", "The instance has not launched yet."),
            "terminating": ("vm-is-terminating", "The instance is terminating."),
        }.get(status)
        possible = {"available": True}
        refused = (
            {"available": False, "reason_code": blocked[0], "reason_description": blocked[1]} if blocked else possible
        )
        # A machine that boots can be given back.
        return {
            action: possible if action == "terminate" and status == "booting" else refused
            for action in ("migrate", "rebuild", "restart", "cold_reboot", "terminate")
        }

    @staticmethod
    def _region(name: str) -> dict[str, str]:
        return {"name": name, "description": PLACES.get(name, "Somewhere")}

    # Keys, file systems, images

    def list_ssh_keys(self) -> list[dict[str, Any]]:
        return list(self.keys.values())

    def add_ssh_key(self, body: dict[str, Any]) -> dict[str, Any]:
        if "public_key" not in body:
            raise invalid("The double makes no private keys.")
        if any(key["name"] == body["name"] for key in self.keys.values()):
            raise invalid(f"An SSH key called {body['name']} exists.")
        key = {"id": uuid.uuid4().hex, **body}
        self.keys[key["id"]] = key
        return key

    def delete_ssh_key(self, key_id: str) -> dict[str, Any]:
        if not self.keys.pop(key_id, None):
            raise invalid("Specified SSH key does not exist.")
        return {}

    def list_file_systems(self) -> list[dict[str, Any]]:
        return self.systems

    def _system(self, name: str, region: str) -> dict[str, Any]:
        return {
            "id": uuid.uuid4().hex,
            "name": name,
            "mount_point": f"/lambda/nfs/{name}",
            "created": "2026-01-01T00:00:00Z",
            "created_by": {"id": "user-0", "email": "operations@example.com", "status": "active"},
            "is_in_use": False,
            "region": self._region(region),
        }

    def list_images(self) -> list[dict[str, Any]]:
        return [
            {
                "id": uuid.uuid4().hex,
                "created_time": "2026-01-01T00:00:00Z",
                "updated_time": "2026-01-01T00:00:00Z",
                "name": "lambda-stack-22-04",
                "description": "Lambda Stack",
                "family": "lambda-stack-22-04",
                "version": "1",
                "architecture": "x86_64",
                "region": {"name": region, "description": "Somewhere"},
            }
            for region in (*PLACES, "us-newest-1")
        ]

    # Firewalls

    def list_firewall_rulesets(self) -> list[dict[str, Any]]:
        return list(self.rulesets.values())

    def create_firewall_ruleset(self, body: dict[str, Any]) -> dict[str, Any]:
        ruleset = {
            "id": uuid.uuid4().hex,
            "name": body["name"],
            "region": self._region(body["region"]),
            "rules": body["rules"],
            "created": "2026-01-01T00:00:00Z",
            "instance_ids": [],
        }
        self.rulesets[ruleset["id"]] = ruleset
        return ruleset

    def get_firewall_ruleset(self, ruleset_id: str) -> dict[str, Any]:
        if ruleset_id not in self.rulesets:
            raise missing("firewall ruleset")
        return self.rulesets[ruleset_id]

    def update_firewall_ruleset(self, ruleset_id: str, body: dict[str, Any]) -> dict[str, Any]:
        ruleset = self.get_firewall_ruleset(ruleset_id)
        ruleset.update(body)
        return ruleset

    def delete_firewall_ruleset(self, ruleset_id: str) -> dict[str, Any]:
        if self.get_firewall_ruleset(ruleset_id)["instance_ids"]:
            raise Refusal(
                400,
                "firewall-rulesets/firewall-ruleset-in-use",
                "Firewall ruleset is in use by one or more instances.",
                "Terminate all instances that are using the ruleset before deleting it.",
            )
        del self.rulesets[ruleset_id]
        return {}

    def get_global_firewall_ruleset(self) -> dict[str, Any]:
        return {"id": "global", "name": "Global Firewall Rules", "rules": self.rules}

    def update_global_firewall_ruleset(self, body: dict[str, Any]) -> dict[str, Any]:
        self.rules = body.get("rules", self.rules)
        return self.get_global_firewall_ruleset()

    # What a test in another process sees and sets

    def told(self) -> dict[str, Any]:
        """World, requests, mistakes."""
        with self.lock:
            return {"world": asdict(self.world), "requests": list(self.requests), "mistakes": list(self.mistakes)}

    def set(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Set fields of the world."""
        with self.lock:
            for name, value in changes.items():
                if name not in asdict(self.world):
                    raise KeyError(name)
                setattr(self.world, name, value)
        return self.told()


def serve(double: Double, port: int = 0) -> ThreadingHTTPServer:
    """A server of the double on this machine alone; not yet running."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/double":
                told = double.set(json.loads(body)) if self.command == "POST" else double.told()
                self.reply(200, {"Content-Type": "application/json"}, json.dumps(told).encode())
                return
            if not self.path.startswith(PREFIX):
                self.reply(404, {"Content-Type": "text/html"}, b"<html>Not Found</html>")
                return
            answer = double.answer(self.command, self.path.removeprefix(PREFIX), dict(self.headers), body)
            if answer is None:
                self.close_connection = True
                return
            self.reply(*answer)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def reply(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: ``requests`` has it."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


@contextlib.contextmanager
def running(double: Double) -> Iterator[str]:
    """The address of a server that runs; at the end the double must not have answered otherwise than the API would."""
    server = serve(double)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{PREFIX}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert double.mistakes == []


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", required=True)
    parser.add_argument("--containers", action="store_true", help="an instance is the container of its name")
    parser.add_argument("--rates", action="store_true", help="as strict about rates as the API is")
    arguments = parser.parse_args()
    double = Double(arguments.key, Containers() if arguments.containers else None)
    if arguments.rates:
        double.world.request_seconds, double.world.launch_seconds = 1.0, 12.0
    server = serve(double, arguments.port)
    print(f"http://127.0.0.1:{server.server_port}{PREFIX}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
