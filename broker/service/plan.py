"""A ticket as the target gets it. The same for what moves bytes and for what signs the certificate that lets it in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from broker.core import sftp
from broker.core.action import Action, StdinMode
from broker.core.terminal import Terminal
from broker.service import lookup
from broker.service.ports import ExecPlan
from broker.service.start import Ticket


def plan_of(
    ticket: Ticket, *, serial: int, announce: Callable[[int], Awaitable[None]], files: bool = False,
    terminal: Terminal | None = None,
) -> ExecPlan:  # fmt: skip
    """The plan of a command.

    Args:
        ticket: of the action.
        files: whether somebody speaks SFTP with it by himself: only then does the name of a file session mean one.
        serial: for a certificate, if one is needed.
        announce: as ExecPlan.
        terminal: of the caller, for an action with a pty; a usual one without.
    """
    action, target = ticket.action, ticket.target
    return ExecPlan(
        tenant=action.tenant,
        grant_id=action.grant_id,
        action_id=action.id,
        target=target,
        login=action.login,
        command=sftp.program(action.command) if files else action.command,
        cwd=action.cwd,
        env=action.env,
        sealed=files or target.seal_reads or action.pty or not lookup.only_reads(action),
        wants_stdin=files or action.stdin_mode is not StdinMode.NONE,
        serial=serial,
        not_after=action.not_after,
        seconds_left=ticket.seconds_left,
        proof=ticket.proof,
        announce=announce,
        pty=_terminal(action, terminal),
    )


def _terminal(action: Action, terminal: Terminal | None) -> Terminal | None:
    if not action.pty:
        return None
    terminal = terminal or Terminal()
    return terminal.without_keyboard() if action.stdin_mode is StdinMode.NONE else terminal
