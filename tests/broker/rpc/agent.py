"""An agent with a grant: what tests of commands and of looking back share."""

from __future__ import annotations

import os
from datetime import timedelta

import grpc.aio

from broker.core.approval import Verdict
from broker.core.identity import Caller
from broker.core.records import APPROVAL_NAMESPACE, denial_record
from broker.core.request import AccessRequest
from broker.service.access import Wish
from broker.service.approval import Vote
from grantd.v1 import action_pb2
from grantd.v1.action_pb2_grpc import ActionServiceStub
from policy.classes import CommandClass
from tests.broker.rpc.world import House


async def granted(
    house: House, *, ttl_s: int = 600, ceiling: CommandClass = CommandClass.EXECUTE, flags: frozenset[str] = frozenset()
) -> str:
    """A grant of the agent's on web1."""
    caller = await identified(house, "agent")
    wish = Wish(
        idempotency_key=os.urandom(8).hex(), target="web1", login="deploy", ceiling=ceiling, flags=flags,
        ttl=timedelta(seconds=ttl_s), reason="release", ticket="", evidence="",
    )  # fmt: skip
    request: AccessRequest = await house.cases.access.request(caller, wish)
    if request.grant_id is None:
        await decide(house, request.id, Verdict.APPROVE)
        request = await house.cases.access.get(caller, request.id)
    assert request.grant_id is not None
    return request.grant_id


async def identified(house: House, name: str) -> Caller:
    """Somebody as the services see them."""
    who = house.people[name]
    return await house.cases.identify.identify(who.row.tenant, who.row.id, who.row.key)


async def decide(house: House, subject: str, verdict: Verdict, note: str = "") -> None:
    """The admin's signed decision."""
    admin = house.people["admin"]
    caller = await identified(house, "admin")
    item = await house.cases.approval.get(caller, subject)
    record = item.subject.record().encoded()
    message = record if verdict is Verdict.APPROVE else denial_record(record)
    signature = admin.sign(APPROVAL_NAMESPACE, message)
    await house.cases.approval.decide(
        caller, Vote(id=subject, verdict=verdict, digest=item.digest(), signature=signature, note=note)
    )


def start(grant: str, line: str | bytes, **fields: object) -> action_pb2.ExecuteRequest:
    """The first message of a command; fields of Command may be given."""
    raw = line.encode() if isinstance(line, str) else line
    command = action_pb2.Command(line=raw, **fields)  # type: ignore[arg-type]
    return action_pb2.ExecuteRequest(
        start=action_pb2.ExecuteStart(idempotency_key=os.urandom(8).hex(), grant_id=grant, command=command)
    )


class Seen:
    """Everything that a stream said."""

    def __init__(self, responses: list[action_pb2.ExecuteResponse]) -> None:
        self.responses = responses
        self.out = b"".join(r.stdout for r in responses)
        self.err = b"".join(r.stderr for r in responses)
        self.kinds = [r.WhichOneof("event") for r in responses]

    @property
    def finished(self) -> action_pb2.Action:
        """The last message, which must be there."""
        assert self.kinds[-1] == "finished"
        return self.responses[-1].finished


async def run(channel: grpc.aio.Channel, *requests: action_pb2.ExecuteRequest) -> Seen:
    """A whole stream."""
    stream = ActionServiceStub(channel).Execute(iter(requests), timeout=30)
    return Seen([response async for response in stream])
