# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates and keys on the controller: the fleet's own authority, and the site's certificates looked at.

Texts are PEM (RFC 7468), certificates as RFC 5280 wants them.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    MISSING = ""
except ImportError as error:  # ansible-core itself needs it
    MISSING = f"certificates need the Python package cryptography on the controller ({error}); run: make bootstrap"

# Clocks differ: what is made now is valid since then.
SLACK = datetime.timedelta(hours=1)


def new_authority(name: str, days: int) -> str:
    """A certificate authority: its certificate, then its key (ECDSA, P-256).

    Args:
        name: common name.
        days: how long it is valid.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    uses = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SLACK)
        .not_valid_after(now + datetime.timedelta(days=days))
        # What it signs are certificates of servers, no further authorities.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **uses), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return (certificate.public_bytes(serialization.Encoding.PEM) + private).decode()


def certificates(text: str) -> str:
    """The certificates of a text alone, as clients are given them.

    Raises:
        ValueError: there is none, or one that cannot be read.
    """
    found = x509.load_pem_x509_certificates(text.encode())
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in found)


def problems(values: Mapping[str, str], tls: str, hosts: Sequence[str]) -> list[str]:
    """What is wrong with the edge's secrets, one line each with the fix.

    Args:
        values: secret to value.
        tls: the setting ``edge.tls``.
        hosts: the setting ``edge.hosts``.
    """
    if tls == "internal":
        return _authority_problems(values["edge_ca"])
    if tls == "files":
        return _certificate_problems(values["edge_certificate"], values["edge_key"], hosts)
    return []


def _authority_problems(text: str) -> list[str]:
    where = "mcp_fleet.secrets.edge_ca"
    certificate, problem = _certificate(text)
    if certificate is None:
        return [f"{where}: {problem}; give the authority's certificate and its key, as PEM, in one text"]
    found = [f"{where}: {p}" for p in (_key_problem(text, certificate), _time_problem(certificate)) if p]
    try:
        allowed = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        allowed = False
    if not allowed:
        found.append(f"{where}: {_subject(certificate)} is no authority (basicConstraints); give one that may sign")
    return found


def _certificate_problems(chain: str, key: str, hosts: Sequence[str]) -> list[str]:
    where = "mcp_fleet.secrets.edge_certificate"
    certificate, problem = _certificate(chain)
    if certificate is None:
        return [f"{where}: {problem}; give the certificate, and those between it and its authority, as PEM"]
    found = []
    if problem := _time_problem(certificate):
        found.append(f"{where}: {problem}")
    if problem := _key_problem(key, certificate):
        found.append(f"mcp_fleet.secrets.edge_key: {problem}")
    names, addresses = _names(certificate)
    for host in hosts:
        if not _covered(host, names, addresses):
            has = ", ".join([*names, *map(str, addresses)]) or "no name"
            found.append(f"{where}: is for {has}, and not for {host} of mcp_fleet.edge.hosts; correct one of the two")
    return found


def _certificate(text: str) -> tuple[Any, str]:
    try:
        return x509.load_pem_x509_certificates(text.encode())[0], ""
    except ValueError:
        return None, "holds no certificate that can be read"


def _key_problem(text: str, certificate: Any) -> str:
    start = text.find("-----BEGIN ")
    while start >= 0 and "PRIVATE KEY-----" not in text[start:].split("\n", 1)[0]:
        start = text.find("-----BEGIN ", start + 1)
    try:
        key = serialization.load_pem_private_key(text[max(start, 0) :].encode(), password=None)
    except (ValueError, TypeError):  # the second: it has a password
        return "holds no private key that can be read; give it as PEM, without a password"
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        return f"the key is not that of the certificate {_subject(certificate)}; give the two that belong together"
    return ""


def _time_problem(certificate: Any) -> str:
    now = datetime.datetime.now(datetime.UTC)
    if certificate.not_valid_after_utc < now:
        return f"{_subject(certificate)} has ended on {certificate.not_valid_after_utc:%Y-%m-%d}; renew it"
    if certificate.not_valid_before_utc > now:
        return f"{_subject(certificate)} begins on {certificate.not_valid_before_utc:%Y-%m-%d}; look at the clock here"
    return ""


def _subject(certificate: Any) -> str:
    return str(certificate.subject.rfc4514_string()) or "the certificate"


def _names(certificate: Any) -> tuple[list[str], list[Any]]:
    try:
        value = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [], []
    return value.get_values_for_type(x509.DNSName), value.get_values_for_type(x509.IPAddress)


def _covered(host: str, names: Sequence[str], addresses: Sequence[Any]) -> bool:
    """Whether a client that uses a host takes a certificate with these names (RFC 9525, section 6)."""
    try:
        return ipaddress.ip_address(host) in addresses
    except ValueError:
        below = host.lower().partition(".")[2]
        return any(name.lower() in (host.lower(), f"*.{below}") for name in names)
