"""`grantd restore --acknowledge`: an Owner says at the broker's host that the database is meant to be older."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.options import CONFIG
from broker.cli.plainly import plainly, quiet

if TYPE_CHECKING:
    from broker.adapters.store.store import SqlStore
    from broker.config import Settings
    from broker.core.ids import TenantId
    from broker.service.stepup import Change
    from grantd.profile import Profile


@click.command()
@CONFIG
@click.option("--acknowledge", is_flag=True, help="what happened after the backup is lost, and that is understood")
@click.option("--profile", type=click.Path(path_type=Path, exists=True), required=True, help="an Owner's profile")
@click.option("--key", type=click.Path(path_type=Path), help="their approval key, if the profile names none")
def restore(config: Path, acknowledge: bool, profile: Path, key: Path | None) -> None:  # noqa: FBT001  a flag of click
    """Let a broker grant again whose database was restored from a backup. Start it once before, and anew afterwards."""
    quiet()
    with plainly():
        import asyncio  # noqa: PLC0415

        from broker.config import Settings  # noqa: PLC0415
        from broker.core.errors import invalid  # noqa: PLC0415
        from grantd.profile import Profile  # noqa: PLC0415

        if not acknowledge:
            raise invalid("not_confirmed", "what happened after the backup is lost", "--acknowledge")
        for tenant in asyncio.run(_acknowledge(Settings.load(config), Profile.load(profile), key)):
            click.echo(f"{tenant}: the log goes on under a new epoch")
        click.echo("next      start the broker anew")


async def _acknowledge(settings: Settings, profile: Profile, key: Path | None) -> list[TenantId]:
    from broker.adapters.store.store import SqlStore  # noqa: PLC0415
    from broker.adapters.system import SystemEntropy  # noqa: PLC0415
    from broker.founding import open_vault, rows_over  # noqa: PLC0415

    entropy = SystemEntropy()
    rows = rows_over(open_vault(settings), broker=settings.broker, entropy=entropy, noted=lambda _tenant: None)
    store = await SqlStore.open(settings.store_url, source=rows)
    try:
        return await _begun(settings, store, profile, key)
    finally:
        await store.close()


async def _begun(settings: Settings, store: SqlStore, profile: Profile, key: Path | None) -> list[TenantId]:
    from broker.adapters.audit_log.health import LogHealth  # noqa: PLC0415
    from broker.adapters.audit_log.keeper import SqlAuditKeeper  # noqa: PLC0415
    from broker.adapters.audit_log.pins import Pins  # noqa: PLC0415
    from broker.adapters.audit_log.signing import Keyring, LogNames  # noqa: PLC0415
    from broker.adapters.metrics import PrometheusMeter  # noqa: PLC0415
    from broker.adapters.system import SystemClock, SystemEntropy  # noqa: PLC0415
    from broker.core.ids import SYSTEM_TENANT, IdentityId, TenantId  # noqa: PLC0415
    from broker.service.restored import acknowledge  # noqa: PLC0415

    now, meter = datetime.now(UTC), PrometheusMeter()
    health = LogHealth(clock=SystemClock(), meter=meter)
    keeper = SqlAuditKeeper(
        store=store, names=LogNames(domain=settings.audit.domain, cluster=settings.audit.cluster),
        pins=Pins(settings.data / "checkpoints"), keyring=Keyring(), health=health, entropy=SystemEntropy(),
        meter=meter,
    )  # fmt: skip
    await keeper.start(now)
    broken = [tenant for tenant in (SYSTEM_TENANT, *await store.tenants()) if health.broken(tenant)]
    owner = TenantId(profile.description.tenant), IdentityId(profile.description.identity_id)
    change = _change(profile, key, ",".join(broken).encode(), now)
    await acknowledge(store, keeper, broken, owner=owner, change=change, now=now, operators=TenantId(settings.tenant))
    return broken


def _change(profile: Profile, key: Path | None, payload: bytes, now: datetime) -> Change:
    """The Owner's signature over which logs they are."""
    import hashlib  # noqa: PLC0415

    from broker.core.clock import micros  # noqa: PLC0415
    from broker.core.ids import IdentityId, TenantId  # noqa: PLC0415
    from broker.core.records import CHANGE_NAMESPACE, change_record  # noqa: PLC0415
    from broker.service.restored import METHOD  # noqa: PLC0415
    from broker.service.stepup import Change, StepUp  # noqa: PLC0415
    from grantd.cli.signing import find  # noqa: PLC0415

    nonce, person = os.urandom(16), IdentityId(profile.description.identity_id)
    record = change_record(
        tenant=TenantId(profile.description.tenant), person=person, method=METHOD,
        payload_sha256=hashlib.sha256(payload).digest(), at=now, nonce=nonce,
    )  # fmt: skip
    signature = find(profile, key).sign(CHANGE_NAMESPACE, record)
    signed = StepUp(person=person, signed_at_us=micros(now), nonce=nonce, signature=signature)
    return Change(method=METHOD, payload=payload, step_ups=[signed])
