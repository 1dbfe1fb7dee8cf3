"""What the kernel is told about a process with keys: no core dumps, no tracing, private files, an end with its parent.

Linux only. Every call that fails stops the start (I-36).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

from broker.core.children import FILLER, OVERWRITING, TUNABLES
from broker.core.errors import Fault

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAP_IPC_LOCK = 14
_M_PERTURB = -6


class HardenFault(Fault):
    """The kernel refused a protection that the signer does not run without."""


def no_dumps() -> None:
    """No core file, no ptrace and no reading of /proc/PID/mem by others of the same uid."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def no_new_privileges() -> None:
    """No program that this process runs could ever gain any; also what the kernel asks of who restricts itself."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def lock_memory() -> str:
    """Keeps every page of this process out of swap, those to come as well; empty, or why that is not so.

    Not done at all under a limit: with pages to come locked, a full limit makes an allocation fail.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if hard != resource.RLIM_INFINITY and not _may_lock():
        return f"the limit of locked memory is {hard >> 10} KiB, not infinity"
    if hard == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        return f"mlockall failed with errno {ctypes.get_errno()}"
    return ""


def overwrite_freed() -> str:
    """Whether the C library overwrites all that is given back to it; empty, or why it does not.

    Libraries copy what they are handed (gRPC a request, OpenSSL a key) and free it as it is. Python's own pool of
    objects of up to 512 bytes is not the C library's: what lay there is overwritten by whatever comes next.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or mallopt(_M_PERTURB, FILLER) != 1:
        return "the C library has no such option"
    return "" if OVERWRITING in os.environ.get(TUNABLES, "") else "small pieces are kept as they are for reuse"


def run_overwriting() -> None:
    """Runs this same program anew in this process where it was started without OVERWRITING; else returns at once.

    Only the environment can say that small pieces are not set aside unwritten, and only before a program starts.
    """
    given = os.environ.get(TUNABLES, "")
    if OVERWRITING in given:
        return
    environ = {**os.environ, TUNABLES: ":".join(filter(None, (given, OVERWRITING)))}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)  # noqa: S606  itself, with its own words


def private_files() -> None:
    """Whatever this process makes is its owner's alone."""
    os.umask(0o077)


def end_with(parent_pid: int, how: signal.Signals = signal.SIGTERM) -> None:
    """A signal for this process as soon as the thread that started it ends.

    Raises:
        HardenFault: the parent is already gone, or is another than said.
    """
    _prctl(_PR_SET_PDEATHSIG, how)
    # asked after the arming: a parent that ended before it would never be noticed
    if os.getppid() != parent_pid:
        raise HardenFault("the process that started the signer is gone")


def _prctl(option: int, value: int) -> None:
    nought = ctypes.c_ulong(0)  # PR_SET_NO_NEW_PRIVS looks at all four, and a plain 0 fills half a register
    if ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), nought, nought, nought) != 0:
        raise HardenFault(f"prctl({option}) failed with errno {ctypes.get_errno()}")


def _may_lock() -> bool:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    held = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    return bool(int(held, 16) >> _CAP_IPC_LOCK & 1)
