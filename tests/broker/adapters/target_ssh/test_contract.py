"""The SSH adapter keeps what Targets promises, before a real sshd."""

from __future__ import annotations

import dataclasses

import pytest

from broker.adapters.target_ssh import SshTargets
from broker.core.ids import GrantId
from broker.service.ports import ExecPlan
from tests.broker.adapters.target_ssh.world import World
from tests.contract.targets import TargetsContract


@pytest.mark.sshd
class TestSshTargets(TargetsContract):
    """Inherits every test of the contract."""

    @pytest.fixture(autouse=True)
    def _real(self, real: World) -> None:
        self._world = real

    @pytest.fixture
    def targets(self) -> SshTargets:
        """The adapter."""
        return self._world.targets

    def plan(self, command: bytes, *, sealed: bool, announced: list[int], stdin: bool, grant: GrantId) -> ExecPlan:
        """A plan for the real sshd."""

        async def announce(serial: int) -> None:
            announced.append(serial)

        return self._world.plan(command, sealed=sealed, wants_stdin=stdin, grant_id=grant, announce=announce)

    def unreachable(self, plan: ExecPlan) -> ExecPlan:
        """Port 1: nobody listens there."""
        return dataclasses.replace(plan, target=dataclasses.replace(plan.target, port=1))
