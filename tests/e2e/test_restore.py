"""A database that is restored from a backup: nothing that was revoked since comes back, and an Owner has to say so."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from grantd import GrantdError
from grantd.v1.access_pb2 import GrantState
from grantd.v1.action_pb2 import ActionState
from tests.e2e.stage import House

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.timeout(180), pytest.mark.xdist_group("e2e-restore")]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """One of its own: its past is taken away."""
    made = House.build(tmp_path)
    try:
        yield made
    finally:
        made.close()


def _copied(origin: Path, to: Path) -> None:
    """As `sqlite3 .backup` does it, beside a running broker."""
    with closing(sqlite3.connect(origin)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)
    to.chmod(0o600)


def _refusal(house: House, grant: str) -> str:
    with pytest.raises(GrantdError) as refused:
        house.run(grant, "uname -s").finished()
    return refused.value.code


def test_what_was_revoked_after_the_backup_stays_dead(house: House, tmp_path: Path) -> None:
    """Backed up, revoked, restored, started: the grant is over, so is every other, nothing is granted; after an Owner's
    acknowledgement it works again, and the log verifies under its new epoch.
    """  # noqa: D205
    revoked, other = house.grant(), house.grant()
    assert house.run(revoked, "uname -s").finished().state == ActionState.ACTION_STATE_SUCCEEDED
    database, backup = house.data / "grantd.db", tmp_path / "backup.db"
    _copied(database, backup)
    house.client("owner").revoke(revoked, "an incident")
    house.audited("grant.revoked", lambda entry: entry["grant"] == revoked)
    house.stop()  # which signs what happened
    for leftover in house.data.glob("grantd.db*"):
        leftover.unlink()
    _copied(backup, database)

    words = ["restore", "--acknowledge", "--config", str(house.config), "--profile", str(house.profile("owner"))]
    early = house.grantd(*words)
    assert early.status == 1
    assert "start the broker once" in early.err
    house.serve()
    for grant in (revoked, other):
        assert house.client("builder").grant(grant).state == GrantState.GRANT_STATE_REVOKED
        assert _refusal(house, grant) == "audit_log_forked"
    with pytest.raises(GrantdError, match="audit log"):
        house.grant()
    house.stop()

    nobody = house.grantd(*words[:-1], str(house.profile("builder")))
    assert nobody.status == 1, nobody.out
    said = house.grantd(*words)
    assert said.status == 0, said.err
    assert house.grantd(*words).status == 1  # there is nothing more to acknowledge
    house.serve()
    assert _refusal(house, revoked) == "grant_over"
    assert house.run(house.grant(), "uname -s").finished().state == ActionState.ACTION_STATE_SUCCEEDED
    house.audited("audit.epoch_started", lambda entry: entry["size_before"] > entry["size"])
    exported = house.ctl("owner", "audit", "export", str(tmp_path / "bundle"), "--reason", "a test")
    assert exported.status == 0, exported.err
    verified = house.grantd("verify", str(tmp_path / "bundle"))
    assert verified.status == 0, verified.out
