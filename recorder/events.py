"""What stands inside the frames of a recording (GREC v1): events. Knows no key, no file and no clock.

event := varint dt_us | u8 kind | varint chan | varint length | payload            (LEB128, shortest form)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from recorder import canonical
from recorder.canonical import Json
from recorder.errors import RecordingInvalid

MAX_PAYLOAD = 256 * 1024  # bytes of one event
MAX_TIME = 2**63 - 1  # microseconds
_MAX_CHAN = 2**32 - 1
_MAX_VARINT_BYTES = 9  # 63 bits
_VARINT_HIGH = 0x80
_VARINT_LOW = 0x7F


class Kind(IntEnum):
    """What an event is. A reader keeps kinds that it does not know."""

    OUT = 1  # pty output, or stdout
    ERR = 2  # stderr without a pty
    IN = 3  # input, where policy records it
    RESIZE = 4  # u16 columns, u16 rows
    EXEC = 5  # JSON: argv string, environment
    EXIT = 6  # JSON: status or signal
    SFTP = 7  # JSON: operation
    FWD = 8  # JSON: forwarding
    MARK = 9  # JSON: label, code, audit id
    GAP = 10  # JSON: bytes lost, reason
    HIDDEN = 11  # u8 class of input that is not shown: 0 keys, 1 the end of a line too
    CHAN = 12  # JSON: channel open, close, eof
    META = 13  # JSON: idle limit, TERM, clock steps
    REDACT = 14  # JSON: rule id, channel, bytes


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, `t_us` microseconds after the recording's start, on SSH channel `chan`."""

    t_us: int
    kind: int
    chan: int
    payload: bytes


def encode_event(event: Event, after_us: int) -> bytes:
    """The bytes varint dt | u8 kind | varint chan | varint len | payload, where dt counts from `after_us`."""
    return encode_head(event, after_us) + event.payload


def encode_head(event: Event, after_us: int) -> bytes:
    """All of an event's bytes but its payload, which is not copied here. RecordingInvalid for one out of range."""
    if not 0 <= event.chan <= _MAX_CHAN or len(event.payload) > MAX_PAYLOAD or not after_us <= event.t_us <= MAX_TIME:
        raise RecordingInvalid("event out of range")
    head = _varint(event.t_us - after_us) + bytes([event.kind]) + _varint(event.chan)
    return head + _varint(len(event.payload))


def encode_events(events: Iterable[Event]) -> bytes:
    """The plaintext of one DATA frame whose t_us is the first event's."""
    out = bytearray()
    last: int | None = None
    for event in events:
        out += encode_event(event, event.t_us if last is None else last)
        last = event.t_us
    return bytes(out)


def decode_events(plaintext: bytes, t_us: int, *, seq: int) -> list[Event]:
    """The events of frame `seq`, whose header says `t_us`; RecordingInvalid on the first byte out of place."""
    events: list[Event] = []
    offset, now = 0, t_us
    while offset < len(plaintext):
        try:
            delta, offset = _read_varint(plaintext, offset)
            kind, offset = plaintext[offset], offset + 1
            chan, offset = _read_varint(plaintext, offset)
            length, offset = _read_varint(plaintext, offset)
        except (IndexError, ValueError) as error:
            raise RecordingInvalid(f"frame {seq}: holds a malformed event") from error
        now += delta
        payload = plaintext[offset : offset + length]
        if len(payload) != length or length > MAX_PAYLOAD or chan > _MAX_CHAN or now > MAX_TIME:
            raise RecordingInvalid(f"frame {seq}: event out of range")
        if delta and not events:
            raise RecordingInvalid(f"frame {seq}: the first event is not at the frame's time")
        offset += length
        events.append(Event(now, _kind(kind), chan, payload))
    return events


JsonEvent: TypeAlias = Mapping[str, Json]


def json_payload(value: JsonEvent) -> bytes:
    """The payload of a JSON kind."""
    return canonical.encode(value)


def _kind(value: int) -> int:
    return Kind(value) if value in set(Kind) else value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > _VARINT_LOW:
        out.append(value & _VARINT_LOW | _VARINT_HIGH)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """LEB128, at most 63 bits, in its shortest form. IndexError where the data ends."""
    value = 0
    for count in range(_MAX_VARINT_BYTES):
        byte = data[offset + count]
        value |= (byte & _VARINT_LOW) << (7 * count)
        if byte & _VARINT_HIGH:
            continue
        if byte == 0 and count:
            raise ValueError("a number is not in its shortest form")
        return value, offset + count + 1
    raise ValueError("a number is longer than 63 bits")
