"""A row of the signer's journal: an audit entry (recorder.entry) without personal fields. Draws its id and nonce."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final, TypeAlias

from broker.core.clock import micros
from recorder.codes import BY_NAME
from recorder.entry import NONCE_SIZE, Clear, encode_entry, is_word

Field: TypeAlias = "str | int | bool | list[str]"
_NAMES: Final = {
    "ssh": "certificate.signed",
    "x509": "certificate.signed",
    "begun": "signer.journal_begun",
    "recovered": "signer.recovered",
}
_OTHERS: Final = "signer.noted"
_MASK_62 = (1 << 62) - 1
_MASK_12 = (1 << 12) - 1


def encode_row(fields: Mapping[str, Field], now: datetime) -> bytes:
    """The bytes of one row; `fields` has a `kind`, and a `t` where the moment is another than `now`.

    Raises:
        EntryError: a reserved name, or more than an entry may hold.
    """
    spec = BY_NAME[_NAMES.get(str(fields["kind"]), _OTHERS)]
    envelope: dict[str, Clear] = {
        "id": _uuid7(now),
        "t": micros(now),
        "code": spec.code,
        "event": spec.name,
        "outcome": str(spec.outcome),
    }
    return encode_entry(envelope | dict(_clear(fields)), (), os.urandom(NONCE_SIZE))


def _clear(fields: Mapping[str, Field]) -> Iterator[tuple[str, Clear]]:
    for name, value in fields.items():
        match value:
            case list():
                yield from ((f"{name}.{place}", _word(each)) for place, each in enumerate(value))
            case str():
                yield name, _word(value)
            case _:
                yield name, value


def _word(text: str) -> str:
    """The text, or its digest where an entry would not take it in clear (a name with a space, a very long one)."""
    return text if is_word(text) else "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _uuid7(now: datetime) -> str:
    """RFC 9562 section 5.7."""
    random = int.from_bytes(os.urandom(10), "big")
    value = micros(now) // 1000 << 80 | 0x7 << 76 | (random >> 62 & _MASK_12) << 64 | 0b10 << 62 | random & _MASK_62
    return f"{value:032x}"
