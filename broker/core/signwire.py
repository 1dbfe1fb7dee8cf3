"""The bytes of what the broker and the signer say (signing.py): frames of at most MAX_FRAME bytes. Reads no socket.

A frame is u8 version, u32 length, then PAE (formats.md section 9) of a verb and its fields, integers as decimal ASCII;
every message has exactly one spelling.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from broker.core.cert import Ca, CertSpec, X509Spec
from broker.core.clock import from_micros, micros
from broker.core.errors import Fault
from broker.core.generation import MAX_GENERATIONS, Generation, Stage
from broker.core.records import pae, unpae
from broker.core.signing import (
    Answer,
    Ask,
    AskCa,
    AskGenerations,
    AskHead,
    AskTrust,
    Learn,
    OpenGlass,
    Refused,
    RotateCa,
    Signed,
    SignKrl,
    SignProbe,
    SignSsh,
    SignX509,
    Told,
)
from broker.core.sshwire import WireError

VERSION: Final = 1
HEADER_BYTES: Final = 5
MAX_FRAME: Final = 184 * 1024
"""A force-command of MAX_FORCE_COMMAND_BYTES, the record with its 16 KiB command, the access that it runs under and the
signatures of two quorums; or a statement with a site's own programs."""
MAX_SIGNATURES: Final = 16
MAX_RECORD_BYTES: Final = 48 * 1024
_NUMBER = re.compile(rb"0|-?[1-9][0-9]{0,47}")
T = TypeVar("T", Ask, Answer)


class FrameError(Fault):
    """The other side does not speak this protocol, or not this version of it."""


def frame(body: bytes) -> bytes:
    """The body behind its header. Raises FrameError when it is too long to be read."""
    if len(body) > MAX_FRAME:
        raise FrameError("longer than the signer reads")
    return bytes([VERSION]) + len(body).to_bytes(4, "big") + body


def body_bytes(header: bytes) -> int:
    """How many bytes follow a header. Raises FrameError, before any is read, on another version or too many."""
    if len(header) != HEADER_BYTES or header[0] != VERSION:
        raise FrameError("another version of the signer's protocol")
    size = int.from_bytes(header[1:], "big")
    if size > MAX_FRAME:
        raise FrameError("longer than the signer reads")
    return size


def encode_ask(ask: Ask) -> bytes:  # noqa: C901  one case a question
    """The body of a question. Raises FrameError where the other side would not read it, and hang up on everybody."""
    match ask:
        case SignSsh():
            why = [_record(ask.record), _few(ask.signatures), _record(ask.access), _few(ask.access_signatures)]
            return pae([b"sign-ssh", *_spec_parts(ask.spec), ask.public_key, *why])
        case SignX509():
            return pae([b"sign-x509", *_x509_parts(ask.spec), ask.csr_der])
        case SignProbe():
            return pae([b"sign-probe", *_spec_parts(ask.spec), ask.public_key, _number(ask.generation)])
        case SignKrl():
            return pae([b"sign-krl", *_spec_parts(ask.spec), ask.public_key, pae(each.encode() for each in ask.grants)])
        case AskCa():
            return pae([b"ca", ask.ca.encode()])
        case AskGenerations():
            return pae([b"generations", ask.ca.encode()])
        case RotateCa():
            return pae([b"rotate", ask.statement, _few(ask.signatures)])
        case Learn():
            return pae([b"learn", ask.statement, _few(ask.signatures)])
        case OpenGlass():
            return pae([b"open-glass", _record(ask.use), ask.signature])
        case AskHead(since=since):
            return pae([b"head", _number(since)])
        case AskTrust():
            return pae([b"trust", ask.tenant.encode(), ask.subject.encode()])


def decode_ask(body: bytes) -> Ask:
    """The question of a body; the inverse of encode_ask and nothing else. Raises FrameError."""
    return _decoded(body, _ask, encode_ask)


def encode_answer(answer: Answer) -> bytes:
    """The body of an answer."""
    match answer:
        case Signed(blob=blob):
            return pae([b"signed", blob])
        case Refused(why=why):
            # a path may be in it; no phrase may break the line that others wait on
            return pae([b"refused", why.encode("ascii", "backslashreplace")])
        case Told(generations=generations):
            return pae([b"told", *map(_generation_parts, generations)])


def decode_answer(body: bytes) -> Answer:
    """The answer of a body. Raises FrameError."""
    return _decoded(body, _answer, encode_answer)


def _decoded(body: bytes, read: Callable[[tuple[bytes, ...]], T], encode: Callable[[T], bytes]) -> T:
    # Encoding again refuses at one stroke every second spelling: leading zeros, unsorted parts, other flags.
    try:
        value = read(unpae(body))
        if encode(value) != body:
            raise WireError("not the one spelling")
    except (WireError, ValueError, OverflowError) as error:
        raise FrameError("not a message of the signer's protocol") from error
    return value


def _spec_parts(spec: CertSpec) -> list[bytes]:
    return [
        spec.ca.encode(),
        spec.key_id.encode(),
        _number(spec.serial),
        pae(name.encode() for name in spec.principals),
        _number(micros(spec.valid_after)),
        _number(micros(spec.valid_before)),
        spec.source_address.encode(),
        spec.force_command.encode(),
        _flag(spec.permit_pty),
    ]


def _x509_parts(spec: X509Spec) -> list[bytes]:
    return [
        spec.uri.encode(),
        pae(host.encode() for host in spec.hosts),
        _number(micros(spec.not_before)),
        _number(micros(spec.not_after)),
        _flag(spec.server),
        _number(spec.serial),
    ]


def _spec(parts: Sequence[bytes]) -> CertSpec:
    ca, key_id, serial, names, after, before, source, command, pty = parts
    return CertSpec(
        ca=Ca(ca.decode()),
        key_id=key_id.decode(),
        serial=_int(serial),
        principals=tuple(name.decode() for name in unpae(names)),
        valid_after=from_micros(_int(after)),
        valid_before=from_micros(_int(before)),
        source_address=source.decode(),
        force_command=command.decode(),
        permit_pty=pty == b"1",
    )


def _x509(parts: Sequence[bytes]) -> X509Spec:
    uri, hosts, not_before, not_after, server, serial = parts
    return X509Spec(
        uri=uri.decode(),
        hosts=tuple(host.decode() for host in unpae(hosts)),
        not_before=from_micros(_int(not_before)),
        not_after=from_micros(_int(not_after)),
        server=server == b"1",
        serial=_int(serial),
    )


def _generation_parts(each: Generation) -> bytes:
    stage, since = each.stage.encode(), _number(micros(each.since))
    return pae([_number(each.number), each.public, stage, since, each.voucher])


def _generation(packed: bytes) -> Generation:
    number, public, stage, since, voucher = unpae(packed)
    return Generation(
        number=_int(number), public=public, stage=Stage(stage.decode()), since=from_micros(_int(since)), voucher=voucher
    )


def _ask(parts: tuple[bytes, ...]) -> Ask:  # noqa: C901  one case a question
    match parts:
        case [b"sign-ssh", *spec, key, record, signatures, access, access_signatures]:
            return SignSsh(
                spec=_spec(spec),
                public_key=key,
                record=_record(record),
                signatures=unpae(signatures),
                access=_record(access),
                access_signatures=unpae(access_signatures),
            )
        case [b"sign-probe", *spec, key, generation]:
            return SignProbe(spec=_spec(spec), public_key=key, generation=_int(generation))
        case [b"sign-krl", *spec, key, grants]:
            return SignKrl(spec=_spec(spec), public_key=key, grants=tuple(each.decode() for each in unpae(grants)))
        case [b"sign-x509", *spec, csr]:
            return SignX509(spec=_x509(spec), csr_der=csr)
        case [b"ca", name]:
            return AskCa(ca=Ca(name.decode()))
        case [b"generations", name]:
            return AskGenerations(ca=Ca(name.decode()))
        case [b"rotate", statement, signatures]:
            return RotateCa(statement=statement, signatures=unpae(signatures))
        case [b"learn", statement, signatures]:
            return Learn(statement=statement, signatures=unpae(signatures))
        case [b"open-glass", use, signature]:
            return OpenGlass(use=_record(use), signature=signature)
        case [b"head", since]:
            return AskHead(since=_int(since))
        case [b"trust", tenant, subject]:
            return AskTrust(tenant=tenant.decode(), subject=subject.decode())
        case _:
            raise WireError("no such question")


def _answer(parts: tuple[bytes, ...]) -> Answer:
    match parts:
        case [b"signed", blob]:
            return Signed(blob=blob)
        case [b"refused", why]:
            return Refused(why=why.decode("ascii"))
        case [b"told", *packed] if len(packed) <= MAX_GENERATIONS:
            return Told(generations=tuple(map(_generation, packed)))
        case _:
            raise WireError("no such answer")


def _record(record: bytes) -> bytes:
    if len(record) > MAX_RECORD_BYTES:
        raise FrameError("a record longer than any that a person signs")
    return record


def _few(signatures: Sequence[bytes]) -> bytes:
    if len(signatures) > MAX_SIGNATURES:
        raise FrameError("more signatures than a quorum has")
    return pae(signatures)


def _number(value: int) -> bytes:
    return str(value).encode()


def _int(digits: bytes) -> int:
    if not _NUMBER.fullmatch(digits):
        raise WireError("not a decimal number")
    return int(digits)


def _flag(value: bool) -> bytes:  # noqa: FBT001  one private spelling of a bool
    return b"1" if value else b"0"
