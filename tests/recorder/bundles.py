"""A log of tenant t1, the bundle that its operator hands to an auditor, and what the auditor finds wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from recorder import bundle, checkpoint
from recorder.checkpoint import Checkpoint
from recorder.entry import Disclosure, disclose, encode_entry
from recorder.merkle import leaf_hash, root_of
from recorder.verify import verify_bundle

if TYPE_CHECKING:
    from pathlib import Path

ORIGIN = "grantd.example/c1/audit/t1"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
VKEY = checkpoint.vkey(ORIGIN, PUBLIC)
ROWS = 700  # two full bundles and a partial one


def row(number: int, *told: Disclosure, **fields: int | str) -> bytes:
    """One entry of tenant t1."""
    base: dict[str, int | bool | str] = {
        "id": f"0190163d8694739b8000{number:012x}",
        "t": 1_763_769_600_000_000 + number,
        "code": "SE2008I",
        "ten": "t1",
    }
    return encode_entry(base | fields, told, number.to_bytes(16))


def signed(entries: list[bytes], origin: str = ORIGIN) -> bytes:
    """The log's own checkpoint over these rows."""
    head = Checkpoint(origin=origin, size=len(entries), root=root_of(map(leaf_hash, entries)), time_s=1)
    return checkpoint.sign(head, public_key=PUBLIC, signer=KEY.sign)


def secret(number: int) -> Disclosure:
    """A personal field of row `number`."""
    return disclose(number.to_bytes(16), "user.name", f"person {number}")


def rows() -> list[bytes]:
    """A log with disclosures on every hundredth row."""
    return [row(number, *([secret(number)] if number % 100 == 0 else [])) for number in range(ROWS)]


def disclosures() -> list[tuple[int, bytes]]:
    """The disclosures of `rows`."""
    return [(number, secret(number).text) for number in range(0, ROWS, 100)]


def write(directory: Path, entries: list[bytes], told: list[tuple[int, bytes]] | None = None) -> Path:
    """A bundle of these rows, signed."""
    bundle.write_bundle(
        directory, entries=entries, checkpoint=signed(entries), vkeys=[VKEY], disclosures=told, recordings=()
    )
    return directory


def problems(directory: Path, **options: object) -> str:
    """What the verifier says is wrong."""
    report = verify_bundle(directory, **options)  # type: ignore[arg-type]
    assert report.ok == (not report.problems)
    return "\n".join(report.problems)
