"""Which keys of the directory count: `generations.json`, replaced whole, written by the signer alone.

A directory without it has the keys that `grantd init` made, one for each CA. A key of a number that the table says is
gone is destroyed at the next look: a rotation that was broken off in its last moment is finished then.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from broker.core.cert import Ca
from broker.core.clock import EPOCH, from_micros, micros
from broker.core.generation import MAX_GENERATIONS, Stage
from broker.signer import files
from broker.signer.private import KeyFault, destroy, read_private

NAME = "generations.json"
_NUMBERED = re.compile(r"(ingress|egress|host|x509)\.([1-9][0-9]{0,8})\.(key|crt)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One generation as it is kept."""

    number: int
    stage: Stage
    since: datetime
    voucher: bytes


Table = Mapping[Ca, tuple[Row, ...]]
FIRST: Table = {ca: (Row(number=1, stage=Stage.SIGNING, since=EPOCH, voucher=b""),) for ca in Ca}


def key_file(directory: Path, ca: Ca, number: int) -> Path:
    """Where the private key of a generation lies."""
    return directory / (f"{ca}.key" if number == 1 else f"{ca}.{number}.key")


def certificate_file(directory: Path, number: int) -> Path:
    """Where the certificate of a generation of the X.509 CA lies."""
    return directory / (f"{Ca.X509}.crt" if number == 1 else f"{Ca.X509}.{number}.crt")


def read_table(directory: Path, owner: int) -> Table:
    """The generations by CA, ascending. Raises KeyFault: damaged, or lost while keys of a rotation are there."""
    if not (directory / NAME).exists():
        if any(_NUMBERED.fullmatch(path.name) for path in directory.iterdir()):
            raise KeyFault(f"{directory / NAME}: is missing, and keys of a rotation are there")
        return FIRST
    try:
        table = {Ca(name): tuple(map(_row, rows)) for name, rows in _object(directory, owner).items()}
        for rows in table.values():
            _must_make_sense(rows)
    except (ValueError, TypeError, KeyError) as error:
        raise KeyFault(f"{directory / NAME}: is damaged") from error
    if set(table) != set(Ca):
        raise KeyFault(f"{directory / NAME}: is damaged")
    return table


def write_table(directory: Path, table: Table) -> None:
    """In force when this returns."""
    rows = {ca.value: [_written(row) for row in table[ca]] for ca in Ca}
    files.put(directory / NAME, json.dumps(rows, sort_keys=True, indent=1).encode() + b"\n")


def sweep(directory: Path, table: Table) -> None:
    """Destroys what is gone by the table: keys older than the oldest that it names."""
    for ca, rows in table.items():
        for number in range(1, rows[0].number):
            destroy(key_file(directory, ca, number))
            if ca is Ca.X509:
                destroy(certificate_file(directory, number))


def _object(directory: Path, owner: int) -> dict[str, list[dict[str, object]]]:
    value = json.loads(read_private(directory / NAME, owner))
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value


def _row(fields: Mapping[str, object]) -> Row:
    number, stage, since, voucher = (fields[name] for name in ("number", "stage", "since", "voucher"))
    if type(number) is not int or type(since) is not int or not isinstance(voucher, str) or number < 1:
        raise TypeError("not a row")
    return Row(number=number, stage=Stage(str(stage)), since=from_micros(since), voucher=bytes.fromhex(voucher))


def _written(row: Row) -> dict[str, object]:
    return {"number": row.number, "stage": row.stage.value, "since": micros(row.since), "voucher": row.voucher.hex()}


def _must_make_sense(rows: Sequence[Row]) -> None:
    numbers = [row.number for row in rows]
    signing = [row for row in rows if row.stage is Stage.SIGNING]
    if numbers != sorted(set(numbers)) or not 0 < len(rows) <= MAX_GENERATIONS or len(signing) != 1:
        raise ValueError("not the generations of a CA")
