"""grantctl as scripts and people use it: a real process against the wire's fake."""

from __future__ import annotations

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
from broker.core import records
from grantd import Profile, keys
from grantd.cli.app import COMMANDS, cli
from grantd.v1 import access_pb2
from grantd.v1.action_pb2 import Action, ActionState, ExecuteRequest, ExecuteResponse
from grantd.v1.options_pb2 import COMMAND_CLASS_WRITE
from tests.agents.conftest import join_of
from tests.agents.console import GRANTCTL, grantctl, on_terminal
from tests.agents.fake_broker import FakeBroker
from tests.agents.items import stamp
from tests.agents.refusal import Context, refuse


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
