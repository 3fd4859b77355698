# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Lambda Cloud API refuses, in people's words. Codes: https://docs.lambda.ai/api/cloud, "Error responses"."""

from __future__ import annotations

from http import HTTPStatus

KEYS_PAGE = "https://cloud.lambda.ai/api-keys"
STATUS_PAGE = "https://status.lambda.ai"


class LambdaError(Exception):
    """Something about Lambda Cloud; the message says what, why and what to do.

    Attributes:
        code: the API's own name of the error, such as ``global/quota-exceeded``; empty where it gave none.
    """

    code = ""
    next_step = "correct what the message names and run again"


class Refused(LambdaError):
    """The API answered that it will not do this."""


class InvalidKey(Refused):
    """The key is missing, wrong, expired or deleted."""

    next_step = f"make a key at {KEYS_PAGE} and set LAMBDA_API_KEY or api_key to it"


class AccountInactive(Refused):
    """The account may do nothing."""

    next_step = "verify the account's e-mail address and payment method, or ask Lambda's support"


class InvalidBillingAddress(Refused):
    """The account may launch nothing."""

    next_step = "correct the billing address in Lambda's dashboard"


class QuotaExceeded(Refused):
    """The account has as much as it may have."""

    next_step = "terminate what idles (lambda_instance_info lists it all), or ask Lambda's support for a higher quota"


class InsufficientCapacity(Refused):
    """This type is sold out in this region, now."""

    next_step = "try other regions or types, or later"


class FileSystemElsewhere(Refused):
    """A file system can be mounted in its own region alone."""

    next_step = "launch in the region of the file system, or leave the file system out"


class NotFound(Refused):
    """What the request names does not exist."""

    next_step = "correct the name or id; lambda_instance_info lists what there is"


class Duplicate(Refused):
    """Something of this name exists."""

    next_step = "choose another name, or remove the other one first"


class InUse(Refused):
    """Instances use it."""

    next_step = "terminate the instances that use it first"


class InvalidParameters(Refused):
    """The API does not take a value."""


class UpstreamRefused(Refused):
    """Not Lambda but the provider below it refused."""

    next_step = "try again shortly, or another region"


class RateLimited(LambdaError):
    """More requests than Lambda permits; nothing of this one was done.

    Attributes:
        retry_after: how many seconds the API asks to wait; None where it does not say.
    """

    next_step = "wait a minute and run again; look whether something else uses the same key"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(LambdaError):
    """No answer, or one that says that the API is broken.

    Attributes:
        sent: whether the request may have arrived, and may have been done.
    """

    next_step = f"look at {STATUS_PAGE} and run again"

    def __init__(self, message: str, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


CODES: dict[str, type[LambdaError]] = {
    "global/invalid-api-key": InvalidKey,
    "global/account-inactive": AccountInactive,
    "global/invalid-address": InvalidBillingAddress,
    "global/quota-exceeded": QuotaExceeded,
    "global/object-does-not-exist": NotFound,
    "global/invalid-parameters": InvalidParameters,
    "global/duplicate": Duplicate,
    "global/internal-error": Unavailable,
    "instance-operations/launch/insufficient-capacity": InsufficientCapacity,
    "instance-operations/launch/file-system-in-wrong-region": FileSystemElsewhere,
    "filesystems/filesystem-in-use": InUse,
    "firewall-rulesets/firewall-ruleset-in-use": InUse,
}
# Where there is no code that we know, the status says enough.
STATUSES: dict[int, type[LambdaError]] = {
    HTTPStatus.UNAUTHORIZED: InvalidKey,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.CONFLICT: Duplicate,
    HTTPStatus.TOO_MANY_REQUESTS: RateLimited,
}


def error_for(status: int, code: str, said: str, request: str, retry_after: float | None = None) -> LambdaError:
    """The error that an answer of the API is.

    Args:
        status: HTTP status.
        code: ``error.code`` of the answer; empty where it has none.
        said: what the API says about it.
        request: method and path, for the message.
        retry_after: seconds, of the header of that name.
    """
    kind: type[LambdaError]
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = RateLimited
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = Unavailable
    elif code.startswith("provider/"):
        kind = UpstreamRefused
    else:
        kind = CODES.get(code) or STATUSES.get(status, Refused)
    told = f"Lambda Cloud: {request}: HTTP {status}{f' {code}' if code else ''}: {said.rstrip('.')}; {kind.next_step}"
    error = kind(told, retry_after) if kind is RateLimited else kind(told)
    error.code = code
    return error
