"""grantctl as scripts and people use it: a real process against the wire's fake."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

import grantd
from broker.core import records, sshsig
from broker.core.clock import from_micros
from grantd import Profile, keys
from grantd.cli.app import COMMANDS, cli
from grantd.v1 import access_pb2, admin_pb2, audit_pb2, session_pb2
from grantd.v1.action_pb2 import Action, ActionState, ExecuteRequest, ExecuteResponse
from grantd.v1.options_pb2 import COMMAND_CLASS_WRITE
from tests.agents.conftest import Person, join_of
from tests.agents.console import GRANTCTL, on_terminal
from tests.agents.fake_broker import FakeBroker
from tests.agents.items import stamp
from tests.agents.refusal import Context, refuse

Ran = subprocess.CompletedProcess[bytes]


def grantctl(where: Path, *words: str, stdin: bytes = b"", cwd: Path | None = None) -> Ran:
    """Run it without a terminal."""
    command = [GRANTCTL, "--profile", str(where), *words]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=30, cwd=cwd)


@pytest.fixture
def home(person: Person) -> Path:
    """The profile's directory."""
    return person.profile.directory


def ended(state: ActionState.ValueType, *, note: str = "", exit_status: int | None = None, signal: str = "") -> Action:
    """A finished action."""
    return Action(id="ac_1", state=state, note=note, exit_status=exit_status, signal=signal)


def finishing(*events: ExecuteResponse, action: Action) -> object:
    """A script that says events, then that it finished."""
    return lambda _, __: iter([*events, ExecuteResponse(finished=action)])


def grant(**more: str) -> access_pb2.Grant:
    """A usable grant of the caller on web1."""
    told = {"id": "gr_1", "identity_id": "pe_approver", "target_name": "web1", "login": "deploy", **more}
    return access_pb2.Grant(state=access_pb2.GRANT_STATE_ACTIVE, ceiling=COMMAND_CLASS_WRITE, **told)  # type: ignore[arg-type]


AWAITING = ExecuteResponse(action=Action(id="ac_1", state=ActionState.ACTION_STATE_AWAITING, digest=b"d" * 32))


def test_joining_with_a_file(broker: FakeBroker, tmp_path: Path) -> None:
    """The join file becomes a profile and is gone: it works once."""
    join = tmp_path / "x.join"
    join.write_bytes(join_of(broker).render())
    ran = grantctl(tmp_path / "p", "login", "--join", str(join), "-o", "json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["name"] == "approver"
    assert not join.exists()
    piped = grantctl(tmp_path / "q", "login", "--join", "-", stdin=join_of(broker).render())
    assert piped.returncode == 0, piped.stderr


def test_signing_in_again(broker: FakeBroker, home: Path) -> None:
    """A fresh key and certificate against a signature over exactly that key (I-13)."""
    before = Profile.load(home)
    old_key = before.key
    ran = grantctl(home, "login")
    assert ran.returncode == 0, ran.stderr
    after = Profile.load(home)
    assert after.key != old_key
    assert keys.spki_sha256(after.key) != keys.spki_sha256(old_key)
    assert len(broker.sign_ins) == 1
    assert grantctl(home, "whoami").returncode == 0


def test_a_signature_that_does_not_hold_signs_nobody_in(broker: FakeBroker, home: Path) -> None:
    """77, and the old profile still stands."""
    broker.approval_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    assert grantctl(home, "login").returncode == 77
    assert grantctl(home, "whoami").returncode == 0


def test_without_a_profile_it_is_77(tmp_path: Path) -> None:
    """And the way out is named."""
    ran = grantctl(tmp_path / "nothing", "whoami")
    assert ran.returncode == 77
    assert b"login --join" in ran.stderr
    assert ran.stdout == b""


def test_nobody_there_is_69(broker: FakeBroker, home: Path) -> None:
    """In JSON too, on stderr."""
    broker.stop()
    ran = grantctl(home, "whoami", "-o", "json")
    assert ran.returncode == 69
    assert ran.stderr.count(b"\n") == 1, "no log lines of gRPC's beside ours"
    assert json.loads(ran.stderr)["error"]["code"] == "unreachable"


@pytest.mark.parametrize(
    ("states", "words", "code"),
    [
        ([access_pb2.REQUEST_STATE_APPROVED], (), 0),
        ([access_pb2.REQUEST_STATE_PENDING], (), 75),
        ([access_pb2.REQUEST_STATE_PENDING, access_pb2.REQUEST_STATE_APPROVED], ("--wait",), 0),
        ([access_pb2.REQUEST_STATE_PENDING, access_pb2.REQUEST_STATE_DENIED], ("--wait",), 4),
        ([access_pb2.REQUEST_STATE_PENDING, access_pb2.REQUEST_STATE_EXPIRED], ("--wait",), 5),
        ([access_pb2.REQUEST_STATE_PENDING], ("--wait-for", "1s"), 75),
    ],
    ids=["approved", "pending", "approved later", "denied", "expired", "still pending"],
)
def test_asking_for_access(
    broker: FakeBroker, home: Path, states: list[int], words: tuple[str, ...], code: int
) -> None:
    """Each end has its exit code."""
    broker.request_states = states
    ran = grantctl(home, "request", "web1", "deploy", "--ceiling", "write", "--reason", "release", *words)
    assert ran.returncode == code, ran.stderr
    assert broker.requests[0].ttl.seconds == 900


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("nowhere", "deploy"), 1),
        (("forbidden", "deploy"), 3),
        (("web1", "deploy", "--ttl", "0s"), 2),
        (("web1", "deploy", "--ttl", "-1"), 2),
        (("web1", "deploy", "--ttl", "10"), 2),
        (("web1", "deploy", "--ttl", "99999999h"), 2),
        (("web1", "deploy", "--ceiling", "sudo"), 2),
        (("web1",), 2),
    ],
)
def test_asking_wrongly(broker: FakeBroker, home: Path, words: tuple[str, ...], code: int) -> None:
    """A sentence, a code, no traceback."""
    ran = grantctl(home, "request", *words, "--reason", "release")
    assert ran.returncode == code
    assert ran.stderr
    assert b"Traceback" not in ran.stderr


def test_files_for_a_stock_ssh(broker: FakeBroker, home: Path) -> None:
    """Private files, a command line whose every option is there; the key stays when the certificate is made anew."""
    ran = grantctl(home, "request", "web1", "deploy", "--reason", "release", "--ssh")
    assert ran.returncode == 0, ran.stderr
    folder = home / "ssh" / "gr_1"
    assert {path.name for path in folder.iterdir()} == {"id_ed25519", "id_ed25519-cert.pub", "known_hosts"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    line = ran.stdout.decode()
    for part in ("deploy+web1@127.0.0.1", "-p 2222", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes", "known_hosts"):
        assert part in line
    key = (folder / "id_ed25519").read_bytes()
    assert grantctl(home, "ssh-cert", "gr_1").returncode == 0
    assert (folder / "id_ed25519").read_bytes() == key


def test_running_a_command(broker: FakeBroker, home: Path) -> None:
    """Streams apart and exact, the remote exit code, the grant found by its target."""
    broker.grants = [grant(id="gr_other", target_name="db1"), grant()]
    noise = bytes(range(256))
    broker.execute = finishing(  # type: ignore[assignment]
        ExecuteResponse(stdout=noise),
        ExecuteResponse(stderr=b"\x1b[31mred"),
        action=ended(ActionState.ACTION_STATE_FAILED, exit_status=42),
    )
    ran = grantctl(home, "run", "deploy@web1", "--", "printf", "a b", "$HOME")
    assert (ran.returncode, ran.stdout, ran.stderr) == (42, noise, b"\x1b[31mred")
    start = broker.started[0].start
    assert start.grant_id == "gr_1"
    assert start.command.line == b"printf 'a b' '$HOME'", "several words are exactly these arguments"
    grantctl(home, "run", "gr_1", "--", "printf 'a' | wc -c")
    assert broker.started[1].start.command.line == b"printf 'a' | wc -c", "one word is the line as it stands"


def test_declared_stdin(broker: FakeBroker, home: Path, tmp_path: Path) -> None:
    """From this program's stdin or a file; too much is refused before it is sent."""
    broker.execute = finishing(action=ended(ActionState.ACTION_STATE_SUCCEEDED, exit_status=0))  # type: ignore[assignment]
    assert grantctl(home, "run", "gr_1", "--stdin", "--", "tee x", stdin=b"data\0").returncode == 0
    assert broker.started[0].start.command.stdin == b"data\0"
    big = tmp_path / "big"
    big.write_bytes(b"x" * 100_000)
    assert grantctl(home, "run", "gr_1", "--stdin-file", str(big), "--", "tee x").returncode == 2
    assert grantctl(home, "run", "gr_1", "--", "x" * 20_000).returncode == 2
    assert len(broker.started) == 1


@pytest.mark.parametrize(
    ("events", "action", "code", "said"),
    [
        ([], ended(ActionState.ACTION_STATE_DENIED, note="ceiling"), 3, b"policy denies"),
        ([AWAITING], ended(ActionState.ACTION_STATE_DENIED, note="no\x1b[2J"), 4, b"no\\x1b[2J"),
        ([AWAITING], ended(ActionState.ACTION_STATE_EXPIRED), 5, b"in time"),
        ([], ended(ActionState.ACTION_STATE_CUT, note="expired"), 5, b"the broker ended"),
        ([], ended(ActionState.ACTION_STATE_CUT, note="revoked"), 1, b"revoked"),
        ([], ended(ActionState.ACTION_STATE_LOST), 1, b"stopped"),
        ([], ended(ActionState.ACTION_STATE_FAILED, signal="TERM"), 143, b""),
    ],
    ids=["policy", "approver", "undecided", "cut by time", "revoked", "lost", "signal"],
)
def test_how_a_command_ends(
    broker: FakeBroker, home: Path, events: list[ExecuteResponse], action: Action, code: int, said: bytes
) -> None:
    """Exit codes of architecture's table; the broker's words only escaped."""
    broker.execute = finishing(*events, action=action)  # type: ignore[assignment]
    ran = grantctl(home, "run", "gr_1", "--", "id")
    assert ran.returncode == code
    assert said in ran.stderr
    if events:
        assert b"waits for an approver" in ran.stderr
        assert records.code_of(b"d" * 32).encode() in ran.stderr


def test_not_waiting_for_ever(broker: FakeBroker, home: Path) -> None:
    """75 with the way to go on; later the action is resumed by its id."""
    broker.action = Action(id="ac_1", state=ActionState.ACTION_STATE_AWAITING)

    def script(first: ExecuteRequest, _: Context) -> Iterator[ExecuteResponse]:
        if first.HasField("start"):
            yield AWAITING
            return
        yield ExecuteResponse(stdout=b"ran")
        yield ExecuteResponse(finished=ended(ActionState.ACTION_STATE_SUCCEEDED, exit_status=0))

    broker.execute = script
    ran = grantctl(home, "run", "gr_1", "--wait-for", "1s", "--", "id")
    assert ran.returncode == 75
    assert b"--resume ac_1" in ran.stderr
    resumed = grantctl(home, "run", "--resume", "ac_1")
    assert (resumed.returncode, resumed.stdout) == (0, b"ran")


def test_events_as_json(broker: FakeBroker, home: Path) -> None:
    """One object a line, in the protos' names."""
    broker.execute = finishing(  # type: ignore[assignment]
        ExecuteResponse(stdout=b"hi"), action=ended(ActionState.ACTION_STATE_SUCCEEDED, exit_status=0)
    )
    ran = grantctl(home, "run", "gr_1", "-o", "json", "--", "echo hi")
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert lines[0]["stdout"] == "aGk="
    assert lines[1]["finished"]["exit_status"] == 0


def test_a_targets_output_does_not_command_the_terminal(broker: FakeBroker, home: Path) -> None:
    """Escaped where it is looked at; exact with --raw (F38)."""
    broker.execute = finishing(  # type: ignore[assignment]
        ExecuteResponse(stdout=b"\x1b]52;c;eA==\x07gr\xc3"),
        ExecuteResponse(stdout=b"\xbcn\r\n"),
        action=ended(ActionState.ACTION_STATE_SUCCEEDED, exit_status=0),
    )
    with on_terminal(home, "run", "gr_1", "--", "x") as console:
        assert console.wait() == 0
        assert "\\x1b]52;c;eA==\\x07gr\u00fcn" in console.text()
        assert b"\x1b]52" not in console.raw
    with on_terminal(home, "run", "gr_1", "--raw", "--", "x") as console:
        assert console.wait() == 0
        assert b"\x1b]52" in console.raw


@pytest.mark.parametrize(("grants", "code"), [([], 1), ([grant(), grant(id="gr_2", login="root")], 2)])
def test_a_grant_has_to_be_clear(broker: FakeBroker, home: Path, grants: list[access_pb2.Grant], code: int) -> None:
    """None, or several logins: said, with the way out."""
    broker.grants = grants
    ran = grantctl(home, "run", "web1", "--", "id")
    assert ran.returncode == code
    assert broker.started == []


def test_a_refusal_in_the_stream(broker: FakeBroker, home: Path) -> None:
    """The grant is over: 5, with the broker's sentence escaped."""

    def script(_: ExecuteRequest, context: Context) -> Iterator[ExecuteResponse]:
        yield from ()
        refuse(
            context,
            grpc.StatusCode.FAILED_PRECONDITION,
            "grant_expired",
            "it ended \x1b[31mnow",
            way_out="ask again",
            blame="expired",
        )

    broker.execute = script
    ran = grantctl(home, "run", "gr_1", "--", "id")
    assert ran.returncode == 5
    assert b"it ended \\x1b[31mnow" in ran.stderr
    assert b"ask again" in ran.stderr


def test_lists_are_tables_or_json_lines(broker: FakeBroker, home: Path) -> None:
    """The same data; foreign text escaped in the one, exact in the other (F38)."""
    shown = grantctl(home, "agent", "list")
    assert b"web\\x1b]52;c;eA==\\x07" in shown.stdout
    assert b"\x1b" not in shown.stdout
    told = grantctl(home, "agent", "list", "-o", "json")
    assert json.loads(told.stdout)["name"] == "web\x1b]52;c;eA==\x07"


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


def test_playing_a_recording(broker: FakeBroker, home: Path) -> None:
    """Streams marked, times, characters put together, every unsafe byte escaped (F38)."""
    kinds = [
        (5, b'{"argv":"x"}'),
        (1, b"one\r\ntwo \x1b[2J gr\xc3"),
        (1, b"\xbcn\n"),
        (2, b"bad\n"),
        (6, b'{"status":0}'),
    ]
    broker.played = [
        session_pb2.PlayRecordingResponse(t_us=number * 1_500_000, kind=kind, payload=payload)
        for number, (kind, payload) in enumerate(kinds)
    ]
    ran = grantctl(home, "sessions", "play", "se_1", "--reason", "a test")
    assert ran.stdout.decode().splitlines() == [
        '      0s.000 exec {"argv":"x"}',
        "      1s.500  out one",
        "      1s.500  out two \\x1b[2J gr\u00fcn",
        "      4s.500  err bad",
        '      6s.000 exit {"status":0}',
    ]
    told = grantctl(home, "sessions", "play", "se_1", "--reason", "a test", "-o", "json")
    assert len(told.stdout.splitlines()) == 5


def test_fetching_a_recording(home: Path, tmp_path: Path) -> None:
    """Part by part, never over an existing file."""
    ran = grantctl(home, "sessions", "fetch", "se_1", "--reason", "a test", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "se_1.grec").read_bytes() == b"onetwo"
    assert (tmp_path / "se_1.1.grec").read_bytes() == b"three"
    assert grantctl(home, "sessions", "fetch", "se_1", "--reason", "a test", cwd=tmp_path).returncode == 2


def test_exporting_a_recording(home: Path, tmp_path: Path) -> None:
    """Each form by its flag, one file that is never overwritten; what breaks off leaves none."""
    ran = grantctl(
        home, "sessions", "export", "se_1", "--reason", "a test", "--cast", "v3", "--with-input", cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "se_1.cast").read_bytes() == b"2 True a test"
    assert (tmp_path / "se_1.cast").stat().st_mode & 0o777 == 0o600
    assert grantctl(home, "sessions", "export", "se_1", "--text", "--reason", "why").stdout == b"4 False why"
    assert (
        grantctl(home, "sessions", "export", "se_1", "--reason", "a test", "--cast", "v2", "--out", "-").stdout
        == b"1 False a test"
    )
    broken = grantctl(home, "sessions", "export", "se_1", "--html", "--reason", "break", cwd=tmp_path)
    assert broken.returncode == 1
    assert b"too long" in broken.stderr
    assert {path.name for path in tmp_path.iterdir()} & {"se_1.html", "se_1.cast"} == {"se_1.cast"}
    for wrong in ((), ("--html", "--text"), ("--html", "--with-input"), ("--cast", "v3")):
        assert grantctl(home, "sessions", "export", "se_1", "--reason", "a test", *wrong, cwd=tmp_path).returncode == 2


def test_searching_recordings(home: Path) -> None:
    """Session, time and line, escaped; what could not be read is said; nothing found is exit code 1, as in grep."""
    ran = grantctl(home, "sessions", "grep", "needle", "--reason", "broken")
    assert ran.returncode == 0
    assert ran.stdout.decode().splitlines() == [
        "se_1  deployer as root on web1",
        "  1:02:03  a Needle \\x1b]0;x\\x07in it",
    ]
    assert b"7 recordings searched" in ran.stderr
    assert b"1 of them could not be read" in ran.stderr
    missed = grantctl(home, "sessions", "grep", "haystack", "--reason", "a test", "-o", "json")
    assert missed.returncode == 1
    assert json.loads(missed.stdout)["looked"]["recordings"] == "7"


def test_exporting_a_bundle(broker: FakeBroker, home: Path, tmp_path: Path) -> None:
    """Files below the directory, in pieces."""
    pieces = [("log/checkpoint", b"a"), ("log/checkpoint", b"b"), ("entries", b"c")]
    broker.bundle = [audit_pb2.ExportBundleResponse(path=path, data=data) for path, data in pieces]
    assert grantctl(home, "audit", "export", str(tmp_path / "out"), "--reason", "audit").returncode == 0
    assert (tmp_path / "out/log/checkpoint").read_bytes() == b"ab"
    assert grantctl(home, "audit", "export", str(tmp_path / "out"), "--reason", "audit").returncode == 2


@pytest.mark.parametrize("path", ["../evil", "/evil", "a/../../evil", "a//b", "", "./x", "a\nb"])
def test_a_bundle_stays_in_its_directory(broker: FakeBroker, home: Path, tmp_path: Path, path: str) -> None:
    """A name that leads elsewhere ends the export."""
    broker.bundle = [audit_pb2.ExportBundleResponse(path=path, data=b"x")]
    ran = grantctl(home, "audit", "export", str(tmp_path / "out"), "--reason", "audit")
    assert ran.returncode == 1
    assert list((tmp_path / "out").rglob("*")) == []
    assert not (tmp_path / "evil").exists()


def test_revoking_and_freezing(home: Path) -> None:
    """Said with what it did."""
    assert b"1 sessions cut" in grantctl(home, "grants", "revoke", "gr_1", "--reason", "done").stdout
    assert b"3 sessions cut" in grantctl(home, "freeze", "--reason", "drill").stdout


def test_ends_that_fail_are_listed_and_tried_again(home: Path) -> None:
    """One row each, with nothing in it that commands a terminal (I-11); one by its id, and as JSON."""
    listed = grantctl(home, "grants", "stuck").stdout
    assert b"gr_9" in listed
    assert b"stuck" in listed
    assert b"\x1b" not in listed
    assert json.loads(grantctl(home, "-o", "json", "grants", "stuck").stdout)["tries"] == 4
    tried = grantctl(home, "grants", "stuck", "--retry", "gr_9", "--reason", "the host is back")
    assert (tried.returncode, tried.stdout) == (0, b"gr_9 is tried again within seconds\n")


def test_grants_that_ended_are_hidden_unless_asked_for(broker: FakeBroker, home: Path) -> None:
    """The usual question is: what is open?"""
    over = grant(id="gr_over")
    over.ended_at.CopyFrom(stamp(datetime.now(UTC) - timedelta(hours=1)))
    broker.grants = [grant(), over]
    assert b"gr_over" not in grantctl(home, "grants", "list").stdout
    assert b"gr_over" in grantctl(home, "grants", "list", "--all").stdout


def test_every_command_has_a_page_of_help() -> None:
    """One sentence at least, and the shared options."""
    for name in COMMANDS:
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        each = command.commands.values() if hasattr(command, "commands") else (command,)
        for leaf in each:
            assert leaf.help, f"{name} {leaf.name}"
            assert {"profile", "output"} <= {option.name for option in leaf.params}, f"{name} {leaf.name}"


def test_a_closed_pipe_is_no_drama(broker: FakeBroker, home: Path) -> None:
    """`grantctl ... | head -0` ends without a traceback."""
    broker.grants = [grant(id=f"gr_{number}") for number in range(5)]
    ran = subprocess.run(
        ["sh", "-c", f"{GRANTCTL} --profile {home} grants list | true"],
        capture_output=True,
        check=False,
        env=os.environ,
    )
    assert b"Traceback" not in ran.stderr
    assert b"BrokenPipe" not in ran.stderr


def test_another_brokers_certificate_is_said_once(broker: FakeBroker, home: Path) -> None:
    """A sentence and the way out, not the TLS library's log."""
    stranger = FakeBroker()
    stranger.start()
    told = (home / "profile.toml").read_text()
    (home / "profile.toml").write_text(told.replace(broker.address, stranger.address))
    ran = grantctl(home, "whoami")
    stranger.stop()
    assert ran.returncode == 69
    assert ran.stderr.startswith(b"grantctl: no answer")
    assert b"handshake failed: check that the profile" in ran.stderr


def test_names_of_the_sdk_are_where_they_are_said() -> None:
    """Lazy exports: each can be had, nothing else."""
    for name in grantd.__all__:
        assert getattr(grantd, name) is not None
    with pytest.raises(AttributeError):
        _ = grantd.Nothing  # type: ignore[attr-defined]
