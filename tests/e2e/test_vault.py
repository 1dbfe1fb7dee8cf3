"""Keys change under a broker that works: no request fails, and what was replaced opens nothing (P17, I-50, I-54)."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from broker.adapters.root_key import root_id
from tests.e2e.programs import finish, wait_until
from tests.e2e.stage import BIN, FREE, House

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-vault")]


@dataclass(slots=True)
class Load:
    """What callers asked for and what went wrong, while something else happened."""

    done: int = 0
    failed: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def work(self, house: House) -> None:
        """Requests, grants, tokens and recorded commands, over and over: each needs keys of every purpose."""
        while not self.over.is_set():
            try:
                grant = house.grant(FREE)
                house.client("builder").issue_token(grant)
                assert house.run(grant, "uname -s").finished().exit_status == 0
                house.client("builder").revoke(grant, "done")
                self.done += 4
            except Exception as error:  # noqa: BLE001  whatever it is, it is a request that failed
                self.failed.append(repr(error))

    def more(self, count: int = 4) -> None:
        """Waits until that many further requests were answered."""
        enough = self.done + count
        wait_until(lambda: self.done >= enough or bool(self.failed), 60)
        assert not self.failed, self.failed[:3]


@contextmanager
def under_load(house: House, threads: int = 2) -> Iterator[Load]:
    """Callers that never stop."""
    load = Load()
    workers = [threading.Thread(target=load.work, args=(house,), daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield load
    finally:
        load.over.set()
        for worker in workers:
            worker.join(60)
    assert not load.failed, load.failed[:3]


def vault(house: House, *words: str) -> str:
    """`grantd vault ...`: what it said."""
    done = house.grantd("vault", words[0], "--config", str(house.config), *words[1:])
    assert done.status == 0, done.err
    return done.out


def blobs(house: House) -> dict[str, list[bytes]]:
    """What lies in the vault's tables now, from outside."""
    with sqlite3.connect(f"file:{house.data / 'grantd.db'}?mode=ro", uri=True) as conn:
        tables = ("secret", "recording_key", "subject_key", "tenant_key")
        found = {table: [bytes(row[0]) for row in conn.execute(f"SELECT blob FROM {table}")] for table in tables}  # noqa: S608
    conn.close()
    return found


def test_keys_rotate_under_load_and_no_request_fails(house: House, tmp_path: Path) -> None:
    """The root key and each purpose's key, while callers work; then the old root key is refused by its name."""
    old = root_id((house.data / "root.key").read_bytes())
    with under_load(house) as load:
        load.more()
        assert "nothing lies under the former root key" in vault(house, "rotate-root")
        load.more()
        for purpose in ("recordings", "subjects", "vault"):
            done = house.ctl("owner", "vault", "rotate", purpose)
            assert done.status == 0, done.err
            load.more()
        wait_until(lambda: "being moved" not in house.ctl("owner", "vault", "status").out, 30, every=0.3)
        load.more()
        shutil.copy(house.data / "root.key.previous", tmp_path / "old.key")
        vault(house, "retire-root", "--yes")
        load.more()
    told = f"{load.done} requests while the root key and three tenant keys were changed, {len(load.failed)} failed"
    sys.stdout.write(f"\n{told}\n")
    assert load.done >= 24
    # every blob is under its second key, every key under the new root
    new = root_id((house.data / "root.key").read_bytes())
    assert new != old
    found = blobs(house)
    for table, purpose in (("recording_key", "recordings"), ("subject_key", "subjects")):
        assert all(f"tk_main_{purpose}_2".encode() in blob for blob in found[table]), table
        assert found[table]
    assert all(new.encode() in blob for blob in found["tenant_key"])
    assert old.encode() not in b"".join(found["tenant_key"])
    checked = house.grantd("doctor", "--vault", "--config", str(house.config))
    assert checked.status == 0, checked.out
    assert house.metrics()['grantd_vault_rows_moved_total{purpose="recordings"}'] >= 1
    # a broker with the old root key alone
    house.stop()
    key = house.data / "root.key"
    key.rename(tmp_path / "new.key")
    try:
        shutil.copy(tmp_path / "old.key", key)
        key.chmod(0o400)
        refused = finish([str(BIN / "grantd"), "vault", "status", "--config", str(house.config)])
        assert f"{old}  primary   0" in refused.out
        assert f"{new}  missing" in refused.out
        started = finish([str(BIN / "grantd"), "serve", "--config", str(house.config)])
        assert started.status == 1
        assert f"was wrapped by {new}, the configured root key is {old}" in started.err
    finally:
        key.unlink()
        (tmp_path / "new.key").rename(key)
        house.serve()


def test_what_was_recorded_before_plays_after(house: House) -> None:
    """Bytes of recordings are not touched by a change of keys, and open under the new ones."""
    grant = house.grant(FREE)
    action = house.run(grant, "uname -s").finished()
    (part,) = list((house.data / "recordings").rglob(f"*{house.session(action.session_id).recording_id}*/p*.grec"))[:1]
    before = part.read_bytes()
    assert house.ctl("owner", "vault", "rotate", "recordings").status == 0
    wait_until(lambda: "being moved" not in house.ctl("owner", "vault", "status").out, 30, every=0.3)
    assert part.read_bytes() == before
    assert b"Linux" in b"".join(answer.SerializeToString() for answer in house.played(action.session_id))


def test_only_an_owner_changes_keys(house: House) -> None:
    """Nobody else is let in, and an owner not without a signature."""
    refused = house.ctl("approver", "vault", "rotate", "vault")
    assert refused.status == 3
    assert house.ctl("builder", "vault", "status").status == 3


@pytest.mark.parametrize("how", ["weak", "versioned"])
def test_a_bad_root_key_refuses_the_start(house: House, tmp_path: Path, how: str) -> None:
    """One plain line that names the file, and nothing is started; the whole table is in test_root_key.py (I-54)."""
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    key = folder / "root.key"
    key.write_bytes(b"changeme" * 4 if how == "weak" else os.urandom(32))
    key.chmod(0o400)
    if how == "versioned":
        (tmp_path / ".git").mkdir()
    done = finish([str(BIN / "grantd"), "serve", "--config", str(_with_key(house, tmp_path, key))])
    assert done.status == 1
    assert str(key) in done.err
    assert "Traceback" not in done.err
    assert "broker.started" not in done.out


def _with_key(house: House, folder: Path, key: Path) -> Path:
    """The house's settings with another root key."""
    made = folder / "grantd.toml"
    made.write_text(f'root_key = "{key}"\n' + house.config.read_text())
    return made
