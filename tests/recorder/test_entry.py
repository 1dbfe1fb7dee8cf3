"""An audit entry has one form, tells no personal field in clear, and forgets without breaking a proof (I-35, F20)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder import canonical, entry
from recorder.codes import BY_NAME, CODES, Outcome
from recorder.entry import disclose, encode_entry, parse_entry
from recorder.errors import EntryError
from recorder.merkle import leaf_hash

GOLDEN = Path(__file__).parent.parent / "vectors" / "audit_codes.jsonl"
FIELDS: dict[str, int | bool | str] = {
    "id": "0190163d8694739bb4b3d12f7b7c1a01",
    "t": 1_763_769_600_000_000,
    "code": "GR1001I",
    "ten": "t1",
    "outcome": "success",
}
UNUSUAL = {"glass.used", "system.frozen", "audit.epoch_started", "key.ended", "key.shredded", "ca.rotated"}
"""As wished, and worth a look all the same."""
NONCE = bytes(range(16))
SALT = bytes(range(16, 32))


def golden(code: str) -> dict[str, int | bool | str]:
    """The fields of a code's golden entry."""
    return FIELDS | {"code": code, "event": CODES[code].name, "outcome": str(CODES[code].outcome)}


def test_golden_entries() -> None:
    """Each code's golden entry is byte for byte what it was: codes are added, never changed or removed."""
    lines = GOLDEN.read_bytes().splitlines()
    made = [encode_entry(golden(code), (), NONCE) for code in CODES]
    assert lines == made
    for line in lines:
        assert parse_entry(line).fields["event"] == CODES[parse_entry(line).code].name


def test_codes_are_well_formed() -> None:
    """Two letters, four digits, a severity that fits the outcome; names are unique."""
    assert len(BY_NAME) == len(CODES)
    for spec in CODES.values():
        assert re.fullmatch(r"(GR|AP|SE|RC|SC|PO|AU|SY)\d{4}[IWE]", spec.code)
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", spec.name)
        assert spec.name in UNUSUAL or (spec.outcome is Outcome.SUCCESS) == spec.code.endswith("I")


def test_an_entry_reads_back() -> None:
    """Fields, digests and nonce come back; the digests' order tells nothing about the disclosures'."""
    told = [disclose(SALT, "user.name", "deployer"), disclose(bytes(16), "command", "rm -rf 'x y' \x1b]0;\x07 \u202e")]
    data = encode_entry(FIELDS, told, NONCE)
    found = parse_entry(data)
    assert dict(found.fields) == FIELDS
    assert (found.id, found.t_us, found.code, found.nonce) == (FIELDS["id"], FIELDS["t"], "GR1001I", NONCE)
    assert found.digests == tuple(sorted(each.digest for each in told))
    assert data == encode_entry(FIELDS, reversed(told), NONCE)
    assert b"deployer" not in data
    assert b"user.name" not in data


def test_forgetting_changes_no_leaf() -> None:
    """The leaf depends on the digest alone, so deleting the disclosure leaves every proof as it was (I-35)."""
    told = disclose(SALT, "user.email", "person@example.com")
    data = encode_entry(FIELDS, [told], NONCE)
    assert leaf_hash(data) == leaf_hash(canonical.encode(canonical.decode(data)))
    assert entry.digest_of(told.text) in parse_entry(data).digests
    assert disclose(bytes(16), "user.email", "person@example.com").digest != told.digest


@pytest.mark.parametrize(
    "value",
    [
        "person@example.com",
        "two words",
        "line\nbreak",
        'quo"te',
        "caf\u00e9",
        "\x1b[31m",
        "x" * 257,
        "$(id)",
        "a;b",
        "<b>",
    ],
)
def test_text_of_people_is_never_clear(value: str) -> None:
    """A clear value that looks like something a person wrote or is named by is refused, not stored."""
    with pytest.raises(EntryError, match="disclosure"):
        encode_entry(FIELDS | {"reason": value}, (), NONCE)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"n": "x"},
        {"_sd": "x"},
        {"_sd_alg": "md5"},
        {"code": "GR9999I"},
        {"code": "nonsense code"},
        {"id": "0190163d8694439bb4b3d12f7b7c1a01"},
        {"id": "0190163D8694739BB4B3D12F7B7C1A01"},
        {"id": 5},
        {"t": -1},
        {"t": True},
        {"t": "1"},
        {"t": 2**53},
        {"x": 1.5},
        {"x": None},
        {"x": ["a"]},
        {"bad key": 1},
        {"": 1},
        {"\u00e9": 1},
    ],
)
def test_entries_that_cannot_be(change: dict[str, Any]) -> None:
    """Reserved, unknown, malformed: refused before anything is written."""
    with pytest.raises(EntryError):
        encode_entry({**FIELDS, **change}, (), NONCE)


def test_required_fields_and_sizes() -> None:
    """No entry without code, id or time; none with a short nonce, a repeated disclosure, or beyond 16 KiB."""
    for name in ("code", "id", "t"):
        with pytest.raises(EntryError):
            encode_entry({key: value for key, value in FIELDS.items() if key != name}, (), NONCE)
    with pytest.raises(EntryError, match="nonce"):
        encode_entry(FIELDS, (), b"short")
    told = disclose(SALT, "a", 1)
    with pytest.raises(EntryError, match="twice"):
        encode_entry(FIELDS, [told, told], NONCE)
    many = {f"f{number}": "x" * 256 for number in range(63)}
    with pytest.raises(EntryError, match="longer"):
        encode_entry(FIELDS | many, (), NONCE)


ENCODED = encode_entry(FIELDS, [disclose(SALT, "a", 1), disclose(bytes(16), "b", "c")], NONCE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"null",
        ENCODED + b" ",
        ENCODED.replace(b'"v":1', b'"v":1.0'),
        ENCODED.replace(b'"v":1', b'"v":true'),
        ENCODED.replace(b'"v":1', b'"v":2'),
        ENCODED.replace(b'"v":1', b'"v":1,"v":1'),
        ENCODED.replace(b"sha-256", b"sha-512"),
        ENCODED.replace(b'"success"', b'"succe\\u0073s"'),
        ENCODED.replace(b'"t":17', b'"t": 17'),
        ENCODED.replace(b"AAECAwQFBgcICQoLDA0ODw", b"AAECAwQFBgcICQoLDA0ODx"),
        re.sub(rb'"_sd":\[("[^"]+"),("[^"]+")\]', rb'"_sd":[\2,\1]', ENCODED),
        re.sub(rb'"_sd":\[("[^"]+"),("[^"]+")\]', rb'"_sd":[\1,\1]', ENCODED),
        re.sub(rb'"_sd":\[[^]]+\]', rb'"_sd":[]', ENCODED),
        re.sub(rb'"_sd":\[[^]]+\],', rb"", ENCODED),
        re.sub(rb'"_sd":\[[^]]+\]', rb'"_sd":[1]', ENCODED),
        b'{"a":' * 3000 + b"1" + b"}" * 3000,
        b"[" * 200_000,
    ],
)
def test_only_the_one_form_is_read(data: bytes) -> None:
    """Anything that `encode_entry` would not have written is refused, and never with another error."""
    with pytest.raises(EntryError):
        parse_entry(data)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[1]",
        b'["AAAAAAAAAAAAAAAAAAAAAA","a","b"]',
        b'["AAAAAAAAAAAAAAAAAAAAAA", "a", null]',
        b'["AAAAAAAAAAAAAAAAAAAAAA", "a", 1.5]',
        b'["AAAAAAAAAAAAAAAAAAAAAA", 1, "b"]',
        b'["AAAAAAAAAAAAAAAAAAAAAB", "a", "b"]',
        b'["AAAA", "a", "b"]',
        b'[5, "a", "b"]',
        b"[" * 200_000,
        b'["\xff"]',
    ],
)
def test_malformed_disclosures(text: bytes) -> None:
    """A disclosure has one form too."""
    with pytest.raises(EntryError):
        entry.read_disclosure(text)


@pytest.mark.parametrize(
    ("salt", "name", "value"),
    [
        (b"short", "a", "b"),
        (SALT, "A", "b"),
        (SALT, "a b", "b"),
        (SALT, "a", "\ud800"),
        (SALT, "a", "x" * 70_000),
        (SALT, "a", 2**60),
        (SALT, "a", None),
    ],
)
def test_disclosures_that_cannot_be(salt: bytes, name: str, value: str) -> None:
    """What would not read back, or is too long, is refused."""
    with pytest.raises(EntryError):
        disclose(salt, name, value)


@given(st.text(st.characters(codec="utf-8"), max_size=200), st.integers(-(2**53) + 1, 2**53 - 1))
def test_any_text_is_disclosed_exactly(text: str, number: int) -> None:
    """Whatever was disclosed reads back as itself, control characters and all."""
    for value in (text, number):
        made = disclose(SALT, "command", value)
        assert entry.read_disclosure(made.text) == ("command", value)
        assert entry.digest_of(made.text) == made.digest


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,5}", fullmatch=True), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), JSON, max_size=4))
def test_canonical_json_is_one_to_one(document: dict[str, canonical.Json]) -> None:
    """One value, one encoding; the encoding is JSON and reads back."""
    data = canonical.encode(document)
    assert canonical.decode(data) == document
    assert json.loads(data) == document
    assert canonical.encode(dict(reversed(document.items()))) == data


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_parser(data: bytes) -> None:
    """Any bytes are an entry or an EntryError."""
    with pytest.raises(EntryError):
        parse_entry(data)


def test_nesting_is_bounded() -> None:
    """A value nested deeper than any of ours is refused."""
    value: canonical.Json = 1
    for _ in range(9):
        value = [value]
    with pytest.raises(EntryError, match="deep"):
        canonical.encode(value)
