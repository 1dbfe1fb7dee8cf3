"""What a grant must say before a command gets what nobody saw when it was decided: stdin, a keyboard, files, a way on.

Pure checks over what was classified and granted; `propose` calls them in the transaction that decides.
"""

from __future__ import annotations

from broker.core import sftp
from broker.core.action import Action
from broker.core.errors import Refusal, forbidden
from broker.core.flags import copies_files, forwards
from broker.core.forward import destination_in, forwarded
from broker.core.grant import Grant
from policy.classes import CommandClass
from policy.shell import Classified

_STREAMS = frozenset({"stream_stdin", "raw_shell"})
_KEYBOARDS = _STREAMS | {"shell"}
"""Flags of a grant under which a command above read gets a stdin, or a keyboard, that nobody sees beforehand."""


def may_stream(seen: Classified, flags: frozenset[str], *, pty: bool) -> bool:
    """Whether a command may be given stdin that nobody saw when it was decided.

    A read takes data; but what a keyboard can do to a program is not in its text, so that with a terminal only a
    program that the catalogue proves harmless gets one. Above read the grant says so; for the far end of scp or rsync a
    grant of files is enough, since its stdin is the files; so is a grant that names the destination for a forward.
    """
    if reads(seen):
        return seen.keyboard if pty else True
    if not pty and ((seen.transfer and copies_files(flags)) or forwarded(seen) in forwards(flags)):
        return True
    return not flags.isdisjoint(_KEYBOARDS if pty else _STREAMS)


def must_stream(seen: Classified, flags: frozenset[str], *, pty: bool) -> None:
    """Raises Refusal `no_keyboard` or `stdin_must_be_declared` where `may_stream` says no."""
    if not may_stream(seen, flags, pty=pty):
        raise _no_keyboard(seen) if pty else _needs_flag()


def must_name_destination(line: bytes, seen: Classified, grant: Grant) -> None:
    """A forward is decided with its grant, so it is the exact text that connects and runs nothing (I-10).

    Quoted, redirected or with blanks around it, the same words run whatever program bears the name.
    """
    to = forwarded(seen)
    if to is not None and (destination_in(line) != to or to not in forwards(grant.flags)):
        raise forbidden("forward_not_granted", "the grant names no such destination", "ask for forward=HOST:PORT")


def must_be_granted(action: Action, grant: Grant) -> None:
    """A file session is off unless the grant has it (I-28)."""
    if sftp.is_session(action.command) and not sftp.is_granted(action.command, grant.flags):
        raise forbidden("sftp_not_granted", "the grant does not allow file transfer", "ask for a grant with sftp")


def _needs_flag() -> Refusal:
    return forbidden(
        "stdin_must_be_declared",
        "above read, stdin must be declared before it is decided",
        "send it whole up front (at most 64 KiB), or ask for a grant with stream_stdin",
    )


def _no_keyboard(seen: Classified) -> Refusal:
    if reads(seen):
        return forbidden("no_keyboard", "this read gets no keyboard", "run it without one, or without a terminal")
    return forbidden(
        "no_keyboard",
        "above read, a keyboard needs a grant that says so",
        "ask for a grant with stream_stdin, shell or raw_shell",
    )


def reads(seen: Classified) -> bool:
    """Whether it was proved to be a read, and was understood whole."""
    return seen.command_class is CommandClass.READ and not seen.opaque
