"""What an agent could plant in a login's home, and what of it the target would obey. Looks, never changes anything.

One approved write could leave a file there that every later read runs; docs/classifier-binding.md has the list. The
answer comes from the target, so only fixed words of it are believed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from broker.service.ports import Finding

OLDEST_BASH: Final = (4, 4)
"""What was measured and is still kept by somebody: older ones run functions from LC_* values (before 4.3 patch 25), and
stand on a C library whose execvp looks in the working directory where PATH is not set (glibc before 2.24)."""

_BASH: Final = re.compile(r"bash (\d{1,3})\.(\d{1,3})")
_ENVIRONMENTS: Final = {
    "user_environment": (
        "sshd takes environment variables from ~/.ssh/environment",
        "set PermitUserEnvironment no in sshd_config: with it one approved write decides what every later command runs",
    ),
    "pam_environment": (
        "PAM takes environment variables from ~/.pam_environment",
        "remove user_readenv=1 from pam_env.so in /etc/pam.d/sshd: with it one approved write can set LD_PRELOAD",
    ),
}
_HOME_NOTE: Final = (
    "give its reads a login of their own (read_login) whose home root owns; the programs are in classifier-binding.md"
)
_CURL_NOTE: Final = "put an empty file /etc/grantd/.curlrc on the target: curl then reads no ~/.curlrc"


def findings(answer: bytes) -> Iterator[Finding]:
    """What Look.SETTINGS printed, as findings. A fine one with advice is a note: the operator may live with it."""
    words = frozenset(answer.decode("ascii", "replace").splitlines())
    yield _bash(words)
    bad = [_ENVIRONMENTS[word] for word in _ENVIRONMENTS if word in words]
    for what, advice in bad:
        yield Finding(ok=False, what=what, advice=advice)
    if not bad:
        yield Finding(ok=True, what="no setting was seen that takes environment from the login's home", advice="")
    if "home" in words:
        what = "programs may obey files in this login's home, which it can write"
        yield Finding(ok=True, what=what, advice=_HOME_NOTE)
        if "curl" in words:
            yield Finding(ok=True, what="curl reads ~/.curlrc", advice=_CURL_NOTE)


def _bash(words: frozenset[str]) -> Finding:
    told = [match for word in words if (match := _BASH.fullmatch(word))]
    version = (int(told[0][1]), int(told[0][2])) if len(told) == 1 else (0, 0)
    if version >= OLDEST_BASH:
        return Finding(ok=True, what="its bash is 4.4 or later", advice="")
    return Finding(
        ok=False,
        what="its bash is older than 4.4, or does not say",
        advice="give the target bash 4.4 or later: commands are classified as that one reads them",
    )
