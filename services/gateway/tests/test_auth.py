"""Who is calling: API keys, access tokens against a real issuer, and what a refused client is told."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from issuer import Issuer

from mcp_gateway import auth
from mcp_gateway.auth import ApiKey, Authenticator, AuthSettings, OAuthSettings, Unauthorized, digest
from mcp_gateway.auth import authenticator as authenticator_module
from mcp_gateway.auth.fetch import MAX_BYTES, FetchError, fetch_json
from mcp_gateway.auth.jwks import IssuerUnavailable, KeySet, Source
from mcp_gateway.auth.metadata import document
from mcp_gateway.principal import Principal
from mcp_gateway.reader import Reader

BASE = "https://mcp.example.com"


def _certificate() -> bytes:
    """A certificate for 127.0.0.1, signed by itself, and its key, as PEM."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(address, critical=False)
        .sign(key, SHA256())
    )
    return certificate.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    running = Issuer()
    yield running
    running.close()


def settings(issuer: Issuer, **oauth: Any) -> AuthSettings:
    return AuthSettings(oauth=OAuthSettings(issuer.url, **oauth), resource_url=BASE)


def ask(authenticator: Authenticator, token: str, resource: str = "/mcp") -> Principal:
    return asyncio.run(authenticator.authenticate(f"Bearer {token}", "", resource))


def refused(authenticator: Authenticator, token: str, resource: str = "/mcp") -> Unauthorized:
    with pytest.raises(Unauthorized) as caught:
        ask(authenticator, token, resource)
    return caught.value


def read(text: str) -> tuple[AuthSettings, list[str]]:
    errors: list[str] = []
    return auth.read(Reader(yaml.safe_load(text), "auth", errors)), errors


class Clock:
    """Time that only the test moves."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


# -- API keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorization", "api_key", "name"),
    [
        ("Bearer one", "", "first"),
        ("bearer two", "", "second"),
        ("", "two", "second"),
        ("Basic zzz", "two", "second"),
        ("Bearer three", "", None),
        ("Bearer three", "one", None),
        ("Basic one", "", None),
        ("Bearer ", "", None),
        ("", "", None),
        ("", "\udcff", None),
    ],
)
def test_keys_are_found_in_both_headers(authorization: str, api_key: str, name: str | None) -> None:
    authenticator = Authenticator(AuthSettings((ApiKey("first", digest("one")), ApiKey("second", digest("two")))))
    assert authenticator.known(authorization, api_key, "/mcp") is None
    if name is None:
        with pytest.raises(Unauthorized):
            asyncio.run(authenticator.authenticate(authorization, api_key, "/mcp"))
        assert authenticator.known(authorization, api_key, "/mcp") is None
    else:
        assert asyncio.run(authenticator.authenticate(authorization, api_key, "/mcp")).name == name
        assert authenticator.known(authorization, api_key, "/mcp") == Principal(name)


def test_without_credentials_configured_everyone_is_anonymous() -> None:
    authenticator = Authenticator(AuthSettings())
    assert authenticator.known("Bearer x", "", "/mcp") == Principal("anonymous")
    assert ask(authenticator, "x") == Principal("anonymous")


def test_keys_of_one_name_overlap_and_each_ends_in_its_time() -> None:
    clock = Clock()
    old = ApiKey("team", digest("old"), not_after=clock.now + 100)
    new = ApiKey("team", digest("new"), not_before=clock.now + 50)
    authenticator = Authenticator(AuthSettings((old, new)), clock)

    def good(secret: str) -> bool:
        known = authenticator.known(f"Bearer {secret}", "", "/mcp")
        try:
            checked = ask(authenticator, secret)
        except Unauthorized as error:
            assert known is None  # what is remembered never outlives what is checked
            assert 'error="invalid_token"' in error.challenge
            return False
        return checked == Principal("team")

    seen = []
    for at in (0.0, 49.9, 50.0, 99.9, 100.0, 1000.0):
        clock.now = 1_800_000_000.0 + at
        seen.append((good("old"), good("new")))
    assert seen == [(True, False), (True, False), (True, True), (True, True), (False, True), (False, True)]


def test_an_update_ends_a_withdrawn_key_at_once_and_brings_a_new_one() -> None:
    authenticator = Authenticator(AuthSettings((ApiKey("a", digest("one")),)))
    ask(authenticator, "one")
    assert authenticator.known("Bearer one", "", "/mcp") == Principal("a")
    authenticator.update(AuthSettings((ApiKey("a", digest("two")),)))
    assert authenticator.known("Bearer one", "", "/mcp") is None
    assert refused(authenticator, "one").status == 401
    assert ask(authenticator, "two") == Principal("a")


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authenticator_module, "MAX_REMEMBERED", 3)
    keys = tuple(ApiKey(f"k{i}", digest(f"s{i}")) for i in range(5))
    authenticator = Authenticator(AuthSettings(keys))
    for index in range(5):
        ask(authenticator, f"s{index}")
    known = [authenticator.known(f"Bearer s{i}", "", "/mcp") is not None for i in range(5)]
    assert known == [False, False, True, True, True]


# -- access tokens -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_good_token_is_taken_and_then_known(issuer: Issuer, algorithm: str) -> None:
    issuer.rotate("k", algorithm)
    authenticator = Authenticator(settings(issuer))
    token = issuer.token(scope="files:read files:write", scp=["more"])
    principal = ask(authenticator, token)
    assert principal == Principal("oauth:alice", "", frozenset({"files:read", "files:write", "more"}))
    asked = len(issuer.requests)
    assert authenticator.known(f"Bearer {token}", "", "/mcp") == principal
    assert ask(authenticator, issuer.token(sub="bob")).name == "oauth:bob"
    assert len(issuer.requests) == asked, "keys are cached"


def _forged(issuer: Issuer, header: dict[str, Any], key: bytes | None) -> str:
    """A token put together by hand, as a library would refuse to."""
    parts = [json.dumps(part).encode() for part in ({"typ": "JWT", "kid": "first", **header}, issuer.claims())]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.new(key, signed, hashlib.sha256).digest() if key else b""
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def _other_key(issuer: Issuer) -> str:
    other = Issuer()
    other.close()
    return jwt.encode(issuer.claims(), other.private("first"), "ES256", headers={"kid": "first"})


BAD: dict[str, tuple[Callable[[Issuer], str], str]] = {
    "alg none": (lambda i: _forged(i, {"alg": "none"}, None), "algorithm"),
    "alg None in capitals": (lambda i: _forged(i, {"alg": "NONE"}, None), "algorithm"),
    "HS256 with the public key as secret": (lambda i: _forged(i, {"alg": "HS256"}, i.pem("first")), "algorithm"),
    "alg not text": (lambda i: _forged(i, {"alg": ["ES256"]}, None), ""),
    "alg of another kind of key": (lambda i: _forged(i, {"alg": "RS256"}, None), "key is not among"),
    "signed by another key": (_other_key, "signature"),
    "kid not text": (lambda i: _forged(i, {"alg": "ES256", "kid": 7}, None), ""),
    "unknown kid": (lambda i: i.token(header={"kid": "nobody"}), "key is not among"),
    "crit that nobody knows": (lambda i: i.token(header={"crit": ["x"], "x": 1}), "neither a known key nor"),
    "other audience": (lambda i: i.token(aud=f"{BASE}/servers/other/mcp"), "another resource"),
    "audience that only begins alike": (lambda i: i.token(aud=f"{BASE}/mcp/x"), "another resource"),
    "no audience": (lambda i: i.token(aud=None), "no aud"),
    "other issuer": (lambda i: i.token(iss="http://127.0.0.1:1"), "another issuer"),
    "issuer with a slash more": (lambda i: i.token(iss=f"{i.url}/"), "another issuer"),
    "no issuer": (lambda i: i.token(iss=None), "no iss"),
    "expired": (lambda i: i.token(exp=int(time.time()) - 60), "expired"),
    "not valid yet": (lambda i: i.token(nbf=int(time.time()) + 60), "not valid yet"),
    "no exp": (lambda i: i.token(exp=None), "no exp"),
    "endless exp": (lambda i: i.token(exp=float("inf")), "malformed"),
    "exp as text": (lambda i: i.token(exp="soon"), "malformed"),
    "no subject": (lambda i: i.token(sub=None), "names nobody"),
    "empty subject": (lambda i: i.token(sub=""), "names nobody"),
    "subject with a line end": (lambda i: i.token(sub="alice\nbob"), "names nobody"),
    "bound to its holder's key": (lambda i: i.token(cnf={"jkt": "x"}), "bound to a key"),
    "no token at all": (lambda i: "abc", "neither a known key nor"),
    "three dots": (lambda i: "...", "neither a known key nor"),
    "not ASCII": (lambda i: "é.é.é", "neither a known key nor"),
    "cut off": (lambda i: i.token()[:-4], ""),
    "payload changed": (lambda i: ".".join([i.token().split(".")[0], "e30", i.token().split(".")[2]]), "signature"),
    "huge": (lambda i: i.token(blob="x" * 20000), "longer than"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_token_is_refused_with_invalid_token(issuer: Issuer, case: str) -> None:
    make, reason = BAD[case]
    authenticator = Authenticator(settings(issuer))
    token = make(issuer)
    error = refused(authenticator, token)
    assert error.status == 401
    assert reason in error.message
    assert 'error="invalid_token"' in error.challenge
    assert token not in error.challenge + error.message or token == "..."
    assert authenticator.known(f"Bearer {token}", "", "/mcp") is None
    assert ask(authenticator, issuer.token()).name == "oauth:alice", "a bad token spoils nothing for a good one"


def test_clocks_may_differ_by_the_leeway(issuer: Issuer) -> None:
    now = int(time.time())
    strict, lax = Authenticator(settings(issuer, leeway_seconds=0)), Authenticator(settings(issuer, leeway_seconds=60))
    for token, reason in ((issuer.token(exp=now - 30), "expired"), (issuer.token(nbf=now + 30), "not valid yet")):
        assert ask(lax, token).name == "oauth:alice"
        assert reason in refused(strict, token).message


def test_a_known_token_ends_with_its_exp(issuer: Issuer) -> None:
    clock = Clock(time.time())
    authenticator = Authenticator(settings(issuer, leeway_seconds=5), clock)
    token = issuer.token(exp=int(clock.now) + 20)
    ask(authenticator, token)
    start, known = int(clock.now), []
    for after in (0, 20, 24, 26):
        clock.now = start + after
        known.append(authenticator.known(f"Bearer {token}", "", "/mcp") is not None)
    assert known == [True, True, True, False]


def test_a_token_for_one_endpoint_is_not_good_for_another(issuer: Issuer) -> None:
    authenticator = Authenticator(settings(issuer))
    token = issuer.token(aud=[f"{BASE}/servers/time/mcp", "https://elsewhere.example"])
    assert ask(authenticator, token, "/servers/time/mcp").name == "oauth:alice"
    assert authenticator.known(f"Bearer {token}", "", "/servers/time/mcp") is not None
    assert authenticator.known(f"Bearer {token}", "", "/mcp") is None
    assert "another resource" in refused(authenticator, token, "/mcp").message
    whole = issuer.token(aud=BASE)
    assert [ask(authenticator, whole, at).name for at in ("/mcp", "/servers/x/mcp")] == ["oauth:alice"] * 2


def test_a_configured_audience_is_the_only_one(issuer: Issuer) -> None:
    authenticator = Authenticator(settings(issuer, audience=("api://mcp", "api://old")))
    for audience in ("api://mcp", ["api://old"]):
        assert ask(authenticator, issuer.token(aud=audience), "/servers/x/mcp").name == "oauth:alice"
    assert refused(authenticator, issuer.token(aud=BASE)).status == 401


def test_no_token_can_take_the_name_of_an_api_key(issuer: Issuer) -> None:
    both = AuthSettings((ApiKey("ci", digest("secret")),), OAuthSettings(issuer.url), BASE)
    authenticator = Authenticator(both)
    assert ask(authenticator, "secret").name == "ci"
    assert ask(authenticator, issuer.token(sub="ci")).name == "oauth:ci"
    with pytest.raises(Unauthorized):  # a token is no API key
        asyncio.run(authenticator.authenticate("", issuer.token(), "/mcp"))


def test_claims_choose_principal_and_profile(issuer: Issuer) -> None:
    chosen = settings(
        issuer, principal_claim="client_id", profile_claim="groups", profiles={"admins": "all", "staff": "readers"}
    )
    authenticator = Authenticator(chosen)
    profiles = [
        ask(authenticator, issuer.token(client_id="app", groups=groups)).profile
        for groups in ("staff", ["staff", "admins"], ["others"], None, {"admins": 1})
    ]
    assert profiles == ["readers", "all", "", "", ""]
    assert ask(authenticator, issuer.token(client_id="app")).name == "oauth:app"


# -- keys of the issuer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "at"),
    [
        ("", "/.well-known/oauth-authorization-server"),
        ("", "/.well-known/openid-configuration"),
        ("/tenant", "/.well-known/oauth-authorization-server/tenant"),
        ("/tenant", "/.well-known/openid-configuration/tenant"),
        ("/tenant", "/tenant/.well-known/openid-configuration"),
    ],
)
def test_the_issuers_metadata_is_found_where_it_may_be(path: str, at: str) -> None:
    issuer = Issuer(path, at)
    try:
        assert ask(Authenticator(settings(issuer)), issuer.token()).name == "oauth:alice"
        assert issuer.requests[-2:] == [at, "/jwks"]
    finally:
        issuer.close()


@pytest.mark.parametrize("metadata", [{"issuer": "https://evil.example"}, {"jwks_uri": "http://192.0.2.1/jwks"}, {}])
def test_somebody_elses_metadata_is_not_used(issuer: Issuer, metadata: dict[str, str]) -> None:
    issuer.metadata = metadata
    if not metadata:
        assert ask(Authenticator(settings(issuer)), issuer.token()).name == "oauth:alice"
        return
    error = refused(Authenticator(settings(issuer)), issuer.token())
    assert (error.status, error.challenge, error.retry_after > 0) == (503, "", True)
    assert "/jwks" not in issuer.requests


def test_a_jwks_url_needs_no_metadata(issuer: Issuer) -> None:
    assert ask(Authenticator(settings(issuer, jwks_url=f"{issuer.base}/jwks")), issuer.token()).name == "oauth:alice"
    assert issuer.requests == ["/jwks"]


def test_keys_that_are_none_are_passed_over(issuer: Issuer) -> None:
    secret = base64.urlsafe_b64encode(b"s" * 32).rstrip(b"=").decode()
    issuer.extra_keys = [
        {"kty": "oct", "k": secret, "kid": "shared", "alg": "HS256"},
        {"kty": "RSA", "kid": "broken", "n": "AQAB"},
        {**issuer.jwks()[0], "kid": "encrypts", "use": "enc"},
        "nonsense",
    ]
    authenticator = Authenticator(settings(issuer))
    assert ask(authenticator, issuer.token()).name == "oauth:alice"
    stolen = jwt.encode(issuer.claims(), b"s" * 32, "HS256", headers={"kid": "shared"})
    assert "algorithm" in refused(authenticator, stolen).message
    wrong_use = jwt.encode(issuer.claims(), issuer.private("first"), "ES256", headers={"kid": "encrypts"})
    assert "key is not among" in refused(authenticator, wrong_use).message


def test_a_token_without_kid_needs_a_single_key_of_its_kind(issuer: Issuer) -> None:
    issuer.rotate("rsa", "RS256", keep=True)
    token = jwt.encode(issuer.claims(), issuer.private("first"), "ES256")
    assert ask(Authenticator(settings(issuer)), token).name == "oauth:alice"
    issuer.rotate("second", "ES256", keep=True)
    assert "key is not among" in refused(Authenticator(settings(issuer)), token).message


def test_a_rotated_key_is_fetched_once_and_ends_tokens_of_the_old_one(issuer: Issuer) -> None:
    async def run() -> None:
        authenticator = Authenticator(settings(issuer))
        old = f"Bearer {issuer.token()}"
        await authenticator.authenticate(old, "", "/mcp")
        issuer.rotate("second")
        new = await asyncio.gather(
            *(authenticator.authenticate(f"Bearer {issuer.token(sub=f'u{i}')}", "", "/mcp") for i in range(20))
        )
        assert {principal.name for principal in new} == {f"oauth:u{i}" for i in range(20)}
        assert issuer.requests.count("/jwks") == 2, "one fetch for all"
        assert authenticator.known(old, "", "/mcp") is None, "its key is withdrawn"
        with pytest.raises(Unauthorized):
            await authenticator.authenticate(old, "", "/mcp")

    asyncio.run(run())


def test_made_up_kids_make_one_fetch_in_ten_seconds(issuer: Issuer) -> None:
    async def run() -> None:
        clock = Clock(1000.0)
        keys = KeySet(Source(issuer.url), lambda: None, clock)
        assert await keys.find("first", "ES256") is not None
        for index in range(50):
            assert await keys.find(f"made-up-{index}", "ES256") is None
        assert issuer.requests.count("/jwks") == 2
        clock.now += 10
        assert await keys.find("made-up", "ES256") is None
        assert issuer.requests.count("/jwks") == 3

    asyncio.run(run())


def test_keys_come_by_https_from_who_is_trusted_alone(tmp_path: Path) -> None:
    """``ca_file`` is what the issuer's certificate has to come from; the system's authorities do not count then."""
    for name in ("own", "other"):
        (tmp_path / f"{name}.pem").write_bytes(_certificate())
    issuer = Issuer(certificate=tmp_path / "own.pem")
    plain, clock = issuer.url.replace("https:", "http:"), Clock(1000.0)

    async def run() -> None:
        trusted = KeySet(Source(issuer.url, ca_file=str(tmp_path / "own.pem")), lambda: None, clock)
        assert await trusted.find("first", "ES256") is not None
        assert issuer.requests[-1] == "/jwks"
        asked = len(issuer.requests)
        for ca_file in (str(tmp_path / "other.pem"), ""):
            with pytest.raises(IssuerUnavailable):
                await KeySet(Source(issuer.url, ca_file=ca_file), lambda: None, clock).find("first", "ES256")
        with pytest.raises(IssuerUnavailable):  # without TLS, to a port that speaks it
            await KeySet(Source(issuer.url, jwks_url=f"{plain}/jwks"), lambda: None, clock).find("first", "ES256")
        assert len(issuer.requests) == asked

    assert issuer.url.startswith("https://")
    asyncio.run(run())
    issuer.close()


def test_stale_keys_serve_while_the_issuer_is_down_but_not_for_ever(issuer: Issuer) -> None:
    async def run() -> None:
        clock = Clock(1000.0)
        keys = KeySet(Source(issuer.url, ttl_seconds=300, stale_seconds=3600), lambda: None, clock)
        await keys.find("first", "ES256")
        issuer.down = True
        for after in (301, 1000, 3899):
            clock.now = 1000.0 + after
            assert await keys.find("first", "ES256") is not None, after
            await _settled(keys)
        clock.now = 1000.0 + 3901
        with pytest.raises(IssuerUnavailable):
            await keys.find("first", "ES256")
        issuer.down = False
        clock.now += 5
        assert await keys.find("first", "ES256") is not None

    asyncio.run(run())


def test_old_keys_are_renewed_behind_the_request(issuer: Issuer) -> None:
    async def run() -> None:
        clock, changes = Clock(1000.0), []
        keys = KeySet(Source(issuer.url, ttl_seconds=300), lambda: changes.append(clock.now), clock)
        await keys.find("first", "ES256")
        issuer.rotate("second")
        clock.now += 301
        assert await keys.find("first", "ES256") is not None, "answered from what is there"
        await _settled(keys)
        assert len(changes) == 2
        assert await keys.find("second", "ES256") is not None
        assert issuer.requests.count("/jwks") == 2

    asyncio.run(run())


async def _settled(keys: KeySet) -> None:
    while keys.fetching:  # noqa: ASYNC110 - it ends by itself, and tells nobody
        await asyncio.sleep(0.01)


def test_an_issuer_that_is_down_from_the_start_is_503_and_not_asked_for_each_request(issuer: Issuer) -> None:
    issuer.down = True

    async def run() -> None:
        authenticator = Authenticator(settings(issuer))
        for _ in range(5):
            with pytest.raises(Unauthorized) as caught:
                await authenticator.authenticate(f"Bearer {issuer.token()}", "", "/mcp")
            assert caught.value.status == 503
            assert issuer.url not in caught.value.message
        assert len(issuer.requests) == 2, "both places of the metadata, once"

    asyncio.run(run())


def test_an_update_keeps_an_unchanged_issuers_keys_but_no_verdict(issuer: Issuer) -> None:
    async def run() -> None:
        authenticator = Authenticator(settings(issuer))
        header = f"Bearer {issuer.token(scope='a')}"
        await authenticator.authenticate(header, "", "/mcp")
        asked = len(issuer.requests)
        authenticator.update(settings(issuer, required_scopes=("b",)))
        assert authenticator.known(header, "", "/mcp") is None
        with pytest.raises(Unauthorized) as caught:
            await authenticator.authenticate(header, "", "/mcp")
        assert caught.value.status == 403
        assert len(issuer.requests) == asked
        authenticator.update(settings(issuer, jwks_ttl_seconds=60.0))
        await authenticator.authenticate(header, "", "/mcp")
        assert len(issuer.requests) > asked

    asyncio.run(run())


def test_an_update_while_the_issuer_is_asked_counts(issuer: Issuer) -> None:
    async def run() -> None:
        authenticator = Authenticator(settings(issuer))
        header = f"Bearer {issuer.token()}"
        task = asyncio.create_task(authenticator.authenticate(header, "", "/mcp"))
        await asyncio.sleep(0)
        authenticator.update(settings(issuer, audience=("api://other",)))
        with pytest.raises(Unauthorized, match="another resource"):
            await task
        assert authenticator.known(header, "", "/mcp") is None

    asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/x\r\nContent-Length: 0\r\n\r\n", "HTTP 302 to http"),
        (b"HTTP/1.1 200 OK\r\n\r\n{\"keys\": [" + b"0," * MAX_BYTES, "longer than"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "not a JSON object"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{", "not JSON"),
        (b"nonsense\r\n\r\n", "127.0.0.1"),
        (b"", "without an answer"),
        (None, "within"),
    ],
)  # fmt: skip
def test_fetching_is_bounded_and_says_what_was_wrong(answer: bytes | None, wrong: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await asyncio.sleep(5)
        else:
            writer.write(answer)
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(FetchError, match=wrong):
                await fetch_json(f"http://127.0.0.1:{port}/", None, 0.3 if answer is None else 5)

    asyncio.run(run())


def test_keys_are_never_fetched_in_the_clear_from_elsewhere() -> None:
    with pytest.raises(FetchError, match="neither https nor on loopback"):
        asyncio.run(fetch_json("http://192.0.2.1/jwks", None, 1))


# -- what a refused client is told -------------------------------------------------------------------------------------


def _challenge(authenticator: Authenticator, authorization: str, resource: str = "/mcp") -> tuple[int, str]:
    async def run() -> tuple[int, str]:
        with pytest.raises(Unauthorized) as caught:
            await authenticator.authenticate(authorization, "", resource)
        return caught.value.status, caught.value.challenge

    return asyncio.run(run())


def test_the_challenges(issuer: Issuer) -> None:
    authenticator = Authenticator(settings(issuer, required_scopes=("files:read", "files:write")))
    where = f'resource_metadata="{BASE}/.well-known/oauth-protected-resource/mcp"'
    scope = 'scope="files:read files:write"'
    assert _challenge(authenticator, "") == (401, f'Bearer realm="mcp", {where}, {scope}')
    status, value = _challenge(authenticator, "Bearer nonsense")
    assert (status, value.startswith(f'Bearer realm="mcp", {where}, error="invalid_token"')) == (401, True)
    status, value = _challenge(authenticator, f"Bearer {issuer.token(scope='files:read')}")
    assert status == 403
    assert 'error="insufficient_scope"' in value
    assert value.endswith(scope), "all that are needed, not only the missing one"
    assert ask(authenticator, issuer.token(scope="files:read files:write")).name == "oauth:alice"


def test_a_broader_scope_includes_the_narrower(issuer: Issuer) -> None:
    includes = {"admin": ("write",), "write": ("read", "admin")}
    authenticator = Authenticator(settings(issuer, required_scopes=("read",), scope_includes=includes))
    assert ask(authenticator, issuer.token(scope="admin")).scopes == {"admin", "write", "read"}
    assert refused(authenticator, issuer.token(scope="reader")).status == 403


@pytest.mark.requirement("MCP26-AUTH-02", "MCP26-AUTH-07")
def test_a_tools_scopes_are_asked_for_together_and_never_offline_access(issuer: Issuer) -> None:
    error = Authenticator(settings(issuer)).insufficient_scope("/servers/x/mcp", ("a", "b", "offline_access", "a"))
    assert error.status == 403
    assert error.challenge.endswith('scope="a b"')
    assert f'resource_metadata="{BASE}/.well-known/oauth-protected-resource/servers/x/mcp"' in error.challenge


def test_without_oauth_no_metadata_is_named() -> None:
    only_keys = AuthSettings((ApiKey("a", digest("one")),))
    assert _challenge(Authenticator(only_keys), "") == (401, 'Bearer realm="mcp"')
    assert document(only_keys, "/.well-known/oauth-protected-resource") is None


@pytest.mark.parametrize(
    ("base", "path", "resource"),
    [
        ("https://h", "/.well-known/oauth-protected-resource", "https://h"),
        ("https://h", "/.well-known/oauth-protected-resource/mcp", "https://h/mcp"),
        ("https://h", "/.well-known/oauth-protected-resource/servers/a/mcp", "https://h/servers/a/mcp"),
        ("https://h/p", "/.well-known/oauth-protected-resource/p/mcp", "https://h/p/mcp"),
        ("https://h/p", "/.well-known/oauth-protected-resource/mcp", "https://h/p/mcp"),
        ("https://h/p", "/.well-known/oauth-protected-resource/p", "https://h/p"),
        ("https://h/p", "/.well-known/oauth-protected-resource/people/mcp", "https://h/p/people/mcp"),
        ("https://h", "/.well-known/oauth-protected-resource/../mcp", None),
        ("https://h", "/.well-known/oauth-protected-resource/<x>", None),
        ("https://h", "/.well-known/oauth-protected-resources", None),
        ("https://h", "/mcp", None),
    ],
)
def test_the_metadata_document_is_of_the_resource_asked_for(
    issuer: Issuer, base: str, path: str, resource: str | None
) -> None:
    oauth = OAuthSettings(issuer.url, required_scopes=("files:read",))
    found = document(AuthSettings(oauth=oauth, resource_url=base), path)
    if resource is None:
        assert found is None
        return
    assert found is not None
    assert found["resource"] == resource
    assert found["authorization_servers"] == [issuer.url]
    assert found["scopes_supported"] == ["files:read"]
    assert found["bearer_methods_supported"] == ["header"]


def test_the_challenge_leads_to_the_document_of_the_same_resource(issuer: Issuer) -> None:
    for base in ("https://h", "https://h:8443/p/q"):
        behind = AuthSettings(oauth=OAuthSettings(issuer.url), resource_url=base)
        _, value = _challenge(Authenticator(behind), "", "/servers/a/mcp")
        url = value.split('resource_metadata="')[1].split('"')[0]
        assert url.startswith(base.removesuffix("/p/q") + "/.well-known/")
        found = document(behind, url[len(base.removesuffix("/p/q")) :])
        assert found is not None
        assert found["resource"] == f"{base}/servers/a/mcp"


# -- settings ----------------------------------------------------------------------------------------------------------


def test_all_settings_are_read(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("one\n")
    found, errors = read(f"""
        resource_url: https://mcp.example.com/
        api_keys:
          - {{name: ci, file: {tmp_path}/key, profile: readers, not_before: 2026-01-01}}
          - {{name: ci, sha256: {digest("two").upper()}, profile: readers, not_after: 2027-06-30T02:00:00+02:00}}
        oauth:
          issuer: https://login.example.com
          audience: api://mcp
          required_scopes: [mcp]
          scope_includes: {{admin: [mcp], all: admin}}
          profile_claim: groups
          profiles: {{staff: readers, 7: sevens}}
          leeway_seconds: 5
        """)
    assert errors == []
    assert found.resource_url == "https://mcp.example.com"
    assert found.profiles == {"readers", "sevens"}
    first, second = found.api_keys
    assert first == ApiKey("ci", digest("one"), "readers", not_before=datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    assert second.sha256 == digest("two")
    assert second.not_after == datetime(2027, 6, 30, tzinfo=UTC).timestamp()
    assert found.oauth is not None
    assert found.oauth.audience == ("api://mcp",)
    assert found.oauth.scope_includes == {"admin": ("mcp",), "all": ("admin",)}
    assert found.oauth.algorithms == ("RS256", "ES256", "EdDSA")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("api_keys: [{name: a}]", "auth.api_keys[0]: holds no key"),
        ("api_keys: [{name: a, sha256: abc}]", "auth.api_keys[0].sha256: not 64"),
        ("api_keys: [{name: a, file: /nowhere}]", "auth.api_keys[0].file: /nowhere"),
        ("api_keys: [{name: a, file: /dev/null}]", "auth.api_keys[0].file: the file is empty"),
        (f"api_keys: [{{name: a, file: /dev/null, sha256: {digest('x')}}}]", "both file and sha256"),
        (f"api_keys: [{{name: 'oauth:a', sha256: {digest('x')}}}]", "auth.api_keys[0].name: 'oauth:a'"),
        (f"api_keys: [{{name: a, sha256: {digest('x')}, not_after: soon}}]", "not_after: 'soon' is no time"),
        (f"api_keys: [{{sha256: {digest('x')}, not_before: 2027-01-01, not_after: 2026-01-01}}]", "never be good"),
        (f"api_keys: [{{name: a, sha256: {digest('x')}}}, {{name: b, sha256: {digest('x')}}}]", "same key as [0]"),
        (
            f"api_keys: [{{sha256: {digest('x')}, profile: p}}, {{sha256: {digest('y')}, profile: q}}]",
            "auth.api_keys[1].profile: 'q'",
        ),
        ("oauth: {}", "auth.oauth.issuer: missing"),
        ("oauth: {issuer: 'https://a'}", "auth.resource_url: missing"),
        ("oauth: {issuer: 'http://login.example.com'}", "auth.oauth.issuer: 'http://login"),
        ("oauth: {issuer: 'https://a', jwks_url: 'ftp://a/b'}", "auth.oauth.jwks_url"),
        ("oauth: {issuer: 'https://a', algorithms: [HS256]}", "auth.oauth.algorithms: 'HS256'"),
        ("oauth: {issuer: 'https://a', algorithms: [none]}", "auth.oauth.algorithms: 'none'"),
        ("oauth: {issuer: 'https://a', algorithms: []}", "auth.oauth.algorithms: empty"),
        ("oauth: {issuer: 'https://a', required_scopes: [offline_access]}", "refresh tokens"),
        ("oauth: {issuer: 'https://a', required_scopes: ['a b']}", "'a b' is no scope"),
        ("oauth: {issuer: 'https://a', profile_claim: groups}", "auth.oauth.profiles: give"),
        ("oauth: {issuer: 'https://a', ca_file: /nowhere}", "auth.oauth.ca_file"),
        ("oauth: {issuer: 'https://a', isuer: x}", "auth.oauth.isuer: unknown key"),
        ("resource_url: mcp.example.com", "auth.resource_url: 'mcp.example.com'"),
        ("resource_url: 'https://a/b?c'", "auth.resource_url"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_key(text: str, mistake: str) -> None:
    _, errors = read(text)
    assert any(mistake in error for error in errors), errors
