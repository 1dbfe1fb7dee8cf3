"""`grantctl request` and `grants`: asking for access, looking at it, ending it."""

from __future__ import annotations

from datetime import timedelta

import click

from grantd import asking
from grantd.cli.exits import Exit
from grantd.cli.shell import DURATION, Shell, class_badge, facts, moment, span, word
from grantd.cli.ssh.cert import write_files
from grantd.cli.visible import one_line
from grantd.v1.access_pb2 import (
    AccessRequest,
    Grant,
    GrantState,
    ListStuckGrantsRequest,
    RequestState,
    RetryStuckGrantRequest,
)

_FLAGS = (
    "more than commands: shell, raw_shell, sftp, sftp-root=/FOLDER, stream_stdin, forward=HOST:PORT, sessions=N; may be"
    " repeated"
)


@click.command()
@click.argument("target")
@click.argument("login")
@click.option(
    "--ceiling", type=click.Choice(asking.CLASSES), default="read", show_default=True, help="highest class of command"
)
@click.option("--ttl", type=DURATION, default="15m", show_default=True, help="from first use on")
@click.option("--reason", required=True, help="why; shown to the approver as your words")
@click.option("--ticket", default="", help="ticket reference")
@click.option("--evidence", default="", help="what you looked at before asking")
@click.option("--flag", "flags", metavar="FLAG", multiple=True, help=_FLAGS)
@click.option("--wait", is_flag=True, help="wait until an approver decided")
@click.option("--wait-for", type=DURATION, help="wait at most this long")
@click.option("--ssh", is_flag=True, help="wait, then write a key and certificate for a stock ssh")
@click.pass_obj
def request(
    shell: Shell,
    *,
    target: str,
    login: str,
    ceiling: str,
    ttl: timedelta,
    reason: str,
    ticket: str,
    evidence: str,
    flags: tuple[str, ...],
    wait: bool,
    wait_for: timedelta | None,
    ssh: bool,
) -> int:
    """Ask for LOGIN on TARGET. Exit 75: an approver has to decide first."""
    asked = shell.client.request_access(
        target, login, ceiling=ceiling, ttl=ttl, reason=reason, ticket=ticket, evidence=evidence, flags=flags
    )
    if not asking.is_decided(asked) and (wait or ssh or wait_for is not None):
        shell.say(f"{asked.id} waits for an approver")
        asked = shell.client.wait_request(asked.id, wait_for)
    if not asking.is_decided(asked):
        _show_request(shell, asked)
        return Exit.PENDING
    grant_id = asking.require_grant(asked)
    if ssh:
        return write_files(shell, grant_id)
    _show_request(shell, asked)
    return Exit.OK


@click.group()
def grants() -> None:
    """Leases: look at them, end them."""


@grants.command("list")
@click.option("--all", "everything", is_flag=True, help="ended ones too")
@click.pass_obj
def list_grants(shell: Shell, *, everything: bool) -> int:
    """Grants that you may see, newest first."""
    found = (grant for grant in shell.client.grants() if everything or not grant.HasField("ended_at"))
    shell.show_all(
        found,
        ("GRANT", "WHO", "LOGIN", "TARGET", "CEILING", "STATE", "ENDS"),
        lambda grant: (
            grant.id,
            grant.identity_name,
            grant.login,
            grant.target_name,
            asking.class_word(grant.ceiling),
            grant_state(grant),
            moment(grant.not_after) or f"starts by {moment(grant.must_start_by)}",
        ),
    )
    return Exit.OK


@grants.command("show")
@click.argument("grant_id", metavar="GRANT")
@click.pass_obj
def show_grant(shell: Shell, grant_id: str) -> int:
    """One grant."""
    grant = shell.client.grant(grant_id)
    shell.show(grant, lambda: _grant_text(grant))
    return Exit.OK


@grants.command("revoke")
@click.argument("grant_id", metavar="GRANT")
@click.option("--reason", required=True, help="why; kept in the audit log")
@click.pass_obj
def revoke_grant(shell: Shell, grant_id: str, reason: str) -> int:
    """End a grant now: its sessions are cut. Repeating it is harmless."""
    told = shell.client.revoke(grant_id, reason)
    shell.show(
        told, lambda: f"{one_line(told.grant.id)} is {grant_state(told.grant)}; {told.sessions_cut} sessions cut"
    )
    return Exit.OK


@grants.command("stuck")
@click.option("--retry", default="", metavar="GRANT", help="try this one within seconds, not when its turn comes")
@click.option("--reason", default="", help="why it is tried again; kept in the audit log")
@click.pass_obj
def stuck_grants(shell: Shell, *, retry: str, reason: str) -> int:
    """List ends that fail: why, since when, how often, and when they are tried again. At the host: grantd stuck."""
    client = shell.client
    if retry:
        asked = RetryStuckGrantRequest(grant_id=retry, reason=reason)
        told = client.call(client.access.RetryStuckGrant, asked)
        shell.show(told, lambda: f"{one_line(told.grant.grant_id)} is tried again within seconds")
        return Exit.OK
    shell.show_all(
        client.call(client.access.ListStuckGrants, ListStuckGrantsRequest()).grants,
        ("GRANT", "TARGET", "STATE", "SINCE", "TRIES", "NEXT", "WHY"),
        lambda one: (
            one.grant_id,
            one.target_name,
            word(GrantState.Name(one.state), "GRANT_STATE_"),
            moment(one.since),
            str(one.tries),
            moment(one.next_try),
            one.why,
        ),
    )
    return Exit.OK


def grant_state(grant: Grant) -> str:
    """The state's word, with the reason of an end."""
    state = word(GrantState.Name(grant.state), "GRANT_STATE_")
    return f"{state} ({one_line(grant.end_reason)})" if grant.end_reason and grant.end_reason != state else state


def _grant_text(grant: Grant) -> str:
    return facts(
        {
            "grant": grant.id,
            "request": grant.request_id,
            "who": f"{grant.identity_name} ({grant.identity_id})",
            "login": f"{grant.login} on {grant.target_name}",
            "ceiling": asking.class_word(grant.ceiling),
            "flags": ", ".join(grant.flags),
            "ttl": span(grant.ttl.ToTimedelta()),
            "state": grant_state(grant),
            "approved": moment(grant.approved_at),
            "starts by": moment(grant.must_start_by),
            "ends": moment(grant.not_after),
            "ended": moment(grant.ended_at),
        }
    )


def _show_request(shell: Shell, asked: AccessRequest) -> None:
    shell.show(
        asked,
        lambda: (
            facts(
                {
                    "request": asked.id,
                    "state": word(RequestState.Name(asked.state), "REQUEST_STATE_"),
                    "grant": asked.grant_id,
                    "login": f"{asked.login} on {asked.target_name}",
                    "ttl": f"{span(asked.ttl.ToTimedelta())} from first use",
                    "decide by": "" if asking.is_decided(asked) else moment(asked.expires_at),
                }
            )
            + f"\nceiling  {class_badge(asking.class_word(asked.ceiling))}"
        ),
    )
