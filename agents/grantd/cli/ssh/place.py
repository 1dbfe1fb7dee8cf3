"""Where a stock ssh wants to go, from the words it was given: one login on one target.

What ssh passes on may come from anywhere (the address of a git submodule, a link), so only names that the broker could
know are let through. Standard library alone: ssh asks at every connection.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

SUFFIX: Final = "grantd"
"""What names in ssh end in, unless somebody chose otherwise: `web1.grantd`."""
_LOGIN: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_TARGET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_SUFFIX: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?){0,4}")


class BadPlace(ValueError):
    """The words name no login on a target."""


class Place(NamedTuple):
    """One login on one target."""

    login: str
    target: str

    @property
    def user(self) -> str:
        """The user name at the gateway, and the certificate's one principal."""
        return f"{self.login}+{self.target}"


def parse(host: str, user: str, *, suffix: str = "") -> Place:
    """What `ssh USER@HOST` means: USER is a login or `login+target`, HOST a target's name with or without the suffix.

    The suffix alone is a host too; then USER names both. Raises BadPlace.
    """
    host = host.lower()
    target = host.removesuffix(f".{suffix}") if suffix else host
    target = "" if target == suffix else target
    login, plus, named = user.partition("+")
    if plus and target and named != target:
        raise BadPlace("the user name names another target than the host")
    return checked(login, target or named)


def checked(login: str, target: str) -> Place:
    """The place, if both are names that the broker could know. Raises BadPlace."""
    if not is_login(login):
        raise BadPlace("that is not a login: lower-case letters, digits, _ and -, at most 32")
    if not is_target(target):
        raise BadPlace("that is not a target's name: lower-case letters, digits, dot, _ and -, at most 63")
    return Place(login, target)


def is_login(text: str) -> bool:
    """Whether it could be a login on a target."""
    return _LOGIN.fullmatch(text) is not None


def is_target(text: str) -> bool:
    """Whether it could be a target's name."""
    return _TARGET.fullmatch(text) is not None


def is_suffix(text: str) -> bool:
    """Whether names may end in it: lower-case labels without the dot in front."""
    return _SUFFIX.fullmatch(text) is not None
