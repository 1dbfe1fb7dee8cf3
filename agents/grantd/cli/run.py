"""`grantctl run`: one command under a grant, its streams apart, its exit code as this program's own."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import click

from grantd.cli import exits
from grantd.cli.agentd.start import start_where_wanted
from grantd.cli.shell import DURATION, Shell, colour_allowed, now
from grantd.cli.showing import ERR, OUT, Showing
from grantd.cli.visible import one_line
from grantd.client import Client
from grantd.errors import Invalid, NotFound
from grantd.execution import MAX_STDIN_BYTES, Changed, Event, Finished
from grantd.v1.access_pb2 import Grant, GrantState
from grantd.v1.action_pb2 import Action, ActionState

_USABLE: Final = (GrantState.GRANT_STATE_ACTIVE, GrantState.GRANT_STATE_APPROVED)


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
    start_where_wanted()
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
        events = client.execute(grant_id, line_of(words), stdin=stdin, cwd=cwd, reason=reason)
    watch = _Watch(shell=shell, showing=_showing(shell, raw=raw), wait_for=wait_for, stdin=stdin or b"")
    action = watch.follow(events)
    return exits.of_action(action, waited=watch.showing.waited or resume_id is not None)


def watched(shell: Shell, events: Iterator[Event]) -> Action:
    """Shows a command's events to its end; the action as it ended."""
    return _Watch(shell=shell, showing=_showing(shell, raw=False), wait_for=None, stdin=b"").follow(events)


def line_of(words: tuple[str, ...]) -> bytes:
    """The command line: one word as it stands, several quoted."""
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
    return chosen(client.grants(), me=client.whoami().identity_id, where=where)


def chosen(grants: Iterable[Grant], *, me: str, where: str) -> str:
    """The caller's one usable grant on a target; several logins have to be told apart. Raises NotFound, Invalid."""
    login, _, target = where.rpartition("@")
    mine = [grant for grant in grants if grant.identity_id == me and grant.state in _USABLE]
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


def still_waiting(action: Action) -> str:
    """What is said when nobody decided in the time that was given."""
    return f"still waiting; go on later with: grantctl run --resume {one_line(action.id)}"


def _showing(shell: Shell, *, raw: bool) -> Showing:
    terminals = frozenset(n for n, stream in ((OUT, sys.stdout), (ERR, sys.stderr)) if stream.isatty())
    return Showing(
        as_json=shell.as_json, raw=raw, terminals=terminals, colour=colour_allowed(), encoding=sys.stderr.encoding
    )


@dataclass(slots=True, kw_only=True)
class _Watch:
    """Shows a command's events as they come."""

    shell: Shell
    showing: Showing
    wait_for: timedelta | None
    stdin: bytes

    def follow(self, events: Iterator[Event]) -> Action:
        """To the end, or until nobody decided within `wait_for`: the action as it stands then."""
        last = self._shown(events)
        if last.state != ActionState.ACTION_STATE_AWAITING or self.wait_for is None:
            return last
        action = self.shell.client.wait_action(last.id, unless=last.state, timeout=self.wait_for)
        if action.state == ActionState.ACTION_STATE_AWAITING:
            self.shell.say(still_waiting(action))
            return action
        self.wait_for = None
        return self._shown(self.shell.client.resume(action.id, stdin=self.stdin))

    def _shown(self, events: Iterator[Event]) -> Action:
        action = Action()
        for event in events:
            for stream, data in self.showing.pieces(event, now()):
                _write(stream, data)
            if isinstance(event, Changed | Finished):
                action = event.action
            if self.wait_for is not None and action.state == ActionState.ACTION_STATE_AWAITING:
                close = getattr(events, "close", None)
                if close is not None:
                    close()
                break
        return action


def _write(stream: int, data: bytes) -> None:
    to = sys.stdout.buffer if stream == OUT else sys.stderr.buffer
    to.write(data)
    to.flush()
