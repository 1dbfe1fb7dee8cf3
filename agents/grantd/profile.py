"""A profile: one identity at one broker, as a private directory.

    profile.toml   addresses, tenant, identity id, name (below)
    client.key     private key, PEM          client.pem   certificate, PEM          ca.pem   the broker's CA, PEM

Directory 0700, files 0600, owned by whoever uses it: a profile open to others is refused, never repaired. Files are
replaced whole (write, fsync, rename), so a reader sees the old or the new one. Never talks to the broker.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final, Self

from grantd.errors import ProfileProblem

VARIABLE: Final = "GRANTCTL_PROFILE"
_DESCRIPTION: Final = "profile.toml"
_KEY: Final = "client.key"
_CERTIFICATE: Final = "client.pem"
_CA: Final = "ca.pem"
_LOCK: Final = "lock"
_WAY_OUT: Final = "grantctl login --join FILE makes a profile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What profile.toml says. Unknown keys are refused."""

    address: str
    """`host:port` of the broker, for everything by client certificate."""
    join_address: str
    """`host:port` of the listener that asks for no client certificate."""
    tenant: str
    identity_id: str
    name: str
    server_name: str = ""
    """The name that the broker's certificate must carry, where it is not the host of the address."""
    freeze_address: str = ""
    """`host:port` of the kill switch's own listener."""
    approval_key: str = ""
    """Where a person signs: a private key file, or the .pub file of a key in ssh-agent. Relative to the profile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A directory that passed the checks, and its description."""

    directory: Path
    description: Description

    @classmethod
    def load(cls, where: str | Path | None = None) -> Self:
        """The profile of that name or path (`$GRANTCTL_PROFILE`, else `default`). Raises ProfileProblem."""
        directory = locate(where)
        if not (directory / _DESCRIPTION).exists():
            raise ProfileProblem("no_profile", f"there is no profile in {directory}", _WAY_OUT)
        _require_private(directory)
        return cls(directory=directory, description=_parse(_read(directory / _DESCRIPTION)))

    @classmethod
    def create(
        cls,
        where: str | Path | None,
        *,
        description: Description,
        key: bytes,
        certificate: bytes,
        ca: bytes,
    ) -> Self:
        """Write a whole profile (PEM bytes), over an older one of the same directory if there is one."""
        directory = locate(where)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_private(directory, files=False)
        made = cls(directory=directory, description=description)
        with made.locked():
            replace_file(directory / _KEY, key)
            replace_file(directory / _CERTIFICATE, certificate)
            replace_file(directory / _CA, ca)
            replace_file(directory / _DESCRIPTION, _render(description).encode())
        return made

    @property
    def key(self) -> bytes:
        """The private key, PEM."""
        return _read(self.directory / _KEY)

    @property
    def certificate(self) -> bytes:
        """The client certificate, PEM; another process may have renewed it since the last look."""
        return _read(self.directory / _CERTIFICATE)

    @property
    def ca(self) -> bytes:
        """The broker's CA certificate, PEM."""
        return _read(self.directory / _CA)

    @property
    def approval_key(self) -> Path | None:
        """The approval key's file; None where the profile names none."""
        named = self.description.approval_key
        return (self.directory / Path(named).expanduser()) if named else None

    def with_approval_key(self, path: Path) -> Profile:
        """Remember which key this person signs with."""
        changed = replace(self.description, approval_key=str(path))
        replace_file(self.directory / _DESCRIPTION, _render(changed).encode())
        return replace(self, description=changed)

    def put_certificate(self, certificate: bytes, ca: bytes, freeze_address: str = "") -> None:
        """Replace certificate and CA, and where the kill switch is, if that is told. The caller holds the lock."""
        if freeze_address and freeze_address != self.description.freeze_address:
            changed = replace(self.description, freeze_address=freeze_address)
            replace_file(self.directory / _DESCRIPTION, _render(changed).encode())
        replace_file(self.directory / _CA, ca)
        replace_file(self.directory / _CERTIFICATE, certificate)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Exclusive among processes, for whoever replaces files. Waits."""
        descriptor = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def locate(where: str | Path | None) -> Path:
    """The directory of a profile: a path (it has a slash), a name below $XDG_CONFIG_HOME/grantd, or the default."""
    chosen = str(where or os.environ.get(VARIABLE) or "default")
    if "/" in chosen:
        return Path(chosen).expanduser().absolute()
    if chosen in (".", ".."):
        raise ProfileProblem(
            "bad_profile_name", f"{chosen!r} is not a profile name", "use a name, or a path with a slash"
        )
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    return Path(home) / "grantd" / chosen


def replace_file(path: Path, content: bytes) -> None:
    """Put content there whole or not at all, 0600, durable."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _require_private(directory: Path, *, files: bool = True) -> None:
    """Refuse what others could read or replace (I-54)."""
    paths = [directory]
    if files:
        paths += [directory / name for name in (_DESCRIPTION, _KEY, _CERTIFICATE, _CA)]
    for path in paths:
        try:
            status = path.stat()
        except OSError as missing:
            raise ProfileProblem("incomplete_profile", f"{path} cannot be read", _WAY_OUT) from missing
        if status.st_uid not in (os.geteuid(), 0):
            raise ProfileProblem("profile_not_yours", f"{path} belongs to somebody else", f"chown it, or {_WAY_OUT}")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise ProfileProblem("profile_open", f"{path} is open to other users", f"chmod go= {path}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as missing:
        raise ProfileProblem("incomplete_profile", f"{path} cannot be read", _WAY_OUT) from missing


def _parse(raw: bytes) -> Description:
    try:
        table: Mapping[str, object] = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as broken:
        raise ProfileProblem("bad_profile", f"profile.toml cannot be read: {broken}", _WAY_OUT) from broken
    known = {field.name for field in fields(Description)}
    for name, value in table.items():
        if name not in known or not isinstance(value, str):
            raise ProfileProblem("bad_profile", f"profile.toml: {name!r} is unknown or not a string", _WAY_OUT)
    try:
        return Description(**{name: str(value) for name, value in table.items()})
    except TypeError as missing:
        raise ProfileProblem("bad_profile", f"profile.toml lacks a key: {missing}", _WAY_OUT) from missing


def _render(description: Description) -> str:
    lines = []
    for field in fields(description):
        value = getattr(description, field.name)
        if not value.isprintable():
            raise ProfileProblem("bad_profile", f"{field.name} holds characters that a profile cannot keep")
        if value:
            # a JSON string of printable characters is a TOML basic string
            lines.append(f"{field.name} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
