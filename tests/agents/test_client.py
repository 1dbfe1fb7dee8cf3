"""The synchronous client against the wire's fake."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from grantd import (
    AccessDenied,
    Expired,
    Forbidden,
    Invalid,
    NotFound,
    NotSignedIn,
    Profile,
    StillPending,
    Unreachable,
    keys,
    renewal,
)
from grantd.client import Client
from grantd.enrolment import Join, enrol
from grantd.execution import Changed, EndsSoon, Finished, Stderr, Stdout, Told
from grantd.v1 import access_pb2, action_pb2
from grantd.v1.action_pb2 import Action, ActionState, EndWarning, ExecuteRequest, ExecuteResponse, Notice
from tests.agents.conftest import Person, join_of
from tests.agents.fake_broker import FakeBroker
from tests.agents.refusal import Context, refuse

MINUTES = timedelta(minutes=15)


def action(state: ActionState.ValueType, *, note: str = "", exit_status: int | None = None) -> Action:
    """An action in a state."""
    return Action(id="ac_1", state=state, note=note, exit_status=exit_status)


def finished(status: int = 0) -> ExecuteResponse:
    """The last message of a command that exited."""
    state = ActionState.ACTION_STATE_FAILED if status else ActionState.ACTION_STATE_SUCCEEDED
    return ExecuteResponse(finished=action(state, exit_status=status))


def test_enrolling_makes_a_working_private_profile(client: Client, person: Person) -> None:
    """The key never leaves: the broker saw a CSR, and the certificate works with the key that stayed here."""
    assert client.whoami().name == "approver"
    assert b"PRIVATE KEY" in person.profile.key
    assert person.profile.description.identity_id == "pe_approver"


def test_a_join_token_that_does_not_work(broker: FakeBroker, tmp_path: Path) -> None:
    """A clear refusal, and no half-made profile."""
    with pytest.raises(NotSignedIn) as refused:
        enrol(join_of(broker, secret=b"x" * 32), tmp_path / "p")
    assert refused.value.code == "bad_join_token"
    assert not (tmp_path / "p").exists()


def test_a_join_file_survives_its_round_trip_and_hides_its_secret(broker: FakeBroker) -> None:
    """What was written is read; the secret is in the file and in no repr."""
    join = join_of(broker)
    assert Join.parse(join.render()) == join
    assert "jjjj" not in repr(join)
    for damaged in (b"", b"{}", b"[]", join.render()[:-20], join.render().replace(b'"tenant"', b'"tenants"')):
        with pytest.raises(Invalid):
            Join.parse(damaged)


def test_without_the_right_ca_nothing_is_said(broker: FakeBroker, tmp_path: Path) -> None:
    """A broker that shows another CA's certificate gets neither token nor CSR."""
    other = FakeBroker()
    join = join_of(broker)
    wrong = Join.parse(join.render().replace(broker.authority.pem.decode().encode(), b""))
    stranger = Join(
        join_address=wrong.join_address,
        ca_certificate=other.authority.pem.decode(),
        tenant="t1",
        name="approver",
        secret=b"j" * 32,
        server_name="",
    )
    with pytest.raises(Unreachable, match="no answer"):
        enrol(stranger, tmp_path / "p")


def test_a_server_name_may_be_given(broker: FakeBroker, tmp_path: Path) -> None:
    """Where the address is not in the broker's certificate, its inner name is checked instead."""
    good = join_of(broker)
    named = Join.parse(good.render().replace(b'"server_name": ""', b'"server_name": "grantd.internal"'))
    profile = enrol(named, tmp_path / "p")
    with Client(profile) as client:
        assert client.whoami().name == "approver"
    wrong = Join.parse(good.render().replace(b'"server_name": ""', b'"server_name": "elsewhere.example"'))
    with pytest.raises(Unreachable):
        enrol(wrong, tmp_path / "q")


def test_access_that_is_granted_at_once(client: Client, broker: FakeBroker) -> None:
    """obtain asks and answers the grant; the key of the try is the SDK's."""
    assert client.obtain("web1", "deploy", ceiling="write", ttl=MINUTES, reason="release") == "gr_1"
    sent = broker.requests[0]
    assert (sent.target, sent.login, sent.ttl.seconds, sent.reason) == ("web1", "deploy", 900, "release")
    assert len(sent.idempotency_key) == 32


def test_waiting_for_an_approver(client: Client, broker: FakeBroker) -> None:
    """Pending, pending, approved."""
    pending, approved = access_pb2.REQUEST_STATE_PENDING, access_pb2.REQUEST_STATE_APPROVED
    broker.request_states = [pending, pending, pending, approved]
    assert client.obtain("web1", "deploy", ceiling="write", ttl=MINUTES, reason="") == "gr_1"


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (access_pb2.REQUEST_STATE_DENIED, AccessDenied),
        (access_pb2.REQUEST_STATE_EXPIRED, Expired),
        (access_pb2.REQUEST_STATE_CANCELLED, AccessDenied),
    ],
)
def test_the_other_ends_of_a_request(client: Client, broker: FakeBroker, state: int, error: type[Exception]) -> None:
    """Denied is not expired: each has its own error."""
    broker.request_states = [access_pb2.REQUEST_STATE_PENDING, state]
    with pytest.raises(error):
        client.obtain("web1", "deploy", ceiling="write", ttl=MINUTES, reason="")


def test_waiting_has_an_end(client: Client, broker: FakeBroker) -> None:
    """Still pending after the timeout is said as such."""
    broker.request_states = [access_pb2.REQUEST_STATE_PENDING]
    with pytest.raises(StillPending):
        client.obtain("web1", "deploy", ceiling="write", ttl=MINUTES, reason="", timeout=timedelta(milliseconds=100))


def test_refusals_carry_code_message_and_way_out(client: Client) -> None:
    """The status's details, not its text, are what programs get."""
    with pytest.raises(NotFound) as missing:
        client.request_access("nowhere", "deploy", ceiling="read", ttl=MINUTES, reason="")
    assert (missing.value.code, missing.value.message, missing.value.way_out) == (
        "not_found",
        "no such target",
        "check the name",
    )
    with pytest.raises(Forbidden):
        client.request_access("forbidden", "deploy", ceiling="read", ttl=MINUTES, reason="")


@pytest.mark.parametrize(("ceiling", "ttl"), [("sudo", MINUTES), ("read", timedelta(0)), ("read", -MINUTES)])
def test_what_can_never_be_right_is_not_sent(client: Client, broker: FakeBroker, ceiling: str, ttl: timedelta) -> None:
    """Refused before a byte leaves."""
    with pytest.raises(Invalid):
        client.request_access("web1", "deploy", ceiling=ceiling, ttl=ttl, reason="")
    assert broker.requests == []


def test_grants_come_page_by_page(client: Client, broker: FakeBroker) -> None:
    """All of them, in order."""
    broker.grants = [access_pb2.Grant(id=f"gr_{number}") for number in range(3)]
    assert [grant.id for grant in client.grants()] == ["gr_0", "gr_1", "gr_2"]


def test_a_command_that_runs_at_once(client: Client, broker: FakeBroker) -> None:
    """Streams apart, warning, exit status."""

    def script(first: ExecuteRequest, _: Context) -> Iterator[ExecuteResponse]:
        assert first.start.command.line == b"make -k"
        yield ExecuteResponse(action=action(ActionState.ACTION_STATE_ALLOWED))
        yield ExecuteResponse(stdout=b"out")
        yield ExecuteResponse(stderr=b"err")
        warning = EndWarning()
        warning.left.FromTimedelta(timedelta(seconds=10))
        yield ExecuteResponse(warning=warning)
        yield ExecuteResponse(notice=Notice(text="held"))
        yield ExecuteResponse(stdout=b"put")
        yield finished(3)

    broker.execute = script
    events = list(client.execute("gr_1", "make -k"))
    assert [type(event) for event in events] == [Changed, Stdout, Stderr, EndsSoon, Told, Stdout, Finished]
    result = client.run("gr_1", b"make -k")
    assert (result.stdout, result.stderr, result.exit_status) == (b"output", b"err", 3)


def test_a_command_that_waits_outlives_its_stream(client: Client, broker: FakeBroker) -> None:
    """The stream ends while a person thinks: polled, then resumed by id with its stdin, and nothing starts twice."""
    broker.action = action(ActionState.ACTION_STATE_AWAITING)

    def script(first: ExecuteRequest, _: Context) -> Iterator[ExecuteResponse]:
        if first.HasField("start"):
            yield ExecuteResponse(action=broker.action)
            threading.Timer(0.05, setattr, (broker, "action", action(ActionState.ACTION_STATE_ALLOWED))).start()
            return
        assert (first.resume.action_id, first.resume.stdin) == ("ac_1", b"data")
        yield ExecuteResponse(stdout=b"ran")
        yield finished()

    broker.execute = script
    assert client.run("gr_1", "tee x", stdin=b"data").stdout == b"ran"
    assert [each.WhichOneof("message") for each in broker.started] == ["start", "resume"]


def test_a_command_denied_while_polled_is_finished(client: Client, broker: FakeBroker) -> None:
    """No resume of what nobody allowed."""
    broker.action = action(ActionState.ACTION_STATE_DENIED, note="no")
    broker.execute = lambda _, __: iter([ExecuteResponse(action=action(ActionState.ACTION_STATE_AWAITING))])
    events = list(client.execute("gr_1", "rm x"))
    assert isinstance(events[-1], Finished)
    assert events[-1].action.note == "no"
    assert len(broker.started) == 1


def test_a_start_that_nobody_heard_is_repeated_with_its_key(client: Client, broker: FakeBroker) -> None:
    """The same key names the same action, so a retry can not run it twice (I-63)."""
    tries = itertools.count()

    def script(_: ExecuteRequest, context: Context) -> Iterator[ExecuteResponse]:
        if next(tries) == 0:
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        yield finished()

    broker.execute = script
    assert client.run("gr_1", "id").exit_status == 0
    assert len({each.start.idempotency_key for each in broker.started}) == 1
    assert len(broker.started) == 2


def test_a_connection_lost_while_it_runs_is_said(client: Client, broker: FakeBroker) -> None:
    """Never retried: the broker ends the command, and the recording has the rest."""

    def script(_: ExecuteRequest, context: Context) -> Iterator[ExecuteResponse]:
        yield ExecuteResponse(action=action(ActionState.ACTION_STATE_ALLOWED))
        yield ExecuteResponse(stdout=b"half")
        context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    broker.execute = script
    with pytest.raises(Unreachable) as lost:
        client.run("gr_1", "make")
    assert lost.value.code == "connection_lost"
    assert "ac_1" in lost.value.message
    assert len(broker.started) == 1


def test_a_refusal_ends_the_command(client: Client, broker: FakeBroker) -> None:
    """Not retried."""

    def script(_: ExecuteRequest, context: Context) -> Iterator[ExecuteResponse]:
        yield from ()
        refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "grant_expired", "the grant is over", blame="expired")

    broker.execute = script
    with pytest.raises(Expired):
        client.run("gr_1", "id")
    assert len(broker.started) == 1


def test_leaving_the_iterator_ends_the_call(client: Client, broker: FakeBroker) -> None:
    """A caller that loses interest does not leave a command running."""

    def script(_: ExecuteRequest, context: Context) -> Iterator[ExecuteResponse]:
        context.add_callback(broker.cancelled.set)
        yield ExecuteResponse(stdout=b"1")
        while context.is_active():
            time.sleep(0.01)

    broker.execute = script
    for _ in client.execute("gr_1", "yes"):
        break
    assert broker.cancelled.wait(5)


@pytest.mark.parametrize(
    ("line", "stdin"), [(b"", None), (b" \n", None), (b"x" * (16 * 1024 + 1), None), (b"cat", b"x" * (64 * 1024 + 1))]
)
def test_commands_that_can_never_be_right_are_not_sent(
    client: Client, broker: FakeBroker, line: bytes, stdin: bytes | None
) -> None:
    """Empty, over 16 KiB, or with too much stdin: refused first (I-60)."""
    with pytest.raises(Invalid):
        client.run("gr_1", line, stdin=stdin)
    assert broker.started == []


def test_a_certificate_is_renewed_in_its_last_third(broker: FakeBroker, tmp_path: Path) -> None:
    """Same key, files replaced, and only once although two clients notice."""
    broker.life = timedelta(minutes=30)
    profile = enrol(join_of(broker), tmp_path / "p")
    before, key = profile.certificate, profile.key
    now = datetime.now(UTC)
    with Client(profile, now=lambda: now + timedelta(minutes=19)) as early:
        early.whoami()
    assert broker.renewals == 0
    moment = now + timedelta(minutes=21)
    with Client(profile, now=lambda: moment) as one, Client(Profile.load(profile.directory), now=lambda: moment) as two:
        one.whoami()
        two.whoami()
        one.whoami()
    assert broker.renewals == 1
    assert profile.certificate != before
    assert profile.key == key
    assert keys.validity_of(profile.certificate).not_after > moment
    assert (profile.directory / "client.pem").stat().st_mode & 0o077 == 0


def test_processes_that_notice_at_once_renew_once(broker: FakeBroker, tmp_path: Path) -> None:
    """Whoever gets the lock renews; the others find it done."""
    broker.life = timedelta(minutes=30)
    profile = enrol(join_of(broker), tmp_path / "p")
    moment = datetime.now(UTC) + timedelta(minutes=21)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(renewal.renew, Profile.load(profile.directory), moment) for _ in range(4)]:
            done.result()
    assert broker.renewals == 1


def test_an_expired_certificate_is_said_clearly(broker: FakeBroker, tmp_path: Path) -> None:
    """Before TLS says it badly, with both ways out."""
    broker.life = timedelta(minutes=30)
    profile = enrol(join_of(broker), tmp_path / "p")
    late = datetime.now(UTC) + timedelta(hours=1)
    with Client(profile, now=lambda: late) as client, pytest.raises(NotSignedIn) as refused:
        client.whoami()
    assert refused.value.code == "certificate_expired"
    assert "grantctl login" in refused.value.way_out
    assert "enrol again" in refused.value.way_out


def test_a_failed_renewal_leaves_what_works(broker: FakeBroker, tmp_path: Path) -> None:
    """The old certificate is used on; it is tried again a minute later, on the same channel."""
    broker.life = timedelta(minutes=30)
    profile = enrol(join_of(broker), tmp_path / "p")
    clock = [datetime.now(UTC) + timedelta(minutes=21)]
    with Client(profile, now=lambda: clock[0]) as client:
        lock = profile.directory / "lock"
        lock.unlink()
        lock.mkdir()  # as in a profile that cannot be written: renewing fails before it asks
        client.whoami()
        lock.rmdir()
        client.whoami()
        assert broker.renewals == 0, "not before a minute has passed"
        clock[0] += timedelta(seconds=61)
        client.whoami()
    assert broker.renewals == 1


def test_nobody_there_is_unreachable(broker: FakeBroker, person: Person) -> None:
    """One error for it, with a way out."""
    broker.stop()
    with Client(person.profile) as client, pytest.raises(Unreachable) as gone:
        client.whoami()
    assert gone.value.way_out


def test_waiting_for_an_action_in_short_polls(client: Client, broker: FakeBroker) -> None:
    """Each poll stays under the broker's 55 s, and a timeout gives the action as it stands."""
    broker.action = action(ActionState.ACTION_STATE_AWAITING)
    stood = client.wait_action("ac_1", unless=ActionState.ACTION_STATE_AWAITING, timeout=timedelta(milliseconds=50))
    assert stood.state == ActionState.ACTION_STATE_AWAITING
    broker.action = action(ActionState.ACTION_STATE_SUCCEEDED)
    assert client.wait_action("ac_1").state == action_pb2.ACTION_STATE_SUCCEEDED
