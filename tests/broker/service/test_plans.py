"""What a request costs does not grow with what is kept: every statement finds its rows by an index (I-60)."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from typing import Final

from broker.adapters.store.hot import driver_of
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.world import READ, House
from tests.broker.ssh_keys import new_public_key

_HISTORY: Final = "access_grant|access_request|action|approval|audit_entry|credential|idempotency|seen_nonce|session"
_ALL_OF_A_TENANT: Final = re.compile(
    rf"SCAN (?P<scanned>{_HISTORY})\b|SEARCH (?P<searched>{_HISTORY}) USING .*\((tenant=\?)?( AND (kind|state)=\?)*\)$"
)
"""A plan that looks at every row, or at every row of a tenant, of a kind or in a state."""


async def test_no_statement_of_a_request_reads_all_that_is_kept(house: House) -> None:
    """A certificate, a token and a command, from the wish to the grant's end: each row by what names it."""
    ran: list[str] = []
    for listen in (house.store.inner.run_sql, house.store.inner.read_sql):
        await listen(TENANT, lambda conn: _raw(driver_of(conn)).set_trace_callback(ran.append))
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    await house.cases.issue.ssh(agent.caller, grant, new_public_key())
    await house.cases.issue.token(agent.caller, grant)
    await house.run(await house.started(agent, grant, READ))
    await house.cases.access.revoke(agent.caller, grant, "done")
    looked = {text for text in ran if text.lstrip().startswith(("SELECT", "UPDATE", "DELETE"))}
    assert len(looked) > 10
    assert await house.store.inner.read_sql(TENANT, lambda conn: list(_slow(_raw(driver_of(conn)), looked))) == []


def _slow(raw: sqlite3.Connection, statements: Iterable[str]) -> Iterable[tuple[str, str]]:
    for text in statements:
        for *_, plan in raw.execute(f"EXPLAIN QUERY PLAN {text}").fetchall():
            if _ALL_OF_A_TENANT.search(plan):
                yield plan, text


def _raw(driver: sqlite3.Connection | None) -> sqlite3.Connection:
    assert driver is not None
    return driver
