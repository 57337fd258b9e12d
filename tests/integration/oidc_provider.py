"""An OpenID Connect provider for tests: the authorization code flow with PKCE, and ID tokens signed with a real key.

It is as strict as a real one about what it is asked, and what its tokens say can be bent. Standard library, one thread
for each connection, on a port of its own; its host is `localhost`, which to a browser is another site than 127.0.0.1.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

CLIENT, SECRET = "darkroom", "s3cret/with signs"
MINUTE = 60


@dataclass
class Provider:
    issuer: str
    claims: dict[str, Any] = field(default_factory=dict)  # of whoever signs in, and whatever of the token is bent
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": secrets.token_hex(4)}))
    signing_key: RSAKey | None = None  # instead of the published one
    published: Any = field(default_factory=dict)  # whatever of its metadata is bent, or what is there instead
    codes: dict[str, dict[str, str]] = field(default_factory=dict)  # by code: what was asked for

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        if path == "/.well-known/openid-configuration":
            at = {f"{name}_endpoint": f"{self.issuer}/{name}" for name in ("authorization", "token")}
            metadata = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/jwks", **at}
            return 200, metadata | self.published if isinstance(self.published, dict) else self.published
        if path == "/jwks":
            return 200, KeySet([self.key]).as_dict(private=False)
        if path != "/authorization":
            return 404, {}
        asked = {"response_type": "code", "client_id": CLIENT, "code_challenge_method": "S256"}
        if any(query.get(name) != value for name, value in asked.items()) or "openid" not in query["scope"].split():
            return 400, {"error": "invalid_request"}
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        return 302, f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, Any]:
        expected = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if authorization != f"Basic {expected}":
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form.get("code", ""), None)  # good for once
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (
            asked is None
            or form.get("grant_type") != "authorization_code"
            or form.get("redirect_uri") != asked["redirect_uri"]
            or challenge.rstrip(b"=").decode() != asked["code_challenge"]
        ):
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        told = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "u-1",
            "iat": now,
            "exp": now + MINUTE,
            "nonce": asked["nonce"],
        }
        key = self.signing_key or self.key
        id_token = jwt.encode({"alg": "RS256", "kid": key.kid}, told | self.claims, key)
        return 200, {"access_token": "a", "token_type": "Bearer", "expires_in": MINUTE, "id_token": id_token}


@contextmanager
def identity_provider() -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            split = urlsplit(self.path)
            self._send(*provider.answer(split.path, {name: each[0] for name, each in parse_qs(split.query).items()}))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: each[0] for name, each in parse_qs(body).items()}
            self._send(*provider.token(form, self.headers.get("Authorization", "")))

        def _send(self, status: int, found: Any) -> None:
            content = b"" if status == 302 else json.dumps(found).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", found)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider = Provider(issuer=f"http://localhost:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()
