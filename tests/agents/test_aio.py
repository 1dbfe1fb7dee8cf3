"""The asyncio client speaks as the synchronous one does."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from grantd import AsyncClient, Client, Expired, Unreachable
from grantd.enrolment import enrol
from grantd.execution import Finished
from grantd.v1 import access_pb2
from grantd.v1.action_pb2 import Action, ActionState, ExecuteRequest, ExecuteResponse
from tests.agents.conftest import Person, join_of
from tests.agents.fake_broker import FakeBroker
from tests.agents.refusal import Context, refuse


async def test_ask_wait_and_run(broker: FakeBroker, person: Person) -> None:
    """The whole way of an agent: pending, approved, a command that waits and is resumed."""
    broker.request_states = [access_pb2.REQUEST_STATE_PENDING, access_pb2.REQUEST_STATE_APPROVED]
    broker.action = Action(id="ac_1", state=ActionState.ACTION_STATE_AWAITING)

    def script(first: ExecuteRequest, _: Context) -> Iterator[ExecuteResponse]:
        if first.HasField("start"):
            yield ExecuteResponse(action=broker.action)
            allowed = Action(id="ac_1", state=ActionState.ACTION_STATE_ALLOWED)
            threading.Timer(0.05, setattr, (broker, "action", allowed)).start()
            return
        yield ExecuteResponse(stdout=b"ran")
        yield ExecuteResponse(finished=Action(id="ac_1", state=ActionState.ACTION_STATE_SUCCEEDED, exit_status=0))

    broker.execute = script
    async with AsyncClient(person.profile) as client:
        assert (await client.whoami()).name == "approver"
        ttl = timedelta(minutes=15)
        grant_id = await client.obtain("web1", "deploy", ceiling="write", ttl=ttl, reason="release")
        result = await client.run(grant_id, "touch x")
        assert (result.stdout, result.exit_status) == (b"ran", 0)
        assert (await client.revoke(grant_id, "done")).sessions_cut == 1


async def test_errors_are_the_sdks_own(broker: FakeBroker, person: Person) -> None:
    """No grpc error leaves, from a stream or a call."""

    def script(_: ExecuteRequest, context: Context) -> Iterator[ExecuteResponse]:
        yield from ()
        refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "grant_expired", "over", blame="expired")

    broker.execute = script
    async with AsyncClient(person.profile) as client:
        with pytest.raises(Expired):
            await client.run("gr_1", "id")
        await asyncio.to_thread(broker.stop)
        with pytest.raises(Unreachable):
            await client.whoami()


async def test_closing_the_iterator_ends_the_command(broker: FakeBroker, person: Person) -> None:
    """aclosing is enough."""

    def script(_: ExecuteRequest, context: Context) -> Iterator[ExecuteResponse]:
        context.add_callback(broker.cancelled.set)
        yield ExecuteResponse(stdout=b"1")
        while context.is_active():
            time.sleep(0.01)

    broker.execute = script
    async with AsyncClient(person.profile) as client:
        async with contextlib.aclosing(client.execute("gr_1", "yes")) as events:
            async for event in events:
                assert not isinstance(event, Finished)
                break
        assert await asyncio.to_thread(broker.cancelled.wait, 5)


async def test_it_renews_by_itself(broker: FakeBroker, tmp_path: Path) -> None:
    """Once, in the last third of the certificate's life."""
    broker.life = timedelta(minutes=30)
    profile = enrol(join_of(broker), tmp_path / "p")
    moment = datetime.now(UTC) + timedelta(minutes=21)
    async with AsyncClient(profile, now=lambda: moment) as client:
        await client.whoami()
        await client.whoami()
    assert broker.renewals == 1


async def test_taking_a_request_back(broker: FakeBroker, person: Person) -> None:
    """The same verbs in both clients."""
    broker.request_states = [access_pb2.REQUEST_STATE_PENDING]
    async with AsyncClient(person.profile) as client:
        assert (await client.get_request("rq_1")).state == access_pb2.REQUEST_STATE_PENDING
        assert (await client.cancel_request("rq_1")).state == access_pb2.REQUEST_STATE_CANCELLED
    with Client(person.profile) as same:
        assert same.get_request("rq_1").state == access_pb2.REQUEST_STATE_CANCELLED
        assert same.cancel_request("rq_1").state == access_pb2.REQUEST_STATE_CANCELLED
