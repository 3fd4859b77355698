# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build images side by side, each as soon as those it needs are there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.docker_cli import Docker, explain, tail
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.errors import BuildError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.root import root_image


@dataclass
class Outcome:
    """What became of the images: seconds by name for the built, the reason by name for the failed."""

    built: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


class Builder:
    """Builds the plan's images from contexts below ``build_dir``.

    Args:
        docker: the engine.
        build_dir: holds one directory per image, named after it.
        site: ``pypi_index``, ``npm_registry``, ``debian_mirror`` (empty where the default serves) and
            ``ca_file``, a path on this host.
        base: ``auto``, ``pull`` or ``bootstrap``.
        progress: takes lines for people.
    """

    def __init__(
        self, docker: Docker, build_dir: str, site: Mapping[str, str], base: str, progress: Callable[[str], None]
    ) -> None:
        self.docker = docker
        self.build_dir = build_dir
        self.site = site
        self.base = base
        self.progress = progress

    def build(self, images: list[dict[str, Any]], parallel: int) -> Outcome:
        """Build what is not there yet, at most ``parallel`` at once; one failure does not stop the others.

        An image whose need failed is not tried; only the cause itself is reported.
        """
        outcome = Outcome()
        waiting = {image["name"]: image for image in images}
        running: dict[Future[float], str] = {}
        total, position = len(images), 0
        with ThreadPoolExecutor(max_workers=parallel) as pool:
            while waiting or running:
                for name, image in list(waiting.items()):
                    if any(need in outcome.failed for need in image["needs"]):
                        del waiting[name]
                        outcome.failed[name] = ""
                    elif not any(need in waiting or need in running.values() for need in image["needs"]):
                        position += 1
                        self.progress(f"[{position}/{total}] building {name}")
                        running[pool.submit(self._timed, image)] = name
                        del waiting[name]
                done, dummy = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    name = running.pop(future)
                    try:
                        outcome.built[name] = round(future.result(), 1)
                        self.progress(f"built {name} in {outcome.built[name]:.0f} s")
                    except BuildError as error:
                        outcome.failed[name] = str(error)
                        self.progress(f"FAILED {name}")
        return outcome

    def _timed(self, image: dict[str, Any]) -> float:
        start = time.monotonic()
        self._one(image)
        return time.monotonic() - start

    def _one(self, image: dict[str, Any]) -> None:
        context = os.path.join(self.build_dir, image["name"])
        arguments = ["build", "--progress=plain", "--tag", image["ref"]]
        for argument in ("pypi_index", "npm_registry", "debian_mirror"):
            if self.site.get(argument):
                arguments += ["--build-arg", f"{argument.upper()}={self.site[argument]}"]
        if self.site.get("ca_file"):
            arguments += ["--secret", f"id=site_ca,src={self.site['ca_file']}"]
        if image["name"] == "os":
            dockerfile, mirror = image["files"]["Dockerfile"], self.site.get("debian_mirror", "")
            root = root_image(self.docker, self.base, dockerfile, mirror, image["ref"], self.progress)
            source = "pull" if "@" in root else "bootstrap"
            arguments += ["--build-arg", f"ROOT={root}", "--label", f"ai.sophia.mcp.base-source={source}"]
        code, output = self.docker.run(*arguments, context)
        if code != 0:
            cause, step = explain(output)
            who = f"server {image['servers'][0]}" if image["servers"] else f"image {image['name']}"
            raise BuildError(f"{who}: {cause}; {step} ({context})\n{tail(output)}")
