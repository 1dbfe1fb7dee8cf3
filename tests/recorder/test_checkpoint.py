"""A checkpoint is believed only when its own log signed exactly these bytes (I-32)."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from recorder import checkpoint
from recorder.checkpoint import Checkpoint, KeyType
from recorder.errors import NoteError

ORIGIN = "grantd.example/c1/audit/t1"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
VKEY = checkpoint.vkey(ORIGIN, PUBLIC)
HEAD = Checkpoint(origin=ORIGIN, size=5, root=bytes(range(32)), time_s=1_763_769_600)


def sign(head: Checkpoint = HEAD, key: Ed25519PrivateKey = KEY) -> bytes:
    """The head as its log signs it."""
    return checkpoint.sign(head, public_key=key.public_key().public_bytes_raw(), signer=key.sign)


def forge(text: str) -> bytes:
    """Any text at all, signed with the log's real key."""
    line = checkpoint._line(checkpoint.parse_vkey(VKEY), KEY.sign(text.encode()))  # noqa: SLF001
    return text.encode() + b"\n" + line


def test_round_trip() -> None:
    """What was signed comes back, with and without a time."""
    assert checkpoint.parse_and_verify(sign(), [VKEY]) == HEAD
    timeless = replace(HEAD, time_s=None)
    assert checkpoint.parse_and_verify(sign(timeless), [VKEY]) == timeless
    assert b"time 1763769600\n" in sign()


def test_the_published_example_of_the_format() -> None:
    """The note in the signed-note specification verifies with its key."""
    key = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    signature = "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="
    note = f"This is an example message.\n\n\u2014 example.com/foo {signature}\n"
    assert str(checkpoint.parse_vkey(key)) == key
    assert [found.key.name for found in checkpoint.open_note(note.encode(), [key])] == ["example.com/foo"]
    with pytest.raises(NoteError, match="bad signature"):
        checkpoint.open_note(note.replace("example m", "Example m").encode(), [key])


def test_every_flipped_bit_is_refused() -> None:
    """No single bit of a note can change without the note being refused or reading as unsigned."""
    note = sign()
    for position in range(len(note) * 8):
        damaged = bytearray(note)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(NoteError):
            checkpoint.parse_and_verify(bytes(damaged), [VKEY])


def test_keys_of_others_prove_nothing() -> None:
    """No key, another key, another tenant's log, a witness alone: refused."""
    note = sign()
    other = checkpoint.vkey(ORIGIN, OTHER.public_key().public_bytes_raw())
    elsewhere = checkpoint.vkey("grantd.example/c1/audit/t2", PUBLIC)
    for keys in ([], [other], [elsewhere]):
        with pytest.raises(NoteError, match="not signed by the log"):
            checkpoint.parse_and_verify(note, keys)
    later = Checkpoint(origin=ORIGIN + "/e1", size=5, root=bytes(32))
    with pytest.raises(NoteError):
        checkpoint.parse_and_verify(sign(later), [VKEY])
    witness = checkpoint.cosign(
        note, name="witness.example/w1", public_key=PUBLIC, signer=KEY.sign, time_s=1_700_000_000
    )
    text = note.rpartition(b"\n\n")[0] + b"\n\n" + witness
    with pytest.raises(NoteError, match="not signed by the log"):
        checkpoint.parse_and_verify(text, [checkpoint.vkey("witness.example/w1", PUBLIC, KeyType.COSIGNATURE)])


def test_a_known_key_with_a_bad_signature_spoils_the_note() -> None:
    """Unknown signatures are skipped; a bad one by a known key refuses a note that is otherwise good."""
    note = sign()
    unknown = sign(key=OTHER).rpartition(b"\n\n")[2]
    assert checkpoint.parse_and_verify(note + unknown, [VKEY]) == HEAD
    bad = "\u2014 " + ORIGIN + " " + base64.b64encode(checkpoint.parse_vkey(VKEY).id + bytes(64)).decode() + "\n"
    with pytest.raises(NoteError, match="bad signature"):
        checkpoint.parse_and_verify(note + bad.encode(), [VKEY])
    short = "\u2014 " + ORIGIN + " " + base64.b64encode(checkpoint.parse_vkey(VKEY).id + bytes(3)).decode() + "\n"
    with pytest.raises(NoteError, match="bad signature"):
        checkpoint.parse_and_verify(note + short.encode(), [VKEY])


def test_up_to_sixteen_signatures() -> None:
    """Sixteen lines are read, a seventeenth refuses the note."""
    note = sign()
    line = sign(key=OTHER).rpartition(b"\n\n")[2]
    assert checkpoint.parse_and_verify(note + line * 15, [VKEY]) == HEAD
    with pytest.raises(NoteError, match="too many"):
        checkpoint.parse_and_verify(note + line * 16, [VKEY])


ROOT = base64.b64encode(HEAD.root).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n05\n{ROOT}\n",
        f"{ORIGIN}\n+5\n{ROOT}\n",
        f"{ORIGIN}\n-1\n{ROOT}\n",
        f"{ORIGIN}\n99999999999999999999\n{ROOT}\n",
        f"{ORIGIN}\n9999999999999999999\n{ROOT}\n",
        f"{ORIGIN}\n5\n{ROOT[:-1]}\n",
        f"{ORIGIN}\n5\n{ROOT[:-2]}9=\n",
        f"{ORIGIN}\n5\nAAAA\n",
        f"{ORIGIN}\n5\n",
        f"{ORIGIN}\n5\n{ROOT}\nextension\n",
        f"{ORIGIN}\n5\n{ROOT}\ntime 01\n",
        f"{ORIGIN}\n5\n{ROOT}\ntime 9999999999999999999\n",
        f"{ORIGIN}\n5\n{ROOT}\ntime 1\nmore\n",
        f"{ORIGIN} \n5\n{ROOT}\n",
        f"{ORIGIN}+x\n5\n{ROOT}\n",
        f"{ORIGIN}\t\n5\n{ROOT}\n",
    ],
)
def test_only_the_one_form_is_read(text: str) -> None:
    """Even under the log's own signature an odd size, root, extension or origin is refused."""
    with pytest.raises(NoteError):
        checkpoint.parse_and_verify(forge(text), [VKEY])


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n\n",
        b"no signature\n",
        b"text\n\nnot a signature line\n",
        b"text\n\n\xe2\x80\x94 name !!!!\n",
        b"text\n\n\xe2\x80\x94 name AAAA\n",
        b"text\n\n\xe2\x80\x94 name AAAAAAAA",
        b"te\xffxt\n\n\xe2\x80\x94 name AAAAAAAA\n",
        b"te\x07xt\n\n\xe2\x80\x94 name AAAAAAAA\n",
        b"x" * 20_000,
    ],
)
def test_malformed_notes(note: bytes) -> None:
    """Whatever is not a signed note is refused with a NoteError and nothing else."""
    with pytest.raises(NoteError):
        checkpoint.open_note(note, [VKEY])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+b",
        VKEY[:-1],
        VKEY.replace("+", "-"),
        "x" + VKEY,
        VKEY.split("+")[0] + "+00000000+AAAA",
        "a b+00000000+AA==",
    ],
)
def test_malformed_keys(text: str) -> None:
    """A verifier key that does not belong together is refused."""
    with pytest.raises(NoteError):
        checkpoint.parse_vkey(text)


@pytest.mark.parametrize(
    "head",
    [
        replace(HEAD, origin="has space"),
        replace(HEAD, origin=""),
        replace(HEAD, size=-1),
        replace(HEAD, size=2**63),
        replace(HEAD, root=b"short"),
        replace(HEAD, time_s=-1),
    ],
)
def test_nothing_is_signed_that_nobody_could_read(head: Checkpoint) -> None:
    """A head that would not read back is refused before the signer sees it."""
    with pytest.raises(NoteError):
        sign(head)


def test_a_signer_with_another_key_is_found_at_once() -> None:
    """The signature is checked before it leaves (a log that silently does not sign is F05)."""
    with pytest.raises(NoteError, match="bad signature"):
        checkpoint.sign(HEAD, public_key=PUBLIC, signer=OTHER.sign)
    with pytest.raises(NoteError, match="bad signature"):
        checkpoint.sign(HEAD, public_key=PUBLIC, signer=lambda _: b"")


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    """Any bytes either verify or raise NoteError."""
    with pytest.raises(NoteError):
        checkpoint.parse_and_verify(data, [VKEY])
    with pytest.raises(NoteError):
        checkpoint.parse_and_verify(sign().rpartition(b"\n\n")[0] + b"\n\n" + data, [VKEY])
