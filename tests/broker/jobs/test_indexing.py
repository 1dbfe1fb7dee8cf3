"""Filters of words are made for what has ended; a failure costs a later search time and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from broker.core.errors import StoreFault
from broker.core.ids import SessionId, TenantId
from broker.jobs.indexing import Indexing
from recorder.errors import RecordingInvalid

TENANT = TenantId("t1")


class Ended:
    """Four sessions have ended; said once."""

    def __init__(self) -> None:
        self.sessions = [(TENANT, SessionId(name)) for name in ("se_1", "se_2", "se_3", "se_4")]

    def recorded(self) -> Sequence[tuple[TenantId, SessionId]]:
        found, self.sessions = self.sessions, []
        return found


class Search:
    """Fails for some."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def index(self, tenant: TenantId, session_id: SessionId) -> bool:
        self.asked.append(session_id)
        failures: dict[str, Exception] = {
            "se_1": StoreFault("gone"),
            "se_2": OSError(28, "full"),
            "se_3": RecordingInvalid("frame 1: not authentic"),
        }
        if failure := failures.get(session_id):
            raise failure
        return True


async def test_one_that_fails_does_not_stop_the_others() -> None:
    """Store, disk or a damaged recording: the next one is made all the same, and each is tried once."""
    search = Search()
    job = Indexing(closing=Ended(), search=search)
    await job.step()
    await job.step()
    assert search.asked == ["se_1", "se_2", "se_3", "se_4"]
