"""Grant tokens: EdDSA JWTs with exactly the claims of ports.TokenClaims (I-09).

One algorithm and one key id, both fixed here; a token chooses nothing. Never enough alone: the service loads the
grant's row.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.core.errors import Blame, Refusal
from broker.core.ids import GrantId, TenantId
from broker.core.secret import Secret
from broker.service.ports import TokenClaims

MAX_TOKEN_BYTES = 8 * 1024
MAX_LIFE = timedelta(hours=24)
_ALGORITHM = "EdDSA"
_TYPE = "grantd-grant+jwt"
_CLAIMS = frozenset({"iss", "aud", "exp", "iat", "nbf", "jti", "ten", "grant", "cnf"})
_HEADER = frozenset({"alg", "typ", "kid"})
_PARTS = 3
_KEY_BYTES = 32
_SIGNATURE_BYTES = 64


class JwtTokens:
    """Signs and verifies with one Ed25519 key.

    Args:
        seed: 32 bytes, from the vault.
        issuer: this broker's name, and the only audience.
        kid: the key's id.
    """

    def __init__(self, seed: Secret[bytes], *, issuer: str, kid: str) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed.reveal())
        self._public = self._key.public_key()
        self._issuer, self._kid = issuer, kid

    def sign(self, claims: TokenClaims) -> str:
        payload = {
            "iss": self._issuer,
            "aud": self._issuer,
            "exp": int(claims.expires_at.timestamp()),
            "iat": int(claims.issued_at.timestamp()),
            "nbf": int(claims.not_before.timestamp()),
            "jti": claims.jti,
            "ten": claims.tenant,
            "grant": claims.grant,
            "cnf": {"jkt": _b64(claims.key)},
        }
        return jwt.encode(payload, self._key, algorithm=_ALGORITHM, headers={"typ": _TYPE, "kid": self._kid})

    def verify(self, token: str, *, now: datetime) -> TokenClaims:
        try:
            # (1) small, three parts, before anything is parsed
            if len(token) > MAX_TOKEN_BYTES or token.count(".") != _PARTS - 1:
                _refuse()
            # (2) a header of exactly our three members; jku, x5u, jwk, crit, zip and others are refused by not being
            # there
            head, body, signature = token.split(".")
            header = _object(head)
            if (
                set(header) != _HEADER
                or header["alg"] != _ALGORITHM
                or header["typ"] != _TYPE
                or header["kid"] != self._kid
            ):
                _refuse()
            # (3) the signature, in its one spelling; times are checked below, by the caller's clock
            if len(_unb64(signature)) != _SIGNATURE_BYTES:
                _refuse()
            jwt.decode(
                token,
                self._public,
                algorithms=[_ALGORITHM],
                audience=self._issuer,
                issuer=self._issuer,
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
            # (4) exactly our claims, each once, each of its type
            return self._claims(_object(body), now)
        except Refusal:
            raise
        except Exception as error:
            raise _refusal() from error

    def _claims(self, claims: Mapping[str, object], now: datetime) -> TokenClaims:
        if set(claims) != _CLAIMS or claims["aud"] != self._issuer or claims["iss"] != self._issuer:
            _refuse()
        issued, begins, ends = (_moment(claims[name]) for name in ("iat", "nbf", "exp"))
        # (5) leeway 0 on the end (I-01); a life that no grant can have is a forgery
        if not (begins <= now < ends) or issued > now or ends - issued > MAX_LIFE:
            _refuse()
        binding = claims["cnf"]
        if not isinstance(binding, dict) or set(binding) != {"jkt"}:
            _refuse()
        key = _unb64(_text(binding["jkt"]))
        if len(key) != _KEY_BYTES:
            _refuse()
        return TokenClaims(
            jti=_text(claims["jti"]),
            tenant=TenantId(_text(claims["ten"])),
            grant=GrantId(_text(claims["grant"])),
            key=key,
            issued_at=issued,
            not_before=begins,
            expires_at=ends,
        )


def _object(part: str) -> dict[str, object]:
    """A JSON object without duplicate members, in UTF-8 alone (RFC 7515 section 2): json.loads guesses of bytes."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len({name for name, _ in pairs}) != len(pairs):
            _refuse()
        return dict(pairs)

    value = json.loads(_unb64(part).decode(), object_pairs_hook=once)
    if not isinstance(value, dict):
        _refuse()
    return value


def _moment(value: object) -> datetime:
    if type(value) is not int or not 0 < value < 1 << 33:
        _refuse()
    return datetime.fromtimestamp(value, UTC)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        _refuse()
    return value


def _b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _unb64(text: str) -> bytes:
    value = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _b64(value) != text:  # aliases of the same bytes are refused
        _refuse()
    return value


def _refusal() -> Refusal:
    return Refusal("bad_token", "the grant token is not valid", blame=Blame.UNAUTHENTICATED, way_out="issue a new one")


def _refuse() -> NoReturn:
    raise _refusal()
