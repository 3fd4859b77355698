# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan needs to know about the world, gathered by its callers so that planning itself reads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Host:
    """A node of the inventory.

    Attributes:
        name: in the inventory; the node's label ``ai.sophia.mcp.host`` in the Swarm.
        manager: whether it is a manager.
        labels: what ``mcp_node_labels`` gives it.
        edge: whether clients reach it (``mcp_node_edge``).
        gpus: how many GPUs it has (``mcp_node_gpus``).
        gpu_slots: how many replicas may share each of them (``mcp_node_gpu_slots``).
    """

    name: str
    manager: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    edge: bool = True
    gpus: int = 0
    gpu_slots: int = 1


@dataclass(frozen=True)
class Facts:
    """Inputs of planning that are not in the inventory.

    Attributes:
        locks: lock file name to contents.
        trees: source tree (relative path, as in the catalogue) to the digest of its files.
        files: document (relative path) to contents.
        secret_digests: secret name to a digest of its value; empty where secrets were not resolved.
        api_key_file: where the controller keeps the gateway's API key.
        ca_file: where the controller keeps the certificate of the fleet's own authority.
        hosts: the inventory's nodes, managers first.
        registry_authority: certificate of the registry's authority that nodes are to trust, as PEM.
    """

    locks: Mapping[str, str] = field(default_factory=dict)
    trees: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    secret_digests: Mapping[str, str] = field(default_factory=dict)
    api_key_file: str = ""
    ca_file: str = ""
    hosts: Sequence[Host] = ()
    registry_authority: str = ""
