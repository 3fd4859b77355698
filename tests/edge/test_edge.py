# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One node's edge and what configures it, as containers of the fleet's own image; Swarm is not needed for this."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet import edge as edges
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _pem
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._controller import Controller

ROOT = Path(__file__).resolve().parents[2]
USER = 10001
HOSTS = ["localhost", "127.0.0.1", "192.0.2.7", "2001:db8::7"]


def docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout
    return done.stdout.strip()


def until(done: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The fleet's edge image, which is named by what it is made of."""
    controller = Controller(tmp_path_factory.mktemp("inventory"))
    catalogue = [{"name": "far", "source": {"kind": "remote", "url": "https://mcp.example/mcp"}}]
    plan = controller.compile(catalogue, {})
    ref = next(image["ref"] for image in plan["images"] if image["name"] == "edge")
    if docker("image", "ls", "--quiet", ref) == "":
        pytest.fail(f"{ref} is not on this engine: playbooks/images.yml builds it")
    return str(ref)


@dataclass
class Edge:
    """A node: its shared memory, its edge, and the configuring container with the files that Swarm would give it."""

    image: str
    directory: Path
    name: str = field(default_factory=lambda: f"edge-test-{uuid.uuid4().hex[:8]}")
    secrets: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def settings(self, **changes: Any) -> dict[str, Any]:
        edge = {"hosts": HOSTS, "port": 443, "http_port": 0, "tls": "internal", "acme_email": "", "ca_file": ""}
        return edges.plan_edge({"name": "mcp", "edge": {**edge, **changes}}, 8080)

    def _run(self, part: str, *options: str, command: str) -> str:
        shared = f"type=volume,source={self.name},target={edges.RUN_DIR},volume-nocopy"
        limits = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", f"--mount={shared}"]
        return docker("run", "--detach", f"--name={self.name}-{part}", *limits, *options, self.image, command)

    def serve(self) -> None:
        docker("rm", "--force", f"{self.name}-edge", check=False)
        self._run("edge", f"--volume={self.name}-data:/data", command="edge")

    def configure(self, edge: dict[str, Any] | None = None, text: str | None = None) -> None:
        """A new configuring container in the place of the one before, as Swarm updates it."""
        edge = edge or self.settings()
        docker("rm", "--force", f"{self.name}-config", check=False)
        given = self.directory / uuid.uuid4().hex
        (given / "secrets").mkdir(parents=True)
        (given / "Caddyfile").write_text(text or edges.caddyfile(edge), "utf-8")
        for name, value in self.secrets.items():
            (given / "secrets" / name).write_text(value, "utf-8")
        subprocess.run(["chmod", "-R", "a+rX", str(given)], check=True)
        variables = edges.environment(edge) | self.environment
        options = [f"--env={name}={value}" for name, value in variables.items()]
        options += [f"--volume={given}/Caddyfile:{edges.CADDYFILE}:ro", f"--volume={given}/secrets:/run/secrets:ro"]
        self._run("config", "--network=none", *options, command="edge-config")

    def loaded(self) -> bool:
        done = subprocess.run(
            ["docker", "exec", f"{self.name}-config", "test", "-e", edges.LOADED], capture_output=True, check=False
        )
        return done.returncode == 0

    def ended(self) -> str:
        """What the configuring container said, once it has ended with an error."""
        state = ["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", f"{self.name}-config"]
        until(lambda: docker(*state) == "exited 1", 90)
        return docker("logs", f"{self.name}-config")

    def certificate(self, name: str, ca: str) -> x509.Certificate:
        """What the edge shows to a client that connects to a name or an address and trusts one authority alone."""
        context = ssl.create_default_context(cadata=ca)
        with self._connect() as plain, context.wrap_socket(plain, server_hostname=name) as connection:
            shown = connection.getpeercert(binary_form=True)
        assert shown
        return x509.load_der_x509_certificate(shown)

    def _connect(self) -> socket.socket:
        address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", f"{self.name}-edge")
        return socket.create_connection((address, edges.HTTPS_PORT), 5)

    def get(self, path: str, ca: str, name: str = "localhost") -> str:
        context = ssl.create_default_context(cadata=ca)
        with self._connect() as plain, context.wrap_socket(plain, server_hostname=name) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while part := connection.recv(65536):
                answer += part
        return answer.decode()

    def serves(self, ca: str, path: str = "/x") -> bool:
        with contextlib.suppress(OSError):
            return "nothing is here" in self.get(path, ca)
        return False


@pytest.fixture
def edge(image: str, tmp_path: Path) -> Iterator[Edge]:
    made = Edge(image, tmp_path, secrets={"edge_ca": _pem.new_authority("test", 60)})
    options = f"o=size=4m,mode=0700,uid={USER},gid={USER}"
    docker("volume", "create", "--opt=type=tmpfs", "--opt=device=tmpfs", f"--opt={options}", made.name)
    try:
        yield made
    finally:
        docker("rm", "--force", "--volumes", f"{made.name}-edge", f"{made.name}-config", check=False)
        docker("volume", "rm", "--force", made.name, f"{made.name}-data", check=False)


def of(edge: Edge) -> str:
    return _pem.certificates(edge.secrets["edge_ca"])


@pytest.mark.parametrize("order", [("serve", "configure"), ("configure", "serve")])
def test_every_host_is_served_under_the_one_authority(edge: Edge, order: tuple[str, str]) -> None:
    for part in order:
        getattr(edge, part)()
    until(edge.loaded)
    # An address sends no server name, and an edge behind address translation does not know its own.
    shown = {edge.certificate(host, of(edge)).serial_number for host in HOSTS}
    assert len(shown) == 1
    other = _pem.certificates(_pem.new_authority("other", 60))
    with pytest.raises(ssl.SSLCertVerificationError):
        edge.certificate("localhost", other)


def test_another_configuration_is_loaded_in_place(edge: Edge) -> None:
    edge.serve()
    edge.configure()
    until(edge.loaded)
    started = docker("inspect", "--format", "{{.State.StartedAt}}", f"{edge.name}-edge")
    edge.configure(text=edges.caddyfile(edge.settings()).replace("nothing is here", "this is new"))
    until(edge.loaded)
    assert "this is new" in edge.get("/x", of(edge))
    assert docker("inspect", "--format", "{{.State.StartedAt}}", f"{edge.name}-edge") == started


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("localhost {\n\tno_such_directive\n}\n", "unrecognized directive: no_such_directive"),
        ("localhost {\n\ttls {$EDGE_FILES}/certificate.pem {$EDGE_FILES}/none.pem\n}\n", "none.pem: no such file or directory"),
    ],
)
def test_a_configuration_that_is_refused_leaves_the_one_before(edge: Edge, text: str, said: str) -> None:
    edge.serve()
    edge.configure()
    until(edge.loaded)
    before = edge.certificate("localhost", of(edge))
    edge.configure(text=text)
    output = edge.ended()
    assert "the edge's configuration is refused, and the edge goes on with the one before: " in output
    assert said in output
    assert edge.certificate("localhost", of(edge)) == before


def test_an_edge_that_does_not_take_it(edge: Edge) -> None:
    """What can be told only when it is tried: something in the edge's container holds the port."""
    edge.serve()
    edge.configure()
    until(edge.loaded)
    before = edge.certificate("localhost", of(edge))
    docker("exec", "--detach", f"{edge.name}-edge", "python3", "-m", "http.server", "9999")
    edge.configure(text=edges.caddyfile(edge.settings()) + "\nhttp://localhost:9999 {\n\trespond ok\n}\n")
    output = edge.ended()
    assert "this node's edge does not take its configuration: " in output
    assert "listen tcp :9999: bind: address already in use" in output
    # An edge that starts now begins with what was accepted.
    assert edge.certificate("localhost", of(edge)) == before
    link = docker("exec", f"{edge.name}-edge", "readlink", f"{edges.RUN_DIR}/current")
    left = docker("exec", f"{edge.name}-edge", "ls", edges.RUN_DIR).split()
    assert set(left) == {"admin.sock", "current", link.rpartition("/")[2]}


def test_a_node_without_an_edge_says_so(edge: Edge) -> None:
    edge.configure()
    assert "this node's edge does not take its configuration: " in edge.ended()


def test_an_edge_that_is_replaced_goes_on_at_once(edge: Edge) -> None:
    edge.serve()
    edge.configure()
    until(edge.loaded)
    before = edge.certificate("localhost", of(edge))
    edge.serve()
    until(lambda: edge.serves(of(edge)))
    assert edge.certificate("localhost", of(edge)) == before


def test_nothing_is_left_when_both_have_gone(edge: Edge) -> None:
    edge.serve()
    edge.configure()
    until(edge.loaded)
    docker("rm", "--force", f"{edge.name}-edge", f"{edge.name}-config")
    edge.secrets = {"edge_ca": _pem.new_authority("new", 60)}
    edge.serve()
    time.sleep(1)
    assert docker("logs", f"{edge.name}-edge").startswith("waiting for the configuration")
    edge.configure()
    until(edge.loaded)
    assert edge.serves(of(edge))


def test_the_certificate_is_renewed_in_place(edge: Edge) -> None:
    edge.environment = {"EDGE_RENEW_SECONDS": "2"}
    edge.serve()
    edge.configure()
    until(edge.loaded)
    first = edge.certificate("localhost", of(edge))
    lasts = first.not_valid_after_utc - first.not_valid_before_utc
    assert edges.CERTIFICATE_DAYS * 86400 <= lasts.total_seconds() <= edges.CERTIFICATE_DAYS * 86400 + 7200
    assert edges.RENEW_SECONDS < edges.CERTIFICATE_DAYS * 86400 / 2
    until(lambda: edge.certificate("localhost", of(edge)) != first)
    kept = docker("exec", f"{edge.name}-config", "find", edges.RUN_DIR, "-mindepth", "1", "-type", "d").splitlines()
    assert len(kept) <= 2


def test_the_authoritys_key_never_reaches_the_edge(edge: Edge) -> None:
    edge.serve()
    edge.configure()
    until(edge.loaded)
    secret = edge.secrets["edge_ca"].partition("PRIVATE KEY-----\n")[2].splitlines()[0]
    look = ["exec", f"{edge.name}-edge", "grep", "--recursive", "--files-with-matches", secret]
    assert docker(*look, edges.RUN_DIR, "/data", "/tmp", check=False) == ""


def test_the_sites_own_certificate(edge: Edge) -> None:
    """Given as the two secrets that edge.tls files needs; made here by another edge's authority."""
    edge.serve()
    edge.configure()
    until(edge.loaded)
    read = [docker("exec", f"{edge.name}-config", "cat", f"{edges.RUN_DIR}/current/{name}.pem") for name in ("certificate", "key")]
    authority = of(edge)
    edge.secrets = {"edge_certificate": read[0], "edge_key": read[1]}
    given = x509.load_pem_x509_certificate(read[0].encode())
    docker("rm", "--force", f"{edge.name}-edge", f"{edge.name}-config")
    edge.serve()
    edge.configure(edge.settings(tls="files"))
    until(edge.loaded)
    assert edge.certificate("192.0.2.7", authority) == given
    assert "max-age=31536000" in edge.get("/x", authority)


def test_plain_http_is_sent_to_the_same_host(edge: Edge) -> None:
    edge.serve()
    edge.configure(edge.settings(http_port=80, port=8443))
    until(edge.loaded)
    address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", f"{edge.name}-edge")
    for host in ("localhost", "192.0.2.7", "[2001:db8::7]"):
        with socket.create_connection((address, edges.HTTP_PORT), 5) as plain:
            plain.sendall(f"GET /mcp?a=b HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            answer = plain.recv(65536).decode()
        assert answer.startswith("HTTP/1.1 308")
        assert f"Location: https://{host}:8443/mcp?a=b\r\n" in answer


def test_an_authority_is_replaced_without_a_cut(edge: Edge) -> None:
    """Clients trust both for a while: of several pairs the first signs, and all are given to clients."""
    old, new = edge.secrets["edge_ca"], _pem.new_authority("new", 60)
    edge.serve()
    for signs, pairs in ((old, old), (old, old + new), (new, new + old), (new, new)):
        edge.secrets = {"edge_ca": pairs}
        edge.configure()
        until(edge.loaded)
        shown = edge.certificate("localhost", _pem.certificates(pairs))
        shown.verify_directly_issued_by(x509.load_pem_x509_certificates(signs.encode())[0])
