"""Every servicer of the contract over the use cases: what broker.app hands to RpcServers."""

from __future__ import annotations

from collections.abc import Mapping

from broker.core.clock import Clock
from broker.rpc.access import AccessServicer
from broker.rpc.action import ActionServicer
from broker.rpc.admin import AdminServicer, PolicyAdvice
from broker.rpc.approval import ApprovalServicer
from broker.rpc.audit import AuditServicer
from broker.rpc.identity import IdentityServicer
from broker.rpc.session import SessionServicer
from broker.rpc.vault import VaultServicer
from broker.service.use_cases import UseCases
from broker.service.world import Places


def servicers(cases: UseCases, *, places: Places, clock: Clock, version: str) -> Mapping[str, object]:
    """Full service name -> servicer. `version` is what WhoAmI says of the broker."""
    return {
        "grantd.v1.AccessService": AccessServicer(
            cases.access, cases.issue, cases.issue_outside, cases.names, cases.revoke, cases.stuck
        ),
        "grantd.v1.ApprovalService": ApprovalServicer(cases.approval, cases.glass),
        "grantd.v1.ActionService": ActionServicer(cases.propose, cases.starting, cases.run, cases.issue, cases.waiting),
        "grantd.v1.SessionService": SessionServicer(cases.session, cases.watch, cases.search),
        "grantd.v1.AuditService": AuditServicer(cases.audit),
        "grantd.v1.IdentityService": IdentityServicer(cases.enrol, cases.people, places, clock, version),
        "grantd.v1.AdminService": AdminServicer(
            cases.people,
            cases.inventory,
            cases.rules,
            cases.freeze,
            cases.enrol,
            places,
            PolicyAdvice(validate=cases.validate, simulate=cases.simulate, explain=cases.explain, trust=cases.trust),
            cases.cas,
            cases.glass,
        ),
        "grantd.v1.VaultService": VaultServicer(cases.vault, cases.secrets),
    }
