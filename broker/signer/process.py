"""The signer as a process: hardened, then keys, journal and socket, then questions until SIGTERM or its parent's end.

Never reads the broker's configuration, database or environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

import structlog

from broker.signer import harden, walls
from broker.signer.authority import Authority
from broker.signer.hours import Hours
from broker.signer.journal import Journal
from broker.signer.keys import load_keys
from broker.signer.proof import Prover
from broker.signer.server import AllowedPeer, listen, serve
from broker.signer.trust import TrustFile
from broker.signer.walls import Wall

log = structlog.get_logger()

READY = b"ready\n"
"""Written to standard output once questions are answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerConfig:
    """Where the keys lie, where to listen, and to whom.

    `parent_pid` is the one process that may connect and with which the signer ends (embedded); None where both are
    services of their own and `allowed_uid` alone decides.
    """

    directory: Path
    socket: Path
    allowed_uid: int
    parent_pid: int | None

    def absolute(self) -> SignerConfig:
        """The same places, whatever the working directory becomes."""
        return replace(self, directory=self.directory.absolute(), socket=self.socket.absolute())


def run_signer(config: SignerConfig) -> None:
    """Serves until SIGTERM; returns then.

    Raises:
        Fault: it may not start: keys, journal, socket or the kernel's protections are not as they must be.
    """
    with contextlib.suppress(_Stop):
        _run(config.absolute())


def _run(config: SignerConfig) -> None:
    harden.private_files()
    harden.no_dumps()
    freed = harden.overwrite_freed()
    _catch_signals(embedded=config.parent_pid is not None)
    if config.parent_pid is not None:
        harden.end_with(config.parent_pid)
    walls.alone()
    walls.limits()
    keys = load_keys(config.directory, owner=os.geteuid())
    journal = Journal(config.directory)
    hours = Hours(time.monotonic, journal.since_opened)
    prover = Prover(TrustFile(config.directory), journal.used, journal.opened, hours)
    authority = Authority(keys, journal, prover, _now)
    allowed = AllowedPeer(uid=config.allowed_uid, pid=config.parent_pid)
    with listen(config.socket, own_uid=os.geteuid(), allowed=allowed) as listener:
        try:
            # before the first question and the first thread: each later one stands behind the same walls
            raised = walls.close_in(directory=config.directory, socket=config.socket, freed=freed)
            _tell(raised, embedded=config.parent_pid is not None)
            sys.stdout.buffer.write(READY)
            sys.stdout.buffer.flush()
            serve(listener, allowed, authority.answers)
        finally:
            authority.stop()
            config.socket.unlink(missing_ok=True)


def _tell(raised: tuple[Wall, ...], *, embedded: bool) -> None:
    """What does not stand, always; what does only where nobody else's start is told on the same lines."""
    for wall in raised:
        if not wall.stands:
            log.warning("signer.wall_missing", wall=wall.name, why=wall.detail)
    if not embedded:
        log.info("signer.closed_in", walls={wall.name: wall.detail for wall in raised if wall.stands})


class _Stop(BaseException):
    """SIGTERM, raised in the main thread; no handler of ordinary errors may catch it."""


def _catch_signals(*, embedded: bool) -> None:
    signal.signal(signal.SIGTERM, _stop)
    # a Ctrl-C at the terminal reaches child and parent alike: the parent decides, it may still need signatures
    signal.signal(signal.SIGINT, signal.SIG_IGN if embedded else _stop)


def _stop(_signal: int, _at: FrameType | None) -> NoReturn:
    # once: the kernel tells of a dying parent for each of its threads that held this process, and a second _Stop inside
    # the way out would leave the last signature half in the journal
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise _Stop


def _now() -> datetime:
    return datetime.now(tz=UTC)
