"""The stand-in for targets holds every promise that the real one gives (tests/contract/targets.py)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from broker.core.ids import GrantId
from broker.service.ports import ExecPlan, Proof
from tests.broker.adapters.store import samples
from tests.broker.adapters.store.fixtures import NOW, TENANT
from tests.broker.service.fake_targets import NOWHERE, FakeTargets
from tests.contract.targets import TargetsContract


class TestFakeTargets(TargetsContract):
    """The contract, over memory."""

    @pytest.fixture
    def targets(self) -> FakeTargets:
        return FakeTargets()

    def plan(self, command: bytes, *, sealed: bool, announced: list[int], stdin: bool, grant: GrantId) -> ExecPlan:
        async def announce(serial: int) -> None:
            announced.append(serial)

        return ExecPlan(
            tenant=TENANT, grant_id=grant, action_id=samples.action().id, target=samples.target(), login="deploy",
            command=command, cwd="", env={}, sealed=sealed, wants_stdin=stdin, serial=7,
            not_after=NOW + timedelta(minutes=1), seconds_left=60.0, proof=Proof(record=b"", signatures=()),
            announce=announce,
        )  # fmt: skip

    def unreachable(self, plan: ExecPlan) -> ExecPlan:
        return replace(plan, target=replace(plan.target, host=NOWHERE))
