"""What is asked, rebuilt and checked before anything is drawn.

The record is made from the fields that will be shown; its digest must be the broker's (I-10, I-11). Whatever does not
fit is refused here: an item that cannot be shown truthfully cannot be approved. Draws nothing, decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from grantd import asking, records
from grantd.execution import MAX_COMMAND_BYTES
from grantd.v1.approval_pb2 import AccessRecord, ActionRecord, PendingItem

_TYPED_CLASSES: Final = ("execute", "install", "reboot")
_MAX_US: Final = 253_402_300_800_000_000  # the year 10000
_TYPED_FLAGS: Final = ("shell", "raw_shell", "forward")


class Untruthful(Exception):
    """An item whose fields do not make the record that the broker wants signed. The sentence is for the approver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One item that passed the checks."""

    item: PendingItem
    record: bytes
    """What a yes signs."""
    digest: bytes
    code: str
    """What an approver types where `typed`."""
    typed: bool
    """A typed code is asked for, not only `y`."""

    @property
    def id(self) -> str:
        return self.item.id

    @property
    def expires_at(self) -> datetime:
        """Until when it can be decided; aware, UTC."""
        return self.item.expires_at.ToDatetime(tzinfo=UTC)

    def is_recent(self, now: datetime) -> bool:
        """Whether it was asked in the last minutes, by the clock of who answers."""
        action = self.item.WhichOneof("record") == "action"
        return records.made_recently(self.item.action.nonce if action else self.item.access.nonce, now)

    @property
    def expected(self) -> str:
        """What has to be typed before Enter."""
        return self.code if self.typed else "y"


def pose(item: PendingItem) -> Question:
    """Check an item and make it a question. Raises Untruthful."""
    match item.WhichOneof("record"):
        case "action":
            record, named, typed = _action(item, item.action), item.action.action_id, _is_typed_action(item.action)
        case "access":
            record, named, typed = records.access_record(item.access), item.access.request_id, _is_typed(item.access)
        case _:
            raise Untruthful("it is of a kind that this grantctl does not know: update it")
    digest = records.digest_of(record)
    if digest != item.digest:
        raise Untruthful("the fields that would be shown do not give the digest that the broker wants signed")
    if named != item.id:
        raise Untruthful("its id is not the one in the record")
    return Question(item=item, record=record, digest=digest, code=records.code_of(digest), typed=typed)


def _action(item: PendingItem, fields: ActionRecord) -> bytes:
    if not 0 < len(fields.command) <= MAX_COMMAND_BYTES:
        raise Untruthful(f"its command has {len(fields.command)} bytes: too many to be read, or none")
    if not 0 <= fields.not_after_us < _MAX_US:
        raise Untruthful("its end is not a time")
    seen = item.classification
    if seen.refused:
        raise Untruthful("the classifier refused this command")
    words = [asking.class_word(part.command_class) for part in seen.parts]
    if any(_rank(word) > _rank(fields.command_class) for word in words):
        raise Untruthful("a part of the command is of a higher class than the record says")
    if any(part.opaque for part in seen.parts) and not fields.opaque:
        raise Untruthful("a part of the command was not understood, and the record does not say so")
    return records.action_record(fields)


def _is_typed_action(fields: ActionRecord) -> bool:
    known = fields.command_class in asking.CLASSES
    return fields.opaque or not known or fields.command_class in _TYPED_CLASSES


def _is_typed(fields: AccessRecord) -> bool:
    known = fields.ceiling in asking.CLASSES
    return not known or fields.ceiling in _TYPED_CLASSES or any(_word(flag) in _TYPED_FLAGS for flag in fields.flags)


def _word(flag: str) -> str:
    return flag.partition("=")[0]


def _rank(word: str) -> int:
    """Order of the class words; an unknown one is above all."""
    return asking.CLASSES.index(word) if word in asking.CLASSES else len(asking.CLASSES)
