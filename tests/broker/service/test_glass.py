"""The broker's books of a sealed credential: once, an hour, told, reviewed; nothing of it where a step fails (I-62)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.core.action import ActionState
from broker.core.errors import Refusal, SignerFault, StoreFault
from broker.core.glass import GLASS_NAMESPACE, BreakGlass, GlassId, GlassUse
from broker.core.grant import EndReason, GrantState
from broker.core.identity import IdentityStatus
from broker.core.ids import GrantId, render
from broker.core.records import APPROVAL_NAMESPACE, timed_nonce
from broker.core.roles import Role
from broker.core.sshwire import ed25519_blob, parse_blob
from broker.service.glass import Shown
from broker.service.wake import PENDING
from policy.classes import CommandClass
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.somebody import Somebody
from tests.broker.service.world import EXECUTE, WRITE, House, refused, until

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
METHOD = "ReviewBreakGlass"


@dataclass(slots=True)
class Night:
    """Two owners, a manager with a sealed credential for writes on web1, and the file in their hands."""

    house: House
    owner: Somebody
    other: Somebody
    holder: Somebody
    file: Somebody
    """The sealed key, as somebody who signs."""
    glass: BreakGlass
    _drawn: int = field(default=0)

    def word(self, *, ago: timedelta = timedelta(0), **changed: str) -> bytes:
        """What opens it: each call another one."""
        self._drawn += 1
        number = self._drawn.to_bytes(12, "big")
        made = GlassUse(
            tenant=TENANT, glass=self.glass.id, person=self.holder.id, request_id=render("request", number + bytes(4)),
            nonce=timed_nonce(self.house.clock.now() - ago, number),
        )  # fmt: skip
        return replace(made, **changed).encoded()  # type: ignore[arg-type]

    async def use(self, word: bytes | None = None, *, by: Somebody | None = None, signed: bytes | None = None) -> Shown:
        """Opens it."""
        said = word or self.word()
        signature = signed or self.file.sign(GLASS_NAMESPACE, said)
        return await self.house.cases.glass.use((by or self.holder).caller, said, signature, "the shop is down")

    async def grant(self) -> GrantId:
        """Opens it; the grant of the hour."""
        request = (await self.use()).request
        assert request is not None
        assert request.grant_id is not None
        return request.grant_id

    async def row(self) -> BreakGlass:
        """As the store has it."""
        found = await self.house.store.inner.read(TENANT, lambda tx: tx.glasses.get(self.glass.id))
        assert found is not None
        return found

    async def keep(self, row: BreakGlass) -> None:
        """Writes it behind the service's back."""
        await self.house.store.run(TENANT, lambda tx: tx.glasses.put(row))

    def review(self, who: Somebody) -> Awaitable[Shown]:
        """Somebody says that they looked."""
        change = self.house.change(METHOD, b"looked", who)
        return self.house.cases.glass.review(who.caller, self.glass.id, "as agreed", change)

    async def nothing_of_it(self) -> None:
        """No request, no grant, no event, no alarm: it is as it was."""
        assert await self.row() == self.glass
        assert await self.house.store.inner.read(TENANT, lambda tx: tx.grants.count(tuple(GrantState))) == 0
        assert "glass.used" not in await self.house.events()
        assert list(await self.house.cases.glass.alarms(self.owner.caller)) == []


def sealed_key(name: str, like: Somebody) -> Somebody:
    """A key of its own, which is no person's."""
    return replace(like, approval=Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest()))


def made(house: House, holder: Somebody, owner: Somebody, key: Somebody, number: int = 1) -> BreakGlass:
    """The row of a sealed credential."""
    line = parse_blob(ed25519_blob(key.approval.public_key().public_bytes_raw())).line()
    return BreakGlass(
        tenant=TENANT, id=GlassId(render("glass", bytes([number]) * 16)), person=holder.id, target_id=house.web1.id,
        login="deploy", ceiling=CommandClass.WRITE, key=line, until=house.clock.now() + timedelta(days=30),
        made_by=owner.id, made_at=house.clock.now(),
    )  # fmt: skip


@pytest.fixture
async def night(house: House) -> Night:
    """Nobody used anything yet."""
    owner, other = await house.add("olga", Role.OWNER), await house.add("otto", Role.OWNER)
    holder = await house.add("mona", Role.MANAGER)
    file = sealed_key("a sealed key", holder)
    night = Night(
        house=house, owner=owner, other=other, holder=holder, file=file, glass=made(house, holder, owner, file)
    )  # fmt: skip
    await night.keep(night.glass)
    return night


async def test_it_opens_an_hour_that_is_recorded_like_any_other(night: Night) -> None:
    """Request, grant and its beginning are events, beside its own; the hour counts from the word on."""
    grant = await night.house.grant((await night.use(night.word(ago=4 * MINUTE))).request.grant_id)  # type: ignore[union-attr, arg-type]
    assert grant.not_after is not None
    assert HOUR - 5 * MINUTE < grant.not_after - night.house.clock.now() <= HOUR - 4 * MINUTE
    assert (grant.target_id, grant.login, grant.ceiling) == (night.house.web1.id, "deploy", CommandClass.WRITE)
    events = await night.house.events()
    for name in ("access.requested", "access.approved", "grant.activated", "glass.used"):
        assert events.count(name) == 1, name
    assert ("break_glass_used", {}) in night.house.meter.counted


WORDS: dict[str, tuple[Callable[[Night], bytes], str]] = {
    "signed more than five minutes ago": (lambda n: n.word(ago=5 * MINUTE + timedelta(seconds=1)), "break_glass_late"),
    "of more than a minute to come": (lambda n: n.word(ago=-MINUTE - timedelta(seconds=1)), "break_glass_late"),
    "of another tenant": (lambda n: n.word(tenant="t2"), "not_found"),
    "of somebody else": (lambda n: n.word(person=n.owner.id), "not_found"),
    "of one that nobody made": (lambda n: n.word(glass=render("glass", bytes(16))), "not_found"),
    "no word at all": (lambda _: b"open it", "bad_break_glass"),
}


@pytest.mark.parametrize("case", WORDS.values(), ids=WORDS.keys())
async def test_a_word_that_opens_nothing(night: Night, case: tuple[Callable[[Night], bytes], str]) -> None:
    """Refused with its code; nothing is spent, here or at the signer, and the honest word still opens it."""
    word, code = case
    assert await refused(night.use(word(night))) == code
    await night.nothing_of_it()
    assert night.house.signer.opened == {}
    await night.use()


async def test_a_word_under_a_request_that_there_was(night: Night) -> None:
    """The request is the hour's own: it is put over no other one."""
    bot = await night.house.add("bot")
    request = await night.house.cases.access.request(bot.caller, night.house.wish())
    assert await refused(night.use(night.word(request_id=request.id))) == "break_glass_late"
    assert await night.house.request(request) == request


async def test_one_that_has_run_out(night: Night) -> None:
    """From its very second on."""
    night.house.clock.forward(timedelta(days=30).total_seconds())
    assert await refused(night.use()) == "break_glass_expired"
    await night.nothing_of_it()


async def test_by_another_hand_or_key(night: Night) -> None:
    """Another's client, the holder's own approval key, another sealed key, another namespace: none opens it."""
    word = night.word()
    assert await refused(night.use(word, by=night.owner)) == "not_found"
    for who in (night.holder, night.owner, sealed_key("x", night.holder)):
        assert await refused(night.use(word, signed=who.sign(GLASS_NAMESPACE, word))) == "bad_signature"
    assert await refused(night.use(word, signed=night.file.sign(APPROVAL_NAMESPACE, word))) == "bad_signature"
    await night.nothing_of_it()


async def test_of_somebody_who_was_suspended(night: Night) -> None:
    """The way to end a lost one."""
    await night.house.put(replace(night.holder.row, status=IdentityStatus.SUSPENDED))
    assert await refused(night.use()) == "identity_suspended"
    await night.nothing_of_it()


async def test_a_frozen_tenant_opens_none(night: Night) -> None:
    """The kill switch stands above it, also in the hour."""
    grant = await night.grant()
    action = (await night.house.propose(night.holder, grant, WRITE)).action
    await night.house.cases.freeze.freeze(night.owner.caller, "a test")
    signature = night.file.sign(GLASS_NAMESPACE, action.record().encoded())
    assert await refused(night.house.cases.glass.sign(night.holder.caller, action.id, signature)) == "frozen"
    assert (await night.house.grant(grant)).state not in (GrantState.ACTIVE, GrantState.APPROVED)


async def test_two_at_the_same_moment(night: Night) -> None:
    """Two words for one credential, and two credentials of one tenant: one of them opens, one grant is made."""
    second = sealed_key("another", night.holder)
    spare = made(night.house, night.holder, night.owner, second, 2)
    await night.keep(spare)
    words = [(night.word(), night.file), (night.word(), night.file), (night.word(glass=spare.id), second)]
    told: list[str] = []

    async def tries(word: bytes, key: Somebody) -> None:
        try:
            await night.use(word, signed=key.sign(GLASS_NAMESPACE, word))
        except Refusal as refusal:
            told.append(refusal.code)

    async with asyncio.TaskGroup() as group:
        for word, key in words:
            group.create_task(tries(word, key))
    assert sorted(told) in (["break_glass_unreviewed"] * 2, ["break_glass_unreviewed", "break_glass_used"]), told
    assert await night.house.store.inner.read(TENANT, lambda tx: tx.grants.count(tuple(GrantState))) == 1


async def test_an_older_database_brings_none_back(night: Night) -> None:
    """The row as a backup has it, unspent: what the signer wrote down stands, though nothing but reads ever ran."""
    await night.use()
    await night.keep(night.glass)
    assert await refused(night.use()) == "break_glass_used"
    await night.keep(replace(night.glass, made_at=night.house.clock.now()))
    assert await refused(night.use()) == "break_glass_used"


async def test_the_brokers_own_books_open_none_twice(night: Night) -> None:
    """Also after its review, and with a signer that has forgotten it."""
    grant = await night.grant()
    await night.house.cases.ending.end(TENANT, grant, EndReason.REVOKED, by=night.owner.id)
    await night.review(night.owner)
    night.house.signer.opened.clear()
    assert await refused(night.use()) == "break_glass_used"
    assert night.house.signer.opened == {}


async def test_nothing_is_opened_where_the_signer_does_not_answer(night: Night) -> None:
    """Nor where the audit log cannot take it; and what only the signer wrote down, the same word opens."""
    night.house.signer.fails = True
    with pytest.raises(SignerFault):
        await night.use()
    await night.nothing_of_it()
    night.house.signer.fails, night.house.audit_fails = False, True
    with pytest.raises(StoreFault):
        await night.use()
    night.house.audit_fails = False
    await night.nothing_of_it()
    assert night.house.signer.opened == {}
    word = night.word()
    night.house.store.commits_fail = True
    with pytest.raises(StoreFault):
        await night.use(word)
    night.house.store.commits_fail = False
    await night.nothing_of_it()
    assert await refused(night.use()) == "break_glass_used"
    await night.use(word)


async def test_the_hour_ends_by_both_clocks(night: Night) -> None:
    """A wall clock that is set back in it gives nothing more; after the hour, and after an end, nothing runs (I-05)."""
    grant = await night.grant()
    night.house.clock.forward(HOUR.total_seconds() - 1)
    night.house.clock.wall -= 30 * MINUTE
    assert await refused(night.house.propose(night.holder, grant, WRITE)) == "clock_moved_back"
    night.house.clock.wall += 30 * MINUTE
    action = (await night.house.propose(night.holder, grant, WRITE)).action
    night.house.clock.forward(1)
    signature = night.file.sign(GLASS_NAMESPACE, action.record().encoded())
    assert await refused(night.house.cases.glass.sign(night.holder.caller, action.id, signature)) != ""
    assert await refused(night.house.propose(night.holder, grant, EXECUTE)) in ("grant_over", "grant_expired")


async def test_an_end_takes_what_waits_along(night: Night) -> None:
    """Revoked: what the sealed key already said yes to does not start, and it says no further yes."""
    grant = await night.grant()
    first = (await night.house.propose(night.holder, grant, WRITE)).action
    waits = (await night.house.propose(night.holder, grant, WRITE + b"2")).action
    yes = night.file.sign(GLASS_NAMESPACE, first.record().encoded())
    assert (await night.house.cases.glass.sign(night.holder.caller, first.id, yes)).state is ActionState.ALLOWED
    await night.house.cases.ending.end(TENANT, grant, EndReason.REVOKED, by=night.owner.id)
    assert await refused(night.house.cases.starting.start(night.holder.caller, first.id, door="grpc")) != ""
    late = night.file.sign(GLASS_NAMESPACE, waits.record().encoded())
    assert await refused(night.house.cases.glass.sign(night.holder.caller, waits.id, late)) != ""


async def test_its_key_says_yes_to_its_own_actions_alone(night: Night) -> None:
    """Not to an agent's that waits, not to another's, not over other bytes, not as an approver."""
    bot = await night.house.add("bot")
    other = await night.house.propose(bot, await night.house.granted(bot), WRITE)
    grant = await night.grant()
    mine = (await night.house.propose(night.holder, grant, WRITE)).action
    glass = night.house.cases.glass

    def yes(record: bytes) -> bytes:
        return night.file.sign(GLASS_NAMESPACE, record)

    foreign = yes(other.action.record().encoded())
    assert await refused(glass.sign(night.holder.caller, other.action.id, foreign)) == "not_found"
    assert await refused(glass.sign(bot.caller, other.action.id, foreign)) == "not_break_glass"
    assert await refused(glass.sign(night.owner.caller, mine.id, yes(mine.record().encoded()))) == "not_found"
    assert await refused(glass.sign(night.holder.caller, mine.id, foreign)) == "bad_signature"
    own = night.holder.sign(GLASS_NAMESPACE, mine.record().encoded())
    assert await refused(glass.sign(night.holder.caller, mine.id, own)) == "bad_signature"
    vote = replace(
        night.house.vote(night.holder, mine), signature=night.file.sign(APPROVAL_NAMESPACE, mine.record().encoded())
    )
    assert await refused(night.house.cases.approval.decide(night.holder.caller, vote)) != ""
    assert (await glass.sign(night.holder.caller, mine.id, yes(mine.record().encoded()))).state is ActionState.ALLOWED


async def test_every_owner_is_told_until_one_of_them_looked(night: Night) -> None:
    """Whoever watches is woken; the alarm stands for all owners, for nobody else, and through a start."""
    listens, woken = asyncio.Event(), asyncio.Event()

    async def watches() -> None:
        async for _ in night.house.cases.approval.watch(night.other.caller):
            if await night.house.cases.glass.alarms(night.other.caller):
                woken.set()
            listens.set()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(watches())
        await until(listens.is_set)
        with night.house.world.bell.listen(TENANT, PENDING) as rung:
            rung.clear()
            grant = await night.grant()
            assert rung.is_set()
        await until(woken.is_set)
        task.cancel()
    await night.house.cases.ending.end(TENANT, grant, EndReason.REVOKED, by=night.owner.id)
    async with night.house.restarted() as after:
        for owner in (night.owner, night.other):
            (alarm,) = await after.cases.glass.alarms(owner.caller)
            assert (alarm.glass.id, alarm.person, alarm.target) == (night.glass.id, "mona", "web1")
        assert list(await after.cases.glass.alarms(night.holder.caller)) == []
    await night.review(night.other)
    assert list(await night.house.cases.glass.alarms(night.owner.caller)) == []


async def test_a_review_is_of_the_whole_hour(night: Night) -> None:
    """Not while more can be done in it: neither at once nor after a command; it is once its grant is over."""
    assert await refused(night.review(night.owner)) == "break_glass_unused"
    grant = await night.grant()
    assert await refused(night.review(night.owner)) == "break_glass_open"
    assert (await night.row()).owes_review
    await night.house.cases.ending.end(TENANT, grant, EndReason.REVOKED, by=night.owner.id)
    assert (await night.review(night.owner)).glass.reviewed_by == night.owner.id
    assert (await night.review(night.other)).glass.reviewed_by == night.owner.id, "repeating it is harmless"


async def test_a_review_after_the_hour_needs_no_end(night: Night) -> None:
    """The clock ended it, whether or not anybody wrote that down yet."""
    await night.grant()
    night.house.clock.forward(HOUR.total_seconds())
    assert (await night.review(night.owner)).glass.reviewed_by == night.owner.id


async def test_who_used_it_does_not_review_it(night: Night) -> None:
    """Not an owner whose own it is, nor somebody without the right to; where there is one owner, they do."""
    mine = replace(night.glass, person=night.owner.id)
    await night.keep(mine)
    word = night.word(person=night.owner.id)
    shown = await night.use(word, by=night.owner)
    assert shown.request is not None
    assert shown.request.grant_id is not None
    await night.house.cases.ending.end(TENANT, shown.request.grant_id, EndReason.REVOKED, by=night.other.id)
    assert await refused(night.review(night.owner)) == "own_break_glass"
    await night.house.put(replace(night.other.row, status=IdentityStatus.SUSPENDED))
    assert (await night.review(night.owner)).glass.reviewed_by == night.owner.id


async def test_no_other_is_used_before_a_review(night: Night) -> None:
    """A drawer full of them is one hour, until an owner looked."""
    second = sealed_key("another", night.holder)
    spare = made(night.house, night.holder, night.owner, second, 2)
    await night.keep(spare)
    grant = await night.grant()
    word = night.word(glass=spare.id)
    assert await refused(night.use(word, signed=second.sign(GLASS_NAMESPACE, word))) == "break_glass_unreviewed"
    await night.house.cases.ending.end(TENANT, grant, EndReason.REVOKED, by=night.owner.id)
    assert await refused(night.use(word, signed=second.sign(GLASS_NAMESPACE, word))) == "break_glass_unreviewed"
    await night.review(night.owner)
    await night.use(word, signed=second.sign(GLASS_NAMESPACE, word))
