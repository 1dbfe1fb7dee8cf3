"""`grantctl run`: one command under a grant, its streams apart, its exit code as this program's own."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from pathlib import Path
from typing import BinaryIO, Final, assert_never

import click

from grantd import asking, records
from grantd.cli import exits
from grantd.cli.shell import DURATION, Shell, as_json, class_badge, now, span
from grantd.cli.visible import Output, one_line
from grantd.client import Client
from grantd.errors import Invalid, NotFound
from grantd.execution import MAX_STDIN_BYTES, Changed, EndsSoon, Event, Finished, Stderr, Stdout, Told
from grantd.v1.access_pb2 import Grant, GrantState
from grantd.v1.action_pb2 import Action, ActionState, EndWarning, ExecuteResponse, Notice

_USABLE: Final = (GrantState.GRANT_STATE_ACTIVE, GrantState.GRANT_STATE_APPROVED)
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


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument("where", metavar="TARGET|LOGIN@TARGET|GRANT", required=False)
@click.argument("words", metavar="COMMAND...", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--stdin", "from_stdin", is_flag=True, help="declare this program's stdin (at most 64 KiB) as the command's"
)
@click.option("--stdin-file", type=click.Path(path_type=Path), help="declare a file as stdin")
@click.option("--cwd", default="", help="absolute path; default: the login's home")
@click.option("--reason", default="", help="why; shown to the approver as your words")
@click.option("--wait-for", type=DURATION, help="wait at most this long for an approver, then exit 75")
@click.option("--resume", "resume_id", metavar="ACTION", help="go on with an action that waited")
@click.option("--raw", is_flag=True, help="write the target's bytes to a terminal unescaped")
@click.pass_obj
def run(
    shell: Shell,
    *,
    where: str | None,
    words: tuple[str, ...],
    from_stdin: bool,
    stdin_file: Path | None,
    cwd: str,
    reason: str,
    wait_for: timedelta | None,
    resume_id: str | None,
    raw: bool,
) -> int:
    """Run COMMAND under a grant: `grantctl run web1 -- systemctl restart app`.

    One word after `--` is the command line as it stands, for bash; several are an argument list and are quoted so that
    bash sees exactly these arguments. With `-o json` stdout carries the events, one a line.

    Exit code: the command's own; 3 denied by policy, 4 refused by an approver, 5 expired, 75 still waiting.
    """
    stdin = _stdin(from_stdin, stdin_file)
    client = shell.client
    if resume_id is not None:
        if where is not None:
            raise click.UsageError("--resume takes no target and no command")
        events = client.resume(resume_id, stdin=stdin or b"")
    else:
        if where is None or not words:
            raise click.UsageError("name a target or grant, then `--` and the command")
        grant_id = where if where.startswith("gr_") else _find_grant(client, where)
        events = client.execute(grant_id, _line(words), stdin=stdin, cwd=cwd, reason=reason)
    watch = _Watch(shell=shell, raw=raw, wait_for=wait_for, stdin=stdin or b"")
    action = watch.follow(events)
    return exits.of_action(action, waited=watch.waited or resume_id is not None)


def _line(words: tuple[str, ...]) -> bytes:
    return os.fsencode(words[0] if len(words) == 1 else shlex.join(words))


def _stdin(from_stdin: bool, stdin_file: Path | None) -> bytes | None:  # noqa: FBT001  click's
    if from_stdin and stdin_file:
        raise click.UsageError("--stdin and --stdin-file exclude each other")
    if from_stdin:
        return sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    if stdin_file is None:
        return None
    try:
        with stdin_file.open("rb") as file:
            return file.read(MAX_STDIN_BYTES + 1)
    except OSError as missing:
        raise Invalid("no_stdin_file", f"{stdin_file} cannot be read: {missing.strerror}") from missing


def _find_grant(client: Client, where: str) -> str:
    """The caller's one usable grant on a target; several logins have to be told apart."""
    login, _, target = where.rpartition("@")
    me = client.whoami().identity_id
    mine = [grant for grant in client.grants() if grant.identity_id == me and grant.state in _USABLE]
    fitting = [grant for grant in mine if grant.target_name == target and login in ("", grant.login)]
    if not fitting:
        ask = f'grantctl request {shlex.quote(target)} {shlex.quote(login or "LOGIN")} --reason "..."'
        raise NotFound("no_grant", f"you have no grant on {where}", ask)
    if len({grant.login for grant in fitting}) > 1:
        raise Invalid("which_login", f"you have grants for several logins on {target}", "write LOGIN@TARGET")
    return max(fitting, key=_preference).id


def _preference(grant: Grant) -> tuple[int, int]:
    """The widest ceiling first, among those the one that ends last."""
    return grant.ceiling, grant.not_after.seconds or grant.must_start_by.seconds


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


def _words(event: EndsSoon | Told) -> str:
    return one_line(event.text) if isinstance(event, Told) else f"the access ends in {span(event.left)}"


@dataclass(slots=True, kw_only=True)
class _Watch:
    """Shows a command's events as they come."""

    shell: Shell
    raw: bool
    wait_for: timedelta | None
    stdin: bytes
    waited: bool = False
    _texts: dict[int, Output] = field(default_factory=dict)

    def follow(self, events: Iterator[Event]) -> Action:
        """To the end, or until nobody decided within `wait_for`: the action as it stands then."""
        while True:
            last = self._until_it_waits(events)
            if last.state != ActionState.ACTION_STATE_AWAITING or self.wait_for is None:
                return last
            action = self.shell.client.wait_action(last.id, unless=last.state, timeout=self.wait_for)
            if action.state == ActionState.ACTION_STATE_AWAITING:
                self.shell.say(f"still waiting; go on later with: grantctl run --resume {one_line(action.id)}")
                return action
            self.wait_for = None
            events = self.shell.client.resume(action.id, stdin=self.stdin)

    def _until_it_waits(self, events: Iterator[Event]) -> Action:
        action = Action()
        for event in events:
            if self.shell.as_json:
                click.echo(as_json(_wire(event)))
            match event:
                case Changed(action):
                    self._changed(action)
                    if self.wait_for is not None and action.state == ActionState.ACTION_STATE_AWAITING:
                        close = getattr(events, "close", None)
                        if close is not None:
                            close()
                        return action
                case Stdout(data):
                    self._write(sys.stdout.buffer, data)
                case Stderr(data):
                    self._write(sys.stderr.buffer, data)
                case EndsSoon() | Told():
                    self.shell.say(f"grantctl: {_words(event)}")
                case Finished(action):
                    self._finish(action)
                case _:
                    assert_never(event)
        return action

    def _write(self, stream: BinaryIO, data: bytes) -> None:
        """Exact bytes into files and pipes; onto a terminal only what cannot command it."""
        if self.shell.as_json:
            return
        if self.raw or not stream.isatty():
            stream.write(data)
        else:
            text = self._texts.setdefault(stream.fileno(), Output())
            stream.write(text.feed(data).encode(errors="backslashreplace"))
        stream.flush()

    def _changed(self, action: Action) -> None:
        if action.state != ActionState.ACTION_STATE_AWAITING:
            return
        self.waited = True
        left = action.expires_at.ToDatetime(tzinfo=UTC) - now()
        opaque = " (not inspectable)" if action.opaque else ""
        self.shell.say(
            f"waits for an approver: {class_badge(asking.class_word(action.command_class))}{opaque}, "
            f"code {click.style(records.code_of(action.digest), bold=True)}, {span(left)} left, {one_line(action.id)}"
        )

    def _finish(self, action: Action) -> None:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
        note = f": {one_line(action.note)}" if action.note else ""
        match action.state:
            case ActionState.ACTION_STATE_FAILED if not action.HasField("exit_status") and not action.signal:
                why = _NO_RESULT.get(action.note, one_line(action.note) or "the broker does not say why")
                self.shell.say(f"grantctl: {one_line(action.id)} has no result: {why}")
            case ActionState.ACTION_STATE_SUCCEEDED | ActionState.ACTION_STATE_FAILED:
                pass
            case ActionState.ACTION_STATE_DENIED:
                who = "an approver refused" if self.waited else "policy denies"
                self.shell.say(f"grantctl: {who} {one_line(action.id)}{note}")
            case ActionState.ACTION_STATE_EXPIRED:
                self.shell.say(f"grantctl: nobody decided {one_line(action.id)} in time{note}")
            case ActionState.ACTION_STATE_CUT:
                why = _CUT.get(action.note, one_line(action.note))
                self.shell.say(f"grantctl: the broker ended the command: {why}")
            case ActionState.ACTION_STATE_LOST:
                self.shell.say(f"grantctl: the broker stopped while {one_line(action.id)} ran{note}")
            case _:
                self.shell.say(f"grantctl: {one_line(action.id)} did not run{note}")
