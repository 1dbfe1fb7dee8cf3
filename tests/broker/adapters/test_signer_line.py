"""Many questions on one line: each in its turn, and nothing is asked of the signer for whoever gave up (I-12, I-60)."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.adapters import signer_client, signer_line
from broker.adapters.signer_client import SignerClient
from broker.adapters.signer_line import UNDER_WAY
from broker.core.errors import SignerFault
from broker.core.signing import Answer, Ask, AskTrust, Signed
from broker.core.signwire import MAX_SIGNATURES
from broker.signer import server
from tests.broker.signer.test_server import ME, serving

MORE = 50


class Held:
    """A signer that answers nothing while it is held, and notes what it was asked."""

    def __init__(self) -> None:
        self.reached, self.free = threading.Event(), threading.Event()
        self.asked: list[str] = []
        self.free.set()

    def __call__(self, ask: Ask) -> Answer:
        assert isinstance(ask, AskTrust)
        self.reached.set()
        self.free.wait(20)
        self.asked.append(ask.subject)
        return Signed(blob=ask.subject.encode())


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """It listens at `s`, and nobody runs out of time on a busy machine."""
    monkeypatch.setattr(server, "LOOK_UP_SECONDS", 0.05)  # notices at once that it is closed
    monkeypatch.setattr(signer_client, "ANSWER_SECONDS", 20.0)
    monkeypatch.setattr(signer_line, "TURN_SECONDS", 20.0)
    made = Held()
    with serving(tmp_path / "s", ME, made):
        yield made
        made.free.set()


@pytest.fixture
def client(tmp_path: Path) -> SignerClient:
    """Nobody asked by it yet."""
    return SignerClient(tmp_path / "s", signer_uid=os.geteuid())


async def all_asked(client: SignerClient, held: Held, many: int) -> list[asyncio.Task[bytes]]:
    """So many callers over one line, each of whom asked or waits for their turn; the signer holds all answers back."""
    await client.believed("t1", "line")
    held.asked.clear()
    held.reached.clear()
    held.free.clear()
    tasks = [asyncio.get_running_loop().create_task(client.believed("t1", f"s{number}")) for number in range(many)]
    await asyncio.to_thread(held.reached.wait, 20)
    return tasks


async def test_who_gives_up_before_their_turn_is_never_asked_for(held: Held, client: SignerClient) -> None:
    """No certificate is noted, and no approval used up, for callers who were gone before the signer heard of them."""
    tasks = await all_asked(client, held, UNDER_WAY + MORE)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    held.free.set()
    assert await client.believed("t1", "after") == b"after"
    assert held.asked == [*(f"s{number}" for number in range(UNDER_WAY)), "after"]
    await client.close()


async def test_too_many_are_told_so_and_the_others_are_answered(
    held: Held, client: SignerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever does not come to their turn keeps no time from those who do."""
    monkeypatch.setattr(signer_line, "TURN_SECONDS", 0.05)
    tasks = await all_asked(client, held, UNDER_WAY + MORE)
    for task in tasks[UNDER_WAY:]:
        with pytest.raises(SignerFault, match="too many questions"):
            await task
    held.free.set()
    assert [await task for task in tasks[:UNDER_WAY]] == [f"s{number}".encode() for number in range(UNDER_WAY)]
    assert await client.believed("t1", "after") == b"after"
    assert len(held.asked) == UNDER_WAY + 1
    await client.close()


async def test_who_waits_for_their_turn_hears_that_the_line_broke(held: Held, client: SignerClient) -> None:
    """Nobody waits for room on a line that is gone: they are asked for over the next one."""
    tasks = await all_asked(client, held, UNDER_WAY + MORE)
    await client.close()
    held.free.set()
    assert [await task for task in tasks] == [f"s{number}".encode() for number in range(UNDER_WAY + MORE)]
    await client.close()


async def test_what_the_signer_would_not_read_breaks_nobodys_line(held: Held, client: SignerClient) -> None:
    """More signatures than it reads, as one tenant's people may have given: refused here, and not hung up on there."""
    before, behind = [f"s{number}" for number in range(5)], [f"t{number}" for number in range(5)]
    async with asyncio.TaskGroup() as group:
        first = [group.create_task(client.believed("t1", subject)) for subject in before]
        bad = group.create_task(_refused(client))
        last = [group.create_task(client.believed("t1", subject)) for subject in behind]
    assert [task.result() for task in (*first, *last)] == [subject.encode() for subject in (*before, *behind)]
    assert "signatures" in bad.result()
    assert sorted(held.asked) == sorted([*before, *behind])
    await client.close()


async def _refused(client: SignerClient) -> str:
    with pytest.raises(SignerFault) as caught:
        await client.learn(b"statement", (b"signature",) * (MAX_SIGNATURES + 1))
    assert isinstance(caught.value.__cause__, Exception)
    return str(caught.value.__cause__)
