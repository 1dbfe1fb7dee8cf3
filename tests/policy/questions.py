"""What the tests of deciding ask: one agent, one target, one approver, and questions between them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from policy.classes import CommandClass, Tier
from policy.engine import AccessQuery, ActionQuery, ApproveQuery, Claims, PolicySet, Principal, Resource

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
READ, WRITE, EXECUTE, INSTALL, REBOOT = CommandClass
AGENT = Principal(kind="agent", id="deployer", tenant="t1", teams=frozenset({"ops"}), role="", owner="agent-owner")
APPROVER = Principal(kind="person", id="approver", tenant="t1", teams=frozenset({"ops"}), role="manager", owner="")
TARGET = Resource(
    id="web1", name="web1", tenant="t1", tier=Tier.APPROVAL, teams=frozenset({"ops"}), labels={"env": "prod"}
)
PERMIT_ALL = '@id("all") permit (principal, action, resource);'


def action(
    command_class: CommandClass = READ,
    *,
    tier: Tier = Tier.APPROVAL,
    opaque: bool = False,
    verified: bool = False,
    ceiling: CommandClass = REBOOT,
    principal: Principal = AGENT,
    target: Resource = TARGET,
) -> ActionQuery:
    """A command of the agent on the target."""
    return ActionQuery(
        principal=principal,
        target=replace(target, tier=tier),
        login="deploy",
        command_class=command_class,
        opaque=opaque,
        egress=False,
        outlives=False,
        ceiling=ceiling,
        verified=verified,
        flags=frozenset(),
        now=NOW,
    )


def access(
    ttl: timedelta = timedelta(hours=1), flags: frozenset[str] = frozenset(), principal: Principal = AGENT
) -> AccessQuery:
    """An hour of the target, asked for by the agent."""
    return AccessQuery(
        principal=principal,
        target=TARGET,
        login="deploy",
        ceiling=EXECUTE,
        flags=flags,
        ttl=ttl,
        claimed=Claims(ticket="", reason=True, evidence=False),
        now=NOW,
    )


def approve(approver: Principal, requester: Principal = AGENT, target: Resource = TARGET) -> ApproveQuery:
    """A write of the requester, and who would say yes to it."""
    return ApproveQuery(
        principal=approver,
        requester=requester,
        target=target,
        subject="action",
        level=WRITE,
        security_key=False,
        user_verified=False,
        now=NOW,
    )


def load(text: str) -> PolicySet:
    """Of one file, by the name that findings show."""
    return PolicySet.load({"test.cedar": text})
