"""What cannot be shown truthfully cannot be asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from grantd.cli.prompt.question import Untruthful, pose
from grantd.v1.approval_pb2 import PendingItem
from grantd.v1.options_pb2 import COMMAND_CLASS_REBOOT
from tests.agents.items import access_item, action_item


def spoilt(change: Callable[[PendingItem], object]) -> PendingItem:
    """A good item after one change."""
    item = action_item(b"touch /srv/app/x")
    change(item)
    return item


@pytest.mark.parametrize(
    "change",
    [
        lambda item: setattr(item.action, "command", b"rm -rf /srv/app"),
        lambda item: setattr(item.action, "login", "root"),
        lambda item: setattr(item.action, "target_id", "tg_other"),
        lambda item: setattr(item.action, "command_class", "execute"),
        lambda item: setattr(item.action, "nonce", b"n" * 16),
        lambda item: item.action.env.update({"LANG": "C"}),
        lambda item: setattr(item, "digest", b"\0" * 32),
        lambda item: setattr(item, "digest", b""),
    ],
    ids=["command", "login", "target", "class", "nonce", "env", "other digest", "no digest"],
)
def test_a_digest_that_is_not_of_the_shown_fields_is_refused(change: Callable[[PendingItem], object]) -> None:
    """The record is rebuilt here; whatever differs from what the broker wants signed ends it (I-10, F34)."""
    with pytest.raises(Untruthful, match="digest"):
        pose(spoilt(change))


def test_an_id_outside_the_record_is_refused() -> None:
    """A decision can not be sent for another item than the one shown."""
    with pytest.raises(Untruthful, match="id"):
        pose(spoilt(lambda item: setattr(item, "id", "ac_other")))


def test_a_part_above_the_record_is_refused() -> None:
    """A command whose parts say more than its class is not asked."""
    with pytest.raises(Untruthful, match="higher class"):
        pose(spoilt(lambda item: setattr(item.classification.parts[0], "command_class", COMMAND_CLASS_REBOOT)))


def test_a_part_nobody_understood_must_be_in_the_record() -> None:
    """`opaque` is signed, so it can not be hidden."""
    with pytest.raises(Untruthful, match="understood"):
        pose(spoilt(lambda item: setattr(item.classification.parts[0], "opaque", True)))


def test_a_command_over_the_cap_is_refused_and_not_cut() -> None:
    """Nobody reads 16 KiB and one byte (I-11)."""
    with pytest.raises(Untruthful, match="bytes"):
        pose(action_item(b"x" * (16 * 1024 + 1)))
    assert pose(action_item(b"x" * (16 * 1024))).typed is False


@pytest.mark.parametrize(
    ("word", "opaque", "typed"),
    [
        ("read", False, False),
        ("write", False, False),
        ("execute", False, True),
        ("install", False, True),
        ("reboot", False, True),
        ("read", True, True),
        ("write", True, True),
    ],
)
def test_what_needs_a_code(*, word: str, opaque: bool, typed: bool) -> None:
    """Execute and above, and everything that was not understood, need the digest's code (I-15)."""
    question = pose(action_item(b"x", command_class=word, opaque=opaque))
    assert question.typed is typed
    assert question.expected == (question.code if typed else "y")


@pytest.mark.parametrize(
    ("ceiling", "flags", "typed"),
    [
        ("read", (), False),
        ("write", ("sftp",), False),
        ("execute", (), True),
        ("reboot", (), True),
        ("write", ("raw_shell",), True),
        ("write", ("forward",), True),
        ("everything", (), True),
    ],
)
def test_which_access_needs_a_code(*, ceiling: str, flags: tuple[str, ...], typed: bool) -> None:
    """A ceiling of execute or above, a word this client does not know, and flags that open more (I-15)."""
    assert pose(access_item(ceiling=ceiling, flags=flags)).typed is typed
