"""`grantctl sessions`: who did what where; play it back, cut a session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

from grantd.cli.exits import Exit
from grantd.cli.keeping import export, fetch
from grantd.cli.playing.command import play
from grantd.cli.searching import grep
from grantd.cli.shell import Shell, facts, moment
from grantd.cli.visible import exact, one_line
from grantd.cli.watch import watch
from grantd.v1 import session_pb2
from grantd.v1.session_pb2 import Session

_KINDS: Final = {1: "out", 2: "err", 3: "in"}
_TOLD: Final = {4: "size", 5: "exec", 6: "exit", 7: "sftp", 9: "mark"}
_KIND_COLOURS: Final = {"err": "red", "in": "cyan"}


@click.group()
def sessions() -> None:
    """Uses of grants, always recorded."""


sessions.add_command(play)
sessions.add_command(fetch)
sessions.add_command(watch)
sessions.add_command(export)
sessions.add_command(grep)


@sessions.command("list")
@click.option("--open", "open_only", is_flag=True, help="only those that run now")
@click.pass_obj
def list_sessions(shell: Shell, *, open_only: bool) -> int:
    """Sessions that you may see, newest first."""
    shell.show_all(
        _all(shell, open_only=open_only),
        ("SESSION", "OPENED", "WHO", "LOGIN", "TARGET", "DOOR", "STATE", "WATCHED BY", "COMMAND"),
        lambda each: (
            each.id,
            moment(each.opened_at),
            each.identity_name,
            each.login,
            each.target_name,
            each.door,
            _state(each),
            ", ".join(each.oversight.watchers),
            _ran(each),
        ),
    )
    return Exit.OK


@sessions.command("show")
@click.argument("session_id", metavar="SESSION")
@click.pass_obj
def show_session(shell: Shell, session_id: str) -> int:
    """One session."""
    client = shell.client
    request = session_pb2.GetSessionRequest(session_id=session_id)
    told = client.call(client.sessions.GetSession, request).session
    shell.show(told, lambda: _text(told))
    return Exit.OK


@sessions.command("kill")
@click.argument("session_id", metavar="SESSION", required=False)
@click.option("--all-of", metavar="GRANT|IDENTITY", help="cut everything that runs now under a grant, or of somebody")
@click.option("--reason", required=True, help="why; kept in the audit log, and told to the person in the session")
@click.pass_obj
def kill(shell: Shell, session_id: str | None, all_of: str | None, reason: str) -> int:
    """Cut a session now. Repeating it is harmless. The grant goes on: end it with `grantctl grants revoke`."""
    if (session_id is None) == (all_of is None):
        raise click.UsageError("name a session, or --all-of a grant or identity")
    client = shell.client
    ids = [session_id] if session_id else [each.id for each in _all(shell, open_only=True) if _is_of(each, all_of)]
    requests = [session_pb2.TerminateSessionRequest(session_id=each, reason=reason) for each in ids]
    told = (client.call(client.sessions.TerminateSession, request).session for request in requests)
    if session_id:
        (one,) = told
        shell.show(one, lambda: f"{one_line(one.id)} is {one_line(one.state)}")
    else:
        shell.show_all(told, ("SESSION", "STATE"), lambda each: (each.id, each.state))
    return Exit.OK


def _is_of(session: Session, whose: str | None) -> bool:
    return whose in (session.grant_id, session.identity_id, session.identity_name)


def _state(session: Session) -> str:
    """The state; of an open session whose input is held, why."""
    standing = session.oversight
    if not session.HasField("oversight") or standing.flows:
        return session.state
    return f"{session.state}, paused" if standing.paused else f"{session.state}, must be watched"


def _all(shell: Shell, *, open_only: bool) -> Iterator[Session]:
    client, token = shell.client, ""
    while True:
        page = client.call(
            client.sessions.ListSessions, session_pb2.ListSessionsRequest(page_token=token, open_only=open_only)
        )
        yield from page.sessions
        token = page.next_page_token
        if not token:
            return


def _text(told: Session) -> str:
    return facts(
        {
            "session": told.id,
            "command": _ran(told),
            "who": f"{told.identity_name} ({told.identity_id})",
            "login": f"{told.login} on {told.target_name}",
            "grant": told.grant_id,
            "action": told.action_id,
            "door": told.door,
            "state": f"{told.state} ({told.end_reason})" if told.end_reason else _state(told),
            "watched by": ", ".join(told.oversight.watchers),
            "opened": moment(told.opened_at),
            "closed": moment(told.closed_at),
            "recording": f"{told.recording_id} ({told.recording_state}, {told.recording_leaves} leaves)",
            "root": told.recording_root.hex(),
        }
    )


def _ran(session: Session) -> str:
    """The command; of a session without one, such as a shell, what it is."""
    return exact(session.command) if session.command else f"({one_line(session.kind)})"
