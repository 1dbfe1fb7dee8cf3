"""What the kernel is told about a process with keys: no core dumps, no tracing, private files, an end with its parent.

Linux only. Every call that fails stops the start (I-36).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal

from broker.core.errors import Fault

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4


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
    if hard != resource.RLIM_INFINITY and os.geteuid() != 0:
        return f"the limit of locked memory is {hard >> 10} KiB, not infinity"
    if hard == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        return f"mlockall failed with errno {ctypes.get_errno()}"
    return ""


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
