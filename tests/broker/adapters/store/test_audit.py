"""What may become an entry, and what is refused before it could: the log never forgets what it says in clear (I-36)."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.store.audit import EventUnfit, SealedDisclosure, pack, unpack
from broker.core.errors import Fault, VaultFault
from broker.core.events import AuditEvent, Personal
from recorder.entry import parse_entry
from tests.broker.adapters.audit_log.world import AGENT, T1, T2, Log, event, open_log, sqlite_url

CANARY = "hunter2-canary-Zq9"


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[Log]:
    """A started log on SQLite."""
    async with open_log(sqlite_url(tmp_path), tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(
    "facts",
    [
        {"target": "tg_" + "a" * 26},
        {"log": "acme-corp"},
        {"log": "_system"},
        {"state": "closed_loop"},
        {"digest": "ab" * 32},
        {"serial": "18446744073709551615"},
        {"ranges": "3,10-12"},
        {"ttl_s": 900, "opaque": 0},
        {"replaces": ""},
        {"method": "grantd.v1.AuditService/ListEvents", "permission": "audit.read"},
        {"rule": "parse.nothing"},
    ],
)
async def test_ids_words_digests_and_numbers_may_stand_in_clear(log: Log, facts: dict[str, str | int]) -> None:
    """What says nothing about a person or a host is a field of the entry, as it was given."""
    await log.tell(AuditEvent(tenant=T1, name="grant.activated", actor=AGENT, facts=facts))
    await log.settle()
    (record,) = await log.all()
    assert facts.items() <= parse_entry(record.entry).fields.items()


@pytest.mark.parametrize(
    "value",
    [
        "restart nginx",
        "deployer@example.com",
        "web1.example.com",
        "10.0.0.7",
        "/etc/shadow",
        "PASSWORD=x",
        "Root",
        "SHA256:uKm3",
        "a" * 41,
        "AKIAIOSFODNN7EXAMPLE",
        "caf\u00e9",
        "line\nbreak",
    ],
)
async def test_text_of_people_and_hosts_is_refused_in_clear(log: Log, value: str) -> None:
    """Free text, names, addresses, paths and tokens cannot become facts; the refusal never repeats them (I-36)."""
    with pytest.raises(EventUnfit) as unfit:
        await log.tell(event(kind=value))
    assert isinstance(unfit.value, Fault)
    assert value not in str(unfit.value)
    assert await log.keeper.waiting(sweep=True) == ["_system"]


@pytest.mark.parametrize("name", ["login", "host", "command", "reason", "id", "n", "_sd", "Kind", "a b", "x" * 33])
async def test_names_that_belong_elsewhere_cannot_name_a_fact(log: Log, name: str) -> None:
    """Neither what tells of people nor the envelope's own fields can be given as a fact."""
    with pytest.raises(EventUnfit):
        await log.tell(AuditEvent(tenant=T1, name="grant.activated", facts={name: "word"}))


@pytest.mark.parametrize(
    "wrong",
    [
        AuditEvent(tenant=T1, name="grant.invented"),
        AuditEvent(tenant=T2, name="grant.activated"),
        AuditEvent(tenant=T1, name="grant.activated", actor="deployer"),
        AuditEvent(tenant=T1, name="grant.activated", facts={"ratio": 0.5}),  # type: ignore[dict-item]
        AuditEvent(tenant=T1, name="grant.activated", facts={"flag": True}),
        AuditEvent(tenant=T1, name="grant.activated", facts={"big": 2**53}),
        AuditEvent(tenant=T1, name="permission.refused", facts={"permission": "grant it to deployer@example"}),
        AuditEvent(tenant=T1, name="subject.erased", facts={}),
        AuditEvent(tenant=T1, name="grant.activated", personal=(Personal(subject="x y", name="note", value="v"),)),
        AuditEvent(tenant=T1, name="grant.activated", personal=(Personal(subject=AGENT, name="no te", value="v"),)),
        AuditEvent(tenant=T1, name="grant.activated", personal=(Personal(subject=AGENT, name="note", value="\ud800"),)),
    ],
    ids=["name", "tenant", "actor", "float", "flag", "size", "sentence", "ranges", "subject", "label", "surrogate"],
)
async def test_an_event_that_does_not_fit_fails_the_whole_unit(log: Log, wrong: AuditEvent) -> None:
    """Unknown name, foreign tenant, bare actor, float, a sentence: a loud fault, nothing written (I-31)."""
    with pytest.raises(EventUnfit):
        await log.store.run(T1, lambda tx: tx.audit.append(wrong, log.clock.now()))
    await log.settle()
    assert await log.all() == []


async def test_no_personal_value_lies_in_the_database_in_clear(log: Log, tmp_path: Path) -> None:
    """A canary among the personal values is in no file of the log, in no usual spelling (I-36)."""
    personal = tuple(Personal(subject=AGENT, name=name, value=CANARY) for name in ("command", "reason", "note"))
    await log.tell(AuditEvent(tenant=T1, name="action.proposed", actor=AGENT, personal=personal))
    spellings = {CANARY.encode(), base64.b64encode(CANARY.encode()), CANARY.encode().hex().encode()}

    def found() -> list[str]:
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        return [f"{path.name}" for path in files for spelling in spellings if spelling in path.read_bytes()]

    assert found() == []
    await log.settle()
    assert found() == []
    (record,) = await log.all()
    assert sum(CANARY.encode() in text for text in record.disclosures) == 3  # the search can find it where it is


async def test_two_equal_events_have_unequal_leaves(log: Log) -> None:
    """Nonce and salts are fresh, so nobody confirms a guess from a leaf or a digest."""
    await log.tell(event(reason="yes"), event(reason="yes"))
    await log.settle()
    one, two = (json.loads(record.entry) for record in await log.all())
    assert one["n"] != two["n"]
    assert one["_sd"] != two["_sd"]


async def test_a_disclosure_opens_only_where_it_was_sealed(log: Log, tmp_path: Path) -> None:
    """Moving a sealed value to another row makes it unreadable, not readable there (I-50)."""
    import sqlite3  # noqa: PLC0415  the attacker's tool, in this test alone

    await log.tell(event(reason="one"), event(reason="two"))
    await log.settle()
    with closing(sqlite3.connect(tmp_path / "grantd.db")) as raw, raw:
        raw.execute("update audit_disclosure set blob = (select blob from audit_disclosure where seq = 1)")
    with pytest.raises(VaultFault):
        await log.all()


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8"), max_size=40), st.binary(max_size=200)), max_size=6))
def test_waiting_disclosures_read_back_as_they_were(pairs: list[tuple[str, bytes]]) -> None:
    """pack and unpack are inverses, and no strict prefix of a packed list passes for a whole pair list."""
    sealed = [SealedDisclosure(subject=subject, blob=blob) for subject, blob in pairs]
    packed = pack(sealed)
    assert unpack(packed) == sealed
    for end in range(len(packed)):
        try:
            assert len(unpack(packed[:end])) < len(sealed)
        except VaultFault:
            continue
