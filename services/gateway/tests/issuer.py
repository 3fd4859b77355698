"""A real authorization server on loopback, as far as a resource server sees one: metadata, keys, signed tokens."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

_MAKE: dict[str, Callable[[], Any]] = {
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}
_TO_JWK: dict[str, Callable[[Any], Any]] = {
    "RS256": lambda key: RSAAlgorithm.to_jwk(key, as_dict=True),
    "ES256": lambda key: ECAlgorithm.to_jwk(key, as_dict=True),
    "EdDSA": lambda key: OKPAlgorithm.to_jwk(key, as_dict=True),
}


class Issuer:
    """Signs tokens and serves its keys at ``url``; ``path`` is the issuer's path, such as ``/tenant``.

    Args:
        certificate: PEM file with a certificate for 127.0.0.1 and its key, to serve by https.

    Attributes:
        requests: paths asked for, in order.
        down: answer 500 to everything.
        metadata: changes to the metadata document.
        metadata_at: where the document is served.
        extra_keys: further members of the JWK set, as they are.
    """

    def __init__(
        self,
        path: str = "",
        metadata_at: str = "/.well-known/oauth-authorization-server",
        certificate: Path | None = None,
    ) -> None:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests.append(self.path)
                answer = None if issuer.down else issuer.answer(self.path)
                body = json.dumps(answer or {}).encode()
                self.send_response(500 if issuer.down else 200 if answer is not None else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.requests: list[str] = []
        self.down = False
        self.metadata: dict[str, Any] = {}
        self.metadata_at = metadata_at
        self.extra_keys: list[Any] = []
        self._keys: dict[str, tuple[str, Any]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.base = f"http{'s' if certificate else ''}://127.0.0.1:{self._server.server_address[1]}"
        self.url = self.base + path
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.rotate("first")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> Any:
        if path == self.metadata_at:
            return {"issuer": self.url, "jwks_uri": f"{self.base}/jwks", **self.metadata}
        return {"keys": [*self.jwks(), *self.extra_keys]} if path == "/jwks" else None

    def jwks(self) -> list[dict[str, Any]]:
        return [
            {**_TO_JWK[algorithm](key.public_key()), "kid": kid, "use": "sig", "alg": algorithm}
            for kid, (algorithm, key) in self._keys.items()
        ]

    def rotate(self, kid: str, algorithm: str = "ES256", *, keep: bool = False) -> None:
        """From now on ``kid`` signs; the keys before are withdrawn unless they are kept."""
        if not keep:
            self._keys.clear()
        self._keys[kid] = (algorithm, _MAKE[algorithm]())

    def private(self, kid: str) -> Any:
        return self._keys[kid][1]

    def pem(self, kid: str) -> bytes:
        """The public key, as anybody can have it."""
        key: bytes = self.private(kid).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return key

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Good ones; a change to None leaves the claim out."""
        now = int(time.time())
        good = {"iss": self.url, "sub": "alice", "aud": "https://mcp.example.com/mcp", "iat": now, "exp": now + 600}
        return {name: value for name, value in {**good, **changes}.items() if value is not None}

    def token(self, kid: str | None = None, *, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """A signed token, by the newest key unless ``kid`` names another."""
        kid = kid or next(reversed(self._keys))
        algorithm, key = self._keys[kid]
        return jwt.encode(self.claims(**changes), key, algorithm, headers={"kid": kid, **(header or {})})
