# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry as an engine uses it: what is there, push, pull; and what went wrong, with the next step."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any

IMAGES = "run playbooks/images.yml"
# What engines pass on of a registry's answer, or say of their own. The first match wins.
CAUSES = (
    (
        r"no space left on device",
        "the disk is full",
        "free space there (docker system df shows what takes it; playbooks/prune.yml removes old images)",
    ),
    (
        r"certificate has expired|certificate is not valid after|is not yet valid",
        "the registry's certificate is out of its time",
        f"{IMAGES}, which renews the fleet's own (and look at the clocks)",
    ),
    (
        r"x509: certificate is (?:valid for|not valid for any names)|doesn't match|cannot validate certificate for",
        "the registry's certificate is for another name",
        "correct mcp_fleet.registry.address, or the certificate",
    ),
    (
        r"x509:|unknown authority|certificate signed by|tls: ",
        "this engine does not trust the registry's certificate",
        f"{IMAGES}, which gives each node the authority's; of an external registry it is mcp_fleet.registry.ca_file",
    ),
    (
        r"no such host|lookup .* on |server misbehaving|Temporary failure in name resolution",
        "the registry's name is not known there",
        f"{IMAGES}, which tells each node where the fleet's own is; else correct mcp_fleet.registry.address",
    ),
    (
        r"unauthorized|authentication required|no basic auth credentials|incorrect username or password"
        r"|denied|\b401\b|\b403\b",
        "the registry refuses these credentials",
        f"{IMAGES}, which hands them out anew; of an external registry correct mcp_fleet.registry.username and its"
        " password",
    ),
    (
        r"\b405\b|unsupported|read.only",
        "the registry is being cleaned and takes nothing meanwhile",
        "run again when playbooks/prune.yml is done",
    ),
    (
        r"connection refused|no route to host|network is unreachable|i/o timeout|timed out|Timeout|deadline exceeded"
        r"|connection reset|\bEOF\b|\b50[234]\b|context canceled",
        "the registry cannot be reached",
        "look at it (docker service ps <fleet>-registry_registry), at its node and at the firewall between them,"
        " and run again",
    ),
    (
        r"\b500\b|internal server error",
        "the registry has failed",
        "look at its log (docker service logs <fleet>-registry_registry): a full disk is told there;"
        " playbooks/prune.yml removes old images",
    ),
    (
        r"manifest unknown|not found|No such image|does not exist",
        "the image is not there",
        f"{IMAGES}, which pushes what the catalogue needs",
    ),
)


class RegistryError(Exception):
    """Something about a registry; the message says what, why and what to do."""


def explain(said: str) -> str:
    """Cause, next step, and what was said, in one line."""
    flat = " ".join(said.split())
    for pattern, cause, step in CAUSES:
        if re.search(pattern, flat, re.IGNORECASE):
            return f"{cause}; {step} ({flat[:300]})"
    return f"it failed: {flat[:300]}"


def said(error: Exception) -> str:
    """What an engine gave as the reason."""
    return str(getattr(error, "explanation", None) or error)


def parts(image: str) -> tuple[str, str, str]:
    """Repository, tag and digest of an image's name; what it does not have is empty.

    Distribution reference grammar: ``name[:tag][@digest]``; a host's port is no tag.
    """
    name, dummy, digest = image.partition("@")
    repository, tag = name, ""
    if ":" in name.rpartition("/")[2]:
        repository, dummy, tag = name.rpartition(":")
    return repository, tag, digest


def own_name(image: str) -> str:
    """Of an image that the fleet built the name by which it was built, without registry and digest; else empty."""
    match = re.search(r"(?:^|/)(mcp-swarm/[a-z0-9-]+:[0-9a-f]{12})(?:@|$)", image)
    return match.group(1) if match else ""


def content_name(image: str) -> str:
    """What the names of one content have in common, in whichever registry it is."""
    return own_name(image) or image.partition("@")[0]


def host_of(image: str) -> str:
    """The registry that an image's name gives; empty where it gives none."""
    first, slash, dummy = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else ""


class Registry:
    """A registry, by way of this host's engine.

    Args:
        docker_config: directory of the config.json with the credentials, as DOCKER_CONFIG names it; empty for the
            user's own.

    Raises:
        RegistryError: the SDK is missing, the engine does not answer, or the credentials are not there.
    """

    def __init__(self, docker_config: str) -> None:
        try:
            import docker
            from docker.errors import DockerException
            from requests.exceptions import RequestException
        except ImportError as error:
            raise RegistryError(
                f"the Python package docker is missing here ({error}); install python3-docker"
            ) from error
        try:
            # A layer is written for minutes before the next word of progress.
            self.api: Any = docker.APIClient(version="auto", timeout=600)
            if docker_config:
                self.api.reload_config(dockercfg_path=credentials_file(docker_config))
            self._failures = (DockerException, RequestException)
        except DockerException as error:
            raise RegistryError(f"the Docker engine does not answer: {error}; run the provision playbook") from error

    def digest(self, image: str) -> str:
        """The digest that the registry has for an image; empty where it has none.

        Raises:
            RegistryError: it could not be asked.
        """
        try:
            return str(self.api.inspect_distribution(image)["Descriptor"]["digest"])
        except self._failures as error:
            if re.search(r"manifest unknown|repository name not known|not found", said(error)) and not re.search(
                r"no such host", said(error)
            ):
                return ""
            raise RegistryError(f"{image}: {explain(said(error))}") from error

    def here(self, image: str) -> bool:
        """Whether this engine has an image."""
        try:
            self.api.inspect_image(image)
        except self._failures:
            return False
        return True

    def push(self, local: str, remote: str) -> None:
        """Push an image of this engine under the registry's name; layers that are there are not sent again.

        Raises:
            RegistryError: with what was said.
        """
        repository, tag, dummy = parts(remote)
        try:
            if local != remote:
                self.api.tag(local, repository, tag, force=True)
            self._follow(remote, self.api.push(repository, tag, stream=True, decode=True))
        except self._failures as error:
            raise RegistryError(f"{remote}: {explain(said(error))}") from error

    def pull(self, remote: str, local: str) -> None:
        """Pull an image and give it its name on this engine.

        Raises:
            RegistryError: with what was said.
        """
        repository, tag, dummy = parts(remote)
        try:
            self._follow(remote, self.api.pull(repository, tag, stream=True, decode=True))
            if local != remote:
                self.api.tag(remote, *parts(local)[:2], force=True)
        except self._failures as error:
            raise RegistryError(f"{remote}: {explain(said(error))}") from error

    def log_in(self, host: str, username: str, password: str) -> str:
        """Have the engine log in, which proves name, trust and credentials; returns what went wrong as it was said."""
        body = {"username": username, "password": password, "serveraddress": host}
        try:
            self.api._raise_for_status(self.api._post_json(self.api._url("/auth"), data=body))
        except self._failures as error:
            return said(error)
        return ""

    @staticmethod
    def _follow(image: str, lines: Any) -> None:
        for line in lines:
            if line.get("error"):
                raise RegistryError(f"{image}: {explain(str(line['error']))}")


def credentials_file(docker_config: str) -> str:
    """The file with the credentials in a directory.

    Raises:
        RegistryError: there is none.
    """
    path = os.path.join(docker_config, "config.json")
    if not os.path.isfile(path):
        raise RegistryError(
            f"docker_config: {path}: no such file: this node has not been given the registry's credentials since it"
            f" started; {IMAGES}"
        )
    return path


def auth_headers(api: Any, images: list[str]) -> dict[str, str]:
    """Image to the X-Registry-Auth header with which an engine may pull it; none where no credentials are known."""
    from docker.auth import get_config_header, resolve_repository_name
    from docker.errors import DockerException

    found = {}
    for image in images:
        with contextlib.suppress(DockerException):
            index = resolve_repository_name(image)[0]
            if header := get_config_header(api, index):
                found[image] = header.decode() if isinstance(header, bytes) else header
    return found
