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
from cryptography.exceptions import InvalidSignature
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
            return self._verified(token, now)
        except Refusal:
            raise
        except Exception as error:
            raise _refusal("not a token") from error

    def _verified(self, token: str, now: datetime) -> TokenClaims:
        # (1) small, three parts, before anything is parsed
        _require(len(token) <= MAX_TOKEN_BYTES, "too long")
        _require(token.count(".") == _PARTS - 1, "not three parts")
        head, body, signature = token.split(".")
        # (2) a header of exactly our three members; jku, x5u, jwk, crit, zip and others are refused by not being there
        header = _object(head, "header")
        _require(set(header) == _HEADER, "other header members than ours")
        _require(header["alg"] == _ALGORITHM, "another algorithm")
        _require(header["typ"] == _TYPE, "another type")
        _require(header["kid"] == self._kid, "another key id")
        # (3) the signature, in its one spelling; times are checked below, by the caller's clock
        raw = _unb64(signature)
        _require(len(raw) == _SIGNATURE_BYTES, "not the size of a signature")
        try:
            self._public.verify(raw, f"{head}.{body}".encode())
        except InvalidSignature as error:
            raise _refusal("not signed by our key") from error
        # (4) exactly our claims, each once, each of its type
        return self._claims(_object(body, "claims"), now)

    def _claims(self, claims: Mapping[str, object], now: datetime) -> TokenClaims:
        _require(set(claims) == _CLAIMS, "other claims than ours")
        _require(claims["aud"] == self._issuer, "another audience")
        _require(claims["iss"] == self._issuer, "another issuer")
        issued, begins, ends = (_moment(claims[name], name) for name in ("iat", "nbf", "exp"))
        # (5) leeway 0 on the end (I-01); a life that no grant can have is a forgery
        _require(begins <= now, "not valid yet")
        _require(now < ends, "expired")
        _require(issued <= now, "issued in the future")
        _require(ends - issued <= MAX_LIFE, "lives longer than any grant")
        binding = claims["cnf"]
        if not isinstance(binding, dict) or set(binding) != {"jkt"}:
            _refuse("not bound to a key")
        key = _unb64(_text(binding["jkt"], "jkt"))
        _require(len(key) == _KEY_BYTES, "not bound to a key")
        return TokenClaims(
            jti=_text(claims["jti"], "jti"),
            tenant=TenantId(_text(claims["ten"], "ten")),
            grant=GrantId(_text(claims["grant"], "grant")),
            key=key,
            issued_at=issued,
            not_before=begins,
            expires_at=ends,
        )


def _object(part: str, what: str) -> dict[str, object]:
    """A JSON object without duplicate members, in UTF-8 alone (RFC 7515 section 2): json.loads guesses of bytes."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        _require(len({name for name, _ in pairs}) == len(pairs), f"a member of the {what} twice")
        return dict(pairs)

    text = _unb64(part)
    try:
        value = json.loads(text.decode(), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise _refusal(f"{what} not JSON") from error
    if not isinstance(value, dict):
        _refuse(f"{what} not an object")
    return value


def _moment(value: object, name: str) -> datetime:
    if type(value) is not int or not 0 < value < 1 << 33:
        _refuse(f"{name} no time in whole seconds")
    return datetime.fromtimestamp(value, UTC)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value:
        _refuse(f"{name} no text")
    return value


def _b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _unb64(text: str) -> bytes:
    try:
        value = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise _refusal("not base64url") from error
    _require(_b64(value) == text, "another spelling of the same bytes")
    return value


def _require(holds: bool, rule: str) -> None:  # noqa: FBT001  reads as a sentence at its call sites
    if not holds:
        _refuse(rule)


def _refusal(rule: str) -> Refusal:
    return Refusal(
        "bad_token", "the grant token is not valid", blame=Blame.UNAUTHENTICATED, way_out="issue a new one", rule=rule
    )


def _refuse(rule: str) -> NoReturn:
    raise _refusal(rule)
