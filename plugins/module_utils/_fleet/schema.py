# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``mcp_servers`` and ``mcp_fleet`` may hold: the one source of validation, defaults and reference docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# A double _ ends the server's part of a tool's name, and both _ and - become - in the service's name.
NAME = r"(?=.{1,32}$)[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*"
ENV_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
HEADER_NAME = r"[A-Za-z0-9-]+"
# A name, an IPv4 address, or what may be an IPv6 address.
HOST = r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9])?|(?=.*:)[0-9A-Fa-f:.]+"
TIERS = ("edge", "backend", "egress", "control")
# A registry's host is told from a path by its dot or port (github.com/distribution/reference).
REGISTRY = r"(?=localhost|[^/]*[.:])[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
# Debian policy, 5.6.7; an exact version may follow. Names end up in a shell's line, so nothing else may pass.
DEBIAN_PACKAGE = r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?"
LAST_PORT = 65535


@dataclass(frozen=True)
class Key:
    """One key of a mapping.

    ``type`` is str, int, number, bool, list, map (free keys) or object (fixed keys in ``keys``).
    ``item`` describes the elements of a list or the values of a map; ``variants`` gives an object's keys
    by the value of its key ``tag``. ``quoted`` refuses a number for a text: YAML reads 1.10 as 1.1.
    """

    type: str
    doc: str = ""
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    hint: str = ""
    minimum: float | None = None
    maximum: float | None = None
    quoted: bool = False
    item: Key | None = None
    key_pattern: str = ""
    keys: Mapping[str, Key] = field(default_factory=dict)
    tag: str = ""
    variants: Mapping[str, Mapping[str, Key]] = field(default_factory=dict)


def _text(doc: str, **options: Any) -> Key:
    return Key("str", doc, **options)


def _words(doc: str, **options: Any) -> Key:
    return Key("list", doc, item=Key("str"), **options)


_VERSION = _text(
    "Exact version.",
    required=True,
    pattern=r"[0-9][A-Za-z0-9.+!_-]*",
    hint="pin one exact version, such as 1.2.3",
    quoted=True,
)

SOURCE = Key(
    "object",
    "Where the server comes from.",
    required=True,
    tag="kind",
    variants={
        "python": {
            "path": _text(
                "Application tree with pyproject.toml and uv.lock, relative to the repository.", required=True
            ),
            "module": _text(
                "package.module:attribute of an ASGI application or an MCP server object.",
                required=True,
                pattern=r"[A-Za-z_][\w.]*(:[A-Za-z_]\w*)?",
                hint="write package.module:attribute",
            ),
        },
        "pypi": {
            "package": _text("Package on the Python index.", required=True, pattern=r"[A-Za-z0-9][A-Za-z0-9._-]*"),
            "version": _VERSION,
            "with": _words("Further requirements installed beside it, each pinned with ==.", default=()),
        },
        "npm": {
            "package": _text("Package on the npm registry.", required=True, pattern=r"(@[a-z0-9._-]+/)?[a-z0-9._-]+"),
            "version": _VERSION,
            "omit_optional": Key("bool", "Leave out the package's optional dependencies.", default=False),
        },
        "openapi": {
            "spec": _text("OpenAPI 3 document as JSON, relative to the repository.", required=True),
            "base_url": _text(
                "Base URL of the API.", required=True, pattern=r"https?://.+", hint="start with http(s)://"
            ),
            "header": _text("Header that carries the credential.", default="Authorization", pattern=HEADER_NAME),
            "scheme": _text("What precedes the credential in that header; may be empty.", default="Bearer"),
            "credential": _text(
                "Variable (a key of secrets) that holds the credential.", default="", pattern=f"({ENV_NAME})?"
            ),
        },
        "image": {
            "image": _text(
                "Image that serves streamable HTTP.",
                required=True,
                pattern=r"\S+(:[\w.-]+|@sha256:[0-9a-f]{64})",
                hint="pin a tag or a digest, such as registry/name@sha256:…",
            ),
        },
        "remote": {
            "url": _text(
                "URL of the MCP endpoint.", required=True, pattern=r"https?://\S+", hint="start with http(s)://"
            ),
        },
    },
)


def _direction(doc: str, window: int) -> Key:
    return Key(
        "object",
        doc,
        keys={
            "stabilization_seconds": Key(
                "int",
                "How long it must have been wanted: over so many seconds the safest wish is taken.",
                default=window,
                minimum=0,
                maximum=3600,
            ),
            "select": _text(
                "Which policy holds: max permits most, min least; disabled permits no change.",
                choices=("max", "min", "disabled"),
                default="max",
            ),
            "policies": Key(
                "list",
                "Limits of a change; without any, those of Kubernetes.",
                item=Key(
                    "object",
                    keys={
                        "type": _text("What value counts.", choices=("replicas", "percent"), required=True),
                        "value": Key("int", "The largest change.", required=True, minimum=1),
                        "period_seconds": Key("int", "In so many seconds.", required=True, minimum=1, maximum=1800),
                    },
                ),
                default=(),
            ),
        },
        default={},
    )


SCALE = Key(
    "object",
    "As many replicas as are needed; docs/autoscaling.md says how. Without it there are replicas.",
    keys={
        "min": Key("int", "Least replicas; 0 lets it sleep when nobody calls it.", default=1, minimum=0),
        "max": Key("int", "Most replicas.", required=True, minimum=1),
        "targets": Key(
            "object",
            "What one replica is to have. Without any: in_flight, three quarters of concurrency.",
            keys={
                "in_flight": Key("number", "Calls that run or wait.", minimum=0.1),
                "queue": Key("number", "Calls that wait for a place.", minimum=0.1),
                "latency_ms": Key("number", "95th percentile of its answers, in milliseconds.", minimum=1),
                "gpu_percent": Key("number", "Use of its GPU.", minimum=1, maximum=100),
            },
            default={},
        ),
        "tolerance": Key(
            "number", "How far from a target nothing changes, as a fraction.", default=0.1, minimum=0, maximum=1
        ),
        "idle_seconds": Key(
            "int", "With min 0: without a call for so long it goes to sleep.", default=300, minimum=1, maximum=604800
        ),
        "wake_seconds": Key(
            "int", "With min 0: how long a call waits for it to wake.", default=60, minimum=1, maximum=600
        ),
        "up": _direction("How it grows.", 0),
        "down": _direction("How it shrinks.", 300),
    },
)

SERVER: Mapping[str, Key] = {
    "name": _text(
        "Unique; the tool prefix and the service name come from it.",
        required=True,
        pattern=NAME,
        hint="use lower-case letters and digits, single - or _ between them, starting with a letter, at most 32",
    ),
    "description": _text("For people.", default=""),
    "source": SOURCE,
    "command": _words("What to run, where the kind cannot know it; {port} stands for the port.", default=()),
    "transport": _text(
        "stdio is bridged to streamable HTTP inside the container.", choices=("stdio", "http"), default="stdio"
    ),
    "path": _text("HTTP path of the MCP endpoint.", default="/mcp", pattern=r"/\S*", hint="start with /"),
    "port": Key("int", "Port inside the container.", default=8000, minimum=1024, maximum=LAST_PORT),
    "replicas": Key("int", "Containers to run.", default=1, minimum=0),
    "scale": SCALE,
    "sessions": _text(
        "sticky: the server keeps state between the calls of one client session.",
        choices=("stateless", "sticky"),
        default="stateless",
    ),
    "gpu": _text(
        "required: every replica has GPUs, or the plan is refused. preferred: GPUs as far as they go, and a twin on the"
        " CPU that takes the other calls; docs/gpu-placement.md says how.",
        choices=("none", "preferred", "required"),
        default="none",
    ),
    "gpus": Key(
        "int",
        "Units of each replica: GPUs, or slots of shared ones (mcp_node_gpu_slots). More than 1 where none is shared.",
        default=1,
        minimum=1,
    ),
    "gpu_tools": _words("With preferred: globs of the tools that need the GPU; without any, all do.", default=()),
    "gpu_pool": Key(
        "object",
        "With preferred: the replicas on GPUs, and how the gateway fills them.",
        keys={
            "replicas": Key("int", "How many, as far as there are GPUs; without it, replicas.", minimum=1),
            "concurrency": Key("int", "Calls in flight for each; without it, concurrency.", minimum=1),
            "return_fraction": Key(
                "number", "Once full, they take calls again at this part of their places.", minimum=0.01, maximum=1
            ),
            "return_seconds": Key("number", "Once down, they take calls again when well for so long.", minimum=0),
        },
        default={},
    ),
    "secrets": Key(
        "map",
        "Environment variable to secret (a key of mcp_fleet.secrets); mounted below /run/secrets.",
        key_pattern=ENV_NAME,
        item=Key("str"),
        default={},
    ),
    "env": Key(
        "map",
        "Environment variables. Values are taken as they are, $ too.",
        key_pattern=ENV_NAME,
        item=Key("str"),
        default={},
    ),
    "resources": Key(
        "object",
        "Limits of each replica.",
        keys={
            "cpus": Key("number", "CPU cores.", default=1.0, minimum=0.05),
            "memory": _text("Memory.", default="512M", pattern=r"[1-9][0-9]*[KMG]", hint="such as 512M or 2G"),
        },
        default={},
    ),
    "concurrency": Key("int", "Calls in flight per replica before the gateway queues.", default=16, minimum=1),
    "timeout_seconds": Key("number", "Longest silence of one call.", default=60, minimum=1),
    "tools": Key(
        "object",
        "Which tools clients see; globs.",
        keys={
            "allow": _words("Tools to offer.", default=("*",)),
            "deny": _words("Tools to withhold, stronger than allow.", default=()),
        },
        default={},
    ),
    "egress": Key("bool", "May it reach other networks than the fleet's.", default=False),
    "volumes": Key(
        "map",
        "Volume name to absolute path: what the server keeps.",
        key_pattern=r"[a-z][a-z0-9_-]*",
        item=Key("str", pattern=r"/[A-Za-z0-9._/-]+", hint="use an absolute path of letters, digits and . _ - /"),
        default={},
    ),
    "packages": Key(
        "list",
        "Debian packages its image needs.",
        item=Key("str", pattern=DEBIAN_PACKAGE, hint="write the name of one Debian package"),
        default=(),
    ),
    "files": Key(
        "map",
        "Absolute path below /etc/mcp/ to text: configuration files baked into the image. No secrets.",
        item=Key("str"),
        default={},
    ),
    "prepare": Key(
        "list",
        "Commands to run before each start.",
        item=Key(
            "object",
            keys={
                "run": _words("The command.", required=True),
                "creates": _text("Skip the command when this path exists.", default=""),
            },
        ),
        default=(),
    ),
    "read_only": Key("bool", "Read-only root file system; /tmp stays writable.", default=True),
    "host_header": _text("Host header that the server insists on.", default=""),
    "headers": Key(
        "map",
        "Headers the gateway adds, each from a secret.",
        key_pattern=HEADER_NAME,
        item=Key(
            "object",
            keys={
                "secret": _text("A key of mcp_fleet.secrets.", required=True),
                "prefix": _text("What precedes it, such as 'Bearer '.", default=""),
            },
        ),
        default={},
    ),
    "check": Key(
        "object",
        "A harmless call that proves the server works.",
        keys={
            "tool": _text("Tool to call.", required=True),
            "arguments": Key("map", "Its arguments.", default={}),
            "expect": _text("Text that the result must contain.", required=True),
        },
    ),
    "start_seconds": Key("int", "Time to become ready before a replica counts as failed.", default=60, minimum=1),
    "latency_target_ms": Key(
        "int", "Slowest acceptable median of the verification's calls, in milliseconds.", default=2000, minimum=1
    ),
    "node": _text(
        "Node of the inventory that it runs on. Without it a server with volumes runs on mcp_fleet.data_node, where"
        " there are several nodes.",
        default="",
    ),
    "constraints": _words("Swarm placement constraints.", default=()),
}

SECRET = Key(
    "object",
    keys={
        "generate": Key(
            "object",
            "Make it once and keep it.",
            keys={
                "bytes": Key("int", "Length.", default=32, minimum=16),
                "authority": Key(
                    "bool", "A certificate authority (certificate and key, PEM) instead of random text.", default=False
                ),
                "days": Key("int", "How long an authority is valid.", default=3650, minimum=60, maximum=36500),
            },
        ),
        "env": _text("Environment variable of the controller.", pattern=ENV_NAME),
        "value": _text("The value itself, from an encrypted variable."),
        "file": _text("File on the controller."),
    },
)

FLEET: Mapping[str, Key] = {
    "name": _text("Stack name and prefix of every Swarm object.", default="mcp", pattern=r"[a-z][a-z0-9-]{0,19}"),
    "config_dir": _text("Configuration on the nodes.", default="/etc/mcp-swarm", pattern=r"/\S+"),
    "state_dir": _text("Build contexts on the build host.", default="/var/lib/mcp-swarm", pattern=r"/\S+"),
    "site": Key(
        "object",
        "What this site needs to reach package indexes.",
        keys={
            "ca_bundle": _text("CA bundle on the controller, for TLS-inspecting proxies.", default=""),
            "pypi_index": _text("Python index URL.", default=""),
            "npm_registry": _text("npm registry URL.", default=""),
            "debian_mirror": _text("Debian mirror URL.", default=""),
        },
        default={},
    ),
    "data_node": _text(
        "Node of the inventory that has the volumes of servers that name none. Needed where there are several nodes: a"
        " volume lies on one.",
        default="",
    ),
    "images": Key(
        "object",
        "How images are made.",
        keys={
            "base": _text(
                "pull: official image pinned by digest; bootstrap: from the distribution's mirror.",
                choices=("auto", "pull", "bootstrap"),
                default="auto",
            ),
            "parallel": Key("int", "Images built side by side.", default=4, minimum=1),
        },
        default={},
    ),
    "registry": Key(
        "object",
        "Where nodes get their images from.",
        keys={
            "kind": _text(
                "none: images lie on the one node, or are brought to nodes by other means; swarm: the fleet runs one;"
                " external: another one; auto: swarm where the inventory has several nodes, else none.",
                choices=("auto", "none", "swarm", "external"),
                default="auto",
            ),
            "port": Key("int", "With swarm: its port on its node.", default=5000, minimum=1, maximum=LAST_PORT),
            "node": _text(
                "With swarm: the manager (a host of the inventory) that keeps it. Without it where it is, at first the"
                " manager that builds.",
                default="",
            ),
            "address": _text(
                "With external: host, port where it is not 443, and what precedes images' names; over TLS.",
                default="",
                pattern=REGISTRY,
                hint="write host[:port][/path], such as registry.example.com/team, without https://",
            ),
            "username": _text("With external: who pushes and pulls; empty where anybody may.", default=""),
            "password": _text("With external: the secret (a key of secrets) with the password.", default=""),
            "ca_file": _text(
                "With external: the authority of its certificate, a file on the controller; empty for public ones.",
                default="",
            ),
        },
        default={},
    ),
    "networks": Key(
        "object",
        "Overlay networks, one per tier. One that exists is never changed: what differs is refused.",
        keys={
            "edge": _text("Subnet between edge and gateway.", default="10.98.0.0/22"),
            "backend": _text("Subnet between gateway and servers; no way out.", default="10.98.4.0/22"),
            "egress": _text("Subnet of servers that may reach other networks.", default="10.98.8.0/22"),
            "control": _text(
                "Subnet between the autoscaler and its proxy to Docker; made where a server has scale.",
                default="10.98.12.0/24",
            ),
            "encrypted": _text(
                "Whether traffic between nodes is encrypted (IPsec ESP); auto: where there are several nodes.",
                choices=("auto", "true", "false"),
                default="auto",
            ),
            "mtu": Key(
                "int",
                "Largest packet between nodes, in bytes; the networks take 50 of it, encryption 26 more.",
                default=1500,
                minimum=1280,
                maximum=9216,
            ),
        },
        default={},
    ),
    "gateway": Key(
        "object",
        "The gateway.",
        keys={
            "replicas": Key("int", "Gateways to run.", default=1, minimum=1),
            "memory": _text("Memory limit.", default="512M", pattern=r"[1-9][0-9]*[KMG]", hint="such as 512M or 2G"),
            "cpus": Key("number", "CPU limit.", default=2.0, minimum=0.05),
            "drain_seconds": Key("int", "Time for calls in flight when stopping.", default=30, minimum=0),
            "allowed_origins": _words("Browser origins that may connect.", default=()),
        },
        default={},
    ),
    "edge": Key(
        "object",
        "The TLS edge.",
        keys={
            "hosts": Key(
                "list",
                "Names and addresses that clients use.",
                item=Key("str", pattern=HOST, hint="write a host name or an address, without scheme, port or brackets"),
                default=("localhost", "127.0.0.1"),
            ),
            "port": Key("int", "HTTPS port on the node.", default=8443, minimum=1, maximum=LAST_PORT),
            "http_port": Key("int", "HTTP port that redirects; 0 for none.", default=0, minimum=0, maximum=LAST_PORT),
            "tls": _text(
                "internal: of the fleet's own authority; acme: public, with one edge node; files: the secrets"
                " edge_certificate and edge_key.",
                choices=("internal", "acme", "files"),
                default="internal",
            ),
            "acme_email": _text(
                "Contact for the certificate authority.",
                default="",
                pattern=r"[^\s@\"'{}`]+@[^\s@\"'{}`]+",
                hint="write one address, such as operations@mcp.example",
            ),
            "ca_file": _text(
                "With files: the authority that clients trust, a file on the controller; empty for the public ones.",
                default="",
            ),
        },
        default={},
    ),
    "autoscaling": Key(
        "object",
        "The autoscaler; it runs where a server has scale.",
        keys={
            "interval_seconds": Key("number", "Between two looks.", default=5, minimum=1, maximum=300),
            "gpu": Key(
                "object",
                "An exporter of the GPUs' use, reachable in the fleet's backend network.",
                keys={
                    "url": _text(
                        "Its metrics; every address of the host is asked.",
                        default="",
                        pattern=r"http://[^/\s]+(/\S*)?",
                        hint="write a URL such as http://tasks.gpu-exporter:9400/metrics",
                    ),
                    "metric": _text("The gauge's name.", default="DCGM_FI_DEV_GPU_UTIL", pattern=r"[a-zA-Z_:][\w:]*"),
                    "label": _text(
                        "Its label with the GPU as Swarm names it.", default="UUID", pattern=r"[a-zA-Z_]\w*"
                    ),
                    "full": Key("number", "The value of a GPU in full use.", default=100, minimum=0.001),
                },
                default={},
            ),
        },
        default={},
    ),
    "secrets": Key(
        "map",
        "Secret to its source: exactly one of generate, env, value, file.",
        # <fleet>_<secret>_<digest> names a Swarm secret, which takes 64 characters.
        key_pattern=r"[a-z][a-z0-9_]{0,29}",
        item=SECRET,
        default={},
    ),
}
