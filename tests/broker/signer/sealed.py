"""A signer that believes in sealed credentials, and the questions that somebody with one of them would ask."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from broker.core.glass import GLASS_NAMESPACE, GlassUse
from broker.core.ids import render
from broker.core.records import ActionRecord, timed_nonce
from broker.core.signing import Ask, Refused, Signed, SignSsh
from broker.core.statement import Glass
from broker.signer.authority import Authority
from policy.classes import CommandClass
from tests.broker.signer.world import (
    MANAGER,
    OWNER,
    SECOND,
    TENANT,
    WRITE,
    Asker,
    Signatory,
    furnish,
    learn,
    machine,
    open_authority,
    statement,
    target_id,
)
from tests.broker.ssh_keys import NOW

SEALED, SPARE = Signatory.named("a sealed key"), Signatory.named("another sealed key")
FIRST, NEXT = (render("glass", bytes([n]) * 16) for n in (1, 2))
REQUEST = render("request", b"g" * 16)
ASK = Asker()


def sealed(key: Signatory = SEALED, **changes: object) -> Glass:
    """A manager's, for writes on web1."""
    made = Glass(
        person=MANAGER.id, target=target_id("web1"), login="deploy", ceiling=CommandClass.WRITE, key=key.line,
        until=NOW + timedelta(days=30),
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def use(glass: str = FIRST, at: datetime = NOW, **changes: str) -> GlassUse:
    """The word that opens it."""
    made = GlassUse(tenant=TENANT, glass=glass, person=MANAGER.id, request_id=REQUEST, nonce=timed_nonce(at, bytes(12)))
    return replace(made, **changes)  # type: ignore[arg-type]


def record(command: bytes = WRITE, target: str = "web1", **changes: object) -> ActionRecord:
    """An action in the hour, of the manager themselves."""
    own: dict[str, object] = {"requester": MANAGER.id, "agent_id": "", "request_id": REQUEST}
    return ASK.record(command, target, **(own | changes))


def ask(
    action: ActionRecord | None = None, opening: GlassUse | None = None, *, by: Signatory = SEALED,
    opened_by: Signatory = SEALED, namespace: str = GLASS_NAMESPACE,
) -> SignSsh:  # fmt: skip
    """The question for one certificate, with the sealed key's two signatures."""
    asked, word = ASK.ask(action or record()), (opening or use()).encoded()
    return replace(
        asked, signatures=(by.sign(asked.record, namespace),), access=word,
        access_signatures=(opened_by.sign(word, GLASS_NAMESPACE),),
    )  # fmt: skip


def wide(command: bytes) -> SignSsh:
    """The question for a command under the spare one, which is for more."""
    return ask(record(command, target="lab1"), use(NEXT), by=SPARE, opened_by=SPARE)


def sealed_directory(folder: Path) -> Path:
    """A signer that believes in one sealed credential, and in a spare one."""
    furnish(folder, machine("web1"), machine("lab1"))
    authority = open_authority(folder)
    for name, content in (
        (FIRST, sealed()),
        (NEXT, sealed(SPARE, target=target_id("lab1"), ceiling=CommandClass.EXECUTE)),
    ):
        assert why(authority, learn(statement(name, content), OWNER, SECOND)) == ""
    authority.stop()
    return folder


def why(authority: Authority, question: Ask) -> str:
    """The rule that refuses it; empty where it is done."""
    answer = authority.answer(question)
    return "" if isinstance(answer, Signed) else answer.why if isinstance(answer, Refused) else "?"
