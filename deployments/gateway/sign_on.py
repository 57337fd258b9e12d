"""Single sign-on for operators: an OpenID Connect provider says who somebody is, and a list says who is an operator.

The authorization code flow with PKCE (S256), state and nonce. Whoever begins it keeps the three and shows them again
with the code; nothing is kept here. An ID token counts if the provider's own published key signed it, for us, for this
sign-on, and it has not run out. What it takes beside, is installed with the extra `oidc`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from darkroom.errors import NeedsHuman, Retry
from darkroom.extras import needs_extra
from darkroom.settings import Settings

if TYPE_CHECKING:
    from authlib.integrations.httpx_client import OAuth2Client

BACK = "/studio/sign-in/oidc/back"  # where the provider leads a browser back to
SCOPE = "openid email profile"  # without `email` there is no address that the list could have
ALGORITHMS = ("RS256", "PS256", "ES256")  # with a key of the provider's own: neither none nor our secret
SECONDS = 10.0  # for each answer of the provider
LEEWAY = timedelta(seconds=60)  # between its clock and ours
KEPT_SECONDS, ANEW_SECONDS = 3600.0, 60.0  # what it publishes; for a key that is not known sooner
MOST_AT_ONCE = 4  # anybody may begin: the provider is not asked for more of them at a time
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Refused(Exception):
    """The provider, or what it has said, does not prove who that is."""


class NoOperator(Exception):
    """They are who they are, and not on the list."""


@dataclass(frozen=True, kw_only=True)
class Begun:
    """`url`: where the browser goes. The rest comes back: `state` to the page itself, the others with the code."""

    url: str
    state: str
    nonce: str
    code_verifier: str


class SignOn:
    def __init__(self, settings: Settings) -> None:
        """Raise NeedsHuman where a setting is missing, or what the extra installs."""
        _require(settings)
        # Here, so that a gateway without them does not start: else the first sign-on would find it out.
        with needs_extra("oidc"):
            import authlib  # noqa: F401
            import joserfc  # noqa: F401
        self._settings = settings
        self._issuer = settings.oidc_issuer or ""
        self._at_once = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._published: dict[str, tuple[float, Any]] = {}  # by address: when it was read, and what it is

    def begin(self) -> Begun:
        """Raise Retry where the provider does not answer, NeedsHuman where it is another than the one that is set."""
        from authlib.common.security import generate_token

        # RFC 7636, 4.1: a verifier has 43 to 128 characters.
        state, nonce, verifier = generate_token(32), generate_token(32), generate_token(64)
        with self._asking(), self._client() as client:
            at = self._address("authorization_endpoint")
            url, _ = client.create_authorization_url(at, state=state, code_verifier=verifier, nonce=nonce)
        return Begun(url=url, state=state, nonce=nonce, code_verifier=verifier)

    def finish(self, code: str, *, nonce: str, code_verifier: str, issuer: str | None = None) -> str:
        """Return by which name the operator is known. Raise Refused or NoOperator, and what `begin` raises.

        `issuer`: who says to have led back, where that is said (RFC 9207).
        """
        from authlib.integrations.httpx_client import OAuthError

        if issuer is not None and issuer != self._issuer:
            raise Refused("another provider has answered")
        with self._asking():
            with self._client() as client:
                at = self._address("token_endpoint")
                try:
                    token = client.fetch_token(
                        at, grant_type="authorization_code", code=code, code_verifier=code_verifier
                    )
                except (OAuthError, ValueError) as error:  # it was used, has run out, or is another client's
                    raise Refused("the provider does not know the code") from error
            claims = self._claims(str(token.get("id_token") or ""), nonce)
        if not admits(claims, self._settings.oidc_operators):
            raise NoOperator
        return _email(claims) or str(claims["sub"])

    def _claims(self, id_token: str, nonce: str) -> Mapping[str, Any]:
        from joserfc import jwt
        from joserfc.errors import JoseError

        ours = self._settings.oidc_client_id
        must = jwt.JWTClaimsRegistry(
            leeway=int(LEEWAY.total_seconds()),
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": ours},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},  # of this sign-on: a token that was seen elsewhere is no use
        )
        try:
            found = self._verified(id_token)
            must.validate(found)
        except (JoseError, ValueError, TypeError) as error:  # no token, another's signature, another's claims
            raise Refused(f"its token: {type(error).__name__}") from error
        # OpenID Connect Core, 3.1.3.7: then `azp` says for whom it was made.
        if isinstance(found["aud"], list) and len(found["aud"]) > 1 and found.get("azp") != ours:
            raise Refused("its token is for several, and another was meant")
        return found

    def _verified(self, id_token: str) -> dict[str, Any]:
        """Return what the token says, by the provider's keys."""
        from joserfc import jwt
        from joserfc.errors import InvalidKeyIdError
        from joserfc.jwk import KeySet

        at = self._address("jwks_uri")
        try:
            return jwt.decode(id_token, KeySet.import_key_set(self._read(at)), algorithms=list(ALGORITHMS)).claims
        except (InvalidKeyIdError, ValueError):
            # Perhaps by a key that it has changed to since. Once a minute at most: a forged token may name any key.
            keys = KeySet.import_key_set(self._read(at, seconds=ANEW_SECONDS))
            return jwt.decode(id_token, keys, algorithms=list(ALGORITHMS)).claims

    def _address(self, name: str) -> str:
        """Return the address that the provider publishes under the name."""
        at = self._metadata()[name]
        if not isinstance(at, str):
            raise ValueError(f"{name} is no address")
        return at

    def _metadata(self) -> Mapping[str, Any]:
        at = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        for seconds in (KEPT_SECONDS, ANEW_SECONDS):  # what is wrong may have been put right there since
            found: Mapping[str, Any] = self._read(at, seconds=seconds)
            # OpenID Connect Discovery, 4.3: else one provider could speak for another.
            if found.get("issuer") == self._issuer:
                return found
        raise NeedsHuman(
            f"the identity provider calls itself {found.get('issuer')!r}, and DARKROOM_OIDC_ISSUER is "
            f"{self._issuer!r}: set it to the letter as the provider has it, and start the gateways anew"
        )

    def _read(self, url: str, *, seconds: float = KEPT_SECONDS) -> Any:
        read_at, found = self._published.get(url, (float("-inf"), None))
        if monotonic() - read_at > seconds:
            found = httpx.get(url, timeout=SECONDS).raise_for_status().json()
            if not isinstance(found, dict):
                raise ValueError("that is no JSON object")
            self._published[url] = (monotonic(), found)
        return found

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Raise Retry where the provider does not answer, or is asked as often as it may be."""
        # Whoever waited would hold one of the gateway's threads. It is nobody's own doing: 503, and not 429.
        if not self._at_once.acquire(blocking=False):
            raise Retry("There are too many sign-ons at once.", retry_after=timedelta(seconds=5))
        try:
            yield
        except (httpx.HTTPError, KeyError, ValueError) as error:  # out, or what it publishes is not what one does
            raise Retry(f"The identity provider does not answer as one ({type(error).__name__}).") from error
        finally:
            self._at_once.release()

    def _client(self) -> OAuth2Client:
        from authlib.integrations.httpx_client import OAuth2Client

        secret = self._settings.oidc_client_secret
        # OpenID Connect Discovery, 3: where it is left out, basic is meant.
        known = self._metadata().get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        by_secret = "client_secret_basic" if "client_secret_basic" in known else "client_secret_post"
        return OAuth2Client(
            client_id=self._settings.oidc_client_id,
            client_secret=secret.get_secret_value() if secret else None,
            token_endpoint_auth_method=by_secret if secret else "none",  # a public client, which PKCE vouches for
            code_challenge_method="S256",
            redirect_uri=f"{self._settings.browser_url}{BACK}",
            scope=SCOPE,
            timeout=SECONDS,
        )


def admits(claims: Mapping[str, Any], operators: str) -> bool:
    """Return whether the list has them: by an e-mail address that is verified, or by `claim=value`."""
    email = _email(claims)
    for entry in filter(None, (each.strip() for each in operators.split(","))):
        name, is_claim, value = entry.partition("=")
        if not is_claim:
            name, value = "email", entry
        if name == "email":  # also as a claim: one that is not verified says nothing
            if email is not None and value.casefold() == email:
                return True
            continue
        given = claims.get(name)
        if value in given if isinstance(given, list) else given == value:
            return True
    return False


def _email(claims: Mapping[str, Any]) -> str | None:
    email = claims.get("email")
    # Some providers write the truth value as text.
    return email.casefold() if isinstance(email, str) and claims.get("email_verified") in (True, "true") else None


def _is_issuer(address: str) -> bool:
    try:
        split = urlsplit(address)
    except ValueError:
        return False
    # OpenID Connect Discovery, 3: an issuer is https. Without it is for tests alone.
    return split.scheme == "https" or (split.scheme == "http" and split.hostname in LOOPBACK)


def _require(settings: Settings) -> None:
    if not _is_issuer(settings.oidc_issuer or ""):
        raise NeedsHuman("DARKROOM_OIDC_ISSUER is no https address: take the issuer as its provider shows it")
    if not settings.oidc_client_id or not settings.oidc_operators.strip():
        raise NeedsHuman("DARKROOM_OIDC_CLIENT_ID and DARKROOM_OIDC_OPERATORS are needed beside DARKROOM_OIDC_ISSUER")
