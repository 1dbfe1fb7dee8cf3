"""Every use case of the product, built over one world. What doors and jobs are handed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from broker.service.access import AccessService
from broker.service.approval import ApprovalService
from broker.service.aside import Aside
from broker.service.audit import AuditService
from broker.service.closing import Closing
from broker.service.ending import Ending
from broker.service.enrol import EnrolService
from broker.service.explain import ExplainService
from broker.service.forgetting import Forgetting
from broker.service.freeze import FreezeService
from broker.service.gateway import GatewayService
from broker.service.identify import IdentifyService
from broker.service.inventory import InventoryService
from broker.service.issue import IssueService
from broker.service.names import NamesService
from broker.service.people import PeopleService
from broker.service.ports import AuditLog
from broker.service.propose import ProposeService
from broker.service.recovery import Recovery
from broker.service.refused import RefusedService
from broker.service.rules import RulesService
from broker.service.run import RunService
from broker.service.search import SearchService
from broker.service.session import SessionService
from broker.service.shell import ShellService
from broker.service.simulate import SimulateService
from broker.service.start import Start
from broker.service.validate import ValidateService
from broker.service.waiting import WaitingService
from broker.service.watch import WatchService
from broker.service.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCases:
    """One object a use-case file."""

    access: AccessService
    approval: ApprovalService
    propose: ProposeService
    run: RunService
    shell: ShellService
    issue: IssueService
    session: SessionService
    search: SearchService
    watch: WatchService
    audit: AuditService
    enrol: EnrolService
    identify: IdentifyService
    people: PeopleService
    inventory: InventoryService
    rules: RulesService
    validate: ValidateService
    simulate: SimulateService
    explain: ExplainService
    freeze: FreezeService
    gateway: GatewayService
    refused: RefusedService
    names: NamesService
    waiting: WaitingService
    ending: Ending
    closing: Closing
    recovery: Recovery
    forgetting: Forgetting

    @classmethod
    def over(cls, world: World, log: AuditLog) -> Self:
        """All of them over one world."""
        ending, closing, identify = Ending(world), Closing(world), IdentifyService(world)
        start = Start(world, ending)
        session = SessionService(world)
        freeze, aside = FreezeService(world, ending), Aside()
        return cls(
            access=AccessService(world, ending),
            approval=ApprovalService(world),
            propose=ProposeService(world, start, ending, closing),
            run=RunService(world, start, closing),
            shell=ShellService(world, ending, closing),
            issue=IssueService(world, ending),
            session=session,
            search=SearchService(world, session),
            watch=WatchService(world),
            audit=AuditService(world, log),
            enrol=EnrolService(world),
            identify=identify,
            people=PeopleService(world, ending, identify),
            inventory=InventoryService(world),
            rules=RulesService(world, aside),
            validate=ValidateService(world, aside),
            simulate=SimulateService(world, aside),
            explain=ExplainService(world),
            freeze=freeze,
            gateway=GatewayService(world, ending),
            refused=RefusedService(world),
            names=NamesService(world),
            waiting=WaitingService(world),
            ending=ending,
            closing=closing,
            recovery=Recovery(world, ending, freeze),
            forgetting=Forgetting(world),
        )
