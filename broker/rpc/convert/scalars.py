"""Times, durations, classes and small values, both ways."""

from __future__ import annotations

from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from broker.core.clock import micros
from broker.core.errors import invalid
from grantd.v1 import options_pb2 as options
from policy.classes import CommandClass, Tier

_MAX_SECONDS = 10**10
_TIERS = (Tier.APPROVAL, Tier.TRUSTED, Tier.CLOSED_LOOP)  # in the order of the enum AutonomyTier
_NANOS = 1_000_000_000


def moment_or_none(at: datetime | None) -> Timestamp | None:
    """A time for the wire; None stays not set."""
    return None if at is None else moment(at)


def moment(at: datetime) -> Timestamp:
    """A time for the wire."""
    us = micros(at)
    return Timestamp(seconds=us // 1_000_000, nanos=us % 1_000_000 * 1_000)


def duration(span: timedelta) -> Duration:
    """A span for the wire."""
    us = span // timedelta(microseconds=1)
    seconds = abs(us) // 1_000_000 * (1 if us >= 0 else -1)
    return Duration(seconds=seconds, nanos=(us - seconds * 1_000_000) * 1_000)


def span(field: str, given: Duration) -> timedelta:
    """A span from the wire. What is finer than a microsecond counts as one: no fraction is lost before its check.

    Raises:
        Refusal: no such duration exists.
    """
    fits = abs(given.seconds) <= _MAX_SECONDS and abs(given.nanos) < _NANOS and given.seconds * given.nanos >= 0
    if not fits:
        raise invalid("bad_field", f"{field} is not a duration", "send seconds and nanos of one sign")
    return timedelta(seconds=given.seconds, microseconds=-(-given.nanos // 1_000))


def class_value(command_class: CommandClass) -> options.CommandClass.ValueType:
    """The number of the enum CommandClass: the same names on both sides."""
    return options.CommandClass.Value(f"COMMAND_CLASS_{command_class.name}")


def class_of(value: int) -> CommandClass:
    """The inverse; `value` was checked."""
    return CommandClass(value)


def tier_value(tier: Tier) -> options.AutonomyTier.ValueType:
    """The number of the enum AutonomyTier."""
    return options.AutonomyTier.Value(f"AUTONOMY_TIER_{tier.name}")


def tier_of(value: int) -> Tier:
    """The inverse; `value` was checked."""
    return _TIERS[value - 1]
