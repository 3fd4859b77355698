# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of Lambda Cloud's API against a double of it: what is repeated, what never, and what it says."""

from __future__ import annotations

import email.utils
import itertools
import socket
import ssl
import time
from typing import Any
from urllib.error import URLError

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda import client as client_code
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda import errors
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.client import LambdaCloud
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.errors import LambdaError

BODY = {"region_name": "us-east-1", "instance_type_name": "gpu_1x_a10", "ssh_key_names": ["operations"], "name": "x"}
LAUNCH = "/instance-operations/launch"


def test_what_opens_the_machine_is_left_out(cloud: Any) -> None:
    cloud.add("x")
    (seen,) = cloud.client().instances()
    assert (seen["name"], seen["status"]) == ("x", "active")
    assert not {"jupyter_token", "jupyter_url"} & set(seen)


def test_a_wrong_key_is_said_without_showing_it(cloud: Any) -> None:
    with pytest.raises(errors.InvalidKey) as raised:
        LambdaCloud("secret_wrong_key", cloud.url).instances()
    assert "global/invalid-api-key" in str(raised.value)
    assert "https://cloud.lambda.ai/api-keys" in str(raised.value)
    assert "secret_wrong_key" not in str(raised.value)


@pytest.mark.parametrize("key", [None, "", "  \n"])
def test_a_missing_key_is_said_before_anything_is_asked(cloud: Any, key: str | None) -> None:
    with pytest.raises(errors.InvalidKey, match="there is no API key; make a key at .* LAMBDA_API_KEY"):
        LambdaCloud(key, cloud.url)
    assert cloud.requests == []


@pytest.mark.parametrize("key", ["two words", "a\nb: c", "schlüssel"])
def test_what_can_be_no_key_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(errors.InvalidKey) as raised:
        LambdaCloud(key)
    assert key not in str(raised.value)
    assert "the API key holds a space, a line break or another character that no key has; make a key at" in str(
        raised.value
    )


def test_a_key_from_a_file_may_end_its_line(cloud: Any) -> None:
    assert LambdaCloud(cloud.key + "\n", cloud.url).instances() == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://cloud.lambda.ai/api/v1", "in the clear; use https"),
        ("cloud.lambda.ai", "api_url: 'cloud.lambda.ai' is no address of an API; leave it out, or write it like https"),
        ("https://user@cloud.lambda.ai", "is no address"),
        ("ftp://cloud.lambda.ai", "is no address"),
    ],
)
def test_the_key_goes_to_no_such_address(url: str, said: str) -> None:
    with pytest.raises(LambdaError, match=said):
        LambdaCloud("key", url)


@pytest.mark.parametrize(
    ("status", "code", "kind", "step"),
    [
        (403, "global/account-inactive", errors.AccountInactive, "verify the account's e-mail"),
        (403, "global/invalid-address", errors.InvalidBillingAddress, "correct the billing address"),
        (400, "global/quota-exceeded", errors.QuotaExceeded, "terminate what idles"),
        (400, "global/invalid-parameters", errors.InvalidParameters, "correct what the message names"),
        (400, "global/duplicate", errors.Duplicate, "choose another name, or remove the other one first"),
        (404, "global/object-does-not-exist", errors.NotFound, "correct the name or id"),
        (400, "instance-operations/launch/insufficient-capacity", errors.InsufficientCapacity, "try other regions"),
        (400, "instance-operations/launch/file-system-in-wrong-region", errors.FileSystemElsewhere, "launch in the region of"),
        (400, "firewall-rulesets/firewall-ruleset-in-use", errors.InUse, "terminate the instances that use it"),
        (400, "provider/unknown", errors.UpstreamRefused, "try again shortly, or another region"),
        (418, "global/something-new", errors.Refused, "correct what the message names"),
    ],
)
def test_each_code_has_a_next_step_and_is_asked_once(cloud: Any, status: int, code: str, kind: type, step: str) -> None:
    cloud.fault(status=status, code=code, message="No.")
    with pytest.raises(kind) as raised:
        cloud.client().instance_types()
    said = str(raised.value)
    assert said.startswith(f"Lambda Cloud: GET /instance-types: HTTP {status} {code}: No. Try again; {step}")
    assert raised.value.code == code
    assert len(cloud.requests) == 1


def test_too_many_requests_wait_as_long_as_they_are_told(cloud: Any) -> None:
    cloud.fault(status=429, text="Too Many Requests", headers={"Retry-After": "7"}, times=2)
    assert cloud.client().instances() == []
    assert cloud.clock.pauses.count(7.0) == 2
    assert cloud.asked("GET /instances") == 3


def test_a_date_to_wait_for_is_understood(cloud: Any) -> None:
    cloud.fault(status=429, text="", headers={"Retry-After": email.utils.formatdate(time.time() + 20, usegmt=True)})
    cloud.client().instances()
    assert 17 < max(cloud.clock.pauses) < 21


def test_a_launch_that_was_refused_for_its_rate_is_repeated_after_the_documented_time(cloud: Any) -> None:
    cloud.fault(path=LAUNCH, status=429, text="Too Many Requests", times=2)
    assert cloud.client().launch(BODY)
    assert [pause for pause in cloud.clock.pauses if pause >= 12] == [12.0, 12.0]
    assert len(cloud.launches) == 1


def test_waiting_for_longer_than_may_be_is_said_at_once(cloud: Any) -> None:
    cloud.fault(status=429, text="", headers={"Retry-After": "3600"})
    with pytest.raises(errors.RateLimited, match=r"something else uses the same key \(asked 1 times"):
        cloud.client().instances()
    assert sum(cloud.clock.pauses) < 10


def test_requests_are_a_second_apart_and_launches_twelve(cloud: Any) -> None:
    client = cloud.client()
    starts = []
    for ask in (
        client.instances,
        lambda: client.launch(BODY),
        client.instances,
        lambda: client.launch({**BODY, "name": "y"}),
    ):
        ask()
        starts.append(cloud.clock.now)
    assert [later - earlier for earlier, later in itertools.pairwise(starts)] == [1.0, 1.0, 11.0]


def test_a_slow_answer_brings_the_next_request_no_nearer(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = []

    def slow(url: str, **options: Any) -> Any:
        cloud.clock.now += 0.7  # on its way
        arrived.append(cloud.clock.now)
        return real(url, **options)

    real = client_code.open_url
    monkeypatch.setattr(client_code, "open_url", slow)
    client = cloud.client()
    client.instances()
    monkeypatch.setattr(client_code, "open_url", lambda url, **options: arrived.append(cloud.clock.now) or real(url, **options))
    client.instances()
    assert arrived[1] - arrived[0] >= 1


def test_the_real_clock_keeps_within_the_rates_of_a_strict_api(cloud: Any) -> None:
    cloud.world.request_seconds = 1.0
    client = LambdaCloud(cloud.key, cloud.url)
    client.instances()
    client.instances()
    assert cloud.asked("GET /instances") == 2, "none of them was refused"


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503, "text": "<html>\n  upstream  </html>"},
        {"status": 500, "code": "global/internal-error"},
        {"drop": True},
    ],
)
def test_an_api_that_is_away_for_a_moment_is_waited_for(cloud: Any, fault: dict[str, Any]) -> None:
    cloud.fault(**fault, times=3)
    assert cloud.client().instances() == []
    assert cloud.asked("GET /instances") == 4


def test_an_api_that_stays_away_is_given_up(cloud: Any) -> None:
    cloud.fault(status=502, text="<html>\n  bad   gateway</html>", times=99)
    with pytest.raises(errors.Unavailable) as raised:
        cloud.client(retry_seconds=60).instances()
    said = str(raised.value)
    assert "HTTP 502: <html> bad gateway</html>" in said
    assert "https://status.lambda.ai and run again" in said
    assert 3 < cloud.asked("GET /instances") < 20
    assert sum(cloud.clock.pauses) <= 60 + 1


def test_nothing_is_repeated_where_nobody_wants_to_wait(cloud: Any) -> None:
    cloud.fault(status=503, text="", times=9)
    with pytest.raises(errors.Unavailable):
        cloud.client(retry_seconds=0).instances()
    assert len(cloud.requests) == 1


@pytest.mark.parametrize("fault", [{"status": 500, "code": "global/internal-error"}, {"drop": True}])
def test_a_launch_that_was_not_answered_is_never_repeated(cloud: Any, fault: dict[str, Any]) -> None:
    cloud.fault(path=LAUNCH, **fault)
    with pytest.raises(errors.Unavailable) as raised:
        cloud.client().launch(BODY)
    assert raised.value.sent
    assert cloud.asked(f"POST {LAUNCH}") == 1


def test_a_key_that_was_stored_without_an_answer_is_not_stored_twice(cloud: Any) -> None:
    cloud.fault(path="/ssh-keys", method="POST", drop=True, done=True)
    assert cloud.client().add_ssh_key("mine", "ssh-ed25519 AAAA me")["name"] == "mine"
    assert cloud.asked("POST /ssh-keys") == 1


def test_a_key_that_was_not_stored_is_stored_after_all(cloud: Any) -> None:
    cloud.fault(path="/ssh-keys", method="POST", drop=True)
    cloud.client().add_ssh_key("mine", "ssh-ed25519 AAAA me")
    assert "mine" in {key["name"] for key in cloud.keys.values()}


def test_an_address_where_nobody_listens_is_named(cloud: Any) -> None:
    with socket.socket() as closed:  # bound and not listening: nobody else takes the port meanwhile
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        client = LambdaCloud("key", url, retry_seconds=10, sleep=cloud.clock.sleep, clock=cloud.clock)
        with pytest.raises(errors.Unavailable, match=f"{url} does not answer: .*refused") as raised:
            client.launch(BODY)
    assert not raised.value.sent


def test_a_certificate_that_is_not_trusted_here_is_named(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(url: str, **dummy: Any) -> None:
        asked.append(url)
        raise URLError(ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate in chain"))

    monkeypatch.setattr(client_code, "open_url", refuse)
    with pytest.raises(LambdaError) as raised:
        cloud.client().instances()
    assert not isinstance(raised.value, errors.Unavailable)
    assert str(raised.value).endswith(
        "its certificate is not trusted here: set SSL_CERT_FILE to the site's CA bundle where a proxy inspects TLS"
    )
    assert len(asked) == 1, "it is trusted no more the second time"


def test_the_key_follows_no_redirection(cloud: Any) -> None:
    cloud.fault(status=302, text="", headers={"Location": "http://127.0.0.1:1/elsewhere"})
    with pytest.raises(LambdaError, match="HTTP 302: it sends us elsewhere, where the key does not go"):
        cloud.client().instances()


@pytest.mark.parametrize("text", ["<html>welcome</html>", "[]", '{"other": 1}'])
def test_another_service_s_answer_is_recognised(cloud: Any, text: str) -> None:
    cloud.fault(status=200, text=text)
    with pytest.raises(LambdaError, match="is none of this API: .*look whether api_url"):
        cloud.client().instances()


def test_an_answer_that_repeats_the_key_does_not_reach_the_message(cloud: Any) -> None:
    cloud.fault(status=400, code="global/invalid-parameters", message=f"bad header Bearer {cloud.key}")
    with pytest.raises(errors.InvalidParameters) as raised:
        cloud.client().instances()
    assert cloud.key not in str(raised.value)
    assert "(key)" in str(raised.value)
    assert raised.value.__cause__ is None


def test_an_instance_that_does_not_exist_is_none(cloud: Any) -> None:
    assert cloud.client().instance("0920582c7ff041399e34823a0be62549") is None


def test_an_id_is_one_segment_of_the_path(cloud: Any) -> None:
    assert cloud.client().instance("../ssh-keys") is None
    assert cloud.requests == ["GET /instances/..%2Fssh-keys"]
