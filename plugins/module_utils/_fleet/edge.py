# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The edge: Caddy on each edge node, and the service that brings it its configuration and its certificate.

Two services of one image run on each of these nodes, and share a directory in memory, ``RUN_DIR``:

- ``edge`` (`SERVE`) serves, with what it finds there when it starts.
- ``edge-config`` (`CONFIGURE`) has the Caddyfile as a Swarm config and certificates as Swarm secrets. It loads them
  into the edge in place and stays, so that Swarm itself brings them to a node that joins or comes back.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

CADDYFILE = "/etc/caddy/Caddyfile"
RUN_DIR = "/run/edge"
LOADED = "/tmp/loaded"
HTTPS_PORT = 8443
HTTP_PORT = 8080
# What edge-config is given by each way to have certificates, beside the Caddyfile.
SECRETS = {"internal": ("edge_ca",), "files": ("edge_certificate", "edge_key"), "acme": ()}

SERVE = f"""#!/bin/sh
# Serve, with the configuration that the service edge-config left for this node's edge.
set -eu
if [ ! -s {RUN_DIR}/current/caddy.json ]; then
    echo "waiting for the configuration, which the service edge-config brings"
    until [ -s {RUN_DIR}/current/caddy.json ]; do sleep 0.1; done
fi
exec caddy run --config {RUN_DIR}/current/caddy.json
"""

CONFIGURE = f"""#!/bin/sh
# Bring this node's edge its configuration and its certificate, in place, and stay: what an edge that starts
# begins with lies in memory that is there as long as one of the two runs.
set -eu
umask 077
run={RUN_DIR} secrets=/run/secrets

fail() {{
    echo "$1" >&2
    exit 1
}}
words() {{ # what Caddy says is wrong, out of the JSON that it says it in
    printf '%s\\n' "$1" | grep '"level":"error"' | tail -n 1 | sed -e 's/.*"msg":"//' -e 's/"}}$//' \\
        -e 's/.*\\\\"error\\\\":\\\\"//' -e 's/\\\\"}}.*//' -e 's/\\\\*"/"/g'
}}

certificate() {{ # into the directory $1: a new one of the fleet's authority, whose key stays here, or the site's own
    if [ -e $secrets/edge_ca ]; then
        # Clocks differ: it is valid since an hour ago.
        openssl req -x509 -CA $secrets/edge_ca -CAkey $secrets/edge_ca -newkey ec -pkeyopt ec_paramgen_curve:P-256 \\
            -noenc -keyout "$1/key.pem" -out "$1/certificate.pem" -subj "/CN=MCP fleet edge" \\
            -not_before "$(date -u -d '1 hour ago' +%Y%m%d%H%M%SZ)" -days "$EDGE_CERTIFICATE_DAYS" \\
            -addext "subjectAltName=$EDGE_NAMES" -addext basicConstraints=critical,CA:FALSE \\
            -addext keyUsage=critical,digitalSignature -addext extendedKeyUsage=serverAuth 2>"$1/said" \\
            || fail "no certificate could be made: $(tail -n 1 "$1/said")"
    elif [ -e $secrets/edge_certificate ]; then
        cat $secrets/edge_certificate >"$1/certificate.pem"
        cat $secrets/edge_key >"$1/key.pem"
    fi
}}

load() {{
    next=$(mktemp -d $run/XXXXXXXX)
    certificate "$next"
    # The Caddyfile names its certificate by this directory: another certificate is another configuration.
    if ! EDGE_FILES=$next caddy adapt --config {CADDYFILE} --validate >"$next/caddy.json" 2>"$next/said"; then
        said=$(words "$(cat "$next/said")")
        rm -rf "$next"
        fail "the edge's configuration is refused, and the edge goes on with the one before: $said"
    fi
    before=$(readlink $run/current || :)
    point "$next"
    tries=0
    until said=$(caddy reload --config "$next/caddy.json" --address unix/$run/admin.sock 2>&1); do
        tries=$((tries + 1))
        if [ $tries -ge 60 ]; then
            [ -z "$before" ] || point "$before"
            rm -rf "$next"
            fail "this node's edge does not take its configuration: $(words "$said")"
        fi
        sleep 0.5
    done
    find $run -mindepth 1 -maxdepth 1 -type d ! -path "$next" -exec rm -rf {{}} +
}}
point() {{ # in one step
    ln -s "$1" $run/next.$$
    mv -T $run/next.$$ $run/current
}}

rm -f {LOADED}
while :; do
    load
    touch {LOADED}
    echo "the edge has its configuration"
    sleep "$EDGE_RENEW_SECONDS"
done
"""

# A certificate of the fleet's authority is renewed after a third of its time.
CERTIFICATE_DAYS = 30
RENEW_SECONDS = 10 * 86400


def is_address(host: str) -> bool:
    """Whether a host is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def in_url(host: str) -> str:
    """A host as URLs have it: an IPv6 address in brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def plan_edge(fleet: Mapping[str, Any], gateway_port: int) -> dict[str, Any]:
    """The plan's ``edge``: the settings with what follows from them."""
    settings = fleet["edge"]
    hosts = [str(ipaddress.ip_address(host)) if is_address(host) else host for host in settings["hosts"]]
    port = "" if settings["port"] == 443 else f":{settings['port']}"
    return {
        **settings,
        "hosts": hosts,
        "url": f"https://{in_url(hosts[0])}{port}",
        "urls": [f"https://{in_url(host)}{port}" for host in hosts],
        # A client that connects by address sends no server name; then the certificate of an address is the right one.
        "default_sni": next((host for host in hosts if is_address(host)), hosts[0]),
        "upstream": {"dns": f"tasks.{fleet['name']}_gateway", "port": gateway_port},
    }


def environment(edge: Mapping[str, Any]) -> dict[str, str]:
    """What edge-config is told: names of the certificate, how long it lasts and when the next is made."""
    names = [f"{'IP' if is_address(host) else 'DNS'}:{host}" for host in edge["hosts"]]
    return {
        "EDGE_NAMES": ",".join(names),
        "EDGE_CERTIFICATE_DAYS": str(CERTIFICATE_DAYS),
        "EDGE_RENEW_SECONDS": str(RENEW_SECONDS),
        # Checking a configuration writes what serving with it would.
        "XDG_DATA_HOME": "/tmp",
    }


def caddyfile(edge: Mapping[str, Any]) -> str:
    """The edge's configuration.

    Args:
        edge: the plan's part of that name.
    """
    port = "" if edge["port"] == 443 else f":{edge['port']}"
    hosts = [in_url(host) for host in edge["hosts"]]
    email = f"\temail {edge['acme_email']}\n" if edge["tls"] == "acme" else ""
    redirects = "".join(
        f"http://{host} {{\n\tredir https://{host}{port}{{uri}} 308\n}}\n\n" for host in hosts if edge["http_port"]
    )
    own = "" if edge["tls"] == "acme" else "\ttls {$EDGE_FILES}/certificate.pem {$EDGE_FILES}/key.pem\n"
    # Browsers would hold the address of a test fleet to it for a year.
    strict = "" if edge["tls"] == "internal" else '\theader Strict-Transport-Security "max-age=31536000"\n'
    return f"""# Written by the fleet plan.
{{
	# Reached by the service edge-config alone, in memory that both share.
	admin unix/{RUN_DIR}/admin.sock
	persist_config off
	http_port {HTTP_PORT}
	https_port {HTTPS_PORT}
	# Clients that connect by address send no server name.
	default_sni {edge["default_sni"]}
	# The ports inside the container are not those that clients see: the redirect below knows the right one.
	auto_https disable_redirects
	servers {{
		protocols h1 h2
	}}
{email}}}

{redirects}{", ".join(f"https://{host}" for host in hosts)} {{
{own}{strict}	log {{
		output stdout
		format filter {{
			wrap json
			fields {{
				request>headers>Authorization delete
				request>headers>X-Api-Key delete
			}}
		}}
	}}
	request_body {{
		max_size 4MB
	}}
	@gateway path / /mcp /mcp/* /servers/* /healthz /readyz /status /console /console/* /.well-known/*
	handle @gateway {{
		reverse_proxy {{
			dynamic a {{
				name {edge["upstream"]["dns"]}
				port {edge["upstream"]["port"]}
				refresh 1s
				dial_timeout 2s
			}}
			# Any gateway replica can go on with a session; at the same one the client's next request finds for certain
			# what its last one set, which the others are told a moment later. Each edge chooses alike.
			lb_policy header Mcp-Session-Id {{
				fallback least_conn
			}}
			# While a gateway is replaced, a request waits for the next one instead of failing.
			lb_try_duration 10s
			lb_try_interval 250ms
			fail_duration 2s
			flush_interval -1
			transport http {{
				dial_timeout 2s
				keepalive 60s
			}}
		}}
	}}
	handle {{
		respond "nothing is here" 404
	}}
}}
"""
