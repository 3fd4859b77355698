# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``make bench`` runs: the twelve-server fleet on a node of its own, from bare to deployed, changed and back.

The node is a container that boots systemd, made as Molecule makes its nodes: this machine's own engine, its images and
its Swarm, if it has one, are left alone.
"""
