"""The night when nobody answers (I-62): a real broker, signer and sshd, grantctl as people type it.

Made in advance by an owner, used once by the one it is for, recorded, told to every owner, reviewed before the next.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from grantd.v1 import approval_pb2, glass_pb2
from tests import peers
from tests.e2e.programs import Spoken, wait_until
from tests.e2e.stage import ASKS, House

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-break-glass")]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with one owner; the approver is who holds the sealed credential."""
    for program in ("sshd", "ssh"):
        peers.require(program)
    made = House.build(tmp_path_factory.mktemp("glass") / "house")
    try:
        yield made
    finally:
        made.close()


def _make(house: House, name: str, *, ceiling: str = "write", person: str = "approver", who: str = "owner") -> Spoken:
    place = house.folder / name
    return house.ctl(
        who, "break-glass", "make", "--person", person, "--target", ASKS, "--login", house.sshd.login, "--ceiling",
        ceiling, "--out", str(place), "--passphrase-file", f"{place}.words",
    )  # fmt: skip


def _use(house: House, name: str, *more: str, who: str = "approver", lines: str = "") -> Spoken:
    place = house.folder / name
    words = ["break-glass", "use", str(place), "--passphrase-file", f"{place}.words", "--reason", "the shop is down"]
    return house.ctl(who, *words, *more, stdin=lines.encode())


def _alarms(house: House, found: list[glass_pb2.BreakGlass], over: threading.Event) -> None:
    client = house.client("owner")
    for change in client.stream(client.approvals.WatchPending, approval_pb2.WatchPendingRequest()):
        if change.WhichOneof("change") == "alarm":
            found.append(change.alarm)
            over.set()
            return


def test_a_night_with_nobody_there(house: House, tmp_path: Path) -> None:
    """A write on an Approval target runs with nobody there, once, recorded, and no other before an owner looked."""
    assert _make(house, "first").status == 0
    assert _make(house, "spare").status == 0
    # (1) an owner who watches is told while it happens
    found, over = list[glass_pb2.BreakGlass](), threading.Event()
    threading.Thread(target=_alarms, args=(house, found, over), daemon=True).start()
    inside, above = tmp_path / "inside", tmp_path / "above"
    used = _use(house, "first", lines=f"touch {inside}\nid -un\nsystemctl restart {above}\n")
    assert inside.exists(), used.err
    assert house.sshd.login in used.out
    assert used.status == 3, "the last line is above the ceiling"
    assert over.wait(20)
    assert (found[0].person_name, found[0].reason) == ("approver", "the shop is down")
    # (2) written down like any other: request, grant, action, session, recording, and each step of its own
    glass = found[0]
    assert house.audited("glass.used", lambda e: e["glass"] == glass.id and e["request"] == glass.request_id)
    assert house.audited("glass.signed", lambda e: e["glass"] == glass.id)
    assert house.audited("recording.closed", lambda e: e["event"] == "recording.closed")
    assert b'"glass.used"' in house.log.read_bytes()
    # (3) once; and none other before it was reviewed
    again = _use(house, "first", "--", f"touch {tmp_path}/again")
    assert (again.status, (tmp_path / "again").exists()) == (1, False), again.err
    assert "used already" in again.err
    spare = _use(house, "spare", "--", f"touch {tmp_path}/spare")
    assert (spare.status, (tmp_path / "spare").exists()) == (1, False), spare.err
    assert "no owner looked at it yet" in spare.err
    assert "no owner looked at it yet" in _make(house, "third").err
    assert house.ctl("owner", "break-glass", "list").status == 1
    assert house.ctl("approver", "break-glass", "review", glass.id, "--reason", "mine").status == 3
    soon = house.ctl("owner", "break-glass", "review", glass.id, "--reason", "too soon")
    assert "its hour is not over" in soon.err
    # (4) the hour goes on with the same key alone, until the grant is ended
    on = _use(house, "first", "--grant", glass.grant_id, "--", f"touch {tmp_path}/on")
    assert (on.status, (tmp_path / "on").exists()) == (0, True), on.err
    assert house.ctl("owner", "grants", "revoke", glass.grant_id, "--reason", "enough").status == 0
    late = _use(house, "first", "--grant", glass.grant_id, "--", f"touch {tmp_path}/late")
    assert (late.status != 0, (tmp_path / "late").exists()) == (True, False)
    # (5) the review lifts it
    assert house.ctl("owner", "break-glass", "review", glass.id, "--reason", "as agreed").status == 0
    assert house.ctl("owner", "break-glass", "list").status == 0
    assert _use(house, "spare", "--", f"touch {tmp_path}/spare").status == 0
    assert (tmp_path / "spare").exists()
    told = house.ctl("owner", "-o", "json", "break-glass", "list").json()
    owing = next(each for each in told if "used_at" in each and "reviewed_at" not in each)
    assert house.ctl("owner", "grants", "revoke", owing["grant_id"], "--reason", "enough").status == 0
    assert house.ctl("owner", "break-glass", "review", owing["id"], "--reason", "as agreed").status == 0


def test_it_opens_for_nobody_else(house: House, tmp_path: Path) -> None:
    """Another person's file and words open nothing; nor does a wrong passphrase, or a file that was changed."""
    assert _make(house, "mine").status == 0
    other = _use(house, "mine", "--", f"touch {tmp_path}/other", who="second")
    assert (other.status, (tmp_path / "other").exists()) == (2, False)
    place = house.folder / "mine"
    place.write_bytes(place.read_bytes().replace(b'"ceiling": "write"', b'"ceiling": "reboot"'))
    assert "another passphrase, or the file was changed" in _use(house, "mine").err
    assert not any(each["glass"] for each in house.audit("glass.used") if each.get("person") == "second")


def test_a_manager_makes_none(house: House) -> None:
    """Owners alone make one, and the one owner there is signs for somebody else."""
    made = _make(house, "managers", who="second")
    assert made.status == 3, made.err


def test_a_frozen_tenant_breaks_no_glass(house: House, tmp_path: Path) -> None:
    """The kill switch is above it."""
    assert _make(house, "cold").status == 0
    assert house.ctl("owner", "freeze", "--reason", "a test").status == 0
    try:
        refused = _use(house, "cold", "--", f"touch {tmp_path}/cold")
        assert (refused.status != 0, (tmp_path / "cold").exists()) == (True, False)
        assert "frozen" in refused.err
    finally:
        assert house.ctl("owner", "unfreeze", "--reason", "over").status == 0


def test_where_there_is_another_owner(house: House) -> None:
    """Nobody makes one for themselves; two others sign where there are two; who used it does not review it."""
    house.add_person("second-owner", "owner")
    own = _make(house, "own", person="owner")
    assert own.status == 3
    assert "nobody makes a sealed credential for themselves" in own.err
    alone = _make(house, "two")
    assert alone.status == 75, alone.err
    file = next(word for word in alone.err.split() if word.endswith(".json"))
    assert house.ctl("second-owner", "change", "sign", file, "--yes").status == 0
    place = house.folder / "two"
    both = house.ctl(
        "owner", "break-glass", "make", "--person", "approver", "--target", ASKS, "--login", house.sshd.login,
        "--ceiling", "write", "--out", str(place), "--cosign", file,
    )  # fmt: skip
    Path(file).unlink()
    assert both.status == 0, both.err
    wait_until(lambda: bool(house.audit("glass.made")), 10)
