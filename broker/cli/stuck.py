"""`grantd stuck`: grants whose access could not be taken away yet. At the broker's host, beside the running broker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from broker.cli.options import CONFIG, OUTPUT
from broker.cli.plainly import plainly, quiet

if TYPE_CHECKING:
    from broker.config import Settings
    from broker.service.stuck import Failing

_LINE: Final = "{grant}  {state:<6}  {target:<12}  since {since}  {tries} tries, next {next}: {why}"


@click.command()
@CONFIG
@OUTPUT
@click.option("--retry", default="", metavar="GRANT", help="try this one within seconds, not when its turn comes")
def stuck(config: Path, output: str, retry: str) -> None:
    """List endings that failed: why, since when, how often, and when they are tried again."""
    quiet()
    with plainly():
        import asyncio  # noqa: PLC0415

        from broker.config import Settings  # noqa: PLC0415

        found = asyncio.run(_found(Settings.load(config), retry))
    for one in found:
        row = _row(one)
        click.echo(json.dumps(row) if output == "json" else _LINE.format_map(row))
    if not found and output != "json":
        click.echo("nothing is stuck")


async def _found(settings: Settings, chosen: str) -> Sequence[Failing]:
    from broker.adapters.store.store import SqlStore  # noqa: PLC0415
    from broker.adapters.system import SystemEntropy  # noqa: PLC0415
    from broker.core.errors import not_found  # noqa: PLC0415
    from broker.founding import open_vault, rows_over  # noqa: PLC0415
    from broker.service.stuck import failing, retry  # noqa: PLC0415

    rows = rows_over(open_vault(settings), broker=settings.broker, entropy=SystemEntropy(), noted=lambda _tenant: None)
    store = await SqlStore.open(settings.store_url, source=rows)
    try:
        found = [one for tenant in await store.tenants() for one in await failing(store, tenant)]
        if not chosen:
            return found
        kept = [one for one in found if one.grant.id == chosen]
        if not kept:
            raise not_found("failing end")
        await retry(store, kept[0].grant.tenant, kept[0].grant.id, datetime.now(UTC))
        return [one for one in await failing(store, kept[0].grant.tenant) if one.grant.id == chosen]
    finally:
        await store.close()


def _row(one: Failing) -> dict[str, object]:
    since, effect = one.effect.failing_since, one.effect
    return {
        "grant": one.grant.id, "tenant": one.grant.tenant, "target": one.target, "state": one.grant.state.value,
        "why": effect.why, "tries": effect.attempts, "since": "" if since is None else _shown(since),
        "next": _shown(effect.due_at),
    }  # fmt: skip


def _shown(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
