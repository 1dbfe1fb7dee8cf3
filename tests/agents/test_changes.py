"""grantctl where it changes something: under a signature, with a second person where two are asked."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
from dataclasses import replace
from pathlib import Path

from broker.core import records, sshsig
from broker.core.clock import from_micros
from broker.core.sshwire import ed25519_blob, parse_blob
from grantd import statements
from grantd.v1 import admin_pb2
from tests.agents.console import grantctl, on_terminal
from tests.agents.fake_broker import FakeBroker


def test_adding_an_agent(home: Path, tmp_path: Path) -> None:
    """The secret goes into a private file and nowhere else; an existing file is not overwritten."""
    out = tmp_path / "deployer.join"
    ran = grantctl(home, "agent", "add", "deployer", "--team", "ops", "--out", str(out), "-o", "json")
    assert ran.returncode == 0, ran.stderr
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert json.loads(ran.stdout)["join_secret"] == ""
    joined = grantctl(tmp_path / "agent", "login", "--join", str(out))
    assert joined.returncode == 0, joined.stderr
    out.write_text("mine")
    assert grantctl(home, "agent", "add", "deployer", "--team", "ops", "--out", str(out)).returncode == 2
    assert out.read_text() == "mine"


def signed_change(broker: FakeBroker, method: str) -> object:
    """The change that arrived, after its first signature was checked as the daemon does."""
    change = broker.changes[0]
    step = change.step_ups[-1]
    bare = type(change).FromString(change.SerializeToString())
    del bare.step_ups[:]
    record = records.change_record(
        tenant="t1",
        person=step.person_id,
        method=f"grantd.v1.AdminService/{method}",
        payload_sha256=hashlib.sha256(bare.SerializeToString(deterministic=True)).digest(),
        at=from_micros(step.signed_at_us),
        nonce=step.nonce,
    )
    sshsig.verify(step.signature, record, records.CHANGE_NAMESPACE, [broker.approval_key])
    return change


def test_adding_a_target_is_signed_and_checked(broker: FakeBroker, home: Path, tmp_path: Path) -> None:
    """A fresh signature over exactly this request; the sshd lines, then what is seen from outside (I-17)."""
    host_key = tmp_path / "host.pub"
    host_key.write_text("ssh-ed25519 AAAA root@web1\n")
    words = ("--login", "deploy=reader", "--team", "ops", "--host-key", str(host_key), "--label", "env=prod")
    ran = grantctl(home, "target", "add", "web1", "10.0.0.5:2222", *words)
    assert ran.returncode == 0, ran.stderr
    change = signed_change(broker, "PutTarget")
    assert isinstance(change, admin_pb2.PutTargetRequest)
    assert (change.target.host, change.target.port, change.target.host_key) == ("10.0.0.5", 2222, "ssh-ed25519 AAAA")
    assert change.target.logins[0].read_login == "reader"
    assert b"TrustedUserCAKeys /etc/ssh/grantd" in ran.stdout
    assert b"BAD TrustedUserCAKeys" in ran.stdout
    ran = grantctl(home, "target", "check", "web1")
    assert ran.returncode == 1
    assert b"  ok  host key\n" in ran.stdout
    assert b"  see home\\x1b\n      give it another\n" in ran.stdout, "a note is neither good nor bad"


def test_a_scanned_host_key_has_to_be_compared(broker: FakeBroker, home: Path) -> None:
    """Nothing is trusted unseen: with a terminal it is asked, without one the fingerprint has to be given (I-25)."""
    words = ("target", "add", "web1", "host1", "--login", "deploy", "--team", "ops", "--scan")
    of_the_key = "SHA256:cJ6AyISHokEeHuTfufIqhhSS0gxHZRUMDHlKvXD4FHw"
    assert grantctl(home, *words).returncode == 2
    assert grantctl(home, *words, "--fingerprint", "SHA256:other").returncode == 2
    assert broker.changes == []
    with on_terminal(home, *words) as console:
        console.expect(of_the_key)
        console.type("\r")
        assert console.wait() == 2
    assert broker.changes == []
    assert grantctl(home, *words, "--fingerprint", "SHA256:abc").returncode == 2, "the broker's word for the same key"
    assert grantctl(home, *words, "--fingerprint", of_the_key).returncode == 0
    assert len(broker.changes) == 1


def test_a_change_for_two(broker: FakeBroker, home: Path, tmp_path: Path) -> None:
    """The first person's command leaves a file, the second signs it, the first sends both (I-17, I-43)."""
    broker.second_person = True
    first = grantctl(home, "unfreeze", "--reason", "drill over", cwd=tmp_path)
    assert first.returncode == 75
    (file,) = tmp_path.glob("change-*.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    early = grantctl(home, "unfreeze", "--reason", "drill over", "--cosign", str(file))
    assert early.returncode == 2, "nobody else signed it yet"
    broker.me = "pe_second"
    unread = grantctl(home, "change", "sign", str(file))
    assert unread.returncode == 2, "without a terminal it has to be said that it was read"
    signed = grantctl(home, "change", "sign", str(file), "--yes")
    assert signed.returncode == 0, signed.stderr
    assert b"drill over" in signed.stderr
    broker.me = "pe_approver"
    other = grantctl(home, "unfreeze", "--reason", "another", "--cosign", str(file))
    assert other.returncode == 2, "the file holds another change"
    sent = grantctl(home, "unfreeze", "--reason", "drill over", "--cosign", str(file))
    assert sent.returncode == 0, sent.stderr
    assert [step.person_id for step in broker.changes[0].step_ups] == ["pe_second", "pe_approver"]
    signed_change(broker, "Unfreeze")


def test_what_came_back_is_signed_as_it_was_typed(broker: FakeBroker, home: Path, tmp_path: Path) -> None:
    """A second person cannot have the first one sign another statement than the command's own (I-17, I-43)."""
    broker.second_person = True
    words = ("person", "add", "bob", "--role", "admin", "--approval-key", str(_line(tmp_path, "bob")))
    assert grantctl(home, *words, cwd=tmp_path).returncode == 75
    (file,) = tmp_path.glob("change-*.json")
    broker.me = "pe_second"
    assert grantctl(home, "change", "sign", str(file), "--yes").returncode == 0
    honest, broker.me = file.read_bytes(), "pe_approver"
    held = json.loads(honest)
    change = admin_pb2.AddPersonRequest.FromString(base64.b64decode(held["request"]))
    said = statements.Statement.parse(change.trust)
    mallory = statements.person(
        name="mallory", role="owner", active=True, keys=[_line(tmp_path, "mallory").read_text().strip()]
    )
    for other in (replace(said, content=mallory), replace(said, subject="pe_second"), replace(said, tenant="t2")):
        change.trust = other.encoded()
        file.write_text(json.dumps({**held, "request": base64.b64encode(change.SerializeToString()).decode()}))
        refused = grantctl(home, *words, "--cosign", str(file), cwd=tmp_path)
        assert (refused.returncode, broker.changes) == (2, [])
        assert b"another thing than this command" in refused.stderr
    file.write_bytes(honest)
    assert grantctl(home, *words, "--cosign", str(file), cwd=tmp_path).returncode == 0
    assert broker.changes[0].trust == said.encoded()  # type: ignore[union-attr]


def _line(directory: Path, name: str) -> Path:
    """A file with a public key of that person's own."""
    path = directory / f"{name}.pub"
    path.write_text(parse_blob(ed25519_blob(hashlib.sha256(name.encode()).digest())).line() + "\n")
    return path
