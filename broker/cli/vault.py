"""`grantd vault` and `grantd doctor --vault`: root keys and what they wrap, beside a running broker or without one.

They need what the broker itself has: its user, its settings, its root keys. They open keys;
the doctor alone tries whether values open.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from broker.cli.options import CONFIG, OUTPUT
from broker.cli.plainly import plainly, quiet

if TYPE_CHECKING:
    from broker.adapters.root_rotation import RootFiles
    from broker.adapters.store.store import SqlStore
    from broker.adapters.vault import Vault
    from broker.config import Settings

T = TypeVar("T")


@click.group()
def vault() -> None:
    """Root keys: what they wrap, changing them, and the end of a tenant's keys."""


@vault.command()
@CONFIG
@OUTPUT
def status(config: Path, output: str) -> None:
    """Show the root keys that can be read here, and how many tenant keys each wraps."""
    quiet()
    with plainly():
        from broker.service.root_keys import wrapped_by  # noqa: PLC0415

        async def use(store: SqlStore, held: Vault) -> tuple[dict[str, str], Mapping[str, int]]:
            roots = held.roots
            names = {root.id: "next" for root in roots.coming} | {root.id: "previous" for root in roots.previous}
            return {**names, roots.primary.id: "primary"}, await wrapped_by(store)

        known, counts = _with_vault(config, use)
        rows = [
            {"root": root, "is": known.get(root, "missing"), "wraps": counts.get(root, 0)}
            for root in sorted({*known, *counts})
        ]
        for row in rows:
            click.echo(json.dumps(row) if output == "json" else f"{row['root']}  {row['is']:<8}  {row['wraps']}")


@vault.command("rotate-root")
@CONFIG
@click.option("--prepare", is_flag=True, help="only make the next key, to be carried to every broker first")
def rotate_root(config: Path, prepare: bool) -> None:  # noqa: FBT001  a flag of click
    """Make a new root key, make it primary, move every tenant key under it. Stopped, it goes on when repeated."""
    quiet()
    with plainly():
        from broker.service.root_keys import rewrap_all  # noqa: PLC0415

        files = _root_files(config)
        if not files.read().previous:
            files.prepare()
            if prepare:
                click.echo(f"{files.next}: made; copy it beside the root key of every broker, then run this again")
                return
            files.swap()
        click.echo(f"primary   {files.read().primary.id}")

        async def use(store: SqlStore, _held: Vault) -> int:
            return await rewrap_all(store, datetime.now(UTC))

        click.echo(f"rewrapped {_with_vault(config, use)} key(s); nothing lies under the former root key any more")
        click.echo(f"next      keep {files.previous} until no backup needs it, then: grantd vault retire-root")


@vault.command("rewrap")
@CONFIG
def rewrap(config: Path) -> None:
    """Move every tenant key under the primary root key: after root keys were changed in systemd's credentials."""
    quiet()
    with plainly():
        from broker.service.root_keys import rewrap_all  # noqa: PLC0415

        async def use(store: SqlStore, _held: Vault) -> int:
            return await rewrap_all(store, datetime.now(UTC))

        click.echo(f"rewrapped {_with_vault(config, use)} key(s)")


@vault.command("retire-root")
@CONFIG
@click.option("--yes", is_flag=True, help="no backup needs it any more")
def retire_root(config: Path, yes: bool) -> None:  # noqa: FBT001  a flag of click
    """End the former root key: nothing is ever made under it again, and its file is overwritten and removed."""
    quiet()
    with plainly():
        from broker.core.errors import invalid  # noqa: PLC0415
        from broker.service.root_keys import end_root, rewrap_all  # noqa: PLC0415

        files = _root_files(config)
        former = files.read().previous
        if not former:
            raise invalid("no_former_root", "there is no former root key here", "grantd vault status")
        if not yes:
            raise invalid("not_confirmed", "every backup made before the change needs the former root key", "--yes")

        async def use(store: SqlStore, _held: Vault) -> None:
            now = datetime.now(UTC)
            await rewrap_all(store, now)
            await end_root(store, former[0].id, now)

        _with_vault(config, use)
        files.forget()
        click.echo(f"ended {former[0].id}")


@vault.command()
@CONFIG
@click.argument("tenant")
@click.option("--yes", is_flag=True, help="its secrets, recordings and names are to be unreadable for ever")
def shred(config: Path, tenant: str, yes: bool) -> None:  # noqa: FBT001  a flag of click
    """Delete every key of a frozen TENANT. What they sealed stays unreadable, once no backup holds them either."""
    quiet()
    with plainly():
        from broker.core.errors import invalid, not_found  # noqa: PLC0415
        from broker.core.ids import TenantId  # noqa: PLC0415
        from broker.service.root_keys import shred as shredded  # noqa: PLC0415

        if not yes:
            raise invalid("not_confirmed", "this cannot be taken back", "--yes")

        async def use(store: SqlStore, _held: Vault) -> int:
            if TenantId(tenant) not in await store.tenants():
                raise not_found("tenant")
            gone = await shredded(store, TenantId(tenant), datetime.now(UTC))
            await store.scrub()
            return gone

        click.echo(f"deleted {_with_vault(config, use)} key(s); backups that hold them have to go too")


@click.command()
@CONFIG
@OUTPUT
@click.option(
    "--vault", "of_vault", is_flag=True, help="root keys, tenant keys, and every secret against the audit log"
)
def doctor(config: Path, output: str, of_vault: bool) -> None:  # noqa: FBT001  a flag of click
    """Look for what is wrong with this installation. Exit 1 if anything is."""
    quiet()
    with plainly():
        from broker.adapters.store.vault_doctor import examine  # noqa: PLC0415
        from broker.core.errors import invalid  # noqa: PLC0415
        from broker.service.root_keys import everyone  # noqa: PLC0415

        if not of_vault:
            raise invalid("nothing_to_examine", "say what to examine", "--vault")

        async def use(store: SqlStore, held: Vault) -> list[dict[str, object]]:
            found: list[dict[str, object]] = []
            for tenant in await everyone(store):
                report = await store.read_sql(tenant, lambda conn, tenant=tenant: examine(conn, tenant, held))  # type: ignore[misc]
                found += [{"tenant": tenant, "ok": f.ok, "what": f.what} for f in report]
            return found

        found = _with_vault(config, use)
        for line in found:
            mark = "ok   " if line["ok"] else "WRONG"
            click.echo(json.dumps(line) if output == "json" else f"{mark}  {line['tenant']}: {line['what']}")
    sys.exit(0 if all(line["ok"] for line in found) else 1)


def _root_files(config: Path) -> RootFiles:
    from broker.adapters.root_rotation import RootFiles  # noqa: PLC0415
    from broker.config import Settings  # noqa: PLC0415
    from broker.core.errors import invalid  # noqa: PLC0415

    path = Settings.load(config).root_key_file
    if not path.exists():
        raise invalid(
            "no_root_file", f"{path}: is not there, the root key is not a file", "see docs/vault.md for credentials"
        )
    return RootFiles(path=path, owner=os.geteuid())


def _with_vault(config: Path, use: Callable[[SqlStore, Vault], Awaitable[T]]) -> T:
    """What `use` makes of the broker's database and vault."""
    import asyncio  # noqa: PLC0415

    from broker.config import Settings  # noqa: PLC0415
    from broker.founding import open_vault  # noqa: PLC0415

    settings = Settings.load(config)
    return asyncio.run(_used(settings, open_vault(settings), use))


async def _used(settings: Settings, held: Vault, use: Callable[[SqlStore, Vault], Awaitable[T]]) -> T:
    from broker.adapters.store.store import SqlStore  # noqa: PLC0415
    from broker.adapters.system import SystemEntropy  # noqa: PLC0415
    from broker.founding import rows_over  # noqa: PLC0415

    rows = rows_over(held, broker=settings.broker, entropy=SystemEntropy(), noted=lambda _tenant: None)
    store = await SqlStore.open(settings.store_url, source=rows)
    try:
        return await use(store, held)
    finally:
        await store.close()
