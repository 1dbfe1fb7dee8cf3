"""The signer's statement beside an administrative change: made here, signed with it, in the same act.

The broker says which revision comes next, and nothing else: what is signed is made from the change that its author
sees. The signer keeps names and ids together, so that a broker cannot pass one target off as another.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from grantd import statements
from grantd.asking import class_word
from grantd.client import Client
from grantd.enrolment import micros
from grantd.errors import Invalid
from grantd.statements import Statement
from grantd.stepup import Change
from grantd.v1 import admin_pb2, ca_pb2, glass_pb2
from grantd.v1.options_pb2 import AutonomyTier

_TIER: Final = "AUTONOMY_TIER_"
_ID_BYTES: Final = 16


def state(client: Client, change: Change, *, tenant: str, now: datetime, about: str = "") -> None:
    """Puts the statement that belongs to a change into it, where one does and it has none yet.

    Raises:
        Invalid: what the broker says stands there now is of another name than `about`.
    """
    match change:
        case admin_pb2.AddPersonRequest() if not change.trust:
            change.identity_id = change.identity_id or new_id("pe")
            _say(change, b"", tenant=tenant, subject=change.identity_id, content=_person(change), now=now)
        case admin_pb2.PutTargetRequest() if not change.trust and change.target.host_key:
            change.target.id = change.target.id or _target_id(client, change.target.name)
            before = known(client, [change.target.id])[0].statement
            content = _target(change.target, before)
            _say(change, before, tenant=tenant, subject=change.target.id, content=content, now=now)
        case admin_pb2.SuspendIdentityRequest() if not change.trust and change.identity_id.startswith("pe_"):
            before = known(client, [change.identity_id])[0].statement
            if before:
                content = statements.suspended(Statement.parse(before).content)
                _must_name(content, about)
                _say(change, before, tenant=tenant, subject=change.identity_id, content=content, now=now)
        case glass_pb2.MakeBreakGlassRequest() if not change.trust:
            _say(change, b"", tenant=tenant, subject=change.id, content=_glass(change), now=now)
        case ca_pb2.RotateCaRequest() if not change.trust:
            subject = f"ca-{change.name}"
            before = known(client, [subject])[0].statement
            content = _rotation(change, _key_of_step(client, change))
            _say(change, before, tenant=tenant, subject=subject, content=content, now=now)
        case admin_pb2.PutPolicyRequest() if not change.trust:
            before = known(client, [statements.PROGRAMS])[0].statement
            content = _programs(change)
            if before or content != statements.programs({}):
                _say(change, before, tenant=tenant, subject=statements.PROGRAMS, content=content, now=now)
        case _:
            pass


def must_say(change: Change, *, tenant: str) -> None:
    """Raises Invalid unless the statement in a change says what the change says: before a second person signs both."""
    if isinstance(change, admin_pb2.PutTrustRequest):
        Statement.parse(change.trust)
        return
    given = getattr(change, "trust", b"")
    if not given:
        return
    said = Statement.parse(given)
    match change:
        case admin_pb2.AddPersonRequest():
            wanted = (change.identity_id, _person(change))
        case admin_pb2.PutTargetRequest():
            quorum = statements.quorum_of(said.content)
            wanted = (change.target.id, _machine(change.target, quorum))
        case admin_pb2.SuspendIdentityRequest():
            wanted = (change.identity_id, statements.suspended(said.content))
        case admin_pb2.PutPolicyRequest():
            wanted = (statements.PROGRAMS, _programs(change))
        case glass_pb2.MakeBreakGlassRequest():
            wanted = (change.id, _glass(change))
        case ca_pb2.RotateCaRequest():
            wanted = (f"ca-{change.name}", _rotation(change, statements.rotated_number(said.content)))
        case _:
            raise Invalid("bad_statement", "this change carries no statement")
    if (said.tenant, said.subject, said.content) != (tenant, *wanted):
        raise Invalid("bad_statement", "the statement for the signer says another thing than the change")


def must_be_typed(
    client: Client, change: Change, typed: Change, *, tenant: str, now: datetime, about: str = ""
) -> None:
    """Raises Invalid unless the statement in a change that came back is the command's own: its author signs that too.

    `typed` is the change of the command line; it gets a statement as `state` makes it.
    """
    given = getattr(change, "trust", b"")
    if not given:
        return
    # ids that were drawn when it was typed first
    if isinstance(typed, admin_pb2.AddPersonRequest) and isinstance(change, admin_pb2.AddPersonRequest):
        typed.identity_id = change.identity_id
    if isinstance(typed, admin_pb2.PutTargetRequest) and isinstance(change, admin_pb2.PutTargetRequest):
        typed.target.id = change.target.id
    state(client, typed, tenant=tenant, now=now, about=about)
    own = getattr(typed, "trust", b"")
    if not own or _about(own) != _about(given):
        raise Invalid("bad_statement", "the file tells the signer another thing than this command", "sign it anew")


def _about(statement: bytes) -> tuple[str, str, bytes]:
    """All of a statement but when it was made, and after which one: the signer takes only the next."""
    said = Statement.parse(statement)
    return said.tenant, said.subject, said.content


def _must_name(content: bytes, about: str) -> None:
    """The broker found the id for a name: were it another's, the signer would believe in somebody else's end."""
    if about and statements.told(content)[0][1] != about:
        raise Invalid("other_person", f"the broker took another person for {about}", "look at grantctl trust list")


def known(client: Client, subjects: Iterable[str]) -> list[admin_pb2.TrustEntry]:
    """What the signer believes of these subjects; of none: of everything the broker knows."""
    asked = admin_pb2.GetTrustRequest(subjects=list(subjects))
    return list(client.call(client.admin.GetTrust, asked).entries)


def new_id(prefix: str) -> str:
    """A fresh id, as the broker would draw it."""
    return f"{prefix}_{base64.b32encode(os.urandom(_ID_BYTES)).decode().rstrip('=').lower()}"


def _say(change: Change, before: bytes, *, tenant: str, subject: str, content: bytes, now: datetime) -> None:
    said = statements.following(before, tenant=tenant, subject=subject, content=content, at_us=micros(now))
    change.trust = said.encoded()  # type: ignore[union-attr]  # only those of `state` come here


def target_named(client: Client, name: str) -> str:
    """The id that the broker has for a target's name. Raises Invalid where it has none."""
    told = client.call(client.admin.ListTargets, admin_pb2.ListTargetsRequest())
    found = next((each.id for each in told.targets if each.name == name), "")
    if not found:
        raise Invalid("not_found", f"there is no target {name}", "grantctl target list")
    return found


def _glass(change: glass_pb2.MakeBreakGlassRequest) -> bytes:
    return statements.glass(
        person=change.person_id, target=change.target_id, login=change.login, ceiling=class_word(change.ceiling),
        key=change.public_key, until_us=change.until_us,
    )  # fmt: skip


def _rotation(change: ca_pb2.RotateCaRequest, number: int) -> bytes:
    return statements.rotation(ca=change.name, step=change.step, number=number, forced=change.force)


def _key_of_step(client: Client, change: ca_pb2.RotateCaRequest) -> int:
    """The number of the key that a step is about, by what the broker tells; the signer knows better."""
    told = client.call(client.admin.ListCas, ca_pb2.ListCasRequest())
    numbers = sorted(each.number for ca in told.cas if ca.name == change.name for each in ca.generations)
    if not numbers:
        raise Invalid("not_found", f"there is no CA {change.name}", "grantctl ca list")
    match change.step:
        case "start":
            return numbers[-1] + 1
        case "finish":
            return numbers[0]
        case _:
            return numbers[-1]


def _target_id(client: Client, name: str) -> str:
    told = client.call(client.admin.ListTargets, admin_pb2.ListTargetsRequest())
    return next((each.id for each in told.targets if each.name == name), "") or new_id("tg")


def _person(change: admin_pb2.AddPersonRequest) -> bytes:
    return statements.person(name=change.name, role=change.role, active=True, keys=change.approval_keys)


def _target(target: admin_pb2.Target, before: bytes) -> bytes:
    return _machine(target, statements.quorum_of(Statement.parse(before).content if before else b""))


def _machine(target: admin_pb2.Target, quorum: bytes) -> bytes:
    return statements.target(
        name=target.name,
        tier=AutonomyTier.Name(target.tier).removeprefix(_TIER).lower(),
        host_key=target.host_key,
        logins=[(login.name, login.read_login) for login in target.logins],
        seal_reads=target.seal_reads,
        quorum=quorum,
    )


def _programs(change: admin_pb2.PutPolicyRequest) -> bytes:
    return statements.programs({name: text for name, text in change.sources.items() if name.endswith(".toml")})
