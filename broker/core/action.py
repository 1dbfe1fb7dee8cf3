"""The life of an action: one command under a grant, from proposal to outcome. Reads no clock: now is an argument.

Two edges beyond the first design: an ALLOWED action that never ran ends EXPIRED (its approval got too old) or CANCELLED
(its grant ended first); see docs/adr.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from broker.core.errors import conflict, expired, invalid
from broker.core.ids import ActionId, GrantId, IdentityId, RequestId, SessionId, TargetId, TenantId, is_agent
from broker.core.records import ActionRecord, Verification, digest_of
from broker.core.table import step
from policy.classes import CommandClass, Tier
from policy.shell import MAX_COMMAND_BYTES
from policy.shell.names import same_words

APPROVAL_FOR = timedelta(minutes=10)
"""How long a person has to decide, and how old a yes may be when it is used (I-13)."""
MAX_DECLARED_STDIN_BYTES = 64 * 1024
MAX_CWD_BYTES = 4_096
RAW_SHELL = b"bash --login"
"""What a shell is where the grant has `raw_shell`: opaque, so that a person is asked each time (F12)."""
ENV_NAMES = frozenset({"TERM", "LANG"})
ENV_PREFIX = "LC_"
MAX_ENV = 16
MAX_ENV_NAME = 32
_ENV_VALUE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@-")
MAX_ENV_VALUE = 64


class StdinMode(StrEnum):
    NONE = "none"
    DECLARED = "declared"
    """Known in full before the decision; its SHA-256 is in the digest."""
    STREAM = "stream"
    """Not known when the person decides: shown in the prompt, needs the grant's `stream_stdin` above read."""


class ActionState(StrEnum):
    PROPOSED = "proposed"
    AWAITING = "awaiting"
    ALLOWED = "allowed"
    DENIED = "denied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CUT = "cut"
    LOST = "lost"


class ActionEvent(StrEnum):
    PERMIT = "permit"
    ASK = "ask"
    DENY = "deny"
    TIME_OUT = "time_out"
    CANCEL = "cancel"
    START = "start"
    EXIT_ZERO = "exit_zero"
    EXIT_OTHER = "exit_other"
    CUT = "cut"
    LOSE = "lose"
    """The broker died while it ran."""


TRANSITIONS: Mapping[ActionState, Mapping[ActionEvent, ActionState]] = MappingProxyType(
    {
        ActionState.PROPOSED: {
            ActionEvent.PERMIT: ActionState.ALLOWED,
            ActionEvent.ASK: ActionState.AWAITING,
            ActionEvent.DENY: ActionState.DENIED,
        },
        ActionState.AWAITING: {
            ActionEvent.PERMIT: ActionState.ALLOWED,
            ActionEvent.DENY: ActionState.DENIED,
            ActionEvent.TIME_OUT: ActionState.EXPIRED,
            ActionEvent.CANCEL: ActionState.CANCELLED,
        },
        ActionState.ALLOWED: {
            ActionEvent.START: ActionState.RUNNING,
            ActionEvent.TIME_OUT: ActionState.EXPIRED,
            ActionEvent.CANCEL: ActionState.CANCELLED,
        },
        ActionState.RUNNING: {
            ActionEvent.EXIT_ZERO: ActionState.SUCCEEDED,
            ActionEvent.EXIT_OTHER: ActionState.FAILED,
            ActionEvent.CUT: ActionState.CUT,
            ActionEvent.LOSE: ActionState.LOST,
        },
    }
)
FINISHED = frozenset(ActionState) - set(TRANSITIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended: an exit status, or the name of a signal (without SIG), or neither if it was cut."""

    exit_status: int | None
    signal: str
    reason: str
    """Fixed phrase of ours: why it was cut or failed to start; empty for an ordinary exit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One command, with everything that its digest binds."""

    tenant: TenantId
    id: ActionId
    grant_id: GrantId
    request_id: RequestId
    requester: IdentityId
    identity: IdentityId
    identity_key: bytes
    target_id: TargetId
    host_key: bytes
    login: str
    command: bytes
    cwd: str
    env: Mapping[str, str]
    stdin_mode: StdinMode
    stdin_sha256: bytes
    pty: bool
    command_class: CommandClass
    opaque: bool
    egress: bool
    outlives: bool
    tier: Tier
    verification: Verification | None
    rollback: tuple[bytes, ...]
    not_after: datetime
    """The end of its grant, as it stands in the digest."""
    policy_version: str
    nonce: bytes
    reason: str
    quorum: int
    approver_roles: frozenset[str]
    state: ActionState
    proposed_at: datetime
    expires_at: datetime
    """Until when it can be decided, and from the decision on until when it can start."""
    session_id: SessionId | None
    outcome: Outcome | None
    note: str

    def record(self) -> ActionRecord:
        """What an approver signs."""
        return ActionRecord(
            tenant=self.tenant,
            request_id=self.request_id,
            action_id=self.id,
            requester=self.requester,
            agent_id=self.identity if is_agent(self.identity) else "",
            agent_key=self.identity_key,
            target_id=self.target_id,
            host_key=self.host_key,
            login=self.login,
            command=self.command,
            cwd=self.cwd,
            env=self.env,
            stdin_mode=self.stdin_mode,
            stdin_sha256=self.stdin_sha256,
            pty=self.pty,
            command_class=self.command_class.word,
            opaque=self.opaque,
            egress=self.egress,
            tier=self.tier,
            verification=self.verification,
            rollback=self.rollback,
            not_after=self.not_after,
            policy_version=self.policy_version,
            nonce=self.nonce,
        )

    def digest(self) -> bytes:
        """SHA-256 of the record, 32 bytes."""
        return digest_of(self.record().encoded())

    def key(self) -> bytes:
        """The action key: the same for every retry of the same command."""
        return self.record().action_key()

    def needs_code(self) -> bool:
        """Whether an approver types a code: execute, install, reboot and opaque (architecture.md section 6)."""
        return self.opaque or self.command_class >= CommandClass.EXECUTE


def advance(action: Action, event: ActionEvent, *, note: str = "", expires_at: datetime | None = None) -> Action:
    """The action after `event`; the only way its state changes."""
    state = step(TRANSITIONS, action.state, event)
    return replace(action, state=state, note=note or action.note, expires_at=expires_at or action.expires_at)


def finish(action: Action, outcome: Outcome, *, cut: bool) -> Action:
    """RUNNING -> SUCCEEDED, FAILED or CUT."""
    ended = ActionEvent.EXIT_ZERO if outcome.exit_status == 0 else ActionEvent.EXIT_OTHER
    event = ActionEvent.CUT if cut else ended
    return replace(action, state=step(TRANSITIONS, action.state, event), outcome=outcome)


def must_be_open(action: Action, now: datetime) -> None:
    """Raises unless a person's decision still counts."""
    if action.state is not ActionState.AWAITING:
        raise conflict("already_decided", f"it is already {action.state}", "somebody was faster, or it timed out")
    if now >= action.expires_at:
        raise expired("approval_expired", "the time to decide is over", "the agent can propose it again")


def checked_command(command: bytes) -> bytes:
    """`command`, if it may be looked at at all: not empty, within the cap. Everything else is the classifier's."""
    if not command:
        raise invalid("empty_command", "the command is empty", "send the command line to run")
    if len(command) > MAX_COMMAND_BYTES:
        raise invalid(
            "command_too_long",
            f"the command is longer than {MAX_COMMAND_BYTES} bytes",
            "put it in a file on the target",
        )
    return command


def checked_cwd(cwd: str) -> str:
    """`cwd`, if it is empty or an absolute path of printable characters."""
    # isprintable first: a lone surrogate is not printable, and has no bytes to count
    if cwd and (not cwd.startswith("/") or not cwd.isprintable() or len(cwd.encode()) > MAX_CWD_BYTES):
        raise invalid("bad_cwd", "the working directory must be an absolute path", "send an absolute path, or none")
    return cwd


def checked_env(env: Mapping[str, str]) -> Mapping[str, str]:
    """`env`, if every name and value is on the allow-list (I-21)."""
    if len(env) > MAX_ENV:
        raise invalid("too_much_env", f"more than {MAX_ENV} environment variables", "send fewer")
    for name, value in env.items():
        plain = len(value) <= MAX_ENV_VALUE and _ENV_VALUE.issuperset(value)
        if not _known_env(name) or not plain or not same_words(name, value):
            raise invalid(
                "env_not_allowed",
                "an environment variable is not allowed",
                "only TERM, LANG and LC_* with plain values pass, in UTF-8",
            )
    return MappingProxyType(dict(env))


def _known_env(name: str) -> bool:
    word = name.removeprefix(ENV_PREFIX)
    localised = word != name and len(name) <= MAX_ENV_NAME and word.isascii() and word.isalpha()
    return name in ENV_NAMES or localised
