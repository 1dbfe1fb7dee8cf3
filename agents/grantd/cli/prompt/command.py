"""`grantctl approve`: the prompt on a terminal; with `-o json` only a look at what waits."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

import click

from grantd.cli import signing
from grantd.cli.exits import Exit
from grantd.cli.prompt.feed import Feed
from grantd.cli.prompt.loop import Loop, broker_clock
from grantd.cli.prompt.terminal import Terminal
from grantd.cli.shell import Shell, as_json, colour_allowed, now
from grantd.v1.approval_pb2 import GetPendingRequest, ListPendingRequest


@click.command()
@click.argument("item_id", metavar="[ID]", required=False)
@click.option("--once", is_flag=True, help="leave when nothing waits any more")
@click.option("--key", type=click.Path(path_type=Path), help="approval key, if not the profile's")
@click.pass_obj
def approve(shell: Shell, *, item_id: str | None, once: bool, key: Path | None) -> int:
    """Look at what waits for a person, and decide it with your signature.

    Deciding needs a terminal. y and Enter approve what reads or writes; for execute, install, reboot and everything
    that was not understood you press a and type the code that the card shows. Pasted text never approves.
    """
    if shell.as_json:
        return _list(shell, item_id)
    terminal = Terminal(colour=colour_allowed())
    client = shell.client
    # before anything is shown: a passphrase is never asked for while keys could approve
    signer = signing.find(client.profile, key)
    told = client.whoami()
    clock = broker_clock(told.server_time.ToDatetime(tzinfo=UTC), now(), now)
    shell.say(f"approving with {signer.fingerprint}")
    with terminal:
        feed = Feed(client, terminal.wake)
        feed.start()
        try:
            Loop(
                client=client,
                terminal=terminal,
                feed=feed,
                signer=signer,
                me=told.identity_id,
                only=item_id,
                once=once,
                now=clock,
            ).run()
        finally:
            feed.close()
    return Exit.OK


def _list(shell: Shell, item_id: str | None) -> int:
    client = shell.client
    if item_id is not None:
        click.echo(as_json(client.call(client.approvals.GetPending, GetPendingRequest(id=item_id)).item))
        return Exit.OK
    for item in client.call(client.approvals.ListPending, ListPendingRequest()).items:
        click.echo(as_json(item))
    return Exit.OK
