"""The command tree of grantctl, and the one place where errors become sentences and exit codes."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

import click

from grantd.channel import VERSION
from grantd.cli import exits
from grantd.cli.access import grants, request, ssh_cert
from grantd.cli.change import change
from grantd.cli.directory import agent, person, team
from grantd.cli.explain import explain
from grantd.cli.freezing import freeze, unfreeze
from grantd.cli.log import audit
from grantd.cli.login import login, whoami
from grantd.cli.policies import policy
from grantd.cli.prompt.command import approve
from grantd.cli.run import run
from grantd.cli.sessions import sessions
from grantd.cli.shell import Shell, colour_allowed, shared
from grantd.cli.target import target
from grantd.errors import GrantdError

_INTERRUPTED = 128 + signal.SIGINT
COMMANDS = (
    agent,
    approve,
    audit,
    change,
    explain,
    freeze,
    grants,
    login,
    person,
    policy,
    request,
    run,
    sessions,
    ssh_cert,
    target,
    team,
    unfreeze,
    whoami,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="grantctl")
def cli() -> None:
    """Short leases on machines: ask for access, run commands, approve, look back.

    Exit codes: 0 ok, 1 failure, 2 usage, 3 denied by policy, 4 refused by an approver, 5 expired, 69 broker
    unreachable, 75 still pending, 77 not signed in.
    """


for _command in COMMANDS:
    cli.add_command(_command)
    for _each in _command.commands.values() if isinstance(_command, click.Group) else (_command,):
        shared(_each)
shared(cli)


def main() -> NoReturn:
    """Run grantctl and exit. Never shows a traceback for what a person or the broker did."""
    shell = Shell()
    status = _run(shell)
    # a stream whose reader went away must not turn a good end into a complaint of the interpreter
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def _run(shell: Shell) -> int:
    # None lets click look at the stream; False holds whatever the stream is
    colour = None if colour_allowed() else False
    try:
        returned = cli.main(prog_name="grantctl", standalone_mode=False, obj=shell, color=colour)
    except click.exceptions.Exit as left:
        return left.exit_code
    except click.ClickException as wrong:
        wrong.show()
        return wrong.exit_code
    except (click.Abort, KeyboardInterrupt):
        shell.say("interrupted")
        return _INTERRUPTED
    except GrantdError as refused:
        shell.fail(refused)
        return exits.of_error(refused)
    except BrokenPipeError:
        return exits.Exit.FAILURE
    finally:
        shell.close()
    return returned if isinstance(returned, int) else exits.Exit.OK
