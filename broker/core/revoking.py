"""How a target gets its revocation list: one fixed command, made of typed fields alone (ADR 0037).

Shared by the signer, which derives the command itself, and by the broker, which compares. So whoever speaks to the
signer names grants, and never says what is written or where.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from broker.core.cert import SKEW, Ca, CertMismatch, CertSpec
from broker.core.clock import micros
from broker.core.ids import PREFIXES, is_id
from broker.core.krl import Krl, Revoked, encode
from broker.core.wrapper import force_command

MAX_GRANTS: Final = 500
"""On one list; with two CA keys the command still fits into a certificate."""
SECONDS: Final = 20.0
"""The most that writing takes; counted on the target."""
FILE: Final = "grantd_revoked"
"""In the home of the login that keeps the list."""
CANARY: Final = 1
"""A serial that every list revokes: a check with it is refused where sshd reads the list."""
OVERTAKEN: Final = timedelta(hours=1)
"""A list that is newer by less than this stays: the push was held up, or written out of its turn. One that is newer by
more is of a clock that was wrong, and is replaced."""
FRESH: Final = timedelta(hours=2)
"""A list is written anew every ten minutes; one that is older than this is not kept up."""
_VERSION_AT: Final = 12
_HEAD_BYTES: Final = 20
"""Magic, format and version: equal in all lists but for the version, which grows (micros)."""

# The new list lies beside the old one until it is whole and on the disk; only then it takes its place. Each push has a
# file of its own, so that two at a time cannot mix theirs; what an interrupted one left goes with the next. Whoever can
# hold a packet back could have an older list written after a newer one: the heads are compared, the version is in them.
_WRITE: Final = """
umask 022
f=$HOME/{file} t=$HOME/{file}.new.$$
[ ! -d "$f" ] || exit 1
rm -f -- "$HOME/{file}".new.*
trap 'rm -f -- "$t"' EXIT
printf %s {text} | base64 -d | dd of="$t" bs=65536 iflag=fullblock conv=fsync 2>/dev/null || exit 1
s=$(sha256sum <"$t") && [ "${{s%% *}}" = {sha256} ] || exit 1
h=; [ ! -f "$f" ] || h=$(od -An -v -tx1 -N{head_bytes} "$f" 2>/dev/null)
h=${{h//[!0-9a-f]/}}
[[ $h > {head} && $h < {ahead} ]] && exit 1
mv -f -- "$t" "$f"
"""


def comment_of(target: str) -> str:
    """What stands in a list of ours: whose it is."""
    return f"grantd {target}"


def list_of(spec: CertSpec, grants: Sequence[str], cas: Sequence[bytes]) -> bytes:
    """The list that a push carries: these grants under each of the CA's keys (wire blobs), as of the push itself."""
    generated = spec.valid_after + SKEW
    certificates = tuple(Revoked(ca_key=ca, key_ids=tuple(grants), serials=(CANARY,)) for ca in cas)
    return encode(
        Krl(
            version=micros(generated),
            generated=generated,
            comment=comment_of(spec.key_id),
            certificates=certificates,
            keys=(),
        )
    )


def pushing(spec: CertSpec, grants: Sequence[str], cas: Sequence[bytes]) -> CertSpec:
    """The specification with the one command that it may carry.

    Raises:
        CertMismatch: it is no push: of another target, with a command of its own, or with what is no grant's id.
    """
    must_be_a_push(spec, grants)
    return replace(spec, force_command=write_command(list_of(spec, grants, cas)))


def must_be_a_push(spec: CertSpec, grants: Sequence[str]) -> None:
    """Raises CertMismatch unless its holder can do no more than write the list of the target that it names."""
    _require(spec.ca is Ca.EGRESS and spec.key_id.startswith(PREFIXES["target"] + "_"), "a list is of one target")
    _require([name.split(":")[2:3] for name in spec.principals] == [[spec.key_id]], "a list is of one target")
    _require(not spec.force_command and not spec.permit_pty, "a list is written by its fixed command alone")
    _require(len(grants) <= MAX_GRANTS and list(grants) == sorted(set(grants)), "a list is bounded and in order")
    known = PREFIXES["grant"] + "_"
    _require(all(is_id(grant) and grant.startswith(known) for grant in grants), "a list names grants")


def write_command(krl: bytes) -> str:
    """The force-command that puts these bytes where the list is kept, whole or not at all."""
    text = base64.b64encode(krl).decode()
    head, version = krl[:_VERSION_AT], int.from_bytes(krl[_VERSION_AT:_HEAD_BYTES], "big")
    ahead = min(version + OVERTAKEN // timedelta(microseconds=1), 2**64 - 1)
    script = _WRITE.format(
        file=FILE, text=text, sha256=hashlib.sha256(krl).hexdigest(), head_bytes=_HEAD_BYTES,
        head=krl[:_HEAD_BYTES].hex(), ahead=(head + ahead.to_bytes(8, "big")).hex(),
    )  # fmt: skip
    return force_command(script.encode(), cwd="", env={}, seconds=SECONDS)


def _require(holds: bool, rule: str) -> None:  # noqa: FBT001  reads as a sentence at its call sites
    if not holds:
        raise CertMismatch(f"certificate refused: {rule}")
