# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that every module of Lambda Cloud has."""

from __future__ import annotations


class ModuleDocFragment:
    """Which account, and how patiently it is asked."""

    DOCUMENTATION = r"""
options:
  api_key:
    description:
      - Key of the account. Keys are made at U(https://cloud.lambda.ai/api-keys).
      - Without it the environment variable E(LAMBDA_API_KEY) is read, where the module runs. Any lookup gives it too.
      - It is in no message, log or result.
    type: str
  api_url:
    description:
      - Address of the API. Without it the environment variable E(LAMBDA_API_URL) is read.
      - Plain HTTP is taken on this machine alone, for tests.
    type: str
    default: https://cloud.lambda.ai/api/v1
  api_timeout:
    description: Seconds to wait for one answer.
    type: int
    default: 30
  api_retry_timeout:
    description:
      - Seconds for which a request is repeated that was refused for its rate (HTTP 429; as long as C(Retry-After) asks
        for is waited), or that was not answered (HTTP 5xx, no connection). 0 repeats nothing.
      - A request that would do its work a second time is not repeated without looking.
    type: int
    default: 120
notes:
  - Lambda permits one request a second, and one launch in twelve seconds. A task keeps to that by itself.
  - For all tasks of a play the account can be set in C(module_defaults) of C(group/sophia_ai.mcp_swarm.lambda).
attributes:
  action_group:
    description: Use C(group/sophia_ai.mcp_swarm.lambda) in C(module_defaults) to set the account for several tasks.
    support: full
    membership:
      - sophia_ai.mcp_swarm.lambda
"""
