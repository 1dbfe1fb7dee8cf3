"""A login shell that keeps what goes through it: the target's own witness, which knows nothing of grantd.

Runs as `tapshell -c COMMAND` where a login's shell would. The command is bash's, with the same words; what sshd hands
in and what the command hands out are written below TAPS before they are passed on. Only the standard library.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import sys
import termios
import threading
import time
import tty
from pathlib import Path

TAPS = Path(__file__).resolve().parent / "taps"
BASH = "/bin/bash"
PIECE = 64 * 1024


def main() -> None:
    """Keeps the command's words, then runs it."""
    folder = TAPS / f"{time.monotonic_ns():020}-{os.getpid()}"
    folder.mkdir(parents=True)
    (folder / "command").write_bytes(os.fsencode(sys.argv[-1]) if len(sys.argv) > 1 else b"")
    words = ["bash", *sys.argv[1:]]
    if os.isatty(0):
        in_terminal(folder, words)
    else:
        in_pipes(folder, words)


def in_pipes(folder: Path, words: list[str]) -> None:
    """The command takes this process over, so that its number, group and parent are what sshd made."""
    stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()
    command = os.pidfd_open(os.getpid())
    witness = os.fork()
    if witness == 0:
        os.setsid()
        if os.fork():
            os._exit(0)  # whoever keeps the bytes is no child of the command's
        for end in (stdin[0], stdout[1], stderr[1]):
            os.close(end)
        carry(folder, ("in", 0, stdin[1]), [("out", stdout[0], 1), ("err", stderr[0], 2)], command)
        os._exit(0)
    os.waitpid(witness, 0)
    for end, number in ((stdin[0], 0), (stdout[1], 1), (stderr[1], 2)):
        os.dup2(end, number)
    for end in (*stdin, *stdout, *stderr, command):
        os.close(end)
    os.execv(BASH, words)  # noqa: S606  that is what a login shell is for


def in_terminal(folder: Path, words: list[str]) -> None:
    """The command gets a terminal like sshd's; what its master reads and writes is what is kept."""
    master, slave = os.openpty()
    termios.tcsetattr(slave, termios.TCSANOW, termios.tcgetattr(0))
    size_of(folder, master)
    child = os.fork()
    if child == 0:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for number in (0, 1, 2):
            os.dup2(slave, number)
        os.close(master)
        os.close(slave)
        os.execv(BASH, words)  # noqa: S606
    os.close(slave)
    tty.setraw(0, termios.TCSANOW)
    signal.signal(signal.SIGWINCH, lambda *_: size_of(folder, master))
    carry(folder, ("in", 0, master), [("out", master, 1)], os.pidfd_open(child))
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


def size_of(folder: Path, master: int) -> None:
    """The terminal's size now, to the command's own terminal."""
    size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
    rows, columns, _, _ = struct.unpack("4H", size)
    with (folder / "sizes").open("ab") as sizes:
        sizes.write(struct.pack(">HH", columns, rows))
    fcntl.ioctl(master, termios.TIOCSWINSZ, size)


Way = tuple[str, int, int]
"""A direction's name, where it comes from, where it goes."""


def carry(folder: Path, inwards: Way, outwards: list[Way], command: int) -> None:
    """Until everything that goes out has ended, and the command (a pidfd) too: it may close its output and go on."""
    threading.Thread(target=keep, args=(folder, *inwards), daemon=True).start()
    out = [threading.Thread(target=keep, args=(folder, *way)) for way in outwards]
    for thread in out:
        thread.start()
    for thread in out:
        thread.join()
    select.select([command], [], [])
    (folder / "done").touch()


def keep(folder: Path, name: str, source: int, sink: int) -> None:
    """One direction, written down before it is passed on."""
    with (folder / name).open("ab", buffering=0) as kept:
        while data := read(source):
            kept.write(data)
            try:
                while data:
                    data = data[os.write(sink, data) :]
            except OSError:
                break
    if name == "in" and not os.isatty(sink):
        os.close(sink)  # a pipe to the command: its stdin ends


def read(source: int) -> bytes:
    """The next bytes; nothing at the end, which a terminal tells as an error."""
    try:
        return os.read(source, PIECE)
    except OSError:
        return b""


if __name__ == "__main__":
    main()
