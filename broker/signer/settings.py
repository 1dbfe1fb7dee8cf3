"""The file of a signer that is a service of its own: three keys, all of them needed, none of the broker's.

    directory = "/var/lib/grantd-signer"
    socket = "/run/grantd-signer/signer.sock"
    broker = "grantd"                           the broker's user, by name or number

Never reads the broker's configuration: a password for the database may stand in it.
"""

from __future__ import annotations

import os
import pwd
import stat
import tomllib
from pathlib import Path

from broker.core.errors import Refusal, invalid
from broker.signer.process import SignerConfig

_KEYS = frozenset({"directory", "socket", "broker"})
_WAY_OUT = "see docs/configuration.md, the signer as a service of its own"


def signer_config(path: Path) -> SignerConfig:
    """What the file at `path` says.

    Raises:
        Refusal: `bad_config`: unreadable, writable by others, not TOML, a key too many or too few, an unknown user.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            said = tomllib.loads(file.read().decode())
    except OSError as error:
        raise _bad(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _bad(f"{path} is not TOML: {error}") from error
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _bad(f"{path}: others may write it")
    if said.keys() != _KEYS:
        raise _bad(f"{path}: it holds exactly {', '.join(sorted(_KEYS))}")
    directory, socket = (_place(path, name, said[name]) for name in ("directory", "socket"))
    return SignerConfig(directory=directory, socket=socket, allowed_uid=_uid(path, said["broker"]), parent_pid=None)


def _place(path: Path, name: str, value: object) -> Path:
    if not isinstance(value, str) or not Path(value).is_absolute():
        raise _bad(f"{path}: {name}: not an absolute path")
    return Path(value)


def _uid(path: Path, value: object) -> int:
    if type(value) is int and value >= 0:
        return value
    if not isinstance(value, str):
        raise _bad(f"{path}: broker: neither a user's name nor a number")
    try:
        return pwd.getpwnam(value).pw_uid
    except (KeyError, ValueError):
        raise _bad(f"{path}: broker: there is no user {value!r}") from None


def _bad(message: str) -> Refusal:
    return invalid("bad_config", message, _WAY_OUT)
