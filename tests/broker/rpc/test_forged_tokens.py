"""Forged grant tokens at the real RPC door: each refused by its own rule, in the same words for all (I-09).

What a wrong signature alone would refuse is signed with the broker's own key, so that each rule stands for itself.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc.aio
import structlog.testing
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.core.grant import EndReason
from grantd.v1 import access_pb2
from grantd.v1.access_pb2_grpc import AccessServiceStub
from grantd.v1.action_pb2_grpc import ActionServiceStub
from tests.broker.rpc.agent import granted, start
from tests.broker.rpc.calls import refusal_of, said
from tests.broker.rpc.world import TENANT, House
from tests.forgeries import rule_of, told

REFUSED = ("UNAUTHENTICATED", "bad_token")
MEMBER, CLAIMS = "other header members than ours", "other claims than ours"


def b64(raw: bytes) -> str:
    """As JOSE spells bytes."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mint:
    """A good token taken apart, and the key that signed it."""

    header: dict[str, Any]
    claims: dict[str, Any]
    key: Ed25519PrivateKey

    @classmethod
    def of(cls, token: str, key: Ed25519PrivateKey) -> Mint:
        """Its parts."""
        head, body, _ = (base64.urlsafe_b64decode(part + "==") for part in token.split("."))
        return cls(header=json.loads(head), claims=json.loads(body), key=key)

    def made(
        self, header: str | None = None, claims: str | None = None, sign: Callable[[bytes], bytes] | None = None
    ) -> str:
        """A token over these very texts."""
        head = b64((header or json.dumps(self.header)).encode())
        message = f"{head}.{b64((claims or json.dumps(self.claims)).encode())}"
        return f"{message}.{b64((sign or self.key.sign)(message.encode()))}"

    def head(self, sign: Callable[[bytes], bytes] | None = None, **changed: object) -> str:
        """Other header members; None takes one out."""
        return self.made(json.dumps(_without_none({**self.header, **changed})), sign=sign)

    def says(self, **changed: object) -> str:
        """Other claims; None takes one out."""
        return self.made(claims=json.dumps(_without_none({**self.claims, **changed})))

    def twice(self, name: str, value: object) -> str:
        """The claims with one member a second time, the good one last."""
        return "{" + json.dumps({name: value})[1:-1] + "," + json.dumps(self.claims)[1:]


def _without_none(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def forged(mint: Mint, good: str, others: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Name -> (the rule that should refuse it, the token)."""
    return (
        _signed_otherwise(mint, good)
        | _with_members_that_others_obey(mint)
        | _for_or_by_another(mint)
        | _at_another_time(mint)
        | _of_another_grant(mint, others)
        | _in_another_envelope(mint, good)
    )


def _signed_otherwise(mint: Mint, good: str) -> dict[str, tuple[str, str]]:
    public = mint.key.public_key()
    raw, pem = public.public_bytes_raw(), public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    stranger = Ed25519PrivateKey.generate()
    head, _, signature = good.split(".")
    algorithm, key, size = "another algorithm", "not signed by our key", "not the size of a signature"
    return {
        "alg none, no signature": (algorithm, mint.head(lambda _: b"", alg="none")),
        "alg None, good signature": (algorithm, mint.head(alg="None")),
        "alg in lower case": (algorithm, mint.head(alg="eddsa")),
        "alg a list": (algorithm, mint.head(alg=["EdDSA"])),
        "HS256 with the raw public key": (algorithm, mint.head(lambda m: hmac.digest(raw, m, "sha256"), alg="HS256")),
        "HS256 with the PEM public key": (algorithm, mint.head(lambda m: hmac.digest(pem, m, "sha256"), alg="HS256")),
        "RS256": (algorithm, mint.head(lambda _: bytes(256), alg="RS256")),
        "ES256": (algorithm, mint.head(lambda _: bytes(64), alg="ES256")),
        "another key": (key, mint.made(sign=stranger.sign)),
        "an HMAC under EdDSA": (size, mint.made(sign=lambda m: hmac.digest(raw, m, "sha256"))),
        "a signature of zeros": (key, mint.made(sign=lambda _: bytes(64))),
        "no signature": (size, mint.made(sign=lambda _: b"")),
        "a byte behind the signature": (size, mint.made(sign=lambda m: mint.key.sign(m) + b"\0")),
        "claims of one, signature of another": (key, f"{head}.{mint.says(jti='0' * 32).split('.')[1]}.{signature}"),
        "kid missing": (MEMBER, mint.head(kid=None)),
        "another kid": ("another key id", mint.head(kid="t2")),
        "kid a path": ("another key id", mint.head(kid="../../../dev/null")),
        "kid SQL": ("another key id", mint.head(kid="' OR 1=1 --")),
        "another typ": ("another type", mint.head(typ="JWT")),
    }  # fmt: skip


def _with_members_that_others_obey(mint: Mint) -> dict[str, tuple[str, str]]:
    stranger = Ed25519PrivateKey.generate()
    raw = mint.key.public_key().public_bytes_raw()
    return {
        "jku": (MEMBER, mint.head(jku="https://keys.example/jwks.json")),
        "x5u": (MEMBER, mint.head(x5u="https://keys.example/chain.pem")),
        "x5c": (MEMBER, mint.head(x5c=[b64(b"certificate")])),
        "jwk": (MEMBER, mint.head(stranger.sign, jwk={"kty": "OKP", "crv": "Ed25519", "x": b64(raw)})),
        "crit": (MEMBER, mint.head(crit=["exp"])),
        "zip": (MEMBER, mint.head(zip="DEF")),
        "b64 false": (MEMBER, mint.head(b64=False, crit=["b64"])),
        "alg twice": ("a member of the header twice", mint.made('{"alg":"none",' + json.dumps(mint.header)[1:])),
        "a header that is a list": ("header not an object", mint.made("[]")),
    }


def _for_or_by_another(mint: Mint) -> dict[str, tuple[str, str]]:
    iss = mint.claims["iss"]
    return {
        "aud missing": (CLAIMS, mint.says(aud=None)),
        "aud a list": ("another audience", mint.says(aud=[iss])),
        "aud a list with others": ("another audience", mint.says(aud=[iss, "other"])),
        "aud with a tail": ("another audience", mint.says(aud=iss + "0")),
        "another iss": ("another issuer", mint.says(iss="other.example/c1")),
        "iss a piece of ours": ("another issuer", mint.says(iss=iss[1:])),
    }


def _at_another_time(mint: Mint) -> dict[str, tuple[str, str]]:
    now = int(time.time())
    return {
        "exp missing": (CLAIMS, mint.says(exp=None)),
        "exp as text": ("exp no time in whole seconds", mint.says(exp=str(now + 60))),
        "exp a fraction": ("exp no time in whole seconds", mint.says(exp=now + 60.5)),
        "exp NaN": ("exp no time in whole seconds", mint.says(exp=float("nan"))),
        "exp infinite": ("exp no time in whole seconds", mint.says(exp=float("inf"))),
        "exp true": ("exp no time in whole seconds", mint.says(exp=True)),
        "exp negative": ("exp no time in whole seconds", mint.says(exp=-1)),
        "exp 10^30": ("exp no time in whole seconds", mint.says(exp=10**30)),
        "exp now": ("expired", mint.says(exp=now)),
        "exp in ten years": ("lives longer than any grant", mint.says(exp=now + 315_360_000)),
        "iat to come": ("issued in the future", mint.says(iat=now + 300)),
        "iat a year ago": ("lives longer than any grant", mint.says(iat=now - 31_536_000)),
        "nbf to come": ("not valid yet", mint.says(nbf=now + 300)),
        "nbf as text": ("nbf no time in whole seconds", mint.says(nbf="0")),
    }


def _of_another_grant(mint: Mint, others: dict[str, str]) -> dict[str, tuple[str, str]]:
    jkt = mint.claims["cnf"]["jkt"]
    return {
        "jti missing": (CLAIMS, mint.says(jti=None)),
        "jti empty": ("jti no text", mint.says(jti="")),
        "an unknown jti": ("no row of that jti", mint.says(jti="0" * 32)),
        "the jti of an SSH certificate": ("no row of that jti", mint.says(jti=others["serial"])),
        "another tenant": ("another tenant's", mint.says(ten="globex")),
        "another grant": ("its row is another grant's", mint.says(grant=others["grant"])),
        "grant twice": ("a member of the claims twice", mint.made(claims=mint.twice("grant", others["grant"]))),
        "another key's hash": ("bound to another key", mint.says(cnf={"jkt": b64(bytes(32))})),
        "another agent's token": ("bound to another key", others["token"]),
        "cnf missing": (CLAIMS, mint.says(cnf=None)),
        "cnf with more": ("not bound to a key", mint.says(cnf={"jkt": jkt, "jwk": {}})),
        "cnf short": ("not bound to a key", mint.says(cnf={"jkt": b64(bytes(31))})),
        "cnf in another spelling": ("another spelling of the same bytes", mint.says(cnf={"jkt": jkt + "="})),
        "a claim more": (CLAIMS, mint.says(scope="*")),
    }  # fmt: skip


def _in_another_envelope(mint: Mint, good: str) -> dict[str, tuple[str, str]]:
    head, body, signature = good.split(".")
    alias = signature[:-1] + chr(ord(signature[-1]) + 1)
    shape = "not three parts"
    return {
        "two parts": (shape, f"{head}.{body}"),
        "four parts": (shape, f"{good}.{signature}"),
        "a thousand dots": (shape, "." * 1000),
        "not base64": ("another spelling of the same bytes", f"{head}.{body}.{'!' * 86}"),
        "another spelling of the signature": ("another spelling of the same bytes", f"{head}.{body}.{alias}"),
        "padding": ("another spelling of the same bytes", f"{good}=="),
        "claims not JSON": ("claims not JSON", mint.made(claims="{")),
        "claims nested 2000 deep": ("claims not JSON", mint.made(claims="[" * 2000)),
        "claims a text": ("claims not an object", mint.made(claims='"claims"')),
        "Bearer in front": ("not base64url", f"Bearer {good}"),
    }


async def _token(channel: grpc.aio.Channel, grant: str) -> str:
    request = access_pb2.IssueCredentialRequest(grant_id=grant, kind=access_pb2.CREDENTIAL_KIND_TOKEN)
    return (await AccessServiceStub(channel).IssueCredential(request)).token


async def test_each_forged_token_is_refused_by_its_own_rule(house: House) -> None:
    """I-08, I-09, M10: presented with Execute over mTLS; a good one runs before and after, so the test can fail."""
    grant, other = await granted(house), await granted(house)
    tokens = house.world.tokens
    async with house.channel(house.people["agent"]) as channel:
        good, elses = await _token(channel, grant), await _token(channel, other)
        mint = Mint.of(good, tokens._key)  # type: ignore[attr-defined]  # noqa: SLF001
        theirs = {**mint.claims, "cnf": {"jkt": b64(hashlib.sha256(b"another agent").digest())}}
        others = {"grant": other, "serial": "1", "token": mint.made(claims=json.dumps(theirs))}

        async def present(token: str) -> object:
            metadata = (("grantd-grant", token),)
            call = ActionServiceStub(channel).Execute(iter([start("", "true")]), metadata=metadata, timeout=30)
            return [one async for one in call]

        async def heard(call: Awaitable[object]) -> object:
            try:
                return await call
            except grpc.aio.AioRpcError as error:
                words.add(str(error.details()))
                raise

        assert await present(good)
        rules, words = dict[str, str](), set[str]()
        wanted = forged(mint, good, others)
        for name, (_, token) in wanted.items():
            with structlog.testing.capture_logs() as logs:
                assert await refusal_of(heard(present(token))) == REFUSED, name
                await said(lambda: rule_of(logs, "rpc.served") != "")
            rules[name] = rule_of(logs, "rpc.served")
        told("grant tokens at the RPC door", rules)
        assert rules == {name: rule for name, (rule, _) in wanted.items()}
        assert words == {"the grant token is not valid"}
        # the transport keeps 20 kB of metadata out; what is between 8 kB and its limit is refused by size (test_tokens)
        assert (await refusal_of(present(mint.says(jti="x" * 20_000))))[0] == "RESOURCE_EXHAUSTED"
        assert await present(good)
        await house.cases.ending.end(TENANT, other, EndReason.REVOKED, by=house.people["owner"].row.id)  # type: ignore[arg-type]
        assert (await refusal_of(present(elses)))[1] in {"grant_over", "not_found", "grant_ended"}
