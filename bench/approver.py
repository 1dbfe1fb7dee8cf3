"""A person who says yes at once: watches what waits, signs each record with their own key, and notes when."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import asyncssh

from grantd import records
from grantd.client import Client
from grantd.v1 import approval_pb2, options_pb2


class Approver:
    """One thread with a client of its own. `decided_at` holds time.perf_counter() of each yes, before it was sent.

    Args:
        profile: the person's.
        on_failure: called when nobody approves any more, so that nobody waits for it for ever.
    """

    def __init__(self, profile: Path, *, on_failure: Callable[[], None]) -> None:
        self._on_failure = on_failure
        self._client = Client(profile)
        key = self._client.profile.approval_key
        assert key is not None
        self._key = asyncssh.read_private_key(str(key))
        self._thread = threading.Thread(target=self._watch, name="approver", daemon=True)
        self._watching = threading.Event()
        self._leaving = False
        self.failure: Exception | None = None
        self.decided_at: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._watching.wait(10):
            raise RuntimeError("the approver does not get to see what waits") from self.failure
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving = True
        self._client.close()
        self._thread.join(10)

    def _watch(self) -> None:
        client = self._client
        try:
            for change in client.stream(client.approvals.WatchPending, approval_pb2.WatchPendingRequest()):
                if change.HasField("added"):
                    self._approve(change.added)
                self._watching.set()
        except Exception as failed:  # noqa: BLE001  the thread's last words; whoever waits for a yes hears of them
            if not self._leaving:
                self.failure = failed
                self._on_failure()

    def _approve(self, item: approval_pb2.PendingItem) -> None:
        asks = item.WhichOneof("record") == "access"
        record = records.access_record(item.access) if asks else records.action_record(item.action)
        signature = asyncssh.create_sshsig(
            self._key, record, hash_name="sha512", namespace=records.APPROVAL_NAMESPACE, raw=True
        )
        request = approval_pb2.DecideRequest(
            id=item.id,
            verdict=options_pb2.VERDICT_APPROVE,
            digest=records.digest_of(record),
            signature=signature,
        )
        self.decided_at[item.id] = time.perf_counter()
        self._client.call(self._client.approvals.Decide, request)
