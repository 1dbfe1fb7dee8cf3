"""A filter over this process's system calls: what a signer at work does not need, it cannot ask for. Linux.

An allow list (syscalls.py): everything else fails with EPERM, a call of another architecture ends the process.
Source: https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Final

from broker.signer import syscalls

_LOAD, _JEQ, _JGE, _JSET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; little endian
_X32 = 0x40000000
_CLONE_THREAD = 0x00010000
_TCGETS, _FIONBIO, _FIOCLEX = 0x5401, 0x5421, 0x5451
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_MACHINES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine -> column of the table, AUDIT_ARCH."""


class Refused(Exception):
    """The kernel does not know or allow it here; the message says which."""


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


_YES = _step(_RETURN, _ALLOW)
_NO = _step(_RETURN, _ERRNO | _EPERM)


def program(machine: str, pid: int) -> bytes:
    """The filter for one machine and the process `pid`. Raises Refused for a machine without a table."""
    if machine not in _MACHINES:
        raise Refused(f"no table of system calls for {machine}")
    column, architecture = _MACHINES[machine]
    steps = [_step(_LOAD, _ARCHITECTURE), _step(_JEQ, architecture, 1), _step(_RETURN, _KILL), _step(_LOAD, _NUMBER)]
    if machine == "x86_64":
        steps += [_step(_JGE, _X32, 0, 1), _NO]
    for numbers in syscalls.CALLS.values():
        if numbers[column] is not None:
            steps += [_step(_JEQ, numbers[column] or 0, 0, 1), _YES]
    steps += _conditions(column, pid)
    return b"".join([*steps, _NO])


def _conditions(column: int, pid: int) -> list[bytes]:
    """A thread but no process; this process's own limits read, none set; signals to itself; three of the ioctls."""
    thread = [_argument(0), _step(_JSET, _CLONE_THREAD, 0, 1), _YES, _NO]
    asks = [_argument(2), _step(_JEQ, 0, 0, 3), _argument(2, high=True), _step(_JEQ, 0, 0, 1), _YES, _NO]
    itself = [_argument(0), _step(_JEQ, pid, 0, 1), _YES, _NO]
    plain = [_argument(1), _step(_JEQ, _TCGETS, 2), _step(_JEQ, _FIONBIO, 1), _step(_JEQ, _FIOCLEX, 0, 1), _YES, _NO]
    unknown = [_step(_RETURN, _ERRNO | _ENOSYS)]  # the C library falls back to clone, whose flags a filter can read
    return [
        *_if(syscalls.CLONE[column], thread),
        *_if(syscalls.CLONE3[column], unknown),
        *_if(syscalls.PRLIMIT64[column], asks),
        *_if(syscalls.TGKILL[column], itself),
        *_if(syscalls.IOCTL[column], plain),
    ]


def _if(number: int, steps: list[bytes]) -> list[bytes]:
    return [_step(_JEQ, number, 0, len(steps)), *steps]


def _argument(place: int, *, high: bool = False) -> bytes:
    return _step(_LOAD, _ARGUMENTS + 8 * place + (4 if high else 0))


def restrict() -> None:
    """Puts the filter over this thread and every later one; needs no_new_privs. For good. Raises Refused."""
    code = program(platform.machine(), os.getpid())
    buffer = ctypes.create_string_buffer(code, len(code))
    filled = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    header = ctypes.create_string_buffer(filled, len(filled))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), ctypes.byref(header), 0, 0) != 0:
        raise Refused(f"errno {ctypes.get_errno()}")
