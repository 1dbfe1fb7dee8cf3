"""The sealed key's yes to an action, read again at the moment of use, and what the signer is shown of it (I-62)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from broker.core.action import Action
from broker.core.approval import Approval, Subject, Verdict, must_be_fresh
from broker.core.glass import GLASS_NAMESPACE, BreakGlass
from broker.core.sshsig import verify
from broker.service.ports import Proof, Tx


def sealed_yes(tx: Tx, action: Action, *, now: datetime) -> bool:
    """Whether the action's own requester said yes with the sealed key of its grant; it must stand, or this raises.

    Raises:
        Refusal: another digest, too old, not by that key.
    """
    own, glass = _own(tx, action, tx.approvals.of(Subject.ACTION, action.id))
    if glass is None:
        return False
    must_be_fresh(own, digest=action.digest(), now=now)
    verify(own[0].signature, action.record().encoded(), GLASS_NAMESPACE, (glass.key,))
    return True


def sealed_proof(tx: Tx, action: Action, votes: Sequence[Approval]) -> Proof | None:
    """An action and the sealed key's two signatures; None where people said yes, or nobody had to."""
    own, glass = _own(tx, action, votes)
    if glass is None:
        return None
    return Proof(
        record=action.record().encoded(),
        signatures=(own[0].signature,),
        access=glass.use,
        access_signatures=(glass.signature,),
    )


def _own(tx: Tx, action: Action, votes: Sequence[Approval]) -> tuple[Sequence[Approval], BreakGlass | None]:
    """Nobody approves what they asked for: a yes by the requester can only be the sealed key's."""
    own = [vote for vote in votes if vote.person == action.requester and vote.verdict is Verdict.APPROVE]
    return own, tx.glasses.of_request(action.request_id) if own else None
