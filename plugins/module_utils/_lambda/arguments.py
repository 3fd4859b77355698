# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that every module of Lambda Cloud has; plugins/doc_fragments/lambda_cloud.py documents them."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule, env_fallback

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.client import (
    DEFAULT_URL,
    RETRY_SECONDS,
    TIMEOUT_SECONDS,
    LambdaCloud,
)
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.errors import LambdaError

KEY_VARIABLE = "LAMBDA_API_KEY"
URL_VARIABLE = "LAMBDA_API_URL"


def with_access(spec: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A module's own options, and those that say which account."""
    return {
        "api_key": {"type": "str", "no_log": True, "fallback": (env_fallback, [KEY_VARIABLE])},
        "api_url": {"type": "str", "default": DEFAULT_URL, "fallback": (env_fallback, [URL_VARIABLE])},
        "api_timeout": {"type": "int", "default": TIMEOUT_SECONDS},
        "api_retry_timeout": {"type": "int", "default": RETRY_SECONDS},
        **spec,
    }


def fail(module: AnsibleModule, error: LambdaError) -> None:
    """End the module with what went wrong, and with the API's own name of it where it has one."""
    module.fail_json(msg=str(error), **({"code": error.code} if error.code else {}))


def account(module: AnsibleModule) -> LambdaCloud:
    """The account that the options name.

    Raises:
        LambdaError: key or address cannot be right.
    """
    params = module.params
    return LambdaCloud(params["api_key"], params["api_url"], params["api_timeout"], params["api_retry_timeout"])
