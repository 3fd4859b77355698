# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry's certificate: issued once, renewed before its end, and the authority that nodes are given."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.facts import Host
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.validate import FleetError
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _controller, _pem
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._controller import Controller

pytestmark = pytest.mark.usefixtures("sources")
HOSTS = [Host("one", True, {}), Host("two", False, {})]
CATALOGUE = [{"name": "far", "source": {"kind": "remote", "url": "https://mcp.example/mcp"}}]


def test_a_certificate_is_for_its_names_and_of_its_authority() -> None:
    authority, other = _pem.new_authority("one", 90), _pem.new_authority("other", 90)
    text = _pem.new_certificate(authority, ["mcp-registry", "10.0.0.1"], 30)
    assert _pem.serves(text, authority, ["mcp-registry", "10.0.0.1"], 29)
    assert not _pem.serves(text, authority, ["mcp-registry"], 31)
    assert not _pem.serves(text, authority, ["elsewhere"], 1)
    assert not _pem.serves(text, other, ["mcp-registry"], 1)
    assert not _pem.serves("no certificate", authority, ["mcp-registry"], 1)
    (made,) = x509.load_pem_x509_certificates(text.encode())
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert "PRIVATE KEY" in text


def test_it_ends_no_later_than_its_authority() -> None:
    authority = _pem.new_authority("one", 60)
    (made,) = x509.load_pem_x509_certificates(_pem.new_certificate(authority, ["x"], 700).encode())
    assert made.not_valid_after_utc == x509.load_pem_x509_certificates(authority.encode())[0].not_valid_after_utc


def kept(controller: Controller) -> Path:
    return controller.state_dir / "secrets" / "registry_certificate"


def test_it_is_issued_once_and_renewed_before_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    controller = Controller(tmp_path)
    first = controller.compile(CATALOGUE, {}, hosts=HOSTS)
    text = kept(controller).read_text()
    assert kept(controller).stat().st_mode & 0o777 == 0o600
    assert controller.compile(CATALOGUE, {}, hosts=HOSTS)["digest"] == first["digest"]
    assert kept(controller).read_text() == text
    authority = (controller.state_dir / "secrets" / "registry_ca").read_text()
    assert first["registry"]["authority"] == _pem.certificates(authority)
    assert "PRIVATE KEY" not in first["registry"]["authority"]
    # Less than a third of its time is left: the next plan has another, under another name.
    kept(controller).write_text(_pem.new_certificate(authority, ["mcp-registry"], _controller.RENEW_DAYS - 1))
    second = controller.compile(CATALOGUE, {}, hosts=HOSTS)
    (made,) = x509.load_pem_x509_certificates(kept(controller).read_text().encode())
    assert made.not_valid_after_utc > datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=_controller.CERTIFICATE_DAYS - 1)
    assert second["registry"]["stack"]["secrets"] != first["registry"]["stack"]["secrets"]
    assert second["stack"] == first["stack"]


def test_another_authority_makes_another_certificate(tmp_path: Path) -> None:
    controller = Controller(tmp_path)
    controller.compile(CATALOGUE, {}, hosts=HOSTS)
    before = kept(controller).read_text()
    authority = tmp_path / "mine.pem"
    authority.write_text(_pem.new_authority("mine", 3650))
    made = controller.compile(CATALOGUE, {"secrets": {"registry_ca": {"file": str(authority)}}}, hosts=HOSTS)
    assert kept(controller).read_text() != before
    assert made["registry"]["authority"] == _pem.certificates(authority.read_text())


def test_an_authority_without_its_key_is_told(tmp_path: Path) -> None:
    authority = tmp_path / "mine.pem"
    authority.write_text(_pem.certificates(_pem.new_authority("mine", 3650)))
    with pytest.raises(FleetError, match=r"mcp_fleet\.secrets\.registry_certificate: .*must be a certificate and its key"):
        Controller(tmp_path).compile(CATALOGUE, {"secrets": {"registry_ca": {"file": str(authority)}}}, hosts=HOSTS)


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "No such file or directory; correct the path"), ("x", "holds no certificate that can be read; give it as PEM")],
)
def test_the_authority_of_an_external_registry(tmp_path: Path, text: str | None, said: str) -> None:
    settings: dict[str, Any] = {"registry": {"kind": "external", "address": "r.example", "ca_file": "ca.pem"}}
    if text:
        (tmp_path / "ca.pem").write_text(text)
    with pytest.raises(FleetError, match=f"mcp_fleet.registry.ca_file: ca.pem: {said}"):
        Controller(tmp_path).compile(CATALOGUE, settings)
    certificate = _pem.certificates(_pem.new_authority("x", 60))
    (tmp_path / "ca.pem").write_text(f"my own words\n{certificate}")
    assert Controller(tmp_path).compile(CATALOGUE, settings)["registry"]["authority"] == certificate


def test_one_node_needs_none_of_it(tmp_path: Path) -> None:
    Controller(tmp_path).compile(CATALOGUE, {})
    assert not [path.name for path in (tmp_path / ".state/secrets").iterdir() if path.name.startswith("registry")]
