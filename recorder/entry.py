"""One audit entry: canonical JSON whose personal fields are salted digests. Makes no randomness, stores nothing.

The entry is the leaf, for ever. What may have to be forgotten (names, reasons, commands, addresses) is a disclosure:
stored elsewhere, its SHA-256 in the entry, so erasing it leaves every proof intact (I-35).
Source: SD-JWT, RFC 9901 sections 4.2.1 and 4.2.3.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from recorder import canonical
from recorder.codes import CODES
from recorder.errors import EntryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from recorder.canonical import Json

Clear: TypeAlias = "int | bool | str"

MAX_ENTRY = 16 * 1024  # bytes; a tlog-tiles bundle prefixes each entry with a u16
NONCE_SIZE = 16  # bytes; stops guessing of low-entropy leaves once entries are pruned
SALT_SIZE = 16  # bytes, 128 bits: RFC 9901 section 9.3
MAX_VALUE = 64 * 1024  # bytes of one disclosure: the longest command and its quoting
_RESERVED = frozenset({"v", "n", "_sd", "_sd_alg"})
_ID = re.compile(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}")
_B64_16 = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]")
_B64_32 = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")
_TOKEN = re.compile(r"[A-Za-z0-9._:+/=,-]{0,256}")
_NAME = re.compile(r"[a-z][a-z0-9_.]{0,63}")
_SD_ARITY = 3


@dataclass(frozen=True, slots=True)
class Disclosure:
    """The exact bytes `["<salt>", "<name>", <value>]` and the digest that stands for them in an entry."""

    text: bytes
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A parsed entry: its fields without the envelope, and the digests of what it does not say in clear."""

    id: str
    t_us: int
    code: str
    nonce: bytes
    fields: Mapping[str, Clear]
    digests: tuple[str, ...]


def disclose(salt: bytes, name: str, value: Clear) -> Disclosure:
    """Hide `value` behind a salted digest. `salt`: 16 fresh random bytes, used for nothing else.

    Raises:
        EntryError: wrong salt length, odd name, a value too long or not representable.
    """
    if len(salt) != SALT_SIZE:
        raise EntryError("a salt has 16 bytes")
    if not _NAME.fullmatch(name):
        raise EntryError("a disclosure's name is lower-case ASCII")
    if not isinstance(value, (int, str)):
        raise EntryError("a disclosed value is a text or an integer")
    canonical.encode(value)  # refuses what would not read back
    text = json.dumps([_b64u(salt), name, value], ensure_ascii=False).encode()  # RFC 9901 spacing: ", "
    if len(text) > MAX_VALUE:
        raise EntryError(f"disclosure {name} is longer than {MAX_VALUE} bytes")
    return Disclosure(text, digest_of(text))


def digest_of(text: bytes) -> str:
    """b64url(sha256(ASCII(b64url(text)))). Source: RFC 9901 section 4.2.3."""
    return _b64u(hashlib.sha256(_b64u(text).encode()).digest())


def read_disclosure(text: bytes) -> tuple[str, Clear]:
    """(name, value) of a disclosure as stored; EntryError when it is not one. Compare `digest_of` with the entry."""
    try:
        parts = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise EntryError("disclosure is not JSON") from error
    if not isinstance(parts, list) or len(parts) != _SD_ARITY:
        raise EntryError("a disclosure is a list of salt, name and value")
    salt, name, value = parts
    if not isinstance(salt, str) or not isinstance(name, str) or not isinstance(value, (int, str)):
        raise EntryError("a disclosure is a list of salt, name and value")
    if not _B64_16.fullmatch(salt) or disclose(_unb64u(salt), name, value).text != text:
        raise EntryError("disclosure is not in its one form")
    return name, value


def is_word(text: str) -> bool:
    """Whether a text may stand in clear in an entry: short, and nothing that a person would write."""
    return _TOKEN.fullmatch(text) is not None


def encode_entry(fields: Mapping[str, Clear], disclosures: Iterable[Disclosure], nonce: bytes) -> bytes:
    """The leaf bytes of one event.

    `fields` holds `id` (32 hex digits of a UUIDv7), `t` (microseconds since 1970), `code`, and whatever the event
    says in clear: ids, numbers, digests, enumerated words. Anything a person wrote or is named by goes into
    `disclosures`; a clear value with a space, a quote or an `@` is refused so that this cannot be forgotten.

    Raises:
        EntryError: unknown code, reserved or unsafe field, repeated disclosure, more than 16 KiB.
    """
    taken = _RESERVED & fields.keys()
    if taken:
        raise EntryError(f"reserved field {min(taken)}")
    if len(nonce) != NONCE_SIZE:
        raise EntryError("a nonce has 16 bytes")
    document: dict[str, Json] = {**fields, "v": 1, "n": _b64u(nonce)}
    digests = sorted(disclosure.digest for disclosure in disclosures)  # sorted: the order tells nothing
    if digests:
        document |= {"_sd": digests, "_sd_alg": "sha-256"}
    data = canonical.encode(document)
    _parts(document, len(data))
    return data


def parse_entry(data: bytes) -> Entry:
    """Read one entry strictly; EntryError unless it is exactly what `encode_entry` would have written."""
    return _read(canonical.decode(data), len(data))


def _read(document: dict[str, Json], size: int) -> Entry:
    """The entry of a document that has `size` bytes as canonical JSON. Takes the document apart."""
    entry_id, t_us, code, nonce, fields, digests = _parts(document, size)
    return Entry(
        id=entry_id, t_us=t_us, code=code, nonce=_unb64u(nonce), fields=MappingProxyType(fields), digests=digests
    )


def _parts(document: dict[str, Json], size: int) -> tuple[str, int, str, str, dict[str, Clear], tuple[str, ...]]:
    """As `_read`: id, time, code, nonce, fields and digests, each of which fits; EntryError unless all do."""
    if size > MAX_ENTRY:
        raise EntryError(f"entry is longer than {MAX_ENTRY} bytes")
    if not canonical.is_number(document.pop("v", None), 1):
        raise EntryError("entry of an unknown version")
    digests = _digests(document)
    nonce = _text(document.pop("n", None), _B64_16, "n")
    code = _text(document.get("code"), _TOKEN, "code")
    if code not in CODES:
        raise EntryError(f"unknown code {code}")
    t_us = document.get("t")
    if type(t_us) is not int or t_us < 0:
        raise EntryError("field t is not a time in microseconds")
    fields = {name: _clear(name, value) for name, value in document.items()}
    return _text(document.get("id"), _ID, "id"), t_us, code, nonce, fields, digests


def _digests(document: dict[str, Json]) -> tuple[str, ...]:
    """Take `_sd` and `_sd_alg` out of the document: both or neither, sorted, none twice."""
    if "_sd" not in document and "_sd_alg" not in document:
        return ()
    digests, algorithm = document.pop("_sd", None), document.pop("_sd_alg", None)
    if algorithm != "sha-256" or not isinstance(digests, list) or not digests:
        raise EntryError("_sd and _sd_alg do not fit")
    found = tuple(_text(digest, _B64_32, "_sd") for digest in digests)
    if list(found) != sorted(set(found)):
        raise EntryError("_sd is not sorted, or holds a digest twice")
    return found


def _clear(name: str, value: Json) -> Clear:
    match value:
        case bool() | int():
            return value
        case str():
            return _text(value, _TOKEN, name)
        case _:
            raise EntryError(f"field {name} is neither a number nor a word")


def _text(value: Json, pattern: re.Pattern[str], name: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise EntryError(f"field {name} does not fit {pattern.pattern}: text of people belongs in a disclosure")
    return value


def _b64u(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64u(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:  # pragma: no cover - callers match the alphabet first
        raise EntryError("not base64url") from error
