"""Whoever leaves while a person is waited for takes the request back, or hears that it still waits."""

from __future__ import annotations

import pytest

from grantd.cli.shell import Shell
from grantd.cli.ssh.waiting import _until_taken_back
from grantd.client import Client
from grantd.v1.access_pb2 import AccessRequest
from tests.agents.fake_broker import FakeBroker


@pytest.mark.parametrize(("away", "told"), [(False, "rq_1 is taken back"), (True, "rq_1 could not be taken back: ")])
def test_whoever_leaves_hears_what_became_of_the_request(
    broker: FakeBroker, client: Client, capsys: pytest.CaptureFixture[str], away: bool, told: str  # noqa: FBT001
) -> None:  # fmt: skip
    """A request that nobody could take back still waits for a yes: who believes otherwise is surprised by it."""
    if away:
        broker.stop()
    with pytest.raises(KeyboardInterrupt), _until_taken_back(Shell(_client=client), AccessRequest(id="rq_1")):
        raise KeyboardInterrupt
    assert told in capsys.readouterr().err
