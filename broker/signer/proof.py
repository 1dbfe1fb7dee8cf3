"""The signer's own answer to "may this be signed?": the rule of core/proof.py over what this process knows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache, partial

from broker.core.cert import Ca
from broker.core.glass import GlassUse, must_open
from broker.core.ids import TenantId
from broker.core.proof import Known, must_be_proven
from broker.core.signing import AskTrust, Learn, OpenGlass, RotateCa, SignSsh
from broker.core.statement import Programs, Rotation, Statement, read_statement
from broker.core.trust import NotTrusted
from broker.signer.hours import Hours
from broker.signer.trust import TrustFile
from policy.catalog import CatalogError, Catalogue, parse_own, shipped_alone, with_own
from policy.shell import Verdict, classify_by

_KEPT_TENANTS = 64
_KEPT_COMMANDS = 1_024
_LONG = 512
"""Bytes of a command whose verdict is not kept: that of a long one takes hundreds of times its own size."""


class Prover:
    """What is believed, and how commands are classed by it. Not safe for threads: the authority holds a lock.

    Args:
        trust: open, this process's alone.
        used: whether an approval of a record (its SHA-256, when it was made) was used before, from the journal.
        opened: SHA-256 of the use that a sealed credential was opened with, from the journal.
        hours: how much of its hour is over.
    """

    __slots__ = ("_classed", "_hours", "_opened", "_trust", "_used")

    def __init__(
        self, trust: TrustFile, used: Callable[[bytes, datetime], bool],
        opened: Callable[[TenantId, str], bytes | None], hours: Hours,
    ) -> None:  # fmt: skip
        self._trust, self._used, self._opened, self._hours = trust, used, opened, hours
        self._classed: OrderedDict[TenantId, tuple[Programs, Callable[[bytes], Verdict]]] = OrderedDict()
        # catalogue and parser are files: read now, before this process shuts itself in
        classify_by(shipped_alone(), b"true")

    def must_be_proven(self, ask: SignSsh, now: datetime) -> None:
        """Raises CertMismatch unless what goes to a target is what people or the tier allow."""
        if ask.spec.ca is Ca.EGRESS:
            known = Known(
                book=self._trust.book, classify=self._classify, used=self._used, opened=self._opened,
                latest=self._latest(now), now=now,
            )  # fmt: skip
            must_be_proven(ask, known)

    def must_open(self, ask: OpenGlass, now: datetime) -> GlassUse:
        """The word that opens a sealed credential. Raises CertMismatch unless it may now."""
        return must_open(ask, book=self._trust.book, opened=self._opened, latest=self._latest(now))

    def must_admit(self, ask: Learn, now: datetime) -> Statement | None:
        """The statement, if it may be believed; None where it is already. Raises NotAStatement, NotTrusted."""
        statement = read_statement(ask.statement)
        if self._trust.book.current(statement.tenant, statement.subject) == statement:
            return None
        if isinstance(statement.content, Rotation):
            raise NotTrusted("statement refused: a rotation is asked for as one")
        if isinstance(statement.content, Programs):
            _catalogue(statement.content)
        self._trust.must_admit(statement, ask.signatures, now=now)
        return statement

    def must_rotate(self, ask: RotateCa, now: datetime) -> tuple[Statement, Rotation]:
        """The step that an owner signed, never taken before. Raises NotAStatement, NotTrusted."""
        statement = read_statement(ask.statement)
        if not isinstance(statement.content, Rotation):
            raise NotTrusted("statement refused: not of a rotation")
        self._trust.must_admit(statement, ask.signatures, now=now)
        return statement, statement.content

    def learn(self, statement: Statement, signatures: Sequence[bytes], now: datetime) -> None:
        """Believes what was let through. Raises TrustFault."""
        self._trust.learn(statement, signatures, now=now)

    def told(self, ask: AskTrust) -> bytes:
        """The newest statement about a subject, or nothing."""
        found = self._trust.book.current(TenantId(ask.tenant), ask.subject)
        return found.encoded() if found else b""

    def close(self) -> None:
        self._trust.close()

    def _latest(self, now: datetime) -> Callable[[TenantId, str], datetime]:
        return lambda tenant, glass: self._hours.latest((tenant, glass), now)

    def _classify(self, tenant: TenantId, command: bytes) -> Verdict:
        programs = self._trust.book.programs(tenant)
        kept = self._classed.get(tenant)
        if kept is None or kept[0] != programs:
            kept = programs, _remembering(partial(classify_by, _catalogue(programs)))
            self._classed[tenant] = kept
            while len(self._classed) > _KEPT_TENANTS:
                self._classed.popitem(last=False)
        return kept[1](command)


def _remembering(classify: Callable[[bytes], Verdict]) -> Callable[[bytes], Verdict]:
    """The same, which keeps what it found of short commands: most come again."""
    short = lru_cache(maxsize=_KEPT_COMMANDS)(classify)
    return lambda command: classify(command) if len(command) > _LONG else short(command)


def _catalogue(programs: Programs) -> Catalogue:
    if not programs.texts:
        return shipped_alone()
    try:
        return with_own(parse_own(programs.texts))
    except CatalogError as error:
        raise NotTrusted("statement refused: programs that load") from error
