"""What a command costs on the wire: nothing is sent that AES-GCM does not need."""

from __future__ import annotations

import asyncssh
import pytest
from asyncssh.constants import MSG_IGNORE
from asyncssh.packet import SSHPacketLogger

from tests.broker.adapters.target_ssh.world import World

pytestmark = pytest.mark.sshd


async def test_no_decoys(real: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncssh sends an empty packet before each of ours, against a weakness of CBC that is not spoken here."""
    sent: list[int] = []
    really = asyncssh.SSHClientConnection.send_packet

    def noting(
        self: asyncssh.SSHClientConnection, pkttype: int, *args: bytes, handler: SSHPacketLogger | None = None
    ) -> None:
        sent.append(pkttype)
        really(self, pkttype, *args, handler=handler)

    monkeypatch.setattr(asyncssh.SSHClientConnection, "send_packet", noting)
    assert (await real.run("echo seen", sealed=False)).out == b"seen\n"
    assert len(sent) > 5
    assert MSG_IGNORE not in sent
