"""What the broker keeps of the signer's journal: its newest head, in a file and in the audit log (I-31, I-32).

The signer cannot see its own journal rolled back together with its head; somebody who kept an earlier head can. Files:
`<folder>/latest` and `<folder>/vkey`, the key that was told first. Never stops the signer from signing: it is an alarm.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from broker.adapters.audit_log.pins import put
from broker.core.errors import Fault
from broker.core.events import AuditEvent
from broker.core.ids import SYSTEM_TENANT
from broker.core.records import unpae
from broker.core.sshwire import WireError
from broker.service.ports import Meter, Store
from recorder.checkpoint import Checkpoint, parse_and_verify, parse_vkey
from recorder.errors import Invalid
from recorder.merkle import EMPTY_ROOT, verify_consistency

log = structlog.get_logger()
_PARTS: Final = 3


class HeadMismatched(Fault):
    """The signer's journal lost or changed rows that it had signed for, or is another one."""


class SignerHeads:
    """The kept head, compared with the signer's own.

    Args:
        ask: since -> what signing.AskHead is answered with; raises Fault.
        folder: 0700, made when it is missing.
    """

    def __init__(self, *, ask: Callable[[int], Awaitable[bytes]], store: Store, folder: Path, meter: Meter) -> None:
        self._ask, self._store, self._folder, self._meter = ask, store, folder, meter
        self._told = False
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def look(self, now: datetime) -> None:
        """Compares once and keeps what is new; an alarm where it does not fit. Raises Fault: no answer, no store."""
        kept = self._kept()
        try:
            head, note, key = _checked(await self._ask(kept.size), kept, self._key())
        except HeadMismatched as fault:
            self._meter.gauge("signer_journal_broken", 1)
            log.error("signer.head_mismatched", cause=fault.what, rows=kept.size)  # noqa: TRY400  the cause says it all
            if not self._told:
                await self._audit("signer.head_mismatched", kept, now)
            self._told = True
            return
        self._meter.gauge("signer_journal_broken", 0)
        if head.size > kept.size:
            await self._audit("signer.head_recorded", head, now)
            put(self._folder / "vkey", key.encode() + b"\n")
            put(self._folder / "latest", note)

    async def _audit(self, name: str, head: Checkpoint, now: datetime) -> None:
        facts: dict[str, str | int] = {"size": head.size, "root": head.root.hex()}
        event = AuditEvent(tenant=SYSTEM_TENANT, name=name, facts=facts)
        await self._store.run(SYSTEM_TENANT, lambda tx: tx.audit.append(event, now))

    def _key(self) -> str | None:
        path = self._folder / "vkey"
        return path.read_text(encoding="ascii").strip() if path.exists() else None

    def _kept(self) -> Checkpoint:
        """The head on disk; before there is one, that of an empty journal."""
        path, key = self._folder / "latest", self._key()
        if key is None or not path.exists():
            return Checkpoint(origin="none", size=0, root=EMPTY_ROOT)
        try:
            return parse_and_verify(path.read_bytes(), [key])
        except Invalid as error:
            raise Fault(f"{path}: not a head of the signer's journal") from error


def _checked(told: bytes, kept: Checkpoint, key: str | None) -> tuple[Checkpoint, bytes, str]:
    """The head that was told, its note and key. Raises HeadMismatched."""
    try:
        parts = unpae(told)
        if len(parts) != _PARTS:
            raise WireError("not a head")
        note, said = parts[0], parts[1].decode()
        if key is not None and said != key:
            raise HeadMismatched(f"it is signed by {parse_vkey(said).name}, not by the key that was told first")
        head = parse_and_verify(note, [said])
        verify_consistency(kept.size, head.size, unpae(parts[2]), kept.root, head.root)
    except (Invalid, WireError, UnicodeDecodeError) as error:
        raise HeadMismatched(str(error)) from error
    return head, note, said
