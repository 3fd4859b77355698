# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet's authority, and what is said of certificates that an edge could not serve with."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.facts import Host
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.validate import FleetError
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _pem
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._controller import Controller

pytestmark = pytest.mark.usefixtures("sources")
CATALOGUE = [{"name": "far", "source": {"kind": "remote", "url": "https://mcp.example/mcp"}}]
KEY = ec.generate_private_key(ec.SECP256R1())
KEY_TEXT = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
).decode()
LOCKED_KEY = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
).decode()


def certificate(names: list[str], addresses: list[str] | None = None, begins: int = -1, ends: int = 30) -> str:
    """One that signs itself, for names and addresses, from so many days from now to so many."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "site")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(KEY.public_key())
    builder = builder.serial_number(1).not_valid_before(now + datetime.timedelta(days=begins))
    builder = builder.not_valid_after(now + datetime.timedelta(days=ends))
    general: list[Any] = [x509.DNSName(name) for name in names]
    general += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses or []]
    if general:
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_an_authority_is_fit_for_strict_clients() -> None:
    text = _pem.new_authority("fleet", 90)
    (made,) = x509.load_pem_x509_certificates(text.encode())
    found = made.extensions
    assert found.get_extension_for_class(x509.BasicConstraints).critical
    assert found.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(ca=True, path_length=0)
    assert found.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert found.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert found.get_extension_for_class(x509.AuthorityKeyIdentifier)
    left = made.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=89) < left <= datetime.timedelta(days=90)
    assert _pem.problems({"edge_ca": text}, "internal", []) == []


def test_what_clients_are_given_has_no_key() -> None:
    one, other = _pem.new_authority("one", 60), _pem.new_authority("other", 60)
    given = _pem.certificates(one + other)
    assert "PRIVATE" not in given
    assert given.count("BEGIN CERTIFICATE") == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "holds no certificate that can be read; give the authority's certificate and its key, as PEM, in one text"),
        (_pem.certificates(_pem.new_authority("a", 60)), "holds no private key that can be read; give it as PEM, without a password"),
        (_pem.certificates(_pem.new_authority("a", 60)) + LOCKED_KEY, "holds no private key that can be read; give it as PEM, without a password"),
        (_pem.certificates(_pem.new_authority("a", 60)) + KEY_TEXT, "the key is not that of the certificate CN=a; give the two that belong together"),
        (certificate([]) + KEY_TEXT, "CN=site is no authority (basicConstraints); give one that may sign"),
    ],
)  # fmt: skip
def test_an_authority_that_cannot_sign(text: str, said: str) -> None:
    assert _pem.problems({"edge_ca": text}, "internal", []) == [f"mcp_fleet.secrets.edge_ca: {said}"]


@pytest.mark.parametrize(
    ("hosts", "problem"),
    [
        (["mcp.example"], ""),
        (["MCP.example", "a.fleet.example", "192.0.2.7", "2001:db8::7"], ""),
        (["other.example"], "other.example"),
        (["fleet.example"], "fleet.example"),
        (["a.b.fleet.example"], "a.b.fleet.example"),
        (["192.0.2.8"], "192.0.2.8"),
    ],
)
def test_a_certificate_is_for_every_host(hosts: list[str], problem: str) -> None:
    values = {
        "edge_certificate": certificate(["mcp.example", "*.fleet.example"], ["192.0.2.7", "2001:db8::7"]),
        "edge_key": KEY_TEXT,
    }
    has = "mcp.example, *.fleet.example, 192.0.2.7, 2001:db8::7"
    said = f"is for {has}, and not for {problem} of mcp_fleet.edge.hosts; correct one of the two"
    assert _pem.problems(values, "files", hosts) == ([f"mcp_fleet.secrets.edge_certificate: {said}"] if problem else [])


def test_certificates_out_of_their_time_and_keys_of_others() -> None:
    past, future = certificate(["h"], begins=-9, ends=-2), certificate(["h"], begins=2)
    mistakes = [
        _pem.problems({"edge_certificate": text, "edge_key": key}, "files", ["h"])
        for text, key in ((past, KEY_TEXT), (future, KEY_TEXT), (certificate(["h"]), "x"), ("x", KEY_TEXT))
    ]
    assert "CN=site has ended on " in mistakes[0][0]
    assert "CN=site begins on " in mistakes[1][0]
    assert mistakes[2] == [
        "mcp_fleet.secrets.edge_key: holds no private key that can be read; give it as PEM, without a password"
    ]
    assert mistakes[3] == [
        "mcp_fleet.secrets.edge_certificate: holds no certificate that can be read; give the certificate, and those between"
        " it and its authority, as PEM"
    ]


def test_the_authority_is_made_once_and_clients_find_its_certificate(tmp_path: Path) -> None:
    controller = Controller(tmp_path)
    first, again = controller.compile(CATALOGUE, {}), controller.compile(CATALOGUE, {})
    assert first == again
    kept = tmp_path / ".state" / "secrets" / "edge_ca"
    assert kept.stat().st_mode & 0o777 == 0o600
    shown = Path(first["client"]["ca_file"])
    assert shown.read_text() == _pem.certificates(kept.read_text())
    assert shown.stat().st_mode & 0o777 == 0o644
    # A new one is a new secret, which replaces what configures the edges, and clients are given it.
    kept.unlink()
    after = controller.compile(CATALOGUE, {})
    assert shown.read_text() == _pem.certificates(kept.read_text())
    assert after["stack"]["secrets"]["edge_ca"] != first["stack"]["secrets"]["edge_ca"]
    assert after["stack"]["services"] == first["stack"]["services"]


def test_nothing_is_made_or_looked_at_where_secrets_are_not_resolved(tmp_path: Path) -> None:
    Controller(tmp_path).compile(CATALOGUE, {}, resolve_secrets=False)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_certificate_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    (tmp_path / "chain.pem").write_text(certificate(["other.example"]))
    (tmp_path / "key.pem").write_text(KEY_TEXT)
    secrets = {
        "edge_certificate": {"file": str(tmp_path / "chain.pem")},
        "edge_key": {"file": str(tmp_path / "key.pem")},
    }
    settings = {"edge": {"tls": "files", "hosts": ["mcp.example"]}, "secrets": secrets}
    with pytest.raises(FleetError, match="is for other.example, and not for mcp.example"):
        Controller(tmp_path).compile(CATALOGUE, settings)
    settings["edge"] |= {"hosts": ["other.example"], "ca_file": str(tmp_path / "none.pem")}
    with pytest.raises(FleetError, match=r"mcp_fleet\.edge\.ca_file: .*/none\.pem: no such file; correct the path"):
        Controller(tmp_path).compile(CATALOGUE, settings)
    settings["edge"]["ca_file"] = ""
    made = Controller(tmp_path).compile(CATALOGUE, settings, hosts=[Host(name) for name in "abc"])
    assert made["client"]["ca_file"] == ""
