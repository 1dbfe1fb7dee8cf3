"""The command tree of grantctl, and the one place where errors become sentences and exit codes."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from typing import Final, NoReturn

import click

from grantd.channel import VERSION
from grantd.cli import exits
from grantd.cli.shell import Shell, colour_allowed, shared
from grantd.errors import GrantdError

_INTERRUPTED = 128 + signal.SIGINT
# command -> where it is. Loaded when it is used: `run` in a loop should not wait for what only `approve` needs.
COMMANDS: Final = {
    "agent": "directory:agent",
    "agentd": "agentd.command:agentd",
    "approve": "prompt.command:approve",
    "audit": "log:audit",
    "break-glass": "glass:break_glass",
    "ca": "ca:ca",
    "change": "change:change",
    "db": "db:db",
    "explain": "explain:explain",
    "freeze": "freezing:freeze",
    "grants": "access:grants",
    "login": "login:login",
    "person": "directory:person",
    "policy": "policies:policy",
    "request": "access:request",
    "revoke": "revoking:revoke",
    "run": "run:run",
    "secret": "secret:secret",
    "sessions": "sessions:sessions",
    "ssh": "ssh.connect:ssh",
    "ssh-cert": "ssh.cert:ssh_cert",
    "ssh-config": "ssh.config:ssh_config",
    "ssh-proxy": "ssh.connect:ssh_proxy",
    "target": "target:target",
    "team": "directory:team",
    "ticket": "revoking:ticket",
    "trust": "trust:trust",
    "unfreeze": "freezing:unfreeze",
    "vault": "vault:vault",
    "whoami": "login:whoami",
}


class _Tree(click.Group):
    """The commands above, each with the options that all have."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"grantd.cli.{module}"), name)
        for each in command.commands.values() if isinstance(command, click.Group) else (command,):
            shared(each)
        return command


@click.group(cls=_Tree, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="grantctl")
def cli() -> None:
    """Short leases on machines: ask for access, run commands, approve, look back.

    Exit codes: 0 ok, 1 failure, 2 usage, 3 denied by policy, 4 refused by an approver, 5 expired, 69 broker
    unreachable, 75 still pending, 77 not signed in.
    """


shared(cli)


def main() -> NoReturn:
    """Run grantctl and exit. Never shows a traceback for what a person or the broker did."""
    shell = Shell()
    status = _run(shell)
    # a stream whose reader went away must not turn a good end into a complaint of the interpreter
    try:
        sys.stdout.flush()
    except OSError as wrong:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(wrong, BrokenPipeError):
            status = _unwritten(shell, wrong)
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
    except OSError as wrong:
        return _unwritten(shell, wrong)
    finally:
        shell.close()
    return returned if isinstance(returned, int) else exits.Exit.OK


def _unwritten(shell: Shell, wrong: OSError) -> int:
    """A disk that is full, a terminal that went away: what was done was done, what it said is not all there."""
    with contextlib.suppress(OSError):
        shell.say(f"output could not be written: {wrong.strerror or wrong}")
    return exits.Exit.FAILURE
