"""What the audit log raises besides a store's faults. Both are ours (`Fault`): no caller can cause them."""

from __future__ import annotations

from broker.core.errors import Fault


class LogDamaged(Fault):
    """Rows of the log contradict one another: somebody changed them, or a disk lost some. Nothing is signed over it."""


class LogForked(Fault):
    """The log does not continue the last head that this broker signed: restored, rolled back, cut or rewritten."""
