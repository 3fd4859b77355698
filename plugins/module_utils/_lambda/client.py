# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Lambda Cloud API, version 1, with failures in people's words. Source: https://docs.lambda.ai/api/cloud

It permits one request a second, and one launch in twelve seconds. Requests of one process keep to that by themselves;
what others send with the same key is met by waiting as long as the API asks for.
"""

from __future__ import annotations

import email.utils
import http.client
import ipaddress
import json
import random
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit

from ansible.module_utils.urls import ConnectionError as UrlsError
from ansible.module_utils.urls import open_url

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.errors import (
    InvalidKey,
    LambdaError,
    NotFound,
    RateLimited,
    Unavailable,
    error_for,
)

DEFAULT_URL = "https://cloud.lambda.ai/api/v1"
TIMEOUT_SECONDS = 30
RETRY_SECONDS = 120
REQUEST_INTERVAL_SECONDS = 1.0
LAUNCH_INTERVAL_SECONDS = 12.0
INTERVALS = {"request": REQUEST_INTERVAL_SECONDS, "launch": LAUNCH_INTERVAL_SECONDS}
LONGEST_PAUSE_SECONDS = 30.0
MOST_OF_AN_ANSWER = 16 * 1024 * 1024
MOST_OF_A_MESSAGE = 300
LAUNCH = "/instance-operations/launch"
# Whoever knows them is root on the instance, through its JupyterLab: they go no further.
SECRET_FIELDS = ("jupyter_token", "jupyter_url")
# Something at the edge of the API refuses the names that Python's own clients give themselves.
AGENT = "sophia_ai.mcp_swarm"


class LambdaCloud:
    """One account.

    Args:
        api_key: of the account; it is in no message.
        api_url: where the API is; over plain HTTP on this machine alone.
        timeout: of one request, in seconds.
        retry_seconds: for how long a request is repeated that was refused for its rate, or that was not answered.
        sleep, clock: of this machine.

    Raises:
        InvalidKey: the key cannot be one.
        LambdaError: the address cannot be one.
    """

    def __init__(
        self,
        api_key: str | None,
        api_url: str | None = DEFAULT_URL,
        timeout: float = TIMEOUT_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key = _checked_key(api_key)
        self._url = _checked_url(api_url or DEFAULT_URL)
        self.timeout = timeout
        self.retry_seconds = retry_seconds
        self.sleep = sleep
        self.clock = clock
        self._not_before = {"request": clock(), "launch": clock()}

    # Instances

    def instances(self) -> list[dict[str, Any]]:
        """Every instance of the account, as the API describes it but for what must stay secret."""
        return [_public(instance) for instance in self._ask("GET", "/instances")]

    def instance(self, instance_id: str) -> dict[str, Any] | None:
        """One instance; None where there is none."""
        try:
            return _public(self._ask("GET", f"/instances/{_part(instance_id)}"))
        except NotFound:
            return None

    def instance_types(self) -> dict[str, dict[str, Any]]:
        """Types by name, each with ``instance_type`` and ``regions_with_capacity_available``."""
        return dict(self._ask("GET", "/instance-types"))

    def launch(self, body: Mapping[str, Any]) -> str:
        """Launch one instance and return its id.

        Raises:
            Unavailable: whether it was launched is unknown where ``sent`` is set: it is never repeated by itself.
        """
        return str(self._ask("POST", LAUNCH, body, repeatable=False)["instance_ids"][0])

    def restart(self, instance_ids: Sequence[str]) -> None:
        """Restart instances."""
        self._ask("POST", "/instance-operations/restart", {"instance_ids": list(instance_ids)}, repeatable=False)

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """End instances for good."""
        self._ask("POST", "/instance-operations/terminate", {"instance_ids": list(instance_ids)})

    def rename(self, instance_id: str, name: str) -> None:
        """Give an instance another name."""
        self._ask("POST", f"/instances/{_part(instance_id)}", {"name": name})

    # What a launch names

    def ssh_keys(self) -> list[dict[str, Any]]:
        """The account's public keys."""
        return list(self._ask("GET", "/ssh-keys"))

    def add_ssh_key(self, name: str, public_key: str) -> dict[str, Any]:
        """Store a public key; one that an unanswered request stored already is taken for it."""
        body = {"name": name, "public_key": public_key}
        return self._make("/ssh-keys", body, self.ssh_keys, lambda key: key["name"] == name)

    def delete_ssh_key(self, key_id: str) -> None:
        """Remove a public key; instances that were launched with it keep it."""
        self._ask("DELETE", f"/ssh-keys/{_part(key_id)}")

    def file_systems(self) -> list[dict[str, Any]]:
        """The account's file systems."""
        return list(self._ask("GET", "/file-systems"))

    def images(self) -> list[dict[str, Any]]:
        """Machine images, one entry for each region that has it."""
        return list(self._ask("GET", "/images"))

    # Firewalls

    def global_firewall_rules(self) -> list[dict[str, Any]]:
        """Inbound rules of every instance, but for regions that have no firewall."""
        return list(self._ask("GET", "/firewall-rulesets/global")["rules"])

    def set_global_firewall_rules(self, rules: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Replace them."""
        return list(self._ask("PATCH", "/firewall-rulesets/global", {"rules": list(rules)})["rules"])

    def firewall_rulesets(self) -> list[dict[str, Any]]:
        """Rulesets of single regions, which instances are launched with."""
        return list(self._ask("GET", "/firewall-rulesets"))

    def create_firewall_ruleset(self, name: str, region: str, rules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Make a ruleset; one that an unanswered request made already is taken for it."""
        body = {"name": name, "region": region, "rules": list(rules)}
        return self._make(
            "/firewall-rulesets",
            body,
            self.firewall_rulesets,
            lambda one: one["name"] == name and one["region"]["name"] == region,
        )

    def set_firewall_ruleset(self, ruleset_id: str, rules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Replace a ruleset's rules."""
        return dict(self._ask("PATCH", f"/firewall-rulesets/{_part(ruleset_id)}", {"rules": list(rules)}))

    def delete_firewall_ruleset(self, ruleset_id: str) -> None:
        """Remove a ruleset that no instance uses."""
        self._ask("DELETE", f"/firewall-rulesets/{_part(ruleset_id)}")

    # Requests

    def _make(
        self,
        path: str,
        body: Mapping[str, Any],
        there: Callable[[], list[dict[str, Any]]],
        same: Callable[[dict[str, Any]], bool],
    ) -> dict[str, Any]:
        """Create something once, also where the answer to the first request is lost."""
        try:
            return dict(self._ask("POST", path, body, repeatable=False))
        except Unavailable:
            if found := next((one for one in there() if same(one)), None):
                return found
            return dict(self._ask("POST", path, body, repeatable=False))

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, repeatable: bool = True) -> Any:
        """The ``data`` of the answer.

        A request that was refused for its rate is always repeated, for nothing was done. One that was not answered is
        repeated only where doing it twice is doing it once.
        """
        start = self.clock()
        attempt = 0
        while True:
            kinds = ["request", "launch"] if path == LAUNCH else ["request"]
            self._keep_to_the_rate(kinds)
            attempt += 1
            try:
                return self._once(method, path, body)
            except RateLimited as error:
                failure: LambdaError = error
                pause = error.retry_after if error.retry_after is not None else self._backoff(attempt)
                if path == LAUNCH and error.retry_after is None:
                    pause = max(pause, LAUNCH_INTERVAL_SECONDS)
            except Unavailable as error:
                failure, pause = error, self._backoff(attempt)
                if error.sent and not repeatable:
                    raise
            finally:  # it came before it was answered, and how long before is not known
                now = self.clock()
                self._not_before |= {kind: now + INTERVALS[kind] for kind in kinds}
            spent = self.clock() - start
            if spent + pause > self.retry_seconds:
                failure.args = (f"{failure.args[0]} (asked {attempt} times in {spent:.0f} s)", *failure.args[1:])
                raise failure
            self.sleep(pause)

    @staticmethod
    def _backoff(attempt: int) -> float:
        """Seconds, longer each time, and not the same for two who began together."""
        return min(2.0**attempt, LONGEST_PAUSE_SECONDS) * random.uniform(0.5, 1.0)

    def _keep_to_the_rate(self, kinds: Sequence[str]) -> None:
        pause = max(self._not_before[kind] for kind in kinds) - self.clock()
        if pause > 0:
            self.sleep(pause)

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        request = f"{method} {path}"
        try:
            answer = open_url(
                self._url + path,
                method=method,
                data=None if body is None else json.dumps(body).encode(),
                headers={
                    "Accept": "application/json",
                    "Authorization": f"Bearer {self._key}",
                    **({} if body is None else {"Content-Type": "application/json"}),
                },
                http_agent=AGENT,
                timeout=self.timeout,
                # An address elsewhere has no business with the key.
                follow_redirects="none",
                use_netrc=False,
            )
            text = answer.read(MOST_OF_AN_ANSWER)
        except HTTPError as error:
            raise self._refusal(error, request) from None  # its cause holds the request, with the key
        except (URLError, OSError, http.client.HTTPException, UrlsError) as error:
            raise self._no_answer(error, request) from None
        try:
            return json.loads(text)["data"]
        except (ValueError, KeyError, TypeError):
            said = self._short(text)
            raise LambdaError(
                f"Lambda Cloud: {request}: the answer is none of this API: {said!r}; look whether api_url"
                f" ({self._url}) is right"
            ) from None

    def _refusal(self, error: HTTPError, request: str) -> LambdaError:
        try:
            text = error.read(MOST_OF_AN_ANSWER)
        except (OSError, http.client.HTTPException):
            text = b""
        code, said = "", self._short(text) or str(error.reason)
        try:
            told = json.loads(text)["error"]
            code = str(told["code"])
            said = self._short(" ".join(str(told[key]) for key in ("message", "suggestion") if told.get(key)))
        except (ValueError, KeyError, TypeError):
            pass  # not the API but something before it answered
        if HTTPStatus.MULTIPLE_CHOICES <= error.code < HTTPStatus.BAD_REQUEST:
            return LambdaError(
                f"Lambda Cloud: {request}: HTTP {error.code}: it sends us elsewhere, where the key does not go;"
                f" set api_url ({self._url}) to the API's own address"
            )
        return error_for(error.code, code, said, request, _retry_after(error.headers.get("Retry-After")))

    def _no_answer(self, error: Exception, request: str) -> LambdaError:
        reason = getattr(error, "reason", None)
        cause = reason if isinstance(reason, Exception) else error
        why = self._short(str(cause) or type(cause).__name__)
        said = f"Lambda Cloud: {request}: {self._url} does not answer: {why}"
        if isinstance(cause, ssl.SSLCertVerificationError) or "certificate" in str(cause).lower():
            return LambdaError(
                f"{said}; its certificate is not trusted here: set SSL_CERT_FILE to the site's CA bundle"
                " where a proxy inspects TLS"
            )
        never_there = isinstance(cause, (ConnectionRefusedError, socket.gaierror))
        return Unavailable(f"{said}; {Unavailable.next_step}", sent=not never_there)

    def _short(self, text: str | bytes) -> str:
        """For a message: one line, not too long, and never the key."""
        if isinstance(text, bytes):
            text = text.decode(errors="replace")
        line = " ".join(text.replace(self._key, "(key)").split())
        return line if len(line) <= MOST_OF_A_MESSAGE else line[:MOST_OF_A_MESSAGE] + "…"


def _checked_key(key: str | None) -> str:
    if not key or not key.strip():
        raise InvalidKey(f"Lambda Cloud: there is no API key; {InvalidKey.next_step}")
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidKey(
            "Lambda Cloud: the API key holds a space, a line break or another character that no key has;"
            f" {InvalidKey.next_step}"
        )
    return key


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise LambdaError(f"api_url: {url!r} is no address of an API; leave it out, or write it like {DEFAULT_URL}")
    if parts.scheme == "http" and not _loopback(parts.hostname):
        raise LambdaError(f"api_url: {url!r}: the key would cross the network in the clear; use https")
    return url.rstrip("/")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, RFC 9110 section 10.2.3: a number, or a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _part(text: str) -> str:
    """A name or id as one segment of a path."""
    return quote(text, safe="")


def _public(instance: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in instance.items() if key not in SECRET_FIELDS}
