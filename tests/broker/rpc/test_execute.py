"""Execute, from a first message to a last: over real gRPC, services, store and recorder; the target is a local bash."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest

from broker.core.action import Action, ActionState
from broker.core.approval import Verdict
from broker.core.identity import IdentityStatus
from broker.core.ids import ActionId, SessionId
from broker.service.closing import Closing, Ended
from broker.service.live import Scope
from broker.service.start import Ticket
from grantd.v1 import access_pb2, action_pb2
from grantd.v1.access_pb2_grpc import AccessServiceStub
from grantd.v1.action_pb2_grpc import ActionServiceStub
from recorder.track import Commitment
from tests.broker.rpc.agent import Seen, decide, granted, identified, run, start
from tests.broker.rpc.calls import refusal_of, said
from tests.broker.rpc.world import TENANT, House
from tests.pace import Since

KIB = 1024


@pytest.fixture
async def channel(house: House) -> AsyncIterator[grpc.aio.Channel]:
    """The agent's."""
    async with house.channel(house.people["agent"]) as made:
        yield made


async def test_a_read_runs_at_once_and_says_how_it_ended(house: House, channel: grpc.aio.Channel) -> None:
    """The hot path: action, bytes, finished; and the recording is sealed by then."""
    seen = await run(channel, start(await granted(house), "uname"))
    assert seen.kinds == ["action", "stdout", "finished"]
    assert seen.responses[0].action.state == action_pb2.ACTION_STATE_RUNNING
    assert seen.out == os.uname().sysname.encode() + b"\n"
    assert seen.finished.state == action_pb2.ACTION_STATE_SUCCEEDED
    assert seen.finished.exit_status == 0
    admin = await identified(house, "admin")
    view = await house.cases.session.get(admin, SessionId(seen.finished.session_id))
    assert view.session.recording_state == "final"


async def test_a_client_that_hangs_up_after_the_last_word_has_cancelled_nothing(
    house: House, channel: grpc.aio.Channel
) -> None:
    """The log and the metrics tell a finished command from one that was broken off."""
    grant = await granted(house)
    for line, code in (("uname", "OK"), ("tail -f /dev/null", "CANCELLED")):
        house.meter.counted.clear()
        call = ActionServiceStub(channel).Execute(iter([start(grant, line)]), timeout=30)
        async for response in call:
            if response.WhichOneof("event") == "finished" or code == "CANCELLED":
                call.cancel()
                break
        await said(lambda: any(name == "rpc_requests" for name, _ in house.meter.counted))
        assert [labels["code"] for name, labels in house.meter.counted if name == "rpc_requests"] == [code]


async def test_a_write_waits_for_a_person_and_then_runs(
    house: House, channel: grpc.aio.Channel, tmp_path: Path
) -> None:
    """AWAITING, ALLOWED and RUNNING, in one stream."""
    call = ActionServiceStub(channel).Execute(iter([start(await granted(house), f"touch {tmp_path}/made")]), timeout=30)
    stream = aiter(call)
    first = await anext(stream)
    assert first.action.state == action_pb2.ACTION_STATE_AWAITING
    assert not house.targets.plans
    await decide(house, first.action.id, Verdict.APPROVE)
    seen = Seen([response async for response in stream])
    states = [response.action.state for response in seen.responses if response.WhichOneof("event") == "action"]
    assert states == [action_pb2.ACTION_STATE_ALLOWED, action_pb2.ACTION_STATE_RUNNING]
    assert seen.finished.state == action_pb2.ACTION_STATE_SUCCEEDED
    assert (tmp_path / "made").exists()
    assert house.targets.plans[0].proof.signatures


async def test_a_persons_no_is_an_end_and_not_an_error(house: House, channel: grpc.aio.Channel) -> None:
    """The agent reads the note; nothing reached the target (I-23)."""
    call = ActionServiceStub(channel).Execute(iter([start(await granted(house), "touch /tmp/x")]), timeout=30)
    stream = aiter(call)
    first = await anext(stream)
    await decide(house, first.action.id, Verdict.DENY, note="not on a Friday")
    seen = Seen([response async for response in stream])
    assert seen.kinds == ["finished"]
    assert seen.finished.state == action_pb2.ACTION_STATE_DENIED
    assert seen.finished.note == "not on a Friday"
    assert await call.code() is grpc.StatusCode.OK
    assert not house.targets.plans


async def test_an_action_that_waits_survives_its_stream_and_is_resumed(
    house: House, channel: grpc.aio.Channel, tmp_path: Path
) -> None:
    """Declared stdin is part of the decision: other bytes are refused, the same ones run (I-10)."""
    grant = await granted(house)
    given = b"line\n" * 100
    request = start(grant, f"tee {tmp_path}/made", stdin_mode=action_pb2.STDIN_MODE_DECLARED, stdin=given)
    call = ActionServiceStub(channel).Execute(iter([request]), timeout=30)
    stream = aiter(call)
    action = (await anext(stream)).action
    call.cancel()
    await decide(house, action.id, Verdict.APPROVE)

    def resume(stdin: bytes) -> action_pb2.ExecuteRequest:
        return action_pb2.ExecuteRequest(resume=action_pb2.ExecuteResume(action_id=action.id, stdin=stdin))

    assert await refusal_of(run(channel, resume(b"other"))) == ("INVALID_ARGUMENT", "stdin_mismatch")
    seen = await run(channel, resume(given))
    assert seen.out == given
    assert seen.finished.state == action_pb2.ACTION_STATE_SUCCEEDED
    again = await run(channel, resume(given))
    assert again.kinds == ["finished"]
    assert again.finished.id == action.id


async def test_streamed_stdin_arrives_whole_and_in_order(house: House, channel: grpc.aio.Channel) -> None:
    """Pieces, an empty one among them, then the end."""
    pieces = [os.urandom(60 * KIB), b"", os.urandom(10), os.urandom(64 * KIB)]
    requests = [
        start(
            await granted(house, flags=frozenset({"stream_stdin"})),
            "sha256sum",
            stdin_mode=action_pb2.STDIN_MODE_STREAM,
        )
    ]
    requests += [action_pb2.ExecuteRequest(stdin=piece) for piece in pieces]
    requests.append(action_pb2.ExecuteRequest(stdin_eof=True))
    seen = await run(channel, *requests)
    assert seen.out.split()[0].decode() == hashlib.sha256(b"".join(pieces)).hexdigest()


async def test_much_output_comes_whole_in_pieces_of_at_most_64_kib(house: House, channel: grpc.aio.Channel) -> None:
    """Coalesced, never dropped; stderr apart."""
    seen = await run(channel, start(await granted(house), "seq 1 400000; ls /nonexistent-grantd"))
    assert seen.out == b"".join(b"%d\n" % number for number in range(1, 400_001))
    assert b"nonexistent-grantd" in seen.err
    assert max(len(r.stdout) for r in seen.responses) <= 64 * KIB
    assert seen.finished.state == action_pb2.ACTION_STATE_FAILED


async def test_a_caller_that_goes_away_ends_the_command(house: House, channel: grpc.aio.Channel) -> None:
    """The process is gone, the action is CUT, the recording sealed."""
    call = ActionServiceStub(channel).Execute(iter([start(await granted(house), "tail -f /dev/null")]), timeout=30)
    stream = aiter(call)
    action = (await anext(stream)).action
    await said(lambda: house.world.live.count() == 1)
    call.cancel()
    await said(lambda: house.world.live.count() == 0)
    caller = await identified(house, "agent")
    async with asyncio.timeout(30):
        while True:
            ended = await house.cases.waiting.get(caller, ActionId(action.id))
            if ended.state is not ActionState.RUNNING:
                break
            await asyncio.sleep(0.02)
    assert ended.state is ActionState.CUT
    assert ended.outcome is not None
    assert ended.outcome.reason == "caller_gone"


async def test_a_caller_that_reads_late_misses_nothing(house: House, channel: grpc.aio.Channel) -> None:
    """Back-pressure all the way to the target (its bound: test_streams)."""
    call = ActionServiceStub(channel).Execute(iter([start(await granted(house), "seq 1 3000000")]), timeout=60)
    stream = aiter(call)
    assert (await anext(stream)).action.state == action_pb2.ACTION_STATE_RUNNING
    await asyncio.sleep(0.5)
    seen = Seen([response async for response in stream])
    assert seen.out.endswith(b"\n3000000\n")
    assert seen.finished.state == action_pb2.ACTION_STATE_SUCCEEDED


async def test_expiry_cuts_a_command_within_a_second_and_says_so(house: House, channel: grpc.aio.Channel) -> None:
    """I-01, with a warning before: the stream itself carries the end."""
    since = Since()
    seen = await run(channel, start(await granted(house, ttl_s=2), "tail -f /dev/null"))
    assert since.wall_s() > 1.5
    assert since.s() < 3.5
    assert seen.finished.state == action_pb2.ACTION_STATE_CUT
    assert seen.finished.note == "expired"
    assert [r.notice.text for r in seen.responses if r.HasField("notice")] == ["ended: expired"]


async def test_a_caller_whose_access_ends_hears_of_it_before_it_is_written(
    house: House, channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-01, I-31: the notice comes at once; `finished` says that it is sealed and durable: it comes after."""
    release, write = asyncio.Event(), Closing.write

    async def slow(closing: Closing, ticket: Ticket, ended: Ended, commitment: Commitment | None) -> Action:
        await release.wait()
        return await write(closing, ticket, ended, commitment)

    monkeypatch.setattr(Closing, "write", slow)
    call = ActionServiceStub(channel).Execute(iter([start(await granted(house), "tail -f /dev/null")]), timeout=30)
    stream = aiter(call)
    assert (await anext(stream)).HasField("action")
    await said(lambda: house.world.live.count() == 1, within=5.0)
    await house.world.live.cut(Scope(tenant=TENANT), "revoked", within=1.0, words="odd")
    heard = [(await anext(stream)).notice.text for _ in range(2)]
    assert heard == ["an operator ended this: odd", "ended: revoked"]
    release.set()
    rest = [response async for response in stream]
    assert [each.finished.note for each in rest] == ["revoked"]


async def test_suspending_the_agent_ends_its_stream_and_its_command(house: House, channel: grpc.aio.Channel) -> None:
    """I-41, by a change that this broker was not told of."""
    agent = house.people["agent"]
    call = ActionServiceStub(channel).Execute(iter([start(await granted(house), "tail -f /dev/null")]), timeout=30)
    stream = aiter(call)
    await anext(stream)
    await house.change(agent, status=IdentityStatus.SUSPENDED)
    assert await refusal_of(anext(stream)) == ("UNAUTHENTICATED", "unknown_identity")
    await said(lambda: house.world.live.count() == 0, within=1.0)


async def test_the_token_names_the_grant_and_must_agree_with_the_message(
    house: House, channel: grpc.aio.Channel
) -> None:
    """I-08: metadata grantd-grant instead of grant_id, or the same in both."""
    grant, other = await granted(house), await granted(house)
    request = access_pb2.IssueCredentialRequest(grant_id=grant, kind=access_pb2.CREDENTIAL_KIND_TOKEN)
    token = (await AccessServiceStub(channel).IssueCredential(request)).token

    async def with_token(named: str, *tokens: str) -> Seen:
        metadata = [("grantd-grant", one) for one in tokens]
        call = ActionServiceStub(channel).Execute(iter([start(named, "true")]), timeout=30, metadata=metadata)
        return Seen([response async for response in call])

    for named in ("", grant):
        assert (await with_token(named, token)).finished.grant_id == grant
    assert await refusal_of(with_token(other, token)) == ("PERMISSION_DENIED", "bad_token")
    assert await refusal_of(with_token(grant, "a.b.c")) == ("UNAUTHENTICATED", "bad_token")
    assert await refusal_of(with_token(grant, token, token)) == ("INVALID_ARGUMENT", "bad_token")
    assert await refusal_of(with_token("")) == ("INVALID_ARGUMENT", "no_grant")


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [(b"", "INVALID_ARGUMENT", "empty_command"), (b"echo " + b"x" * 17 * KIB, "INVALID_ARGUMENT", "command_too_long"),
     (b"echo \0", "INVALID_ARGUMENT", "command_refused"), (b"echo \xff", "INVALID_ARGUMENT", "command_refused"),
     (b"echo 'open", "INVALID_ARGUMENT", "command_refused")],
)  # fmt: skip
async def test_what_is_no_command_gets_a_clear_error(
    house: House, channel: grpc.aio.Channel, line: bytes, status: str, reason: str
) -> None:
    """Bad input is refused by name, and nothing runs."""
    assert await refusal_of(run(channel, start(await granted(house), line))) == (status, reason)
    assert not house.targets.plans


async def test_ten_megabytes_are_refused_by_the_transport(house: House, channel: grpc.aio.Channel) -> None:
    """I-60: nothing of it reaches a handler."""
    assert await refusal_of(run(channel, start(await granted(house), b"x" * 10_000_000))) == ("RESOURCE_EXHAUSTED", "")


async def test_a_stream_must_begin_with_a_beginning(house: House, channel: grpc.aio.Channel) -> None:
    """Stdin first, or nothing at all, is refused."""
    assert await refusal_of(run(channel)) == ("INVALID_ARGUMENT", "no_beginning")
    stdin = action_pb2.ExecuteRequest(stdin=b"x")
    assert await refusal_of(run(channel, stdin)) == ("INVALID_ARGUMENT", "no_beginning")


async def test_foreign_and_missing_ids_get_the_same_answer(house: House, channel: grpc.aio.Channel) -> None:
    """I-46: same code, same words."""
    mine = await granted(house)
    stranger = await house.add("stranger", house.people["agent"].row.role)
    missing = "gr_aaaaaaaaaaaaaaaaaaaaaaaaaa"
    async with house.channel(stranger) as other:
        told = []
        for grant in (mine, missing):
            for call in (AccessServiceStub(other).GetGrant(access_pb2.GetGrantRequest(grant_id=grant)),
                         run(other, start(grant, "true"))):  # fmt: skip
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call
                told.append((refused.value.code(), refused.value.details(), refused.value.trailing_metadata()))
    assert told[0] == told[2]
    assert told[1] == told[3]
