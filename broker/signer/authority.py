"""Answers the broker's questions: check, sign, read back what was signed, journal, and only then hand it out.

Never trusts the asker for what may be signed, never hands out a private key, never signs what it cannot journal.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Final

import structlog

from broker.core.cert import Ca, CertMismatch, check, check_x509, must_match
from broker.core.clock import micros
from broker.core.errors import Fault
from broker.core.glass import GlassUse, opens, read_use
from broker.core.ids import TenantId
from broker.core.records import pae
from broker.core.revoking import pushing
from broker.core.signing import (
    Answer,
    Ask,
    AskCa,
    AskGenerations,
    AskHead,
    AskTrust,
    Learn,
    OpenGlass,
    Refused,
    RotateCa,
    Signed,
    SignKrl,
    SignProbe,
    SignSsh,
    SignX509,
    Told,
)
from broker.core.sshwire import ed25519_blob
from broker.core.statement import Statement
from broker.core.x509_match import key_of_csr, must_match_x509
from broker.signer.journal import Field, Journal
from broker.signer.keys import CaKeys
from broker.signer.probes import must_be_a_check, must_be_of_a_grant
from broker.signer.proof import Prover
from broker.signer.rotation import must_be_due, rotated
from broker.signer.sign import sign_ssh, sign_x509

_STOP_SECONDS = 2.0
_UNFORESEEN = "refused: the question cannot be judged"
_SIGNATURES: Final = (SignSsh, SignX509, SignProbe, SignKrl)
"""Questions whose rows may wait for one another; what changes a key or who is believed is on disk by itself."""

log = structlog.get_logger()


class Authority:
    """The CAs at work, one batch of questions at a time whatever the number of connections.

    Args:
        keys: the four CA keys.
        journal: open, this process's alone.
        prover: says whether a certificate for a target is proven.
        now: the wall clock; validity is judged by the signer's own reading of it.
    """

    __slots__ = ("_journal", "_keys", "_lock", "_now", "_prover")

    def __init__(self, keys: CaKeys, journal: Journal, prover: Prover, now: Callable[[], datetime]) -> None:
        self._keys = keys
        self._journal = journal
        self._prover = prover
        self._now = now
        self._lock = threading.Lock()

    def answer(self, ask: Ask) -> Answer:
        """What one question gets; a refusal is an answer, nothing is raised for it."""
        return self.answers([ask])[0]

    def answers(self, asks: Sequence[Ask]) -> list[Answer]:
        """What each question gets, in their order: as one after the other, and every row is on disk at the end.

        A question that is refused, or that nobody thought of, refuses itself alone.
        """
        with self._lock:
            told: list[Answer] = []
            for signs, some in groupby(asks, key=lambda ask: isinstance(ask, _SIGNATURES)):
                judged = [self._judged(ask) for ask in some]
                told += self._on_disk(judged) if signs else judged
            return told

    def _judged(self, ask: Ask) -> Answer:
        try:
            return self._answer(ask)
        except Exception as error:  # noqa: BLE001  a question nobody thought of is refused as well
            return _refused(error, type(ask).__name__)

    def _on_disk(self, judged: list[Answer]) -> list[Answer]:
        """The answers, once their rows are on disk; refusals where that cannot be."""
        try:
            self._journal.commit()
        except Exception as error:  # noqa: BLE001  whatever it is, nothing leaves without its row
            refused = _refused(error, "commit")
            return [refused if isinstance(each, Signed) else each for each in judged]
        return judged

    def stop(self) -> None:
        """Lets the signature under way reach the journal, then answers nothing more."""
        if self._lock.acquire(timeout=_STOP_SECONDS):
            self._journal.close()
            self._prover.close()
            # the lock stays taken on purpose: a late question waits until the process has ended

    def _answer(self, ask: Ask) -> Answer:  # noqa: C901  one case a question
        match ask:
            case SignSsh():
                return Signed(blob=self._sign_ssh(ask))
            case SignX509():
                return Signed(blob=self._sign_x509(ask))
            case SignProbe():
                return Signed(blob=self._sign_probe(ask))
            case SignKrl():
                return Signed(blob=self._sign_krl(ask))
            case AskCa():
                return Signed(blob=self._keys.public(ask.ca))
            case AskGenerations():
                return Told(generations=self._keys.generations[ask.ca])
            case RotateCa():
                return self._rotate(ask)
            case Learn():
                return Signed(blob=self._learn(ask))
            case OpenGlass():
                return Signed(blob=self._open_glass(ask))
            case AskTrust():
                return Signed(blob=self._prover.told(ask))
            case AskHead():
                return Signed(blob=self._head(ask.since))

    def _head(self, since: int) -> bytes:
        proof = self._journal.growth(since) if 0 <= since <= self._journal.size() else []
        return pae([self._journal.sign_head(), self._journal.vkey.encode(), pae(proof)])

    def _rotate(self, ask: RotateCa) -> Told:
        now = self._now()
        statement, said = self._prover.must_rotate(ask, now)
        must_be_due(self._keys.generations[said.ca], said, now)
        # said once: whatever becomes of the step, this statement takes no other one
        self._journal.append(_trust_line(statement, now))
        self._prover.learn(statement, ask.signatures, now)
        self._journal.append({"kind": "ca", "t": micros(now), "ca": said.ca.value, "step": said.step.value})
        self._keys = rotated(self._keys, said.ca, said.step, now)
        return Told(generations=self._keys.generations[said.ca])

    def _sign_probe(self, ask: SignProbe) -> bytes:
        now, key = self._now(), self._keys.egress_of(ask.generation)
        check(ask.spec, now)
        must_be_a_check(ask.spec)
        certificate = _made(lambda: sign_ssh(ask.spec, ask.public_key, key))
        ca_key = ed25519_blob(key.public_key().public_bytes_raw())
        must_match(ask.spec, certificate, public_key=ask.public_key, ca_key=ca_key)
        proven = SignSsh(spec=ask.spec, public_key=ask.public_key, record=b"", signatures=())
        self._journal.note(_ssh_line(proven, certificate, now))
        return certificate

    def _sign_krl(self, ask: SignKrl) -> bytes:
        now, ca_key = self._now(), self._keys.public(Ca.EGRESS)
        check(ask.spec, now)
        spec = pushing(ask.spec, ask.grants, [each.public for each in self._keys.generations[Ca.EGRESS]])
        check(spec, now)
        certificate = _made(lambda: sign_ssh(spec, ask.public_key, self._keys.ssh[Ca.EGRESS]))
        must_match(spec, certificate, public_key=ask.public_key, ca_key=ca_key)
        proven = SignSsh(spec=spec, public_key=ask.public_key, record=b"", signatures=())
        self._journal.note(_ssh_line(proven, certificate, now))
        return certificate

    def _sign_ssh(self, ask: SignSsh) -> bytes:
        now = self._now()
        check(ask.spec, now)
        must_be_of_a_grant(ask.spec)
        self._prover.must_be_proven(ask, now)
        certificate = _made(lambda: sign_ssh(ask.spec, ask.public_key, self._keys.ssh[ask.spec.ca]))
        must_match(ask.spec, certificate, public_key=ask.public_key, ca_key=self._keys.public(ask.spec.ca))
        # nothing is proven of what comes with another CA's certificate: it spends no credential
        if ask.spec.ca is Ca.EGRESS and opens(ask.access):
            self._spend(read_use(ask.access), ask.access, now)
        self._journal.note(_ssh_line(ask, certificate, now))
        return certificate

    def _open_glass(self, ask: OpenGlass) -> bytes:
        now = self._now()
        self._spend(self._prover.must_open(ask, now), ask.use, now)
        self._journal.commit()
        return hashlib.sha256(ask.use).digest()

    def _spend(self, use: GlassUse, word: bytes, now: datetime) -> None:
        """A sealed credential's first use is its only one: noted before anything that is signed for it."""
        if self._journal.opened(TenantId(use.tenant), use.glass) is None:
            row: dict[str, Field] = {"kind": "glass", "t": micros(now), "tenant": use.tenant, "glass": use.glass}
            self._journal.note(row | {"use": _sha256(word)})

    def _learn(self, ask: Learn) -> bytes:
        now = self._now()
        statement = self._prover.must_admit(ask, now)
        if statement is not None:
            self._journal.append(_trust_line(statement, now))
            self._prover.learn(statement, ask.signatures, now)
        return hashlib.sha256(ask.statement).digest()

    def _sign_x509(self, ask: SignX509) -> bytes:
        now, ca = self._now(), self._keys.x509_certificate
        check_x509(ask.spec, now)
        key = key_of_csr(ask.csr_der)
        certificate = _made(lambda: sign_x509(ask.spec, key, self._keys.x509_key, ca))
        must_match_x509(ask.spec, certificate, csr_der=ask.csr_der, ca_der=self._keys.public(Ca.X509))
        self._journal.note(_x509_line(ask, certificate, now))
        return certificate


def _refused(error: Exception, question: str) -> Refused:
    if isinstance(error, Fault):
        return Refused(why=error.what)
    # without the error's text and place: those may hold what was asked
    log.error("signer.question_failed", question=question, cause=type(error).__name__)
    return Refused(why=_UNFORESEEN)


def _trust_line(statement: Statement, now: datetime) -> dict[str, Field]:
    return {
        "kind": "trust",
        "t": micros(now),
        "tenant": statement.tenant,
        "subject": statement.subject,
        "revision": statement.revision,
        "statement": statement.sha256().hex(),
    }


def _made(sign: Callable[[], bytes]) -> bytes:
    # complaints of encoders over a specification that check() let pass are a refusal, not an end of the process
    try:
        return sign()
    except (ValueError, TypeError, OverflowError) as error:
        raise CertMismatch("certificate refused: it cannot be built") from error


def _ssh_line(ask: SignSsh, certificate: bytes, now: datetime) -> dict[str, Field]:
    spec = ask.spec
    return {
        "kind": "ssh",
        "t": micros(now),
        "ca": spec.ca.value,
        "key_id": spec.key_id,
        "serial": str(spec.serial),
        "principals": list(spec.principals),
        "after": micros(spec.valid_after),
        "before": micros(spec.valid_before),
        "source": spec.source_address,
        "command": _sha256(spec.force_command.encode()) if spec.force_command else "",
        "pty": spec.permit_pty,
        "key": _sha256(ask.public_key),
        "record": _sha256(ask.record) if ask.record else "",
        "signatures": [_sha256(signature) for signature in ask.signatures],
        "certificate": _sha256(certificate),
    }


def _x509_line(ask: SignX509, certificate: bytes, now: datetime) -> dict[str, Field]:
    spec = ask.spec
    return {
        "kind": "x509",
        "t": micros(now),
        "uri": spec.uri,
        "hosts": list(spec.hosts),
        "serial": str(spec.serial),
        "after": micros(spec.not_before),
        "before": micros(spec.not_after),
        "request": _sha256(ask.csr_der),
        "certificate": _sha256(certificate),
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
