"""Whoever looks at what others did, or ends it, says why, and the log has it once (I-33)."""

from __future__ import annotations

import json

import pytest

from grantd.v1 import access_pb2, action_pb2, audit_pb2, session_pb2
from grantd.v1.access_pb2_grpc import AccessServiceStub
from grantd.v1.action_pb2_grpc import ActionServiceStub
from grantd.v1.audit_pb2_grpc import AuditServiceStub
from grantd.v1.session_pb2_grpc import SessionServiceStub
from recorder.entry import read_disclosure
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.rpc.agent import granted, run, start
from tests.broker.rpc.calls import next_of, refusal_of
from tests.broker.rpc.test_watch import running
from tests.broker.rpc.world import House

LOOKS = {
    "PlayRecording": session_pb2.PlayRecordingRequest,
    "FetchRecording": session_pb2.FetchRecordingRequest,
    "ExportRecording": session_pb2.ExportRecordingRequest,
}


async def _told(house: House, name: str) -> list[dict[str, object]]:
    """The entries of one name, each with its disclosures."""
    await house.events()
    records = await house.cases.audit._log.entries(TENANT, from_seq=0, limit=1000)  # noqa: SLF001
    return [
        json.loads(record.entry) | dict(map(read_disclosure, record.disclosures))
        for record in records
        if record.name == name
    ]


@pytest.mark.parametrize("reason", ["", "  \t "])
async def test_nobody_looks_without_a_reason(house: House, reason: str) -> None:
    """I-33: played, fetched, exported, searched, watched: refused, and no such reading stands in the log."""
    async with house.channel(house.people["agent"]) as agent:
        seen = await run(agent, start(await granted(house), "echo Needle"))
    session = seen.finished.session_id
    async with house.channel(house.people["manager"]) as channel:
        stub = SessionServiceStub(channel)
        wanted = ("INVALID_ARGUMENT", "reason_needed")
        for method, request in LOOKS.items():
            call = getattr(stub, method)(request(session_id=session, reason=reason))
            assert await refusal_of(anext(aiter(call))) in (wanted, ("INVALID_ARGUMENT", "bad_field"))
        search = session_pb2.SearchRecordingsRequest(word="needle", reason=reason)
        assert await refusal_of(anext(aiter(stub.SearchRecordings(search)))) == wanted
    async with (
        running(house, "tail -f /dev/null") as typed,
        house.channel(house.people["manager"]) as channel,
    ):
        watch = SessionServiceStub(channel).WatchSession(timeout=60)
        begin = session_pb2.WatchStart(session_id=typed.session, reason=reason)
        await watch.write(session_pb2.WatchSessionRequest(start=begin))
        assert await refusal_of(watch.read()) == wanted
    assert not {"recording.viewed", "recording.exported", "recording.searched", "session.watched"} & set(
        await house.events()
    )


async def test_why_a_grant_was_ended_is_in_the_log(house: House) -> None:
    """I-02, I-33: in the words of whoever revoked it, as a value that can be erased (I-35)."""
    grant = await granted(house)
    async with house.channel(house.people["manager"]) as channel:
        revoke = access_pb2.RevokeGrantRequest(grant_id=grant, reason="the key leaked")
        await AccessServiceStub(channel).RevokeGrant(revoke)
    ended = [*await _told(house, "grant.ending"), *await _told(house, "grant.revoked")]
    (said,) = [entry for entry in ended if "reason" in entry]
    assert said["reason"] == "the key leaked"
    assert "leaked" not in json.dumps([{k: v for k, v in entry.items() if k != "reason"} for entry in ended])


async def test_a_kill_is_one_end_and_one_word(house: House) -> None:
    """I-33: who had it cut, and why, is an event of its own; the session is cut once."""
    async with (
        running(house, "tail -f /dev/null") as typed,
        house.channel(house.people["manager"]) as channel,
    ):
        kill = session_pb2.TerminateSessionRequest(session_id=typed.session, reason="looks wrong")
        await SessionServiceStub(channel).TerminateSession(kill)
    (said,) = await _told(house, "session.terminated")
    assert (said["reason"], said["session"], said["actor"]) == (
        "looks wrong", typed.session, house.people["manager"].row.id,
    )  # fmt: skip
    (ended,) = await _told(house, "session.cut")
    assert (ended["session"], ended["reason_code"]) == (typed.session, "terminated")


async def test_a_tenant_has_its_share_of_searches(house: House) -> None:
    """I-60: two at a time; one that is closed early makes room at once."""
    async with house.channel(house.people["agent"]) as agent:
        await run(agent, start(await granted(house), "echo Needle"))
    async with house.channel(house.people["manager"]) as channel:
        caller = await house.cases.identify.identify(
            TENANT, house.people["manager"].row.id, house.people["manager"].row.key
        )
        searches = [house.cases.search.search(caller, "needle", "incident") for _ in range(3)]
        for search in searches[:2]:
            await anext(search)
        stub = SessionServiceStub(channel)
        request = session_pb2.SearchRecordingsRequest(word="needle", reason="incident")
        refused = await refusal_of(anext(aiter(stub.SearchRecordings(request))))
        assert refused == ("RESOURCE_EXHAUSTED", "too_many_searches")
        await searches[0].aclose()
        assert [answer async for answer in stub.SearchRecordings(request)]
        call = stub.SearchRecordings(request)
        await anext(aiter(call))
        call.cancel()
        await searches[1].aclose()


async def test_a_bundle_names_its_reason(house: House) -> None:
    """I-33: an export without one is refused as well."""
    async with house.channel(house.people["admin"]) as channel:
        call = AuditServiceStub(channel).ExportBundle(audit_pb2.ExportBundleRequest())
        assert await refusal_of(anext(aiter(call))) == ("INVALID_ARGUMENT", "reason_needed")


async def test_the_policies_that_decided_are_in_the_log(house: House) -> None:
    """I-34: with what was allowed at once, what waits, and what was denied; their ids, as values that can be erased."""
    grant = await granted(house)
    async with house.channel(house.people["agent"]) as agent:
        await run(agent, start(grant, "echo read"))
        stub = ActionServiceStub(agent)
        call = stub.Execute(timeout=60)
        await call.write(start(grant, "touch /nowhere"))
        assert (await next_of(call)).action.state == action_pb2.ACTION_STATE_AWAITING
        call.cancel()
        refused = stub.Execute(timeout=60)
        await refused.write(start(grant, "reboot"))
        assert (await refusal_of(refused.read()))[1] == "policy_denied"
    said = {
        name: (await _told(house, f"action.{name}"))[0].get("policies") for name in ("allowed", "awaiting", "denied")
    }
    assert said == {"allowed": "tier.read", "awaiting": "run.team", "denied": "grant.ceiling"}
