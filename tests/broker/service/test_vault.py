"""Changing a tenant's keys: by an owner's fresh signature, in the background, told to the log (P17, I-17)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.core.errors import Refusal, VaultFault
from broker.core.ids import SYSTEM_TENANT, RecordingId, render
from broker.core.roles import Role
from broker.core.secret import Secret
from broker.service import root_keys, vault
from broker.service.ports import Freeze, Purpose, Tx
from tests.broker.adapters.store.fixtures import NOW, OTHER, TENANT
from tests.broker.service.somebody import Somebody
from tests.broker.service.world import House, refused

SECRETS = 7
METHOD = "grantd.v1.VaultService/RotateKey"


async def fill(house: House) -> None:
    """Secrets and a recording's key."""

    def unit(tx: Tx) -> None:
        for n in range(SECRETS):
            tx.keys.put_secret(f"s{n}", Secret(b"value %d" % n))
        tx.keys.new_recording_key(RecordingId(render("recording", bytes(16))))

    await house.store.run(TENANT, unit)


async def rotate(house: House, owner: Somebody, purpose: Purpose = Purpose.VAULT) -> int:
    """As `grantctl vault rotate`."""
    return await house.cases.vault.rotate(owner.caller, purpose, house.change(METHOD, purpose.encode(), owner))


async def test_an_owner_changes_a_key_and_everything_follows(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new version seals at once; batches move the rest; the old version is deleted; each step is in the log."""
    monkeypatch.setattr(vault, "BATCH", 3)
    await fill(house)
    owner = await house.add("olive", Role.OWNER)
    assert await rotate(house, owner) == 2
    standing = await house.cases.vault.status(owner.caller)
    assert standing.behind == [Purpose.VAULT]
    assert [(k.version, k.seals) for k in standing.keys if k.purpose is Purpose.VAULT] == [(1, SECRETS), (2, 0)]
    assert await house.cases.vault.tend(TENANT) == 0
    standing = await house.cases.vault.status(owner.caller)
    assert standing.behind == []
    assert [(k.version, k.seals) for k in standing.keys if k.purpose is Purpose.VAULT] == [(2, SECRETS)]
    names = await house.events()
    assert names.count("secret.updated") == SECRETS
    assert names.index("key.rotated") < names.index("secret.updated") < names.index("key.destroyed")
    assert house.meter.counted.count(("vault_rows_moved", {"purpose": Purpose.VAULT})) == SECRETS
    await house.cases.vault.tend(TENANT)
    assert len(await house.events()) == len(names), "with nothing to do nothing is written"


async def test_it_takes_a_fresh_signature(house: House) -> None:
    """An owner's session alone changes no key, nor does a signature over another change."""
    await fill(house)
    owner = await house.add("olive", Role.OWNER)
    for change in (
        house.change(METHOD, b"vault"),
        replace(house.change("grantd.v1.AdminService/Unfreeze", b"vault", owner), method=METHOD),
        replace(house.change(METHOD, b"subjects", owner), payload=b"vault"),
        house.change(METHOD, b"vault", owner, age_s=3_600),
    ):
        with pytest.raises(Refusal):
            await house.cases.vault.rotate(owner.caller, Purpose.VAULT, change)
    assert "key.rotated" not in await house.events()


async def test_a_search_key_stays(house: House) -> None:
    """Words that were hidden under it could not be hidden anew: they are not kept."""
    owner = await house.add("olive", Role.OWNER)
    assert await refused(rotate(house, owner, Purpose.SEARCH)) == "purpose_not_rotated"


async def test_one_change_at_a_time(house: House) -> None:
    """A second one before the first is done would leave two generations to move."""
    await fill(house)
    owner = await house.add("olive", Role.OWNER)
    await rotate(house, owner)
    assert await refused(rotate(house, owner)) == "rotation_under_way"
    await house.cases.vault.tend(TENANT)
    assert await rotate(house, owner) == 3


async def test_stopped_half_way_it_goes_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that dies between two batches leaves a state that the next one finishes."""
    monkeypatch.setattr(vault, "BATCH", 2)
    await fill(house)
    owner = await house.add("olive", Role.OWNER)
    await rotate(house, owner)
    batches = 0
    real = house.cases.vault._batch  # noqa: SLF001  where it dies

    async def dying(*words: object) -> object:
        nonlocal batches
        batches += 1
        if batches == 3:
            raise KeyboardInterrupt
        return await real(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(house.cases.vault, "_batch", dying)
    with pytest.raises(KeyboardInterrupt):
        await house.cases.vault.tend(TENANT)
    async with house.restarted() as after:
        standing = await after.cases.vault.status(owner.caller)
        assert [k.seals for k in standing.keys if k.purpose is Purpose.VAULT] == [SECRETS - 4, 4]
        assert await after.cases.vault.tend(TENANT) == 0
        found = await after.store.run(TENANT, lambda tx: tx.keys.secret("s6"))
        assert found is not None
        assert found.reveal() == b"value 6"


# ---- the end of a tenant's keys
async def test_only_a_frozen_tenant_is_shredded(house: House) -> None:
    """While somebody may be at work in it, nothing is deleted."""
    await fill(house)
    assert await refused(root_keys.shred(house.store, TENANT, NOW)) == "not_frozen"


async def test_shredding_is_told_and_leaves_others_alone(house: House) -> None:
    """What was sealed opens no more, by name; the log says so, and which of its entries tell nothing from now on."""
    await fill(house)
    await house.store.run(OTHER, lambda tx: tx.keys.put_secret("theirs", Secret(b"1")))
    freeze = Freeze(tenant=TENANT, frozen_by="pe", reason="closed", at=NOW)
    await house.store.run(TENANT, lambda tx: tx.freezes.put(freeze))
    assert await root_keys.shred(house.store, TENANT, NOW) >= 2
    assert (await house.events())[-2:] == ["key.shredded", "subject.erased"] or (await house.events())[
        -1
    ] == "key.shredded"
    with pytest.raises(VaultFault, match="gone"):
        await house.store.run(TENANT, lambda tx: tx.keys.secret("s0"))
    assert await house.store.run(OTHER, lambda tx: tx.keys.secret("theirs")) is not None


async def test_the_root_key_of_everybody_is_counted_and_ended(house: House) -> None:
    """`_system` too; a root key that still wraps something cannot be ended."""
    await fill(house)
    await house.store.run(SYSTEM_TENANT, lambda tx: tx.keys.put_secret("key", Secret(b"1")))
    assert await root_keys.wrapped_by(house.store) == {"rk_test": 3}
    assert await root_keys.rewrap_all(house.store, NOW) == 0, "there is no former root key"
    await root_keys.end_root(house.store, "rk_former", NOW)
    assert (await house.events())[-1] == "key.ended"
