"""Whose decision counts, over what, and until when (I-10, I-12, I-13, I-14, I-19, I-63)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker.core.action import Action, ActionState, StdinMode
from broker.core.approval import Approval, Subject, Verdict
from broker.core.identity import IdentityStatus
from broker.core.ids import ApprovalId, render
from broker.core.records import CHANGE_NAMESPACE
from broker.core.roles import Role
from broker.core.sshwire import ed25519_blob, parse_blob
from broker.service.approval import Vote
from broker.service.ports import PolicyVersion, Tx
from broker.service.propose import CommandInput
from broker.service.start import Ticket
from broker.service.waiting import MAX_WAIT
from policy.classes import CommandClass, Tier
from policy.engine import PolicySet, shipped_policy
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.somebody import Somebody
from tests.broker.service.world import EXECUTE, READ, WRITE, House, refused
from tests.contract.store.races import race

OTHER_KEY = parse_blob(ed25519_blob(bytes(range(32)))).line()
EVERYBODY_APPROVES = {
    "tiers.cedar": shipped_policy()["tiers.cedar"].replace(
        'when {\n  (context.requester_kind == "person" && context.requester == principal.id) ||\n'
        "  context.requester_owner == principal.id\n}",
        "when { false }",
    )
}
TWO_PEOPLE = {
    "tiers.cedar": shipped_policy()["tiers.cedar"].replace('@id("run.team")', '@id("run.team")\n@approvers("2")')
}


async def put_policy(house: House, sources: dict[str, str]) -> None:
    """Another policy, behind the services' back."""
    version = PolicySet.load(sources).version
    row = PolicyVersion(tenant=TENANT, version=version, sources=sources, put_by="", put_at=house.clock.now())
    await house.store.run(TENANT, lambda tx: tx.policies.put(row))


async def awaiting(house: House, agent: Somebody, line: bytes = WRITE) -> Action:
    """A command of the agent's that waits for a person."""
    proposal = await house.propose(agent, await house.granted(agent), line)
    assert (proposal.action.state, proposal.ticket) == (ActionState.AWAITING, None)
    return proposal.action


async def test_a_first_command_that_was_refused_does_not_begin_the_lease(house: House) -> None:
    """I-03: the TTL runs from the first use that was written; what was refused before it takes no second of it."""
    agent = await house.add("deployer")
    grant = await house.granted(agent, ttl=timedelta(seconds=60))
    attempt = house.propose(agent, grant, WRITE, stdin_mode=StdinMode.STREAM)
    assert await refused(attempt) == "stdin_must_be_declared"
    house.clock.forward(50)
    ticket = (await house.propose(agent, grant, READ)).ticket
    assert ticket is not None
    assert ticket.seconds_left == 60


async def start(house: House, agent: Somebody, action: Action) -> Ticket:
    """The start of what was allowed."""
    return await house.cases.starting.start(agent.caller, action.id, door="grpc")


@pytest.mark.parametrize("line", [READ, WRITE, EXECUTE])
async def test_the_tier_decides_who_decides(house: House, line: bytes) -> None:
    """In the Approval tier a read runs, everything else waits; the person sees exactly the bytes, and then it runs."""
    agent, approver = await house.add("deployer"), await house.add("approver", Role.MANAGER)
    proposal = await house.propose(agent, await house.granted(agent), line)
    assert (proposal.ticket is not None) == (line == READ)
    if proposal.ticket is None:
        (item,) = await house.pending_of(approver)
        assert (item.subject, item.digest()) == (proposal.action, proposal.action.digest())
        assert (item.identity_name, item.target_name, item.policy_reasons) == ("deployer", "web1", ("run.team",))
        assert (await house.decide(approver, proposal.action)).state == "allowed"
    ticket = proposal.ticket or await start(house, agent, proposal.action)
    assert (await house.run(ticket)).state == "succeeded"
    assert house.targets.plans[-1].command == line


async def test_nobody_decides_their_own(house: House) -> None:
    """I-12: refused in Python although this policy allows it: one's own, and one's agent's. A colleague may."""
    await put_policy(house, EVERYBODY_APPROVES)
    owner, colleague = await house.add("owner", Role.OWNER), await house.add("colleague", Role.OWNER)
    agent = await house.add("deployer", owner=owner)
    command = await awaiting(house, agent)
    assert command.requester == owner.id
    access = await house.cases.access.request(owner.caller, house.wish())
    for subject in (command, access):
        assert await refused(house.decide(owner, subject)) == "own_request"
        assert await refused(house.decide(owner, subject, Verdict.DENY)) == "own_request"
    assert (await house.events()).count("approval.refused") == 4
    assert (await house.decide(colleague, command)).state == "allowed"
    assert (await house.decide(colleague, access)).state == "approved"


async def test_a_quorum_takes_distinct_people(house: House) -> None:
    """Two are asked for: the same person twice is refused, and one alone starts nothing (I-12)."""
    await put_policy(house, TWO_PEOPLE)
    agent = await house.add("deployer")
    one, two = await house.add("one", Role.MANAGER), await house.add("two", Role.ADMIN)
    action = await awaiting(house, agent)
    assert action.quorum == 2
    assert (await house.decide(one, action)).missing == 1
    assert await refused(house.decide(one, action)) == "already_decided"
    assert await refused(start(house, agent, action)) == "not_allowed"
    assert (await house.pending_of(two))[0].approved_by == (one.id,)
    assert (await house.decide(two, action)).missing == 0
    ticket = await start(house, agent, action)
    assert len(ticket.proof.signatures) == 2
    assert ticket.proof.record == action.record().encoded()


@pytest.mark.parametrize("since", [{"status": IdentityStatus.SUSPENDED}, {"role": Role.VIEWER}], ids=str)
async def test_the_signer_is_shown_the_yeses_that_stand(house: House, since: dict[str, Any]) -> None:
    """I-13: who lost the role since is no part of the proof, for which the signer would refuse the others' as well."""
    await put_policy(house, TWO_PEOPLE)
    agent = await house.add("deployer")
    people = [await house.add(name, Role.MANAGER) for name in ("one", "two", "three")]
    action = await awaiting(house, agent)
    votes = [house.vote(person, action) for person in people]
    await house.cases.approval.decide(people[0].caller, votes[0])
    await house.put(replace(people[0].row, **since))
    for person, vote in zip(people[1:], votes[1:], strict=True):
        await house.cases.approval.decide(person.caller, vote)
    ticket = await start(house, agent, action)
    assert set(ticket.proof.signatures) == {vote.signature for vote in votes[1:]}


async def test_one_no_is_enough(house: House) -> None:
    """Whatever the quorum; the agent reads the note, and nothing runs."""
    await put_policy(house, TWO_PEOPLE)
    agent, approver = await house.add("deployer"), await house.add("approver", Role.MANAGER)
    action = await awaiting(house, agent)
    vote = replace(house.vote(approver, action, Verdict.DENY), note="not on a Friday")
    assert (await house.cases.approval.decide(approver.caller, vote)).state == "denied"
    assert (await house.cases.waiting.get(agent.caller, action.id)).note == "not on a Friday"
    assert await refused(start(house, agent, action)) == "not_allowed"
    assert await refused(house.decide(await house.add("two", Role.ADMIN), action)) == "already_decided"


WRONG: dict[str, tuple[str, Callable[[House, Somebody, Action], Vote]]] = {
    "another digest": ("digest_mismatch", lambda h, p, a: replace(h.vote(p, a), digest=bytes(32))),
    "a no over another digest": (
        "digest_mismatch",
        lambda h, p, a: replace(h.vote(p, a, Verdict.DENY), digest=bytes(32)),
    ),
    "another's signature": ("bad_signature", lambda h, p, a: replace(h.vote(p, a), signature=b"SSHSIG")),
    "a denial as a yes": (
        "bad_signature",
        lambda h, p, a: replace(h.vote(p, a, Verdict.DENY), verdict=Verdict.APPROVE),
    ),
    "a yes as a denial": ("bad_signature", lambda h, p, a: replace(h.vote(p, a), verdict=Verdict.DENY)),
    "another namespace": (
        "bad_signature",
        lambda h, p, a: replace(h.vote(p, a), signature=p.sign(CHANGE_NAMESPACE, a.record().encoded())),
    ),
    "another command": (
        "bad_signature",
        lambda h, p, a: replace(h.vote(p, replace(a, command=b"true")), digest=a.digest()),
    ),
    "nothing": ("not_found", lambda h, p, a: replace(h.vote(p, a), id=render("action", bytes(16)))),
    "a long note": ("text_too_long", lambda h, p, a: replace(h.vote(p, a), note="x" * 513)),
    "a note with NUL": ("bad_text", lambda h, p, a: replace(h.vote(p, a), note="\0")),
}


@pytest.mark.parametrize("how", WRONG)
async def test_a_vote_that_does_not_count(house: House, how: str) -> None:
    """I-10: refused, audited with its code, and the thing still waits."""
    agent, approver = await house.add("deployer"), await house.add("approver", Role.MANAGER)
    action = await awaiting(house, agent)
    code, spoil = WRONG[how]
    assert await refused(house.cases.approval.decide(approver.caller, spoil(house, approver, action))) == code
    assert (await house.action(action)).state is ActionState.AWAITING
    noted = (await house.events()).count("approval.refused")
    assert noted == (0 if code in {"text_too_long", "bad_text"} else 1)
    assert (await house.decide(approver, action)).state == "allowed"


async def test_another_persons_key_is_not_ones_own(house: House) -> None:
    """A signature by a colleague's key, however good, is not the voter's."""
    agent = await house.add("deployer")
    one, two = await house.add("one", Role.MANAGER), await house.add("two", Role.MANAGER)
    action = await awaiting(house, agent)
    assert await refused(house.cases.approval.decide(one.caller, house.vote(two, action))) == "bad_signature"


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AGENT])
async def test_who_may_not_decide(house: House, role: Role) -> None:
    """A viewer sees it and may not; an agent does not even see it."""
    agent, other = await house.add("deployer"), await house.add("other", role)
    action = await awaiting(house, agent)
    assert await refused(house.decide(other, action)) == ("may_not_decide" if role is Role.VIEWER else "not_found")


async def test_a_manager_of_another_team_does_not_see_it(house: House) -> None:
    """Neither in the list nor by its id (I-46, P14)."""
    await house.put_team("web")
    agent, manager = await house.add("deployer"), await house.add("manager", Role.MANAGER, teams=["web"])
    action = await awaiting(house, agent)
    assert await house.pending_of(manager) == []
    assert await refused(house.cases.approval.get(manager.caller, action.id)) == "not_found"
    assert await refused(house.decide(manager, action)) == "not_found"


async def test_late(house: House) -> None:
    """At ten minutes the vote is late; a yes that is used ten minutes later is late too; both expire (I-13)."""
    agent, approver = await house.add("deployer"), await house.add("approver", Role.MANAGER)
    late, unused = await awaiting(house, agent), await awaiting(house, agent, EXECUTE)
    house.clock.forward(599)
    await house.decide(approver, unused)
    house.clock.forward(1)
    assert await refused(house.decide(approver, late)) == "approval_expired"
    house.clock.forward(599)
    assert await refused(start(house, agent, unused)) == "action_expired"
    await house.cases.ending.sweep(TENANT)
    for action, note in ((late, "nobody decided in time"), (unused, "not started in time")):
        ended = await house.action(action)
        assert (ended.state, ended.note) == (ActionState.EXPIRED, note)


async def _suspend(house: House, who: Somebody) -> None:
    await house.put(replace(who.row, status=IdentityStatus.SUSPENDED))


async def _demote(house: House, who: Somebody) -> None:
    await house.put(replace(who.row, role=Role.VIEWER))


async def _tier(house: House, _: Somebody) -> None:
    await house.change_target(replace(house.web1, tier=Tier.APPROVAL))


async def _policy(house: House, _: Somebody) -> None:
    await put_policy(house, TWO_PEOPLE)


async def _host_key(house: House, _: Somebody) -> None:
    await house.change_target(replace(house.web1, host_key=OTHER_KEY))


Spoil = Callable[[House, Somebody], Awaitable[None]]


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (_suspend, "approval_void"),
        (_demote, "approval_void"),
        (_tier, "policy_changed"),
        (_policy, "policy_changed"),
        (_host_key, "target_changed"),
    ],
)
async def test_what_changes_after_the_yes_voids_it(house: House, spoil: Spoil, code: str) -> None:
    """I-13, I-14: role, tier, policy and host key are read again in the transaction that starts the command."""
    await house.change_target(replace(house.web1, tier=Tier.TRUSTED))
    agent, approver = await house.add("deployer"), await house.add("approver", Role.MANAGER)
    action = await awaiting(house, agent, EXECUTE)
    await house.decide(approver, action)
    await spoil(house, approver)
    assert await refused(start(house, agent, action)) == code
    assert (await house.action(action)).state is ActionState.ALLOWED
    assert house.targets.plans == []


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (_suspend, "identity_suspended"),
        (_demote, "may_not_decide"),
        (_tier, "policy_changed"),
        (_policy, "policy_changed"),
        (_host_key, "target_changed"),
    ],
)
async def test_what_changes_after_the_prompt_voids_it(house: House, spoil: Spoil, code: str) -> None:
    """I-14: a yes to what was shown before is refused; the same question asked anew can be answered."""
    await house.change_target(replace(house.web1, tier=Tier.TRUSTED))
    agent, approver = await house.add("deployer"), await house.add("approver", Role.MANAGER)
    grant = await house.granted(agent)
    action = (await house.propose(agent, grant, EXECUTE)).action
    await spoil(house, approver)
    assert await refused(house.decide(approver, action)) == code
    assert (await house.action(action)).state is ActionState.AWAITING
    if code == "policy_changed":
        again = (await house.propose(agent, grant, EXECUTE)).action
        assert (again.id != action.id, again.state) == (True, ActionState.AWAITING)
        assert (await house.action(action)).state is ActionState.CANCELLED
        assert (await house.decide(approver, again)).state in {"allowed", "awaiting"}


async def test_a_looser_tier_is_for_new_grants(house: House) -> None:
    """I-17: what was granted under the stricter tier keeps asking; what is granted after it need not."""
    agent = await house.add("deployer")
    before = await house.granted(agent)
    await house.change_target(replace(house.web1, tier=Tier.TRUSTED))
    assert (await house.propose(agent, before, WRITE)).action.state is ActionState.AWAITING
    assert (await house.propose(agent, await house.granted(agent), WRITE)).action.state is ActionState.RUNNING


async def test_a_no_counts_whatever_changed(house: House) -> None:
    """Voiding is for the yes: nobody is kept from saying no."""
    agent, approver = await house.add("deployer"), await house.add("approver", Role.MANAGER)
    action = await awaiting(house, agent)
    await _policy(house, approver)
    assert (await house.decide(approver, action, Verdict.DENY)).state == "denied"


@pytest.mark.parametrize("spoil", [_policy, _host_key])
async def test_an_access_request_is_voided_alike(house: House, spoil: Spoil) -> None:
    """I-14: what was asked under another policy or for another host key is asked again."""
    person, approver = await house.add("asker", Role.VIEWER), await house.add("approver", Role.MANAGER)
    request = await house.cases.access.request(person.caller, house.wish())
    await spoil(house, approver)
    assert await refused(house.decide(approver, request)) in {"policy_changed", "target_changed"}


async def test_another_key_of_the_asker_voids(house: House) -> None:
    """I-14: the digest names the key that asked; whoever has enrolled anew since asks anew."""
    person, approver = await house.add("asker", Role.VIEWER), await house.add("approver", Role.MANAGER)
    agent = await house.add("deployer")
    request, action = await house.cases.access.request(person.caller, house.wish()), await awaiting(house, agent)
    await house.add("asker", Role.VIEWER)
    await house.add("deployer")
    for subject in (request, action):
        assert await refused(house.decide(approver, subject)) == "key_changed"


async def test_a_yes_starts_one_command_under_a_race(house: House) -> None:
    """I-63: 20 starts at once, one ticket; and never again afterwards."""
    agent, approver = await house.add("deployer"), await house.add("approver", Role.MANAGER)
    action = await awaiting(house, agent)
    await house.decide(approver, action)
    got = await race([start(house, agent, action) for _ in range(20)])
    assert sum(isinstance(one, Ticket) for one in got) == 1
    assert await refused(start(house, agent, action)) == "not_allowed"
    assert (await house.events()).count("action.running") == 1


async def test_a_spent_yes_is_spent_even_if_the_state_says_otherwise(house: House) -> None:
    """I-13: the second lock: an action set back to ALLOWED does not run on approvals that were used."""
    agent, approver = await house.add("deployer"), await house.add("approver", Role.MANAGER)
    action = await awaiting(house, agent)
    await house.decide(approver, action)
    allowed = await house.action(action)
    await start(house, agent, action)
    await house.store.run(TENANT, lambda tx: tx.actions.put(allowed))
    assert await refused(start(house, agent, action)) == "approval_used"


async def test_a_forged_approval_row_does_not_help(house: House) -> None:
    """I-10: a row over another digest voids all; one by nobody who may, does not count."""
    agent, viewer = await house.add("deployer"), await house.add("viewer", Role.VIEWER)
    action = await awaiting(house, agent)

    def forge(digest: bytes, person: Somebody) -> Callable[[Tx], None]:
        row = Approval(
            tenant=TENANT, id=ApprovalId(render("approval", digest[:16])), subject=Subject.ACTION,
            subject_id=action.id, digest=digest, person=person.id, role="owner", verdict=Verdict.APPROVE,
            signature=b"", key_fingerprint="", at=house.clock.now(), note="",
        )  # fmt: skip

        def unit(tx: Tx) -> None:
            tx.approvals.add(row)
            tx.actions.put(replace(action, state=ActionState.ALLOWED))

        return unit

    await house.store.run(TENANT, forge(action.digest(), viewer))
    assert await refused(start(house, agent, action)) == "approval_void"
    await house.store.run(TENANT, forge(bytes(32), await house.add("admin", Role.ADMIN)))
    assert await refused(start(house, agent, action)) == "digest_mismatch"


async def test_changed_bytes_never_run(house: House) -> None:
    """I-10: a command, class or grant that is not what was decided is refused at the start."""
    agent, approver = await house.add("deployer"), await house.add("approver", Role.MANAGER)
    action = await awaiting(house, agent)
    await house.decide(approver, action)
    allowed = await house.action(action)
    for change in ({"command": b"rm -r /srv"}, {"command": EXECUTE}, {"command_class": CommandClass.READ}):
        await house.store.run(TENANT, lambda tx, c=change: tx.actions.put(replace(allowed, **c)))  # type: ignore[misc]
        assert await refused(start(house, agent, action)) in {"digest_mismatch", "target_changed"}
    await house.store.run(TENANT, lambda tx: tx.actions.put(replace(allowed, nonce=bytes(16))))
    assert await refused(start(house, agent, action)) == "digest_mismatch"
    await house.store.run(TENANT, lambda tx: tx.actions.put(replace(allowed, identity_key=bytes(32))))
    assert await refused(start(house, agent, action)) == "grant_over"


# ---- retries and floods


async def test_retries_merge_and_denials_cool_down(house: House) -> None:
    """The same command again is the same question, whatever the agent says of it; after a no it rests ten minutes."""
    agent, approver = await house.add("deployer"), await house.add("approver", Role.MANAGER)
    grant = await house.granted(agent)
    first = (await house.propose(agent, grant, WRITE, reason="please")).action
    for words in ("now!", "really"):
        assert (await house.propose(agent, grant, WRITE, reason=words)).action.id == first.id
    assert len(await house.pending_of(approver)) == 1
    assert (await house.events()).count("action.awaiting") == 1
    await house.decide(approver, first, Verdict.DENY)
    assert await refused(house.propose(agent, grant, WRITE)) == "recently_denied"
    assert (await house.propose(agent, grant, EXECUTE)).action.state is ActionState.AWAITING
    house.clock.forward(599)
    assert await refused(house.propose(agent, grant, WRITE)) == "recently_denied"
    house.clock.forward(2)
    assert (await house.propose(agent, grant, WRITE)).action.state is ActionState.AWAITING


async def test_a_flood_of_commands(house: House) -> None:
    """Five wait, the sixth is refused; another agent's command is seen at once."""
    flooder, other = await house.add("flooder"), await house.add("other")
    approver = await house.add("approver", Role.MANAGER)
    grant = await house.granted(flooder)
    for n in range(5):
        await house.propose(flooder, grant, b"touch /srv/%d" % n)
    for n in range(5, 25):
        assert await refused(house.propose(flooder, grant, b"touch /srv/%d" % n)) == "too_many_pending"
    mine = await awaiting(house, other)
    assert mine.id in {item.id for item in await house.pending_of(approver)}
    assert (await house.cases.approval.get(approver.caller, mine.id)).identity_name == "other"


async def test_the_tenants_limit_of_commands(house: House) -> None:
    """Fifty in all."""
    agents = [await house.add(f"agent-{n}") for n in range(11)]
    for agent in agents[:10]:
        grant = await house.granted(agent)
        for n in range(5):
            await house.propose(agent, grant, b"touch /srv/%d" % n)
    assert await refused(awaiting(house, agents[10])) == "too_many_pending"


async def test_the_same_key_is_the_same_command(house: House) -> None:
    """Idempotency of Execute: 20 at once make one action and one ticket; other bytes with the key are refused."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    got = await race([house.propose(agent, grant, READ, idempotency_key="k") for _ in range(20)])
    made = [one for one in got if not isinstance(one, BaseException)]
    assert len({one.action.id for one in made}) == 1
    assert sum(one.ticket is not None for one in made) == 1
    for changed in ({"line": WRITE}, {"cwd": "/srv"}, {"env": {"LANG": "C"}}, {"pty": True}):
        code = await refused(house.propose(agent, grant, **({"line": READ} | changed), idempotency_key="k"))
        assert code == "idempotency_key_reused"


# ---- what is waited for


async def test_waiting_and_taking_back(house: House) -> None:
    """A waiter sees the decision; one's own action can be taken back while it waits, by nobody else."""
    agent, approver = await house.add("deployer"), await house.add("approver", Role.MANAGER)
    action = await awaiting(house, agent)
    seen: list[str] = []
    async for state in house.cases.starting.until_decided(agent.caller, action.id):
        seen.append(state.state)
        if len(seen) == 1:
            await house.decide(approver, action)
    assert seen == ["awaiting", "allowed"]
    waiting = house.cases.waiting
    now = await waiting.wait(agent.caller, action.id, unless=ActionState.AWAITING, at_most=timedelta(seconds=9))
    assert now.state is ActionState.ALLOWED
    assert (await waiting.wait(agent.caller, action.id, unless=None, at_most=timedelta(0))).state == "allowed"
    assert await refused(waiting.wait(agent.caller, action.id, unless=None, at_most=MAX_WAIT * 2)) == "bad_wait"
    assert await refused(waiting.cancel(approver.caller, action.id)) == "not_found"
    for _ in range(2):
        assert (await waiting.cancel(agent.caller, action.id)).state is ActionState.CANCELLED
    assert await refused(start(house, agent, action)) == "not_allowed"


async def test_watching_what_waits(house: House) -> None:
    """The approvers' stream shows it when it comes and not when it is gone."""
    agent, approver = await house.add("deployer"), await house.add("approver", Role.MANAGER)
    action = await awaiting(house, agent)
    seen = []
    async for waiting in house.cases.approval.watch(approver.caller):
        seen.append(list(waiting))
        if len(seen) == 2:
            break
        await house.decide(approver, action)
    assert seen == [[action.id], []]
    assert await house.cases.approval.state_of(TENANT, action.id) == "allowed"
    assert await house.cases.approval.state_of(TENANT, "ac_x") == "gone"


async def test_a_broken_log_stops_every_decision(house: House) -> None:
    """I-31: nothing is asked, decided, issued or started that could not be proved."""
    agent, approver = await house.add("deployer"), await house.add("approver", Role.MANAGER)
    grant = await house.granted(agent)
    action = (await house.propose(agent, grant, WRITE)).action
    await house.decide(approver, action)
    house.health.break_log(TENANT, "a test")
    for attempt in (
        house.cases.access.request(agent.caller, house.wish()),
        house.propose(agent, grant, READ),
        house.decide(approver, action),
        start(house, agent, action),
        house.cases.issue.token(agent.caller, grant),
    ):
        assert await refused(attempt) == "audit_log_forked"


async def test_previews_write_nothing(house: House) -> None:
    """A dry run says what would happen, starts no TTL and leaves no trace in the log."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    before = await house.events()

    for line, decision in ((READ, "Permit"), (WRITE, "NeedsApproval"), (b"echo 'open", "NoneType")):
        command = CommandInput(line=line, cwd="", env={}, stdin_mode=StdinMode.NONE, stdin=b"", pty=False)
        forecast = await house.cases.propose.preview(agent.caller, grant, command)
        assert type(forecast.decision).__name__ == decision
    assert await house.events() == before
    assert (await house.grant(grant)).not_after is None
    for line, streams in ((READ, StdinMode.STREAM), (WRITE, StdinMode.NONE), (b"echo 'open", StdinMode.NONE)):
        assert await house.cases.propose.stdin_of(agent.caller, frozenset(), line, pty=False) is streams
