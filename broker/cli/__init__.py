"""`grantd`: the daemon's own commands. What people do with a running broker is `grantctl`'s.

Imports what a command needs inside it: `classify` and `verify` start without the daemon's libraries.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.freezing import freeze
from broker.cli.history import explain, simulate
from broker.cli.options import CONFIG
from broker.cli.plainly import plainly, quiet
from broker.cli.policy import policy
from broker.cli.restoring import restore
from broker.cli.stuck import stuck
from broker.cli.vault import doctor, vault

if TYPE_CHECKING:
    from broker.config import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def grantd() -> None:
    """grantd: just-in-time privileged access broker."""


@grantd.command()
@CONFIG
@click.option("--data", type=click.Path(path_type=Path), default=Path("/var/lib/grantd"), show_default=True)
@click.option("--tenant", default="main", show_default=True, help="name of the first tenant")
@click.option("--owner", default="owner", show_default=True, help="name of the first Owner")
@click.option(
    "--owner-key",
    type=click.Path(path_type=Path, exists=True),
    help="their public key, which signs now; else one is made",
)
@click.option("--profile", type=click.Path(path_type=Path), help="their grantctl profile [DATA/owner]")
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
@click.option("--base-port", default=7443, show_default=True, help="gRPC; join is +1; SSH, metrics, freeze follow")
@click.option("--database", default="", help="postgresql://... instead of SQLite in the data directory")
def init(
    config: Path, data: Path, tenant: str, owner: str, owner_key: Path | None, profile: Path | None, host: str,
    base_port: int, database: str,
) -> None:  # fmt: skip
    """Make keys, database, a tenant and the first Owner: a working single node."""
    where = (profile or data / "owner").absolute()
    quiet()
    with plainly():
        import asyncio  # noqa: PLC0415
        from datetime import UTC, datetime  # noqa: PLC0415

        from broker.init import initialise, must_be_new, own_key, single_node, write_config  # noqa: PLC0415

        settings = single_node(data=data.absolute(), tenant=tenant, host=host, base_port=base_port, database=database)
        key = own_key(owner_key) if owner_key else None
        must_be_new(config, settings, owner=owner, profile=where)
        asyncio.run(initialise(settings, owner=owner, approval_key=key, profile=where, now=datetime.now(UTC)))
        write_config(config, settings)
    click.echo(f"configuration  {config}\ndata           {data}\nowner profile  {where}")
    click.echo(f"\nnext:  grantd serve --config {config}\n       grantctl --profile {where} whoami")


@grantd.command()
@CONFIG
def serve(config: Path) -> None:
    """Run the broker until SIGTERM."""
    with plainly():
        from broker.adapters.system import no_dumps  # noqa: PLC0415
        from broker.config import Settings  # noqa: PLC0415
        from broker.logs import configure  # noqa: PLC0415
        from broker.signer import harden  # noqa: PLC0415

        # before the first secret is read: settings may hold the database's
        no_dumps()
        settings = Settings.load(config)
        harden.private_files()
        harden.overwrite_freed()
        not_locked = harden.lock_memory()
        configure(settings.log_level)
        # gRPC must neither mix its own lines into the JSON ones nor guard a fork that only ever starts the signer
        os.environ |= {"GRPC_VERBOSITY": "NONE", "GRPC_ENABLE_FORK_SUPPORT": "0"}
        import uvloop  # noqa: PLC0415

        from broker.adapters.system import give_way_quickly  # noqa: PLC0415

        give_way_quickly()
        uvloop.run(_serve(settings, not_locked))


async def _serve(settings: Settings, not_locked: str) -> None:
    """Until a signal. `not_locked`: why memory may go to swap; empty where it may not."""
    import asyncio  # noqa: PLC0415
    import signal  # noqa: PLC0415

    import structlog  # noqa: PLC0415

    from broker.adapters.system import keep_for_good  # noqa: PLC0415
    from broker.app import running  # noqa: PLC0415

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if not_locked:
        structlog.get_logger().warning("memory.not_locked", why=not_locked)
    async with running(settings) as broker:
        broker.house.meter.gauge("memory_locked", int(not not_locked))
        keep_for_good()
        await stop.wait()


@grantd.command()
@click.option("--config", type=click.Path(path_type=Path), help="its own file, instead of the three below")
@click.option("--directory", type=click.Path(path_type=Path), help="the keys and the journal, 0700")
@click.option("--socket", type=click.Path(path_type=Path), help="Unix socket to listen at")
@click.option("--allowed-uid", type=int, help="uid of the broker")
def signer(config: Path | None, directory: Path | None, socket: Path | None, allowed_uid: int | None) -> None:
    """Run the signer as a service of its own."""
    if config is None and (directory is None or socket is None or allowed_uid is None):
        raise click.UsageError("give --config, or --directory, --socket and --allowed-uid")
    if config is not None and (directory, socket, allowed_uid) != (None, None, None):
        raise click.UsageError("--config says it all: no other option beside it")
    with plainly():
        from broker.logs import configure  # noqa: PLC0415
        from broker.signer.process import SignerConfig, run_signer  # noqa: PLC0415
        from broker.signer.settings import signer_config  # noqa: PLC0415

        configure("info", stream=sys.stderr)
        if config is not None:
            run_signer(signer_config(config))
        elif directory is not None and socket is not None and allowed_uid is not None:
            run_signer(SignerConfig(directory=directory, socket=socket, allowed_uid=allowed_uid, parent_pid=None))


@grantd.group()
def trust() -> None:
    """What the signer believes, at the signer's own directory."""


@trust.command("begin")
@CONFIG
@click.option("--owner", required=True, help="name of an Owner; their signature opens the file")
@click.option("--owner-key", type=click.Path(path_type=Path, exists=True), required=True, help="their public key")
def begin_trust(config: Path, owner: str, owner_key: Path) -> None:
    """Write the first line of a trust file that is not there yet. The broker must be stopped."""
    quiet()
    with plainly():
        import asyncio  # noqa: PLC0415
        from datetime import UTC, datetime  # noqa: PLC0415

        from broker.config import Settings  # noqa: PLC0415
        from broker.init import begin_trust as begin  # noqa: PLC0415
        from broker.init import own_key  # noqa: PLC0415

        person = asyncio.run(begin(Settings.load(config), owner=owner, key=own_key(owner_key), now=datetime.now(UTC)))
    click.echo(f"the signer believes {person.name}; start the broker, then: grantctl trust adopt")


@grantd.command()
@CONFIG
@click.option("--owner-url", default="", envvar="GRANTD_OWNER_URL", help="the database owner's URL (PostgreSQL)")
@click.option("--app-role", default="", help="the role that the broker uses (PostgreSQL)")
def migrate(config: Path, owner_url: str, app_role: str) -> None:
    """Bring the database to this version's tables."""
    os.environ.pop("GRANTD_OWNER_URL", None)
    quiet()
    with plainly():
        from broker.adapters.store import migrations  # noqa: PLC0415
        from broker.config import Settings  # noqa: PLC0415

        migrations.migrate(owner_url or Settings.load(config).store_url, app_role=app_role)
    click.echo("the database is up to date")


policy.add_command(simulate)
policy.add_command(explain)
grantd.add_command(policy)
grantd.add_command(freeze)
grantd.add_command(vault)
grantd.add_command(doctor)
grantd.add_command(restore)
grantd.add_command(stuck)


@grantd.command()
@click.option("--explain", is_flag=True, help="print JSON with every part")
def classify(explain: bool) -> None:  # noqa: FBT001  a flag of click
    """Read one JSON string a line, print the class of the command that it holds."""
    from policy.explain import classify_line, explain_line  # noqa: PLC0415

    answer = explain_line if explain else classify_line
    # whatever the locale: a byte that is no UTF-8 becomes a lone surrogate, which is refused
    for line in io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="surrogateescape", newline="\n"):
        sys.stdout.write(answer(line.rstrip("\n")) + "\n")
        sys.stdout.flush()


@grantd.command()
@click.argument("files", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.option("--vkey", "vkeys", multiple=True, help="verifier key of the log, from a place that you trust")
def verify(files: tuple[Path, ...], vkeys: tuple[str, ...]) -> None:
    """Check recordings, bundles and checkpoints offline: no key, no network. Exit 1 if anything is wrong."""
    with plainly():
        from recorder.verify import verify_paths  # noqa: PLC0415

        reports = verify_paths(files, vkeys=vkeys)
        for report in reports:
            click.echo("\n".join(report.lines()))
    sys.exit(0 if all(report.ok for report in reports) else 1)
