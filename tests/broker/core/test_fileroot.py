"""What can be a root, and what stands in the text that enforces it (I-28, F13)."""

from __future__ import annotations

import pytest

from broker.core import sftp
from broker.core.errors import Refusal
from broker.core.fileroot import confined, is_root
from broker.core.flags import checked_flags
from policy import shell
from policy.classes import CommandClass

GOOD = ("/srv", "/srv/app", "/srv/app-1.2_x@y+z", "/opt/a/.config", "/_")
BAD = (
    "", "/", "srv", "./srv", "/srv/", "//srv", "/srv//app", "/srv/..", "/srv/../etc", "/..", "/.", "/srv/.", "/srv/./a",
    "/...", "/srv app", "/srv\n", "/srv\n/a", "/srv'", "/srv$x", "/srv;id", "/srv`id`", "/srv*", "/srv\0", "/sérv",
    "/srv=x", "/-x",
    "/" + "a" * 200,
)  # fmt: skip


@pytest.mark.parametrize("path", GOOD)
def test_a_plain_folder_can_be_a_root(path: str) -> None:
    """Granted together with sftp, decided with the classes of any file session."""
    flags = frozenset({"sftp", f"sftp-root={path}"})
    assert checked_flags(flags) == flags
    sessions = sftp.sessions_of(flags)
    assert sessions is not None
    for command, expected in ((sessions.reading, CommandClass.READ), (sessions.writing, CommandClass.WRITE)):
        seen = shell.classify(command)
        assert isinstance(seen, shell.Classified)
        assert (seen.command_class, seen.opaque, sftp.ceiling_of(command)) == (expected, False, expected)
        assert f"r={path} ".encode() in sftp.program(command)
        assert sftp.is_granted(command, flags)


@pytest.mark.parametrize("path", BAD)
def test_nothing_else_can(path: str) -> None:
    """No second spelling of a path, nothing that a shell reads; no text is made of it."""
    assert not is_root(path)
    with pytest.raises(Refusal):
        checked_flags(frozenset({"sftp", f"sftp-root={path}"}))
    with pytest.raises(ValueError, match="not a root"):
        confined(path, reading=True)
    assert not sftp.is_session(b"internal-sftp --root=" + path.encode())


@pytest.mark.parametrize(
    "flags", [{"sftp-root=/srv"}, {"sftp", "sftp-root=/srv", "sftp-root=/etc"}, {"sftp", "sftp-root"}]
)
def test_a_root_stands_alone_beside_sftp(flags: set[str]) -> None:
    """Policies that look at `sftp` see every grant that transfers files."""
    with pytest.raises(Refusal):
        checked_flags(frozenset(flags))


def test_a_grant_with_a_root_has_no_session_without_it() -> None:
    """I-28: neither the other way round."""
    rooted, free = frozenset({"sftp", "sftp-root=/srv"}), frozenset({"sftp"})
    for command in (sftp.READING, sftp.WRITING):
        assert not sftp.is_granted(command, rooted)
        assert not sftp.is_granted(command + b" --root=/srv", free)
        assert not sftp.is_granted(command + b" --root=/srv/app", rooted)


def test_only_a_reading_session_reads() -> None:
    """The server's own switch stands in the text of one and not of the other."""
    assert " w=-R " in confined("/srv", reading=True)
    assert "-R" not in confined("/srv", reading=False).partition("exec unshare")[0]
