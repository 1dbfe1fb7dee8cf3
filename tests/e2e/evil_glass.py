"""What a broker in other hands tries with break-glass: a real sealed credential, its holder's word, one yes (I-62)."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh

from broker.core import ids
from broker.core.cert import ingress_spec
from broker.core.errors import Fault
from broker.core.glass import GLASS_NAMESPACE, GlassUse
from broker.core.ids import GrantId
from broker.core.records import ActionRecord, timed_nonce
from broker.core.statement import Glass
from broker.service.ports import Proof
from grantd.cli.sealed import Sealed, SealedKey
from policy.classes import CommandClass

if TYPE_CHECKING:
    from tests.e2e.evil import Evil

INSTALL, WRITE = b"apt-get install -y jq", b"touch /tmp/glass"


@dataclass(slots=True)
class EvilGlass:
    """What a holder did in the night, in the hands of somebody who has the broker."""

    evil: Evil
    sealed: Sealed
    key: SealedKey
    """Signs here what the holder signed; what is tried without it is signed by a key of the broker's own."""
    word: bytes = b""

    @classmethod
    def of(cls, evil: Evil, place: Path) -> EvilGlass:
        """The credential of a file, opened by its holder with one word."""
        sealed = Sealed.parse(place.read_bytes())
        made = cls(evil=evil, sealed=sealed, key=sealed.open(place.with_name(f"{place.name}.words").read_text()))
        made.word = made.other_word()
        return made

    def other_word(self) -> bytes:
        """Another one each time."""
        now, request = self.evil.house.clock.now(), ids.render("request", os.urandom(16))
        return GlassUse(
            tenant=self.sealed.tenant, glass=self.sealed.id, person=self.sealed.person, request_id=request,
            nonce=timed_nonce(now, os.urandom(12)),
        ).encoded()  # fmt: skip

    def record(self, command: bytes = WRITE, level: str = "write", **changes: object) -> ActionRecord:
        """An action of the holder's hour."""
        target = changes.pop("target", self.evil.asks)
        request = self.word.split(b"rq_")[1][:26].decode()
        own: dict[str, object] = {"requester": self.sealed.person, "agent_id": "", "request_id": f"rq_{request}"}
        return self.evil.record(command, target, level, **(own | changes))  # type: ignore[arg-type]

    async def opened(self, word: bytes, signature: bytes) -> str:
        """What the signer says to a word."""
        try:
            await self.evil.house.signer.open_glass(word, signature)
        except Fault as fault:
            return fault.what
        return ""

    async def asked(self, record: ActionRecord, *yes: bytes) -> str:
        """What the signer says to an action under the holder's word."""
        message, key = record.encoded(), asyncssh.generate_private_key("ssh-ed25519")
        proof = Proof(record=message, signatures=yes, access=self.word, access_signatures=(self.key.sign(self.word),))
        try:
            await self.evil.house.signer.sign_ssh(self.evil.spec(record), key.public_data, proof)
        except Fault as fault:
            return fault.what
        return ""

    async def approved(self, record: ActionRecord) -> str:
        """The same with the sealed key's yes."""
        return await self.asked(record, self.key.sign(record.encoded()))

    async def spends_it_beside_another(self) -> str:
        """A certificate that needs no proof, and beside it the credential's name: its own word must open it still."""
        now, key = self.evil.house.clock.now(), asyncssh.generate_private_key("ssh-ed25519")
        door = ingress_spec(
            grant=GrantId(ids.render("grant", os.urandom(16))), serial=7, login="deploy", target_name="web1", now=now,
            not_after=now + timedelta(minutes=5),
        )  # fmt: skip
        proof = Proof(record=b"", signatures=(), access=self.other_word(), access_signatures=())
        await self.evil.house.signer.sign_ssh(door, key.public_data, proof)
        told = await self.opened(self.word, self.key.sign(self.word))
        return told or "its own word opens it still"

    async def opens_it_again(self) -> str:
        """With a second word of the holder's."""
        word = self.other_word()
        return await self.opened(word, self.key.sign(word))

    async def makes_one(self) -> str:
        """A statement of a credential of its own, signed by itself."""
        mine = Glass(
            person=self.sealed.person, target=self.evil.asks.id, login=self.evil.login, ceiling=CommandClass.REBOOT,
            key=self.sealed.public_key, until=self.evil.house.clock.now() + timedelta(days=1),
        )  # fmt: skip
        line = " ".join(self.evil.key.export_public_key().decode().split()[:2])
        return await self.evil.learns(ids.render("glass", os.urandom(16)), replace(mine, key=line), fresh=True)

    def tries(self) -> dict[str, Callable[[], Awaitable[str]]]:
        """Every way to more than the holder said yes to."""
        later = self.evil.house.clock.now() + timedelta(hours=2)
        plain, own = self.record(), self.evil.own
        return {
            "glass: one that it made itself": self.makes_one,
            "glass: spent without its key": lambda: self.opened(self.word, own(self.word, GLASS_NAMESPACE)),
            "glass: spent beside a certificate that needs no proof": self.spends_it_beside_another,
            "glass: opened with a second word": self.opens_it_again,
            "glass: its word, and no yes": lambda: self.asked(plain),
            "glass: its word, and a yes of its own": lambda: self.asked(plain, own(plain.encoded(), GLASS_NAMESPACE)),
            "glass: its word, and an approver's yes": lambda: self.asked(self.evil.fresh, *self.evil.fresh_yes),
            "glass: its yes, another target": lambda: self.approved(self.record(target=self.evil.free)),
            "glass: its yes, above its ceiling": lambda: self.approved(self.record(INSTALL, "install")),
            "glass: its yes, for two hours": lambda: self.approved(self.record(not_after=later)),
            "glass: its yes, with a terminal": lambda: self.approved(self.record(pty=True)),
            "glass: its yes, for an agent": lambda: self.approved(self.record(agent_id=self.evil.seen.agent_id)),
        }
