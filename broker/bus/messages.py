"""What crosses the bus, verb by verb: whose word it is, what it carries, what answers it.

A worker names tickets, grants and sessions by id alone. What it may name is what the control process handed to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, TypeVar

from broker.core.action import Action, ActionState, StdinMode
from broker.core.grant import Grant
from broker.core.identity import Target
from broker.core.ids import ActionId, GrantId, SessionId, TenantId
from broker.service.gateway import Admission, Shown
from broker.service.oversight import Standing
from broker.service.ports import Session
from broker.service.propose import CommandInput
from policy.classes import CommandClass, Tier
from recorder.track import RecordingMeta
from recorder.typed import InputPolicy

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Ask(Generic[Q, A]):
    """A question that waits for an answer."""

    verb: str
    question: type[Q]
    answer: type[A]


@dataclass(frozen=True, slots=True)
class Tell(Generic[Q]):
    """A word that nobody answers."""

    verb: str
    word: type[Q]


@dataclass(frozen=True, slots=True)
class Nothing:
    """No more than that it was done."""


# ---- both ways -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class OfSession:
    """One session of a ticket."""

    session: SessionId


# ---- a worker's: the door --------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class UnderGrant:
    """One grant that was admitted."""

    grant: GrantId


@dataclass(frozen=True, slots=True)
class Feature:
    """What was asked for on a connection and refused."""

    grant: GrantId
    feature: str


@dataclass(frozen=True, slots=True)
class Counted:
    """One counter and how often it counted."""

    name: str
    label: str
    value: str
    times: int


@dataclass(frozen=True, slots=True)
class Beat:
    """How a worker is, every second: it lives."""

    lag_s: float
    counts: tuple[Counted, ...]


# ---- a worker's: the gate --------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Line:
    """A command of which only its stdin is asked."""

    grant: GrantId
    line: bytes
    pty: bool


@dataclass(frozen=True, slots=True)
class Proposed:
    """A command as it came."""

    grant: GrantId
    command: CommandInput


@dataclass(frozen=True, slots=True)
class OfAction:
    """An action of a grant."""

    grant: GrantId
    action: ActionId


@dataclass(frozen=True, slots=True)
class Followed:
    """An action whose next state is waited for, once it is not `unless`."""

    grant: GrantId
    action: ActionId
    unless: ActionState | None


@dataclass(frozen=True, slots=True)
class Handed:
    """A ticket as a worker gets it: no proof, for it signs nothing."""

    action: Action
    grant: Grant
    target: Target
    session: Session
    meta: RecordingMeta
    watchers: frozenset[str]
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Decided:
    """An action as decided, with its ticket where it was started at once."""

    action: Action
    ticket: Handed | None


@dataclass(frozen=True, slots=True)
class HandedShell:
    """A shell's ticket, and the sources of the rules that its hints come from; none for those that are shipped."""

    session: Session
    meta: RecordingMeta
    grant: Grant
    target_name: str
    tier: Tier
    seconds_left: float
    rules: tuple[tuple[str, str], ...]


# ---- a worker's: a session -------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Entering:
    """A session that is about to run, within another where it is a line of one."""

    session: SessionId
    within: SessionId | None


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate for the connection of one ticket; `files` where SFTP is spoken on it."""

    session: SessionId
    public_key: bytes
    source_address: str
    files: bool


@dataclass(frozen=True, slots=True)
class Blob:
    """Some bytes."""

    blob: bytes


@dataclass(frozen=True, slots=True)
class Noted:
    """What a recording has committed to so far."""

    session: SessionId
    leaves: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Over:
    """How a session ended, and its recording's commitment; without one it is truncated."""

    session: SessionId
    exit_status: int | None
    signal: str
    reason: str
    cut: bool
    leaves: int
    root: bytes
    sealed: bool
    size: int = 0
    """Bytes of the recording: a short one is not indexed."""


# ---- a worker's: what it shows ---------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Head:
    """Where those who follow begin: `kept` events follow it, the last of them before number `next_seq`."""

    session: SessionId
    kept: int
    next_seq: int
    terminal: bool
    columns: int
    rows: int
    restore: bytes


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event that its recorder has accepted."""

    session: SessionId
    t_us: int
    kind: int
    chan: int
    payload: bytes


# ---- control's -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Begin:
    """Everything a worker begins with. The host key is the gateway's; nothing else in it is secret."""

    host: str
    port: int
    share: int
    """How many workers there are: limits of the door are divided among them."""
    host_key: bytes
    host_certificate: bytes
    ingress_cas: tuple[bytes, ...]
    recordings: str
    floor_bytes: int
    max_output_bytes: int
    unwatched_for: timedelta
    keeps_input: InputPolicy
    fast_path: bool


@dataclass(frozen=True, slots=True)
class Shows:
    """The door's host key and certificate from now on, and whose user certificates are looked at."""

    host_key: bytes
    host_certificate: bytes
    ingress_cas: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Cutting:
    """A session is to end; `words` are a person's."""

    session: SessionId
    reason: str
    words: str


@dataclass(frozen=True, slots=True)
class Stands:
    """How a session stands: its worker holds its input unless this says that it flows."""

    session: SessionId
    standing: Standing


@dataclass(frozen=True, slots=True)
class Marks:
    """A mark for a recording."""

    session: SessionId
    label: str
    code: str
    audit_id: str


@dataclass(frozen=True, slots=True)
class GrantOver:
    """A grant is over: what is pooled for it goes."""

    tenant: TenantId
    grant: GrantId


ADMIT: Final = Ask("admit", Shown, Admission)
IS_OVER: Final = Ask("is_over", UnderGrant, bool)
REFUSED: Final = Ask("refused", Feature, Nothing)
STDIN_OF: Final = Ask("stdin_of", Line, StdinMode)
RUNS_UNSEEN: Final = Ask("runs_unseen", Proposed, bool)
PROPOSE: Final = Ask("propose", Proposed, Decided)
FOLLOW_ACTION: Final = Ask("follow_action", Followed, Action)
START: Final = Ask("start", OfAction, Handed)
TAKE_BACK: Final = Ask("take_back", OfAction, Nothing)
ABANDON: Final = Ask("abandon", OfSession, Nothing)
UNATTENDED: Final = Ask("unattended", UnderGrant, tuple[CommandClass, ...])
OPEN_SHELL: Final = Ask("open_shell", UnderGrant, HandedShell)
ENTER: Final = Ask("enter", Entering, Standing)
CERTIFICATE: Final = Ask("certificate", Certificate, Blob)
NOTE: Final = Ask("note", Noted, Nothing)
FINISH: Final = Ask("finish", Over, Action)
FINISH_SHELL: Final = Ask("finish_shell", Over, Nothing)
OPENED: Final = Tell("opened", OfSession)
LEFT: Final = Tell("left", OfSession)
READY: Final = Tell("ready", Nothing)
BEAT: Final = Tell("beat", Beat)
HEAD: Final = Tell("head", Head)
RECORDED: Final = Tell("recorded", Recorded)
OVERTAKEN: Final = Tell("overtaken", OfSession)

BEGIN: Final = Tell("begin", Begin)
SHOW: Final = Tell("show", Shows)
STANDS: Final = Tell("stands", Stands)
WATCHED: Final = Tell("watched", OfSession)
UNWATCHED: Final = Tell("unwatched", OfSession)
CUT: Final = Ask("cut", Cutting, Nothing)
MARK: Final = Ask("mark", Marks, Nothing)
END_GRANT: Final = Ask("end_grant", GrantOver, Nothing)
STOP: Final = Ask("stop", Nothing, Nothing)
