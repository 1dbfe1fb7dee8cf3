"""One command from proposal to end, as values. Decides what comes after a stream ended; touches no network, no clock.

A command that waits for a person outlives its stream: it is then polled (WaitAction) and resumed by its id. A command
that runs does not: the broker ends it with the stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias, assert_never

from grantd.errors import GrantdError, Invalid, Unreachable
from grantd.v1 import action_pb2
from grantd.v1.action_pb2 import ActionState

MAX_COMMAND_BYTES: Final = 16 * 1024
MAX_STDIN_BYTES: Final = 64 * 1024
_MAX_ATTEMPTS: Final = 4
_WAITS: Final = frozenset({ActionState.ACTION_STATE_PROPOSED, ActionState.ACTION_STATE_AWAITING})
_OVER: Final = frozenset(
    {
        ActionState.ACTION_STATE_DENIED,
        ActionState.ACTION_STATE_EXPIRED,
        ActionState.ACTION_STATE_CANCELLED,
        ActionState.ACTION_STATE_SUCCEEDED,
        ActionState.ACTION_STATE_FAILED,
        ActionState.ACTION_STATE_CUT,
        ActionState.ACTION_STATE_LOST,
    }
)


@dataclass(frozen=True, slots=True)
class Changed:
    """The action's state before it runs: it waits for a person, or may run now."""

    action: action_pb2.Action


@dataclass(frozen=True, slots=True)
class Stdout:
    """Bytes of stdout."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Stderr:
    """Bytes of stderr."""

    data: bytes


@dataclass(frozen=True, slots=True)
class EndsSoon:
    """The access ends in `left`."""

    left: timedelta


@dataclass(frozen=True, slots=True)
class Told:
    """A line from the broker for the person, such as why an operator ended the command. Escape it before display."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Last: how it ended, which may be before it ran (denied, expired, cancelled)."""

    action: action_pb2.Action


Event: TypeAlias = Changed | Stdout | Stderr | EndsSoon | Told | Finished


@dataclass(frozen=True, slots=True)
class Retry:
    """Send the same first message again, after `delay`: nothing was seen of it, and its key names the same action."""

    delay: timedelta


@dataclass(frozen=True, slots=True)
class Poll:
    """Wait until the action is no longer in its state, then ask again."""

    action: action_pb2.Action


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on with the action in a new stream."""

    request: action_pb2.ExecuteRequest


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing more comes."""


Next: TypeAlias = Retry | Poll | Resume | Done


def command(
    line: bytes | str,
    *,
    cwd: str = "",
    env: dict[str, str] | None = None,
    stdin: bytes | None = None,
    streams: bool = False,
) -> action_pb2.Command:
    """A command line for bash. Refuses what the broker would refuse anyway, before it is sent. Raises Invalid."""
    raw = line.encode() if isinstance(line, str) else line
    if not raw.strip():
        raise Invalid("empty_command", "the command is empty")
    if len(raw) > MAX_COMMAND_BYTES:
        raise Invalid(
            "command_too_long",
            f"the command has {len(raw)} bytes; at most {MAX_COMMAND_BYTES} can be shown to an approver",
            "put data into stdin, or a script on the target",
        )
    if stdin is not None and len(stdin) > MAX_STDIN_BYTES:
        raise Invalid("stdin_too_long", f"stdin has {len(stdin)} bytes; at most {MAX_STDIN_BYTES} can be declared")
    if stdin is not None and streams:
        raise Invalid("two_stdins", "stdin is either declared or streamed, not both")
    mode = action_pb2.STDIN_MODE_NONE if stdin is None else action_pb2.STDIN_MODE_DECLARED
    return action_pb2.Command(
        line=raw,
        cwd=cwd,
        env=env or {},
        stdin_mode=action_pb2.STDIN_MODE_STREAM if streams else mode,
        stdin=stdin or b"",
    )


def resume_request(action_id: str, stdin: bytes) -> action_pb2.ExecuteRequest:
    """The first message that goes on with an action; declared stdin is given again."""
    return action_pb2.ExecuteRequest(resume=action_pb2.ExecuteResume(action_id=action_id, stdin=stdin))


def left_state(action: action_pb2.Action, unless: ActionState.ValueType) -> bool:
    """Whether a wait is over: the action left the state `unless`, or (not given) is finished."""
    if unless == action_pb2.ACTION_STATE_UNSPECIFIED:
        return action.state in _OVER
    return action.state != unless


class Conversation:
    """What one caller has seen of one command.

    Args:
        stdin: the declared stdin, needed again for a resume.
    """

    def __init__(self, *, stdin: bytes) -> None:
        self._stdin = stdin
        self._action: action_pb2.Action | None = None
        self._ran = False
        self._finished = False
        self._attempts = 0
        self._broken: Unreachable | None = None

    def observe(self, response: action_pb2.ExecuteResponse) -> Event | None:
        """The event in a message; None for a kind that this SDK does not know yet."""
        match response.WhichOneof("event"):
            case "action":
                return self.learn(response.action)
            case "stdout":
                self._ran = True
                return Stdout(response.stdout)
            case "stderr":
                self._ran = True
                return Stderr(response.stderr)
            case "warning":
                return EndsSoon(response.warning.left.ToTimedelta())
            case "notice":
                return Told(response.notice.text)
            case "finished":
                self._action, self._finished = response.finished, True
                return Finished(response.finished)
            case None:
                return None
            case unknown:
                assert_never(unknown)

    def learn(self, action: action_pb2.Action) -> Event:
        """Take in the action as it stands now, from the stream or from a poll."""
        self._action = action
        if action.state in _OVER:
            self._finished = True
            return Finished(action)
        if action.state == ActionState.ACTION_STATE_RUNNING:
            self._ran = True
        return Changed(action)

    @property
    def finished(self) -> bool:
        """Whether the last event was given."""
        return self._finished

    def broke(self, error: GrantdError) -> None:
        """The stream ended with an error. Raises it unless it was only the connection."""
        if not isinstance(error, Unreachable):
            raise error
        self._broken = error

    def after(self) -> Next:
        """What to do once a stream ended. Raises what cannot be mended."""
        broken, self._broken = self._broken, None
        if self._finished:
            return Done()
        if self._ran:
            raise self._lost() from broken
        if self._action is None:
            return self._again(broken)
        if self._action.state in _WAITS:
            return Poll(self._action)
        if broken is not None:
            self._again(broken)
        return Resume(resume_request(self._action.id, self._stdin))

    def _again(self, broken: Unreachable | None) -> Retry:
        self._attempts += 1
        if broken is None:
            raise Unreachable("stream_ended", "the broker ended the stream without an answer")
        if self._attempts >= _MAX_ATTEMPTS:
            raise broken
        return Retry(timedelta(milliseconds=250 * 2**self._attempts))

    def _lost(self) -> Unreachable:
        action_id = self._action.id if self._action else "?"
        return Unreachable(
            "connection_lost",
            f"the connection broke while the command ran (action {action_id}); the broker ends the command",
            "the recording shows how far it came: grantctl sessions list",
        )
