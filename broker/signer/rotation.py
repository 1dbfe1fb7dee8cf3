"""A rotation's three steps over the directory of the keys: made here, vouched for here, destroyed here.

Whatever breaks off half-way leaves the step done or not done: the table is what counts, and it is replaced whole. A key
file that no table names yet has signed nothing and is made anew.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from broker.core.cert import Ca
from broker.core.generation import Generation, Stage, Step, WrongStep, about, after, not_before, voucher_record
from broker.core.statement import Rotation
from broker.signer.keys import CaKeys, load_keys, make_key, public_half
from broker.signer.private import destroy
from broker.signer.table import Row, Table, certificate_file, key_file, write_table


def must_be_due(generations: Sequence[Generation], said: Rotation, now: datetime) -> None:
    """Raises WrongStep unless it is the next step, of the key that the owner meant, and not before its time."""
    if about(generations, said.step) != said.number:
        raise WrongStep("the owner signed for another key")
    if not said.forced and now < not_before(said.ca, generations, said.step):
        raise WrongStep("somebody may hold what this step ends, and the owner did not say to force it")


def rotated(keys: CaKeys, ca: Ca, step: Step, now: datetime) -> CaKeys:
    """The keys after one step; in force on disk when this returns.

    Raises:
        WrongStep: it is not the next one.
        KeyFault: the files are not as they were left.
    """
    after([each.stage for each in keys.generations[ca]], step)
    table = dict(_table_of(keys))
    match step:
        case Step.START:
            table[ca] = (*table[ca], _made(keys, ca, now))
        case Step.SWITCH:
            turned = {Stage.SIGNING: Stage.OLD, Stage.NEXT: Stage.SIGNING}
            table[ca] = tuple(replace(row, stage=turned[row.stage], since=now) for row in table[ca])
        case Step.FINISH:
            table[ca] = tuple(row for row in table[ca] if row.stage is not Stage.OLD)
    write_table(keys.directory, table)
    # what the table no longer names is destroyed by the look at it, now or at the next start
    return load_keys(keys.directory, owner=os.geteuid())


def _made(keys: CaKeys, ca: Ca, now: datetime) -> Row:
    number = max(each.number for each in keys.generations[ca]) + 1
    # a directory without a table would not survive a power cut between key and table: the present state first
    write_table(keys.directory, _table_of(keys))
    for path in (key_file(keys.directory, ca, number), certificate_file(keys.directory, number)):
        if ca is Ca.X509 or path.suffix == ".key":
            destroy(path)
    make_key(keys.directory, ca, number, now)
    record = voucher_record(ca, number, public_half(keys.directory, ca, number, owner=os.geteuid()))
    return Row(number=number, stage=Stage.NEXT, since=now, voucher=_vouched(keys, ca, record))


def _vouched(keys: CaKeys, ca: Ca, record: bytes) -> bytes:
    if ca is Ca.X509:
        return keys.x509_key.sign(record, ec.ECDSA(hashes.SHA256()))
    return keys.ssh[ca].sign(record)


def _table_of(keys: CaKeys) -> Table:
    return {
        ca: tuple(Row(number=g.number, stage=g.stage, since=g.since, voucher=g.voucher) for g in generations)
        for ca, generations in keys.generations.items()
    }
