"""The image of a machine that boots: a minimal Debian with an init system, named by what it is made of.

Prints the reference; makes the image where the engine does not have it, from the mirror that this host uses.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "collections"))

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.docker_cli import Docker
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.errors import BuildError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.root import DEFAULT_MIRROR, bootstrap

SUITES = ("trixie", "bookworm")
# What a Debian server has at least, and a minimal root does not.
PACKAGES = ("ca-certificates", "dbus", "iproute2", "procps", "python3", "sudo", "systemd", "systemd-sysv")
SOURCES = ("sources.list", "sources.list.d/*.list", "sources.list.d/*.sources")


def host_mirror(apt: Path = Path("/etc/apt")) -> str:
    """The Debian archive that this host installs from; the public one where it installs from none."""
    for pattern in SOURCES:
        for path in sorted(apt.glob(pattern)):
            lines = [line for line in path.read_text("utf-8").splitlines() if re.match(r"deb\s|URIs:", line)]
            for uri in re.findall(r"https?://\S+", "\n".join(lines)):
                if uri.rstrip("/").endswith("/debian"):
                    return str(uri)
    return DEFAULT_MIRROR


def main() -> int:
    """Print the reference of the image for the suite on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("packages", nargs="*", help="what the machine has besides, such as openssh-server")
    asked = parser.parse_args()
    suite, packages = asked.suite, (*PACKAGES, *sorted(asked.packages))
    mirror = host_mirror()
    digest = hashlib.sha256("\n".join((suite, mirror, *packages)).encode()).hexdigest()
    try:
        tag = f"mcp-swarm-molecule/node:{digest[:12]}"
        print(bootstrap(Docker(), suite, packages, mirror, tag, lambda line: print(line, file=sys.stderr)))
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
