"""People and agents: approving at a real terminal, saying no, quorum, what an agent may not see of another."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from grantd import GrantdError, asking, records
from grantd.v1 import access_pb2, action_pb2, session_pb2
from grantd.v1.action_pb2 import ActionState
from grantd.v1.admin_pb2 import GetPolicyRequest, PutPolicyRequest
from grantd.v1.approval_pb2 import ListPendingRequest
from tests.agents.console import on_terminal
from tests.e2e.programs import finish, wait_until
from tests.e2e.running import Running
from tests.e2e.stage import ASKS, House

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-approvals")]

AWAITING = ActionState.ACTION_STATE_AWAITING


@pytest.fixture(scope="module")
def grant(house: House) -> str:
    """A lease on the host that asks."""
    return house.grant(ASKS)


def test_a_person_at_a_terminal_approves_the_exact_bytes(house: House, grant: str, tmp_path: Path) -> None:
    """The card shows what will run; y and Enter sign it with the person's own key; it runs once (I-10, I-15)."""
    made = tmp_path / "made by hand"
    running = house.run(grant, f"touch '{made}'", reason="the reason given")
    item = running.until(AWAITING)
    with on_terminal(house.profile("approver"), "approve", item.id, "--once", columns=140) as console:
        console.expect("y and Enter")
        assert f"touch '{made}'" in console.text()
        assert "the reason given" in console.text()
        assert not made.exists()
        console.type("y\r")
        console.expect(": approved")
        assert console.wait() == 0
    assert running.finished().exit_status == 0
    assert made.exists()
    house.audited("approval.recorded", lambda entry: item.id in entry.values())


def test_execute_needs_the_code_from_the_digest(house: House, grant: str, tmp_path: Path) -> None:
    """A reflex does not approve: six characters, read from the screen (I-15)."""
    made = tmp_path / "by python"
    running = house.run(grant, f"""python3 -c "open('{made}', 'w')" """)
    item = running.until(AWAITING)
    code = records.code_of(item.digest)
    with on_terminal(house.profile("approver"), "approve", item.id, "--once", columns=140) as console:
        console.expect("and Enter")
        console.type("y\r")
        assert running.is_going()
        assert not made.exists()
        console.expect(code)
        console.type(f"a{code}\r")
        console.expect(": approved")
        assert console.wait() == 0
    assert running.finished().exit_status == 0
    assert made.exists()


def test_no_reaches_the_agent_with_its_reason(house: House, grant: str, tmp_path: Path) -> None:
    """Exit status 4 and the approver's words; the same again is not asked again for a while (I-19)."""
    line = f"touch {tmp_path}/never"
    running = house.run(grant, line)
    item = running.until(AWAITING)
    with on_terminal(house.profile("approver"), "approve", item.id, "--once", columns=140) as console:
        console.expect("and Enter")
        console.type("d")
        console.type("not on a Sunday\r")
        console.expect(": denied")
        assert console.wait() == 0
    told = running.finished()
    assert told.state == ActionState.ACTION_STATE_DENIED
    assert "not on a Sunday" in told.note
    again = house.ctl("builder", "run", grant, "--", line)
    assert again.status == 3
    assert "denied this very action" in again.err, again.err
    assert not (tmp_path / "never").exists()


def test_grantctl_tells_the_agent_that_an_approver_refused(house: House, grant: str, tmp_path: Path) -> None:
    """What a person at the agent's side sees: who said no, why, exit status 4."""
    words = house.ctl_words("builder", "run", grant, "--", f"touch {tmp_path}/refused")
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        house.decide(_waiting(house, f"{tmp_path}/refused"), yes=False, note="too late \x1b[31mtoday")
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (4, "")
    assert "waits for an approver: write, code " in err
    assert "an approver refused" in err
    assert "too late \\x1b[31mtoday" in err


def test_an_agents_owner_never_approves_it(house: House, tmp_path: Path) -> None:
    """A requester's own voice never counts, nor that of whom the agent belongs to (I-12)."""
    house.add_agent("owned", owner="second")
    grant = house.grant(ASKS, who="owned")
    running = house.run(grant, f"touch {tmp_path}/own", who="owned")
    item = running.until(AWAITING)
    with pytest.raises(GrantdError) as refused:
        house.decide(item.id, who="second")
    assert refused.value.code in ("own_request", "may_not_decide"), refused.value
    assert running.is_going()
    house.decide(item.id, who="approver")
    assert running.finished().exit_status == 0


def test_an_agent_approves_nothing(house: House, grant: str, tmp_path: Path) -> None:
    """Its role does not allow it to look, let alone to sign (I-12)."""
    running = house.run(grant, f"touch {tmp_path}/self")
    item = running.until(AWAITING)
    told = house.ctl("builder", "approve", "-o", "json")
    assert told.status == 3
    assert "your role does not allow this call" in told.err
    house.client("builder").cancel_action(item.id)
    assert running.finished().state == ActionState.ACTION_STATE_CANCELLED


def test_an_agent_that_comes_back_goes_on_with_its_action(house: House, grant: str, tmp_path: Path) -> None:
    """Closing the stream leaves the action waiting; approved meanwhile, `--resume` runs it, once (F06)."""
    line = f"touch {tmp_path}/later"
    left = house.ctl("builder", "run", grant, "--wait-for", "1s", "--", line)
    assert left.status == 75
    action_id = left.err.strip().splitlines()[-1].rpartition(" ")[2]
    assert f"grantctl run --resume {action_id}" in left.err
    house.decide(action_id)
    assert not (tmp_path / "later").exists(), "nobody asked for it to run yet"
    resumed = house.ctl("builder", "run", "--resume", action_id)
    assert (resumed.status, (tmp_path / "later").exists()) == (0, True), resumed.err
    (tmp_path / "later").unlink()
    again = house.ctl("builder", "run", "--resume", action_id)
    assert not (tmp_path / "later").exists(), "an approval is spent"
    assert again.status == 0, "it says how it ended"


def test_a_retry_is_the_same_action(house: House, grant: str, tmp_path: Path) -> None:
    """Asked again with other words while it waits: one item for the approver, one run (I-19)."""
    line = f"touch {tmp_path}/once"
    first = house.run(grant, line, reason="first words")
    one = first.until(AWAITING)
    second = house.run(grant, line, reason="other words")
    assert second.until(AWAITING).id == one.id
    house.decide(one.id)
    ended = [running for running in (first, second) if _ended_well(running)]
    assert len(ended) >= 1
    assert (tmp_path / "once").exists()
    assert len([e for e in house.audit("action.running") if e["action"] == one.id]) <= 1


def test_a_quorum_of_two_needs_two_people(house: House, tmp_path: Path) -> None:
    """A policy that a step-up put: one yes is not enough, the same person's second is none (I-12, I-17)."""
    _put_policy(house, '@id("run.team")', '@id("run.team")\n@approvers("2")')
    grant = house.grant(ASKS)
    running = house.run(grant, f"touch {tmp_path}/both")
    item = running.until(AWAITING)
    house.decide(item.id, who="approver")
    with pytest.raises(GrantdError) as twice:
        house.decide(item.id, who="approver")
    assert twice.value.code == "already_decided"
    assert running.is_going()
    assert not (tmp_path / "both").exists()
    house.decide(item.id, who="second")
    assert running.finished().exit_status == 0
    assert (tmp_path / "both").exists()
    _put_policy(house, '@id("run.team")\n@approvers("2")', '@id("run.team")')


def test_a_policy_needs_a_second_person_where_there_is_one(house: House, tmp_path: Path) -> None:
    """Two owners: the first person's command leaves a change file, the second signs it, together it counts (I-17)."""
    house.add_person("partner", "owner")
    owner = house.client("owner")
    policy = owner.call(owner.admin.GetPolicy, GetPolicyRequest()).policy
    files = []
    for name, source in policy.sources.items():
        files.append(tmp_path / name)
        files[-1].write_text(source + "\n// reviewed\n")
    words = [str(word) for word in ("policy", "put", *files)]
    alone = finish(["sh", "-c", 'cd "$0" && exec "$@"', str(tmp_path), *house.ctl_words("owner", *words)])
    assert alone.status == 75, alone
    assert "a second person has to sign this change" in alone.err
    change = next(tmp_path.glob("change-*.json"))
    assert house.ctl("partner", "change", "sign", str(change), "--yes").status == 0
    together = house.ctl("owner", *words, "--cosign", str(change))
    assert together.status == 0, together.err
    assert "is in force" in together.out


def test_nothing_of_one_agent_is_visible_to_another(house: House, grant: str, tmp_path: Path) -> None:
    """Another's grant, action, session and request get the very answer of one that does not exist (I-40)."""
    other = house.client("other")
    running = house.run(grant, f"touch {tmp_path}/mine")
    item = running.until(AWAITING)
    missing = {"gr": "gr_" + "a" * 26, "ac": "ac_" + "a" * 26}

    def asked(grant_id: str, action_id: str) -> list[tuple[str, str, str]]:
        calls: list[Callable[[], object]] = [
            lambda: other.grant(grant_id),
            lambda: other.revoke(grant_id, "x"),
            lambda: other.issue_token(grant_id),
            lambda: house.run(grant_id, "uname", who="other").finished(),
            lambda: other.call(other.actions.WaitAction, action_pb2.WaitActionRequest(action_id=action_id)),
            lambda: other.cancel_action(action_id),
            lambda: house.resume(action_id, who="other").finished(),
        ]
        return [_refusal(call) for call in calls]

    assert asked(grant, item.id) == asked(missing["gr"], missing["ac"])
    request = house.client("builder").grant(grant).request_id
    ask = access_pb2.GetRequestRequest
    assert _refusal(lambda: other.call(other.access.GetRequest, ask(request_id=request))) == _refusal(
        lambda: other.call(other.access.GetRequest, ask(request_id="rq_" + "a" * 26))
    )
    get = session_pb2.GetSessionRequest
    session = house.run(grant, "uname -s").finished().session_id
    assert _refusal(lambda: other.call(other.sessions.GetSession, get(session_id=session))) == _refusal(
        lambda: other.call(other.sessions.GetSession, get(session_id="se_" + "a" * 26))
    )
    assert grant not in {each.id for each in other.grants()}
    house.client("builder").cancel_action(item.id)
    assert running.finished().state == ActionState.ACTION_STATE_CANCELLED, "it was still there"


def _refusal(call: Callable[[], object]) -> tuple[str, str, str]:
    with pytest.raises(GrantdError) as refused:
        call()
    return refused.value.code, refused.value.message, refused.value.way_out


def _ended_well(running: Running) -> bool:
    """Whether this stream ran it; another may have been faster, and nothing else may go wrong."""
    try:
        return running.finished().exit_status == 0
    except GrantdError as other:
        if other.code not in ("already_running", "not_allowed"):
            raise
        return False


def _waiting(house: House, marker: str) -> str:
    client, found = house.client("approver"), list[str]()

    def waits() -> bool:
        items = client.call(client.approvals.ListPending, ListPendingRequest()).items
        found[:] = [item.id for item in items if marker.encode() in item.action.command]
        return bool(found)

    wait_until(waits, 10)
    return found[0]


def _put_policy(house: House, old: str, new: str) -> None:
    owner = house.client("owner")
    policy = owner.call(owner.admin.GetPolicy, GetPolicyRequest()).policy
    sources = {name: source.replace(old, new) for name, source in policy.sources.items()}
    assert sources != dict(policy.sources)
    change = PutPolicyRequest(idempotency_key=asking.new_key(), sources=sources, replaces=policy.version)
    house.signed(change)
    owner.call(owner.admin.PutPolicy, change)
