"""The fixed commands of a check of a target, as they stand in its certificates. Never changes anything there.

The signer signs a check for one of these texts and for no other, so a check's certificate is of no use to anybody else.
What they print is the target's word: only fixed words of it are believed (adapters.target_ssh).
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from broker.core import fileroot
from broker.core.krl import HEADER_BYTES
from broker.core.revoking import FILE
from broker.core.wrapper import force_command

SECONDS: Final = 10.0
"""The most that a look takes; counted on the target."""

# Everything that quoting could lose: both quotes, a backslash, $, a newline, UTF-8, a leading blank and dash.
HOSTILE: Final = " -'\"\\$x\n\u00e9\u4e2d`;&|*"
_EXACT: Final = f"printf %s '{HOSTILE.replace(chr(39), chr(39) + chr(92) + chr(39) + chr(39))}'"
# Asked in the login shell itself, in words that every POSIX shell understands.
_SHELL: Final = 'printf "%s " grantd ${BASH_VERSION:+bash} ${ZSH_VERSION:+zsh} ${BASH_ENV:+startup} "level=${SHLVL:-0}"'
# Run in the wrapper's own bash. sshd's settings are believed only if the sshd above this process was started without a
# settings file of its own; a target that hides processes shows none, and then nothing is said about sshd.
SETTINGS: Final = r"""
echo "bash ${BASH_VERSINFO[0]}.${BASH_VERSINFO[1]}"
[ -w "$HOME" ] && echo home
type -P curl >/dev/null && ! [ -r /etc/grantd/.curlrc ] && echo curl
p=$PPID seen=
while [ "${p:-0}" -gt 1 ]; do
  case $(tr '\0' ' ' <"/proc/$p/cmdline") in
    *sshd*\ -f*) seen=; break ;;
    *sshd*) seen=1 ;;
  esac
  read -r s <"/proc/$p/stat" || break
  s=(${s##*) }); p=${s[1]}
done
[ "$seen" ] || exit 0
conf='/etc/ssh/sshd_config /etc/ssh/sshd_config.d/*.conf' pam='/etc/pam.d/sshd /etc/pam.d/common-*'
grep -hiqsE '^[[:space:]]*PermitUserEnvironment[[:space:]=]+"?[^n[:space:]"]' $conf && echo user_environment
grep -hiqsE '^[[:space:]]*UsePAM[[:space:]=]+"?yes' $conf &&
  grep -hqsE '^[^#]*pam_env\.so.*user_readenv=1' $pam && echo pam_environment
exit 0
"""


# Names alone: which keys they are stays there.
_STATE: Final = """
date +%s
[ -s "$HOME/.ssh/authorized_keys" ] && echo keys
exit 0
"""


NO_LIST: Final = 3
"""Exit status of the look at a revocation list that is not there."""
# The beginning of a revocation list, as text. Asked of the login that keeps it.
_LIST: Final = f"""
f=$HOME/{FILE}
[ -s "$f" ] || exit {NO_LIST}
head -c {HEADER_BYTES} -- "$f" | base64 -w 0
"""


class Look(Enum):
    """One fixed command: the text that stands in the certificate."""

    NOTHING = "exit 0"
    """For logins that are to be refused, or that only show that they are let in."""
    EXACT = force_command(_EXACT.encode(), cwd="", env={}, seconds=SECONDS)
    SHELL = _SHELL
    """Without the wrapper: the login shell itself answers."""
    SETTINGS = force_command(SETTINGS.encode(), cwd="", env={}, seconds=SECONDS)
    STATE = force_command(_STATE.encode(), cwd="", env={}, seconds=SECONDS)
    LIST = force_command(_LIST.encode(), cwd="", env={}, seconds=SECONDS)
    FILES = force_command(fileroot.LOOK.encode(), cwd="", env={}, seconds=SECONDS)


FORCED: Final = frozenset(look.value for look in Look)
"""Every force-command that a check's certificate may carry."""
