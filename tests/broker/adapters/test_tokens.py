"""Grant tokens (I-09): one shape is accepted, and everything else is `bad_token` and never another error.

The forgeries that could be refused for a wrong signature alone are signed with the broker's own key, so that each check
stands for itself.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.tokens import MAX_LIFE, MAX_TOKEN_BYTES, JwtTokens
from broker.core.errors import Blame, Refusal
from broker.core.ids import GrantId, TenantId
from broker.core.secret import Secret
from broker.service.ports import TokenClaims

NOW: Final = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
SEED: Final = hashlib.sha256(b"token key").digest()
KEY: Final = Ed25519PrivateKey.from_private_bytes(SEED)
PUBLIC: Final = KEY.public_key()
ISSUER: Final = "grantd.example/c1"
TOKENS: Final = JwtTokens(Secret(SEED), issuer=ISSUER, kid="t1")
CLAIMS: Final = TokenClaims(
    jti="cr_aaaaaaaaaaaaaaaaaaaaaaaaaa", tenant=TenantId("t1"), grant=GrantId("gr_aaaaaaaaaaaaaaaaaaaaaaaaaa"),
    key=hashlib.sha256(b"client key").digest(), issued_at=NOW, not_before=NOW, expires_at=NOW + timedelta(minutes=15),
)  # fmt: skip
GOOD: Final = TOKENS.sign(CLAIMS)
SECONDS: Final = int(NOW.timestamp())
HEADER: Final[Mapping[str, Any]] = {"alg": "EdDSA", "typ": "grantd-grant+jwt", "kid": "t1"}
PAYLOAD: Final[Mapping[str, Any]] = {
    "iss": ISSUER, "aud": ISSUER, "exp": SECONDS + 900, "iat": SECONDS, "nbf": SECONDS, "jti": CLAIMS.jti, "ten": "t1",
    "grant": CLAIMS.grant, "cnf": {"jkt": base64.urlsafe_b64encode(CLAIMS.key).decode().rstrip("=")},
}  # fmt: skip
JKT: Final = PAYLOAD["cnf"]["jkt"]


def b64(raw: bytes) -> str:
    """As JOSE spells bytes."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def signed(
    header: str, payload: str, sign: Callable[[bytes], bytes] = KEY.sign, head_as: str = "utf-8", body_as: str = "utf-8"
) -> str:
    """A compact JWS over these very texts, in these encodings."""
    message = f"{b64(header.encode(head_as))}.{b64(payload.encode(body_as))}"
    return f"{message}.{b64(sign(message.encode()))}"


def with_header(**changed: object) -> str:
    """Signed by the right key; None takes a member out."""
    return signed(json.dumps(_changed(HEADER, changed)), json.dumps(PAYLOAD))


def with_claims(**changed: object) -> str:
    """Signed by the right key; None takes a claim out."""
    return signed(json.dumps(HEADER), json.dumps(_changed(PAYLOAD, changed)))


def _changed(members: Mapping[str, Any], changed: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in {**members, **changed}.items() if value is not None}


def twice(members: Mapping[str, Any], name: str, value: object) -> str:
    """The JSON object with one member a second time, the good one last."""
    return "{" + json.dumps({name: value})[1:-1] + "," + json.dumps(members)[1:]


def under(algorithm: str, sign: Callable[[bytes], bytes]) -> str:
    """Another algorithm, with what its signer makes of it."""
    return signed(json.dumps({**HEADER, "alg": algorithm}), json.dumps(PAYLOAD), sign)


def hmac_with(secret: bytes) -> Callable[[bytes], bytes]:
    """The classic confusion: the public key as a shared secret."""
    return lambda message: hmac.new(secret, message, hashlib.sha256).digest()


def rs256(message: bytes) -> bytes:
    """A signature of another kind, by a key that nobody knows."""
    return rsa.generate_private_key(65537, 2048).sign(message, padding.PKCS1v15(), hashes.SHA256())


def es256(message: bytes) -> bytes:
    """The same on a curve."""
    return ec.generate_private_key(ec.SECP256R1()).sign(message, ec.ECDSA(hashes.SHA256()))[:64]


RAW_PUBLIC: Final = PUBLIC.public_bytes_raw()
PEM_PUBLIC: Final = PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
STRANGER: Final = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"stranger").digest())
HEAD, BODY, SIGNATURE = GOOD.split(".")
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_SCALAR: Final = int.from_bytes(base64.urlsafe_b64decode(SIGNATURE + "==")[32:], "little") + ORDER


def alias(part: str) -> str:
    """Another spelling of the same bytes: the unused low bits of the last character are set."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(part) % 4, "no unused bits"
    return part[:-1] + letters[letters.index(part[-1]) | 1]


FORGERIES: Final[Mapping[str, Callable[[], str]]] = {
    # ---- algorithm and key
    "alg none, no signature": lambda: under("none", lambda _: b""),
    "alg None, good signature": lambda: under("None", KEY.sign),
    "alg lower case": lambda: under("eddsa", KEY.sign),
    "alg Ed25519": lambda: under("Ed25519", KEY.sign),
    "alg list": lambda: with_header(alg=["EdDSA"]),
    "alg missing": lambda: with_header(alg=None),
    "HS256 with the raw public key": lambda: under("HS256", hmac_with(RAW_PUBLIC)),
    "HS256 with the PEM public key": lambda: under("HS256", hmac_with(PEM_PUBLIC)),
    "EdDSA header over an HMAC": lambda: under("EdDSA", hmac_with(RAW_PUBLIC)),
    "RS256": lambda: under("RS256", rs256),
    "ES256": lambda: under("ES256", es256),
    "another Ed25519 key": lambda: under("EdDSA", STRANGER.sign),
    "zero signature": lambda: under("EdDSA", lambda _: bytes(64)),
    "empty signature": lambda: under("EdDSA", lambda _: b""),
    "signature too long": lambda: under("EdDSA", lambda message: KEY.sign(message) + b"\0"),
    "signature with a scalar over the order": lambda: ".".join(
        (HEAD, BODY, b64(base64.urlsafe_b64decode(SIGNATURE + "==")[:32] + _SCALAR.to_bytes(32, "little")))
    ),
    "kid missing": lambda: with_header(kid=None),
    "kid other": lambda: with_header(kid="t2"),
    "kid list": lambda: with_header(kid=["t1"]),
    "kid path": lambda: with_header(kid="../../dev/null"),
    "typ missing": lambda: with_header(typ=None),
    "typ other": lambda: with_header(typ="JWT"),
    "typ upper case": lambda: with_header(typ="GRANTD-GRANT+JWT"),
    # ---- header members that other verifiers obey
    "jku": lambda: with_header(jku="https://keys.example/jwks.json"),
    "x5u": lambda: with_header(x5u="https://keys.example/chain.pem"),
    "x5c": lambda: with_header(x5c=[b64(b"certificate")]),
    "jwk": lambda: with_header(jwk={"kty": "OKP", "crv": "Ed25519", "x": b64(RAW_PUBLIC)}),
    "crit": lambda: with_header(crit=["exp"]),
    "zip": lambda: with_header(zip="DEF"),
    "b64 false": lambda: with_header(b64=False, crit=["b64"]),
    "unknown header member": lambda: with_header(cty="JWT"),
    "alg twice": lambda: signed(twice(HEADER, "alg", "none"), json.dumps(PAYLOAD)),
    "kid twice, the same": lambda: signed(twice(HEADER, "kid", "t1"), json.dumps(PAYLOAD)),
    "header a list": lambda: signed("[]", json.dumps(PAYLOAD)),
    "header null": lambda: signed("null", json.dumps(PAYLOAD)),
    # ---- encodings that json.loads would guess
    **{
        f"header {encodings[0]}, claims {encodings[1]}": partial(
            signed, json.dumps(HEADER), json.dumps(PAYLOAD), KEY.sign, *encodings
        )
        for other in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
        for encodings in ((other, "utf-8"), ("utf-8", other))
    },
    # ---- claims
    "grant twice": lambda: signed(json.dumps(HEADER), twice(PAYLOAD, "grant", "gr_other")),
    "exp twice": lambda: signed(json.dumps(HEADER), twice(PAYLOAD, "exp", 1)),
    "jkt twice": lambda: signed(
        json.dumps(HEADER), json.dumps(PAYLOAD).replace('{"jkt"', f'{{"jkt": "{b64(bytes(32))}", "jkt"')
    ),
    "aud missing": lambda: with_claims(aud=None),
    "aud list": lambda: with_claims(aud=[ISSUER]),
    "aud list with others": lambda: with_claims(aud=[ISSUER, "other"]),
    "aud other": lambda: with_claims(aud="other.example/c1"),
    "aud prefix": lambda: with_claims(aud=ISSUER[:-1]),
    "aud with a tail": lambda: with_claims(aud=ISSUER + "0"),
    "iss missing": lambda: with_claims(iss=None),
    "iss other": lambda: with_claims(iss="other.example/c1"),
    "iss substring": lambda: with_claims(iss=ISSUER[1:]),
    "iss list": lambda: with_claims(iss=[ISSUER]),
    "exp missing": lambda: with_claims(exp=None),
    "exp text": lambda: with_claims(exp=str(SECONDS + 900)),
    "exp float": lambda: with_claims(exp=SECONDS + 900.0),
    "exp infinity": lambda: with_claims(exp=float("inf")),
    "exp NaN": lambda: with_claims(exp=float("nan")),
    "exp true": lambda: with_claims(exp=True),
    "exp negative": lambda: with_claims(exp=-1),
    "exp huge": lambda: with_claims(exp=10**30),
    "exp past": lambda: with_claims(exp=SECONDS - 1),
    "exp now": lambda: with_claims(exp=SECONDS),
    "exp in ten years": lambda: with_claims(exp=SECONDS + 10 * 365 * 86_400),
    "exp a second over the longest life": lambda: with_claims(exp=SECONDS + int(MAX_LIFE.total_seconds()) + 1),
    "iat missing": lambda: with_claims(iat=None),
    "iat in the future": lambda: with_claims(iat=SECONDS + 1),
    "iat text": lambda: with_claims(iat=str(SECONDS)),
    "nbf missing": lambda: with_claims(nbf=None),
    "nbf true": lambda: with_claims(nbf=True),
    "nbf float": lambda: with_claims(nbf=SECONDS * 1.0),
    "nbf later": lambda: with_claims(nbf=SECONDS + 1),
    "jti missing": lambda: with_claims(jti=None),
    "jti empty": lambda: with_claims(jti=""),
    "jti number": lambda: with_claims(jti=7),
    "tenant missing": lambda: with_claims(ten=None),
    "tenant list": lambda: with_claims(ten=["t1"]),
    "grant empty": lambda: with_claims(grant=""),
    "unknown claim": lambda: with_claims(scope="*"),
    "sub": lambda: with_claims(sub="ag_someone"),
    "cnf missing": lambda: with_claims(cnf=None),
    "cnf text": lambda: with_claims(cnf=JKT),
    "cnf empty": lambda: with_claims(cnf={}),
    "cnf with more": lambda: with_claims(cnf={"jkt": JKT, "jwk": {}}),
    "cnf short": lambda: with_claims(cnf={"jkt": b64(CLAIMS.key[:31])}),
    "cnf long": lambda: with_claims(cnf={"jkt": b64(CLAIMS.key + b"\0")}),
    "cnf other base64 alphabet": lambda: with_claims(cnf={"jkt": base64.b64encode(b"\xfb" * 32).decode().rstrip("=")}),
    "cnf alias": lambda: with_claims(cnf={"jkt": alias(JKT)}),
    "cnf padded": lambda: with_claims(cnf={"jkt": JKT + "="}),
    "payload a text": lambda: signed(json.dumps(HEADER), '"claims"'),
    "payload not JSON": lambda: signed(json.dumps(HEADER), "{"),
    "payload nested deep": lambda: signed(json.dumps(HEADER), "[" * 3000 + "]" * 3000),
    # ---- the envelope
    "empty": lambda: "",
    "dots": lambda: "..",
    "two parts": lambda: f"{HEAD}.{BODY}",
    "four parts": lambda: f"{GOOD}.{SIGNATURE}",
    "five parts (JWE)": lambda: f"{GOOD}..",
    "space in front": lambda: f" {GOOD}",
    "newline behind": lambda: f"{GOOD}\n",
    "space inside": lambda: f"{HEAD}. {BODY}.{SIGNATURE}",
    "NUL inside": lambda: f"{HEAD}.\0{BODY}.{SIGNATURE}",
    "padded signature": lambda: f"{GOOD}==",
    "padded header": lambda: f"{HEAD}=.{BODY}.{SIGNATURE}",
    "alias of the signature": lambda: f"{HEAD}.{BODY}.{alias(SIGNATURE)}",
    "standard alphabet": lambda: f"{HEAD}.{BODY}.+/{SIGNATURE[2:]}",
    "over 8 KiB": lambda: with_claims(jti="x" * MAX_TOKEN_BYTES),
    "Bearer": lambda: f"Bearer {GOOD}",
    "non-ASCII": lambda: GOOD[:-1] + "é",
    "full-width dots": lambda: GOOD.replace(".", "\uff0e"),
    "unicode digits": lambda: signed(json.dumps(HEADER), json.dumps(PAYLOAD).replace("1", "\u0661")),
    "lone surrogate": lambda: f"{HEAD}.{BODY}\udc80.{SIGNATURE}",
    "JWS as JSON": lambda: json.dumps({"protected": HEAD, "payload": BODY, "signature": SIGNATURE}),
    "JWS as general JSON": lambda: json.dumps(
        {"payload": BODY, "signatures": [{"protected": HEAD, "signature": SIGNATURE}]}
    ),
    "a token in a token": lambda: signed(json.dumps({**HEADER, "cty": "JWT"}), json.dumps(GOOD)),
}


def must_refuse(token: str, now: datetime = NOW) -> None:
    """The one refusal there is, and no other error."""
    with pytest.raises(Refusal) as caught:
        TOKENS.verify(token, now=now)
    assert (caught.value.code, caught.value.blame) == ("bad_token", Blame.UNAUTHENTICATED)


def test_the_hand_made_token_is_the_good_one() -> None:
    """What the forgeries are built from is accepted as it stands: each is refused for its own twist alone."""
    assert TOKENS.verify(with_claims(), now=NOW) == CLAIMS
    assert TOKENS.verify(with_header(), now=NOW) == CLAIMS


@pytest.mark.parametrize("forgery", FORGERIES, ids=str)
def test_a_forgery_is_a_bad_token(forgery: str) -> None:
    """I-09."""
    must_refuse(FORGERIES[forgery]())


def test_every_refusal_sounds_the_same() -> None:
    """Nobody learns from the words which check stopped them."""
    said = set()
    for make in FORGERIES.values():
        with pytest.raises(Refusal) as caught:
            TOKENS.verify(make(), now=NOW)
        said.add((caught.value.message, caught.value.way_out))
    assert len(said) == 1


def test_there_is_no_leeway_at_either_end() -> None:
    """I-01: refused at the very end, accepted a microsecond before; refused before its beginning."""
    assert TOKENS.verify(GOOD, now=CLAIMS.expires_at - timedelta(microseconds=1)) == CLAIMS
    must_refuse(GOOD, CLAIMS.expires_at)
    must_refuse(GOOD, NOW - timedelta(microseconds=1))


def test_another_cluster_or_another_key_does_not_verify() -> None:
    """Tokens of one broker are nothing to another, also where only one of issuer, key and kid differs."""
    for other in (
        JwtTokens(Secret(SEED), issuer="grantd.example/c2", kid="t1"),
        JwtTokens(Secret(SEED), issuer=ISSUER, kid="t2"),
        JwtTokens(Secret(hashlib.sha256(b"another").digest()), issuer=ISSUER, kid="t1"),
    ):
        with pytest.raises(Refusal, match="not valid"):
            other.verify(GOOD, now=NOW)


@given(
    claims=st.builds(
        lambda jti, key, start, life: replace(
            CLAIMS, jti=jti, key=key, issued_at=start, not_before=start, expires_at=start + timedelta(seconds=life)
        ),
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
        st.binary(min_size=32, max_size=32),
        st.datetimes(datetime(2020, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001  bounds
            lambda at: at.replace(microsecond=0)
        ),
        st.integers(1, 86_400),
    )
)
def test_what_is_signed_comes_back(claims: TokenClaims) -> None:
    """Round trip, for every life up to the longest."""
    assert TOKENS.verify(TOKENS.sign(claims), now=claims.issued_at) == claims


@given(st.text(max_size=300) | st.lists(st.binary(max_size=90).map(b64), min_size=3, max_size=3).map(".".join))
def test_garbage_raises_nothing_else(token: str) -> None:
    """Whatever comes in, a Refusal comes out."""
    must_refuse(token)


@given(
    at=st.integers(0, len(GOOD) - 1),
    to=st.characters(exclude_categories=[]),
    how=st.sampled_from(["replace", "insert", "delete"]),
)
def test_one_changed_character_is_enough(at: int, to: str, how: str) -> None:
    """No spelling of a token but its own is accepted."""
    rest = {"replace": to + GOOD[at + 1 :], "insert": to + GOOD[at:], "delete": GOOD[at + 1 :]}[how]
    if (changed := GOOD[:at] + rest) != GOOD:
        must_refuse(changed)


@given(name=st.sampled_from([*PAYLOAD]), value=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
))  # fmt: skip
def test_signed_claims_of_any_shape_raise_nothing_else(name: str, value: object) -> None:
    """A signing key in wrong hands, or a bug at signing, is a refusal too; a claim of another type never passes."""
    token = signed(json.dumps(HEADER), json.dumps({**PAYLOAD, name: value}))
    try:
        TOKENS.verify(token, now=NOW)
    except Refusal:
        must_refuse(token)
    else:
        assert type(value) is type(PAYLOAD[name])
