"""What a command's events look like to whoever ran it, as bytes for standard output and standard error. Writes nothing.

The same bytes whether grantctl runs the command itself or the per-user helper does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, assert_never

import click

from grantd import asking, records
from grantd.cli.shell import as_json, class_badge, span
from grantd.cli.visible import Output, one_line
from grantd.execution import Changed, EndsSoon, Event, Finished, Stderr, Stdout, Told
from grantd.v1.action_pb2 import Action, ActionState, EndWarning, ExecuteResponse, Notice

OUT: Final = 1
ERR: Final = 2
# why the broker ended a command
_CUT: Final = {
    "broker_stopping": "it is being stopped",
    "expired": "the access expired",
    "frozen": "access is frozen",
    "output_limit": "it wrote more than the broker records of one command",
    "recorder_failed": "the recorder cannot record; nothing runs unrecorded",
    "identity_removed": "you were suspended",
    "revoked": "the access was revoked",
    "terminated": "an operator ended it",
    "unwatched": "nobody watched it",
}
# why a command that was started has no exit status, in the broker's words (docs/errors.md)
_NO_RESULT: Final = {
    "broker_error": "the broker failed; the cause is in its log",
    "connection_lost": "the connection to the target was lost",
    "frozen": "access is frozen",
    "host_key_changed": "the target shows another host key than the one it is pinned to; nothing was run",
    "login_refused": "the target refused the login",
    "no_bash": "the target does not run commands with bash as grantd needs it",
    "signer_unavailable": "the signer does not answer; nothing was run",
    "store_unavailable": "the store does not answer",
    "too_many_sessions": "as many sessions run as may; wait for one to end",
    "too_slow": "the target did not answer in time",
    "unreachable": "the target cannot be reached",
}


@dataclass(slots=True, kw_only=True)
class Showing:
    """One command."""

    as_json: bool
    """Events as JSON lines on standard output, instead of what the command wrote."""
    raw: bool
    """The target's bytes as they are, on a terminal too."""
    terminals: frozenset[int]
    """Which of OUT and ERR lead to a terminal."""
    colour: bool
    encoding: str = "utf-8"
    waited: bool = False
    """Whether a person was asked."""
    _texts: dict[int, Output] = field(default_factory=dict)

    def pieces(self, event: Event, now: datetime) -> Iterator[tuple[int, bytes]]:
        """(OUT or ERR, bytes) to write, in this order."""
        if self.as_json:
            yield OUT, f"{as_json(_wire(event))}\n".encode(self.encoding, "backslashreplace")
        match event:
            case Changed(action):
                yield from self._changed(action, now)
            case Stdout(data):
                yield from self._bytes(OUT, data)
            case Stderr(data):
                yield from self._bytes(ERR, data)
            case EndsSoon(left):
                yield self.line(f"grantctl: the access ends in {span(left)}")
            case Told(text):
                yield self.line(f"grantctl: {one_line(text)}")
            case Finished(action):
                yield from self._finished(action)
            case _:
                assert_never(event)

    def line(self, text: str) -> tuple[int, bytes]:
        """A line of talk."""
        text = text if self.colour and ERR in self.terminals else click.unstyle(text)
        return ERR, f"{text}\n".encode(self.encoding, "backslashreplace")

    def _bytes(self, stream: int, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Exact bytes into files and pipes; onto a terminal only what cannot command it."""
        if self.as_json:
            return
        if self.raw or stream not in self.terminals:
            yield stream, data
        else:
            text = self._texts.setdefault(stream, Output())
            yield stream, text.feed(data).encode(errors="backslashreplace")

    def _changed(self, action: Action, now: datetime) -> Iterator[tuple[int, bytes]]:
        if action.state != ActionState.ACTION_STATE_AWAITING:
            return
        self.waited = True
        left = action.expires_at.ToDatetime(tzinfo=UTC) - now
        opaque = " (not inspectable)" if action.opaque else ""
        yield self.line(
            f"waits for an approver: {class_badge(asking.class_word(action.command_class))}{opaque}, "
            f"code {click.style(records.code_of(action.digest), bold=True)}, {span(left)} left, {one_line(action.id)}"
        )

    def _finished(self, action: Action) -> Iterator[tuple[int, bytes]]:
        note = f": {one_line(action.note)}" if action.note else ""
        match action.state:
            case ActionState.ACTION_STATE_FAILED if not action.HasField("exit_status") and not action.signal:
                why = _NO_RESULT.get(action.note, one_line(action.note) or "the broker does not say why")
                yield self.line(f"grantctl: {one_line(action.id)} has no result: {why}")
            case ActionState.ACTION_STATE_SUCCEEDED | ActionState.ACTION_STATE_FAILED:
                pass
            case ActionState.ACTION_STATE_DENIED:
                who = "an approver refused" if self.waited else "policy denies"
                yield self.line(f"grantctl: {who} {one_line(action.id)}{note}")
            case ActionState.ACTION_STATE_EXPIRED:
                yield self.line(f"grantctl: nobody decided {one_line(action.id)} in time{note}")
            case ActionState.ACTION_STATE_CUT:
                why = _CUT.get(action.note, one_line(action.note))
                yield self.line(f"grantctl: the broker ended the command: {why}")
            case ActionState.ACTION_STATE_LOST:
                yield self.line(f"grantctl: the broker stopped while {one_line(action.id)} ran{note}")
            case _:
                yield self.line(f"grantctl: {one_line(action.id)} did not run{note}")


def _wire(event: Event) -> ExecuteResponse:
    match event:
        case Changed(action):
            return ExecuteResponse(action=action)
        case Stdout(data):
            return ExecuteResponse(stdout=data)
        case Stderr(data):
            return ExecuteResponse(stderr=data)
        case EndsSoon(left):
            return ExecuteResponse(warning=EndWarning(left=asking.duration(left)))
        case Told(text):
            return ExecuteResponse(notice=Notice(text=text))
        case Finished(action):
            return ExecuteResponse(finished=action)
        case _:
            assert_never(event)
