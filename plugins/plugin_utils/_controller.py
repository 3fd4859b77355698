# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What planning needs from the controller: lock files, source trees, documents, secrets."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.compile import compile_fleet
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.facts import Facts, Host
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.registry import AUTHORITY as REGISTRY_AUTHORITY
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.validate import (
    AUTHORITY,
    BUILT_IN_SECRETS,
    FleetError,
    validate,
)
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _pem

ROOT = Path(__file__).resolve().parents[2]
SERVICE_TREES = ("services/runtime", "services/gateway", "services/autoscaler")
# Certificates that the controller issues: made anew when less than a third of their time is left.
CERTIFICATE_DAYS, RENEW_DAYS = 720, 240
# Of a project, at its top: a package of the application may well be called build.
SKIPPED_DIRECTORIES = {"tests", "bench", "build", "dist"}


class Controller:
    """One inventory as the controller sees it.

    ``inventory_dir`` holds ``locks/`` (committed) and ``.state/`` (git-ignored: generated secrets, the
    certificate of the fleet's authority, the last verification). Relative paths of the catalogue are looked up in the
    inventory's directory, then in the collection's root.
    """

    def __init__(self, inventory_dir: str | os.PathLike[str]) -> None:
        self.inventory_dir = Path(inventory_dir)
        self.locks_dir = self.inventory_dir / "locks"
        self.state_dir = self.inventory_dir / ".state"

    def path(self, relative: str) -> Path:
        """The first place where ``relative`` exists; the collection's root otherwise."""
        places = [self.inventory_dir / relative, ROOT / relative]
        return next((place for place in places if place.exists()), places[-1])

    def compile(
        self,
        catalogue: Any,
        settings: Any,
        resolve_secrets: bool = True,
        hosts: Sequence[Host] = (),
    ) -> dict[str, Any]:
        """The fleet plan of this inventory.

        Raises:
            FleetError: with every mistake found.
        """
        entries, fleet = validate(catalogue, settings, hosts)
        digests: dict[str, str] = {}
        if resolve_secrets:
            values = self.secret_values(fleet["secrets"])
            self._take_authority(values, fleet["edge"])
            digests = self.secret_digests(values)
        sources = [entry["source"] for entry in entries]
        trees = [*SERVICE_TREES, *(s["path"] for s in sources if s["kind"] == "python")]
        documents = {s["spec"] for s in sources if s["kind"] == "openapi"}
        facts = Facts(
            locks={path.name: path.read_text("utf-8") for path in sorted(self.locks_dir.glob("*.*"))},
            trees={tree: digest for tree in trees if (digest := self._tree_digest(tree))},
            files={name: self.path(name).read_text("utf-8") for name in documents if self.path(name).is_file()},
            secret_digests=digests,
            api_key_file=str(self._secret_file("gateway_api_key", fleet["secrets"])),
            ca_file=str(self._ca_file),
            hosts=hosts,
            registry_authority=self._registry_authority(fleet, resolve_secrets),
        )
        return compile_fleet(catalogue, settings, facts)

    def _registry_authority(self, fleet: Mapping[str, Any], resolve_secrets: bool) -> str:
        """What nodes are to trust at the registry, as PEM; empty where they need to trust nothing more.

        Raises:
            FleetError: the file that the settings name is no certificate.
        """
        registry = fleet["registry"]
        if registry["kind"] == "swarm" and resolve_secrets:
            return _pem.certificates(self._secret_value(REGISTRY_AUTHORITY, fleet["secrets"][REGISTRY_AUTHORITY]))
        if registry["kind"] != "external" or not registry["ca_file"]:
            return ""
        where = f"mcp_fleet.registry.ca_file: {registry['ca_file']}"
        try:
            return _pem.certificates(self.path(registry["ca_file"]).read_text("utf-8"))
        except OSError as error:
            raise FleetError([f"{where}: {error.strerror}; correct the path"]) from error
        except ValueError as error:
            raise FleetError([f"{where}: holds no certificate that can be read; give it as PEM"]) from error

    @property
    def _ca_file(self) -> Path:
        return self.state_dir / "edge-ca.crt"

    def _take_authority(self, values: Mapping[str, str], edge: Mapping[str, Any]) -> None:
        """Look at the edge's certificates, and keep those that clients are to trust where they find them.

        Raises:
            FleetError: naming each that an edge could not serve with.
        """
        errors = _pem.problems(values, edge["tls"], edge["hosts"])
        if edge["ca_file"] and not Path(edge["ca_file"]).is_file():
            errors.append(f"mcp_fleet.edge.ca_file: {edge['ca_file']}: no such file; correct the path")
        if errors:
            raise FleetError(errors)
        if edge["tls"] == "internal":
            self._keep(self._ca_file, _pem.certificates(values[AUTHORITY]), mode=0o644)

    def _tree_digest(self, relative: str) -> str:
        root = self.path(relative)
        if not (root / "pyproject.toml").is_file() or not (root / "uv.lock").is_file():
            return ""
        digest = hashlib.sha256()
        for path in tree_files(root):
            digest.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def _secret_file(self, name: str, sources: Mapping[str, Any]) -> Path:
        source = sources.get(name) or {}
        return Path(source["file"]) if source.get("file") else self.state_dir / "secrets" / name

    def secret_values(self, sources: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Every secret's value.

        A generated one is made on first use and kept below ``.state/secrets``. The gateway's API key is
        kept there whatever its source, so that verification and people find it in one place.

        Raises:
            FleetError: naming each secret whose source holds nothing, and how to fill it.
        """
        values: dict[str, str] = {}
        errors: list[str] = []
        for name, source in sources.items():
            try:
                if issue := source.get("certificate"):
                    values[name] = self._certificate(name, values[issue["authority"]], issue["names"])
                else:
                    values[name] = self._secret_value(name, source)
            except LookupError as error:
                errors.append(f"mcp_fleet.secrets.{name}{error.args[0]}")
        if errors:
            raise FleetError(errors)
        key = sources.get(BUILT_IN_SECRETS[0])
        if key and not key.get("file") and not key.get("generate"):
            self._keep(self.state_dir / "secrets" / BUILT_IN_SECRETS[0], values[BUILT_IN_SECRETS[0]])
        return values

    def _secret_value(self, name: str, source: Mapping[str, Any]) -> str:
        if variable := source.get("env"):
            if value := os.environ.get(variable):
                return value
            raise LookupError(f".env: the variable {variable} is not set; export {variable}=… and run again")
        if path := source.get("file"):
            try:
                text = Path(path).read_text("utf-8").rstrip("\n")
            except OSError as error:
                raise LookupError(f".file: {path}: {error.strerror}; create the file or correct the path") from error
            except UnicodeDecodeError as error:
                raise LookupError(f".file: {path}: is no text; encode it, or correct the path") from error
            if not text:  # Swarm takes no empty secret
                raise LookupError(f".file: {path}: is empty; write the secret into it")
            return text
        if value := source.get("value"):
            return str(value)
        kept = self.state_dir / "secrets" / name
        if not kept.exists():
            self._keep(kept, _generated(source.get("generate") or {}))
        return kept.read_text("utf-8")

    def _certificate(self, name: str, authority: str, names: Sequence[str]) -> str:
        """A server's certificate with its key, kept until it nears its end."""
        kept = self.state_dir / "secrets" / name
        if not kept.exists() or not _pem.serves(kept.read_text("utf-8"), authority, names, RENEW_DAYS):
            try:
                self._keep(kept, _pem.new_certificate(authority, names, CERTIFICATE_DAYS))
            except (ValueError, TypeError, IndexError) as error:
                raise LookupError(f": {error}; its authority must be a certificate and its key, as PEM") from error
        return kept.read_text("utf-8")

    @staticmethod
    def _keep(path: Path, value: str, mode: int = 0o600) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists() and path.read_text("utf-8") == value:
            return
        temporary = path.with_name(path.name + ".new")
        temporary.touch(mode=mode)
        temporary.write_text(value, "utf-8")
        temporary.replace(path)

    def secret_digests(self, values: Mapping[str, str]) -> dict[str, str]:
        """A keyed digest of each value: names of Swarm objects show it, and must not help to guess the value."""
        key = self._secret_value("digest_key", {})
        return {name: hmac.new(key.encode(), value.encode(), "sha256").hexdigest() for name, value in values.items()}


def _generated(how: Mapping[str, Any]) -> str:
    """A secret that nobody gave: an authority, or so many random bytes as text."""
    if how.get("authority"):
        return _pem.new_authority("MCP Swarm fleet authority", int(how["days"]))
    return secrets.token_urlsafe(int(how.get("bytes", 32)))


def tree_files(root: Path) -> Iterator[Path]:
    """The files of a source tree that belong into an image, in a fixed order."""

    def wanted(names: Iterable[str]) -> list[str]:
        return sorted(n for n in names if not n.startswith((".", "__pycache__")) and not n.endswith(".egg-info"))

    for directory, names, files in os.walk(root):
        skipped = {"node_modules"} | (SKIPPED_DIRECTORIES if Path(directory) == root else set())
        names[:] = [n for n in wanted(names) if n not in skipped]
        yield from (Path(directory, name) for name in wanted(files))


class Fleet:
    """The fleet that a play's inventory describes, for action plugins.

    Attributes:
        controller: the inventory's directory.
        catalogue, settings: the two variables with their templates resolved; None where not defined.
        hosts: the nodes, managers first.
    """

    def __init__(self, task_vars: Mapping[str, Any], templar: Any) -> None:
        self.controller = Controller(task_vars["inventory_dir"])
        self.catalogue: Any
        self.settings: Any
        self.catalogue, self.settings = (
            templar.template(task_vars[name]) if name in task_vars else None for name in ("mcp_servers", "mcp_fleet")
        )
        managers = list(task_vars.get("groups", {}).get("mcp_managers", []))
        workers = [name for name in task_vars.get("groups", {}).get("mcp_nodes", []) if name not in managers]
        self.hosts = [_host(name, name in managers, task_vars["hostvars"][name]) for name in [*managers, *workers]]

    def plan(self, resolve_secrets: bool = True) -> dict[str, Any]:
        """The whole plan.

        Raises:
            FleetError: with every mistake found.
        """
        return self.controller.compile(self.catalogue, self.settings, resolve_secrets, self.hosts)

    def secret_values(self) -> dict[str, str]:
        """Every secret's value.

        Raises:
            FleetError: with every mistake found.
        """
        dummy, settings = validate(self.catalogue, self.settings, self.hosts)
        return self.controller.secret_values(settings["secrets"])


def _host(name: str, manager: bool, given: Mapping[str, Any]) -> Host:
    """A node, from its variables."""
    labels = {
        str(key): str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in (given.get("mcp_node_labels") or {}).items()
    }
    edge = boolean(given.get("mcp_node_edge", True), strict=False)
    gpus, slots = given.get("mcp_node_gpus"), given.get("mcp_node_gpu_slots")
    # As they are: what is wrong with them is told with everything else (_fleet/gpus.py).
    return Host(name, manager, labels, edge, 0 if gpus is None else gpus, 1 if slots is None else slots)


def fact(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The plan as the fact ``fleet_plan``: without the texts of build contexts, which only the build needs.

    They are most of the plan, and every task would carry them.
    """
    images = [{key: value for key, value in image.items() if key not in ("files", "trees")} for image in plan["images"]]
    return {**plan, "images": images}
