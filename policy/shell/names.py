"""Which shell variables may be set without changing what programs do. Three short lists and no state."""

from __future__ import annotations

import re

PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# What chooses the character set by which bash reads its own text. In GBK, Big5, GB18030 and Shift JIS the second byte
# of a character may be a backslash: there a "\$(id)" behind the last byte of another letter is no longer quoted.
_CHARSET = re.compile(r"LANG|LC_ALL|LC_CTYPE")
_SAME_WORDS = re.compile(r"(?:C|POSIX|(?:C|[A-Za-z]{2,8}(?:_[A-Za-z]{2,8})?)\.(?:UTF-?8|utf-?8)(?:@[A-Za-z]{1,16})?)?")

# Names that may be handed to a program: they choose language, time zone, size and colour, and nothing else.
PASSED_TO_PROGRAMS = re.compile(
    r"LC_[A-Z]+|LANG|LANGUAGE|TZ|COLUMNS|LINES|NO_COLOR|CLICOLOR|FORCE_COLOR|DEBIAN_FRONTEND|ETCDCTL_API"
    r"|AWS_(?:DEFAULT_)?REGION|SYSTEMD_COLORS|PGTZ|PGAPPNAME|NEEDRESTART_MODE"
)

# A name that is only assigned reaches a program if it is exported already. A broker's session exports few names, and
# bash itself looks at few; all of them are written in capitals and are of these families.
_TAKEN = re.compile(
    r"_|PATH|IFS|ENV|HOME|SHELL|USER|LOGNAME|TERM\w*|PWD|OLDPWD|CDPATH|FPATH|TMPDIR|TMOUT|DISPLAY|GLOBIGNORE|EXECIGNORE|FCEDIT|FIGNORE"
    r"|FUNCNEST|HOSTFILE|IGNOREEOF|INPUTRC|MAIL\w*|OPT(?:ARG|ERR|IND)|POSIXLY_CORRECT|PROMPT_\w+|PS\d|READLINE_\w+|REPLY|RANDOM"
    r"|SECONDS|LINENO|EPOCH\w+|SRANDOM|SHELLOPTS|SHLVL|TIMEFORMAT|UID|EUID|PPID|GROUPS|DIRSTACK|FUNCNAME|COMP_\w+|COMPREPLY|COPROC|CHILD_MAX|EMACS"
    r"|BASH\w*|MAPFILE|PIPESTATUS|HIST\w*|LD_\w+|GCONV\w*|LOCPATH|NLSPATH|MALLOC_\w+|GLIBC_\w+|EDITOR|VISUAL|\w*PAGER|BROWSER|LESS\w*|GIT_\w+|SSH_\w+"
    r"|SUDO_\w+|SYSTEMD_\w+|XDG_\w+|DBUS_\w+|\w+_PROXY|PYTHON\w*|PERL\w*|RUBY\w*|NODE_\w+|JAVA_\w+|\w*OPTS|\w*OPTIONS|\w+FLAGS"
    r"|[A-Z]+_CONFIG\w*|KUBE\w*|DOCKER_\w+|AWS_\w+|GOOGLE_\w+|AZURE_\w+|PG[A-Z]+|MYSQL_\w+|NOTIFY_SOCKET|LISTEN_\w+|CURL_\w+|SSL_\w+"
    r"|OPENSSL_\w+|WGETRC|PSQL\w*|MAN\w*|VAULT_\w+|MAVEN_\w+|histchars|auto_resume|\w+_proxy"
)


def settable(name: str) -> bool:
    """Whether assigning this name, whatever its value, stays inside the shell that the command runs in."""
    return bool(PLAIN_NAME.fullmatch(name)) and not _TAKEN.fullmatch(name) and not _CHARSET.fullmatch(name)


def passes(name: str, value: str | None) -> bool:
    """Whether a program, or this shell, may be given the name with that value; None where it is not known."""
    return bool(PASSED_TO_PROGRAMS.fullmatch(name)) and same_words(name, value)


def same_words(name: str, value: str | None) -> bool:
    """Whether bash reads the same words out of the same bytes once the variable has that value; None: not known."""
    if _CHARSET.fullmatch(name) is None:
        return True
    return value is not None and _SAME_WORDS.fullmatch(value) is not None
