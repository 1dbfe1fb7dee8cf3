"""The lines that an administrator adds to a target's sshd. Pure text; never copies anything to a target by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from broker.core.cert import principal_of
from broker.core.identity import Target
from broker.core.kinds import SshSettings
from broker.core.revoking import FILE

_CA = "/etc/ssh/grantd_egress_ca.pub"
_PRINCIPALS = "/etc/ssh/grantd_principals"
_CURLRC = "/etc/grantd/.curlrc"
_CONFIG = "/etc/ssh/sshd_config.d/grantd.conf"


def sshd_lines(target: Target, egress_cas: Sequence[str]) -> str:
    """A commented text: a few small files, each with its whole content. Nobody but the target's logins is touched."""
    logins, keeper = _logins(target), _keeper(target)
    blocks = [
        _file(_CA, [line.strip() for line in egress_cas]),
        _file(_CURLRC, ["# curl looks here first, and then at no ~/.curlrc"]),
        *(
            _file(f"{_PRINCIPALS}/{login}", [principal_of(target.tenant, target.id, login)])
            for login in [*logins, *keeper]
        ),
        _file(_CONFIG, [*_config(logins), *(_keeping(keeper[0]) if keeper else ())]),
        "# and no user_readenv=1 in /etc/pam.d/sshd: it gives ~/.pam_environment to every command\n",
        "# then: sshd -t && systemctl reload ssh\n",
    ]
    return "\n".join(blocks)


def _config(logins: list[str]) -> Iterator[str]:
    yield f"Match User {','.join(logins)}"
    yield f"    TrustedUserCAKeys {_CA}"
    yield f"    AuthorizedPrincipalsFile {_PRINCIPALS}/%u"
    yield "    DisableForwarding yes"
    yield "    # which leaves tunnels as they are, and so does a certificate"
    yield "    PermitTunnel no"
    yield "    PermitUserRC no"
    yield "    # bash then reads no ~/.bashrc before a command"
    yield "    SetEnv SHLVL=3"
    yield "    # a gateway that vanished without a word is noticed, and what it ran is ended"
    yield "    ClientAliveInterval 15"
    yield "    ClientAliveCountMax 3"
    yield "    # if nobody but grantd shall use these logins:"
    yield "    # AuthorizedKeysFile none"


def _keeping(login: str) -> Iterator[str]:
    yield "# keeps the list of revoked certificates: a login of its own, with a home of its own and /bin/sh"
    yield f"Match User {login}"
    yield f"    TrustedUserCAKeys {_CA}"
    yield f"    AuthorizedPrincipalsFile {_PRINCIPALS}/%u"
    yield "    DisableForwarding yes"
    yield "    PermitTunnel no"
    yield "    PermitUserRC no"
    yield "    SetEnv SHLVL=3"
    yield f"# `grantctl target doctor` says when RevokedKeys (the file {FILE} in its home) may be set for the logins"
    yield "# above, and never for this one: with the list missing sshd refuses everybody's keys"


def _keeper(target: Target) -> list[str]:
    """The login that keeps the revocation list, where there is one."""
    return [target.settings.krl_login] if isinstance(target.settings, SshSettings) and target.settings.krl_login else []


def _logins(target: Target) -> list[str]:
    names = [name for login in target.logins for name in (login.name, login.read_login) if name]
    return list(dict.fromkeys(names))


def _file(path: str, lines: list[str] | Iterator[str]) -> str:
    return "".join([f"# --- {path}\n", *(f"{line}\n" for line in lines)])
