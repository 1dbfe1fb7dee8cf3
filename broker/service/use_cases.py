"""Every use case of the product, built over one world. What doors and jobs are handed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from broker.service.access import AccessService
from broker.service.approval import ApprovalService
from broker.service.aside import Aside
from broker.service.audit import AuditService
from broker.service.cas import CaService
from broker.service.closing import Closing
from broker.service.direct import DirectControl
from broker.service.ending import Ending
from broker.service.enrol import EnrolService
from broker.service.explain import ExplainService
from broker.service.forgetting import Forgetting
from broker.service.freeze import FreezeService
from broker.service.gateway import GatewayService
from broker.service.glass import GlassService
from broker.service.identify import IdentifyService
from broker.service.inventory import InventoryService
from broker.service.issue import IssueService
from broker.service.issue_outside import OutsideIssueService
from broker.service.leftovers import LeftoversService
from broker.service.names import NamesService
from broker.service.people import PeopleService
from broker.service.ports import AuditLog
from broker.service.propose import ProposeService
from broker.service.recovery import Recovery
from broker.service.refused import RefusedService
from broker.service.revoke import RevokeService
from broker.service.rules import RulesService
from broker.service.run import RunService
from broker.service.sealing import Turns
from broker.service.search import SearchService
from broker.service.secrets import SecretsService
from broker.service.session import SessionService
from broker.service.sessions import Sessions
from broker.service.shell import ShellService
from broker.service.simulate import SimulateService
from broker.service.site import Site
from broker.service.start import Start
from broker.service.starting import StartingService
from broker.service.stuck import StuckService
from broker.service.trust import TrustService
from broker.service.validate import ValidateService
from broker.service.vault import VaultService
from broker.service.waiting import WaitingService
from broker.service.watch import WatchService
from broker.service.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCases:
    """One object a use-case file."""

    access: AccessService
    approval: ApprovalService
    propose: ProposeService
    starting: StartingService
    run: RunService
    shell: ShellService
    issue: IssueService
    issue_outside: OutsideIssueService
    session: SessionService
    search: SearchService
    watch: WatchService
    audit: AuditService
    enrol: EnrolService
    identify: IdentifyService
    people: PeopleService
    inventory: InventoryService
    rules: RulesService
    trust: TrustService
    glass: GlassService
    validate: ValidateService
    simulate: SimulateService
    explain: ExplainService
    freeze: FreezeService
    revoke: RevokeService
    stuck: StuckService
    vault: VaultService
    secrets: SecretsService
    gateway: GatewayService
    refused: RefusedService
    names: NamesService
    waiting: WaitingService
    control: DirectControl
    sessions: Sessions
    ending: Ending
    closing: Closing
    recovery: Recovery
    leftovers: LeftoversService
    forgetting: Forgetting
    cas: CaService

    @classmethod
    def over(cls, world: World, log: AuditLog) -> Self:
        """All of them over one world."""
        ending, closing, identify = Ending(world), Closing(world), IdentifyService(world)
        start = Start(world, ending)
        session, leftovers = SessionService(world), LeftoversService(world)
        freeze, aside = FreezeService(world, ending), Aside()
        propose, starting = ProposeService(world, start, ending, closing), StartingService(world, start, closing)
        gateway, waiting = GatewayService(world, ending), WaitingService(world)
        shell = ShellService(world, ending, closing)
        control = DirectControl(
            world=world, gateway=gateway, gate=propose, starting=starting, waiting=waiting, shells=shell,
            closing=closing, ending=ending,
        )  # fmt: skip
        sessions = Sessions.at(_site(world, control))
        return cls(
            access=AccessService(world, ending),
            approval=ApprovalService(world),
            propose=propose,
            starting=starting,
            run=sessions.run,
            shell=shell,
            issue=IssueService(world, ending),
            issue_outside=OutsideIssueService(world, ending),
            session=session,
            search=SearchService(world, session),
            watch=WatchService(world),
            audit=AuditService(world, log),
            enrol=EnrolService(world),
            identify=identify,
            people=PeopleService(world, ending, identify),
            inventory=InventoryService(world),
            rules=RulesService(world, aside),
            trust=TrustService(world),
            glass=GlassService(world),
            validate=ValidateService(world, aside),
            simulate=SimulateService(world, aside),
            explain=ExplainService(world),
            freeze=freeze,
            revoke=RevokeService(world, ending),
            stuck=StuckService(world),
            vault=VaultService(world),
            secrets=SecretsService(world),
            gateway=gateway,
            refused=RefusedService(world),
            names=NamesService(world),
            waiting=waiting,
            control=control,
            sessions=sessions,
            ending=ending,
            closing=closing,
            recovery=Recovery(world, ending, freeze, leftovers),
            leftovers=leftovers,
            forgetting=Forgetting(world),
            cas=CaService(world),
        )


def _site(world: World, control: DirectControl) -> Site:
    """Where the sessions of this process run."""
    return Site(
        control=control,
        targets=world.targets,
        recordings=world.recordings,
        clock=world.clock,
        entropy=world.entropy,
        max_output_bytes=world.limits.max_output_bytes,
        unwatched_for=world.limits.unwatched_for,
        keeps_input=world.keeps_input,
        turns=Turns(world.ends.until_calm),
    )
