"""The fixed text that runs on a target around a command, so that its end is certain. Never runs anything itself.

Two ways, both measured on the remote process (docs/adr/0008):
- `force_command`: what stands in a certificate's force-command. A watcher inside ends the command's whole process group
  when the connection or the time is over.
- `read_command` and `reaper_command`: for pooled reads. Each read reports its process group, one reaper per connection
  ends the listed groups when its stdin or the time is over.

Both run the exact bytes with `bash -c`, without a start-up file, in one fixed environment: what the classifier decided
on holds only where no pager, hook, fsmonitor, external diff or stray PATH entry adds a program nobody saw. The outer
text is read by the login shell (any POSIX one), so it is plain sh; the rest is bash with `--norc --noprofile`.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from broker.core.errors import Fault, Refusal, invalid
from broker.core.terminal import Signal

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_TEXT_BYTES = 100_000
"""sshd hands the whole text to the login shell as one argument; with 131,000 it drops the connection."""

# `git diff` would run what diff.external of the repository names. An empty value makes git fail, so the variable, which
# wins over the repository's, names a diff that adds nothing.
_PLAIN_DIFF = (
    '_() { [ $# -lt 5 ] || { echo "diff --git a/$1 b/$1"; diff -up --label "a/$1" --label "b/$1" -- "$2" "$5"; };'
    " return 0; }; _"
)
# Settings of a repository that would name a program for a read: set back to what git does without them.
_GIT = (
    ("core.fsmonitor", "false"),
    ("core.hooksPath", "/dev/null"),
    ("core.pager", "cat"),
    ("diff.submodule", "short"),
    ("log.showSignature", "false"),
    ("gpg.program", "gpg"),
    ("gpg.openpgp.program", "gpg"),
    ("gpg.x509.program", "gpgsm"),
    ("gpg.ssh.program", "ssh-keygen"),
    ("uploadpack.packObjectsHook", "env"),  # runs before what git-upload-pack runs: env, which only runs that
)
# Start-up files of the login's own home, which a write that was approved once could have planted: turned off wherever
# the environment can. What it cannot is listed in docs/classifier-binding.md.
_START_UP = {
    "LESSSECURE": "1",  # also ~/.lesskey, which can set LESSOPEN
    "LESSHISTFILE": "-",
    "MANOPT": "-C/dev/null",  # instead of ~/.manpath, which can name another nroff
    "WGETRC": "/dev/null",
    "CURL_HOME": "/etc/grantd",  # curl stops there only where the target has the empty file /etc/grantd/.curlrc
    "PSQLRC": "/dev/null",
    "PYTHONNOUSERSITE": "1",  # ~/.local/lib/python3.*/site-packages/*.pth runs in every Python program
    "KUBERC": "off",
    "VAULT_CONFIG_PATH": "/dev/null",  # instead of ~/.vault, which names a token helper
    "MAVEN_SKIP_RC": "1",
}
ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "PATH": PATH,
        "TERM": "dumb",
        "PAGER": "cat",
        "MANPAGER": "cat",
        "GIT_PAGER": "cat",
        "SYSTEMD_PAGER": "cat",
        "SYSTEMD_PAGERSECURE": "1",
        "PSQL_PAGER": "cat",
        "AWS_PAGER": "cat",
        "BAT_PAGER": "cat",
        **_START_UP,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_TRACE2": "0",
        "GIT_TRACE2_PERF": "0",
        "GIT_TRACE2_EVENT": "0",
        "GIT_EXTERNAL_DIFF": _PLAIN_DIFF,
        "GIT_CONFIG_COUNT": str(len(_GIT)),
        **{f"GIT_CONFIG_KEY_{index}": name for index, (name, _) in enumerate(_GIT)},
        **{f"GIT_CONFIG_VALUE_{index}": value for index, (_, value) in enumerate(_GIT)},
        # the same for git before 2.31, which does not know GIT_CONFIG_COUNT; this is how it hands `-c` to its children
        "GIT_CONFIG_PARAMETERS": " ".join(f"'{name}={value}'" for name, value in _GIT),
    }
)
"""What every command finds, whatever its class; beside it only who it is (_LOGIN) and the plan's TERM, LANG, LC_*."""
_LOGIN = ("HOME", "USER", "LOGNAME", "SHELL")
"""Set by sshd from the password file, taken over as they are."""

_BASH = "bash --norc --noprofile -c"
_NO_DIRECTORY = "echo 'grantd: the working directory cannot be entered' >&2"
_NOT_RUN = 126
"""Exit status of a wrapper that did not start its command; POSIX uses it for "found, but cannot be run"."""

# Common to watcher and reaper. now: centiseconds since boot, a clock that setting the time does not move.
# pause: waits without a process of its own, on a pipe that nobody writes; sleep(1) where /dev/fd is missing.
_SHARED = r"""
now() { local u; read -r u _ </proc/uptime || exit 1; u=${u/./}; now=$((10#$u)); }
pause() { read -r -t "$1" -u 9; [ $? -gt 128 ] || sleep "$1"; }
trap '' HUP INT QUIT ALRM TERM PIPE USR1 USR2 TSTP TTIN TTOU
exec 9<> <(:)
"""

# children: k becomes the processes that sshd started for this connection. A kernel may lack the file: then every
# process is asked for its parent.
_CHILDREN = r"""
children() { local p s; k=(); read -ra k </proc/$PPID/task/$PPID/children
  [ ${#k[@]} != 0 ] || for p in /proc/[0-9]*; do
    s=; read -r -d '' s <$p/stat; s=(${s##*) }); [ "${s[1]}" != $PPID ] || k+=(${p#/proc/})
  done; }
"""

# $1 what was asked for, $2 centiseconds, $3 working directory or empty, $4 the command.
# - `grantd-signal NAME` is no second run: it signals what this connection runs already (what stands in front of a
#   terminal), which sshd itself refuses beside a force-command. Anything else asked for is the command: a name with
#   more behind it would be further words of `kill`, processes of whoever asks for it (-1: all of the login's).
# - `grantd-forward HOST PORT` is no program: the wrapper connects, says so, and joins the streams (core/forward.py).
# - the command takes over this very process (exec), so sshd itself sees its exit status or signal;
# - the watcher has a process group of its own (set -m), ignores what can be ignored, and holds none of the command's
#   streams, or the channel would never close;
# - it leaves when the group is empty, and ends the group when sshd is gone or the time is over: TERM, 40 ms, KILL;
#   however else it ends, it takes the group with it.
# - with a terminal a shell gives every job a group of its own, so that the whole session ends, looked up process by
#   process, again until nothing new is found; without one the group alone, which costs nothing.
_WATCH = (
    r"""
read -r s </proc/$$/stat || s=; s=(${s##*) }); tty=${s[4]}
[ "${s[2]}" = $$ ] || { echo 'grantd: this needs a process group of its own' >&2; exit 126; }
case $1 in grantd-signal\ *[!A-Z0-9]*) ;; grantd-signal\ [A-Z]*)
"""
    + _CHILDREN.strip()
    + r"""
children 2>/dev/null
for p in ${k[@]}; do s=; read -r -d '' s </proc/$p/stat; s=(${s##*) })
  g=${s[2]}; [ "${s[5]:-0}" -le 1 ] || g=${s[5]}
  [ "$p" = $$ ] || [ "${g:-0}" -le 1 ] || kill -s ${1#* } -- -$g
done 2>/dev/null; exit 0;;
esac
[ -z "$3" ] || cd -P -- "$3" 2>/dev/null || { """
    + _NO_DIRECTORY
    + r"""; exit 126; }
unset OLDPWD
to=; [[ $4 =~ ^grantd-forward\ ([0-9a-z_.:-]+)\ ([0-9]+)$ ]] && to=/dev/tcp/${BASH_REMATCH[1]}/${BASH_REMATCH[2]}
set -m
( """
    + _SHARED
    + r"""
all() { local p s i; kill -s $1 -- -$$; [ "$tty" != 0 ] || return
  for i in 1 2 3 4 5; do local more=
    for p in /proc/[0-9]*; do s=; read -r -d '' s <$p/stat; s=(${s##*) })
      [ "${s[3]}" != $$ ] || [ "${s[0]}" = Z ] || [ ${p#/proc/} = $BASHPID ] || { kill -s $1 ${p#/proc/}; more=1; }
    done
    [ $1 = KILL ] && [ "$more" ] || return
  done; }
trap 'all KILL' EXIT
now; end=$((now + $2))
while kill -0 $PPID && kill -0 -- -$$; do
  now; [ $now -lt $end ] || break
  pause 0.1
done
all TERM; kill -0 -- -$$ && pause 0.04
) </dev/null >/dev/null 2>&1 &
set +m
[ -z "$to" ] || { exec 3>$to 4<&0 || exit; echo grantd-connected >&2; cat <&4 >&3 & cat <&3; kill $!; exit 0; }
exec """
    + _BASH
    + r""" -- "$4"
"""
).strip()

READY = b"grantd-ready\n"
"""What a reaper says once it stands."""

# $1 centiseconds. Lines on stdin: `? CENTISECONDS` a command started, `+ GROUP CENTISECONDS` its group and its time,
# `- GROUP` its leader ended (what it left goes too), `! GROUP` end now, `^ GROUP NAME` a signal.
# - Which groups there are is the kernel's word, not the command's: sshd is the parent of every leader, as it is of this
#   process (look). A mark that names anything else changes nothing; a group that no mark names ends all the same,
#   with the time of the command that started then or with the connection.
# - A leader that ended before its line came is no child any more: a group without a leader is believed (ours).
# - A group is forgotten once it is empty, so that its number is free again.
# The wait is at most a second, so that a machine that slept notices when it wakes.
_REAP = (
    r"""
read -r s </proc/$$/stat || s=; s=(${s##*) })
[ "${s[2]}" = $$ ] || exit 126
"""
    + _SHARED
    + _CHILDREN.strip()
    + r"""
declare -A g
look() { local p k; children
  for p in ${k[@]}; do [ $p = $$ ] || : ${g[$p]:=$end}; done
  for p in ${!g[@]}; do [[ " ${k[*]} " = *" $p "* ]] || kill -0 -- -$p || unset "g[$p]"; done; }
ours() { [ "${g[$1]}" ] || ! kill -0 $1; }
reap() { local p; for p; do kill -s TERM -- -$p $p; done; [ $# = 0 ] || pause 0.04
  for p; do kill -s KILL -- -$p $p; unset "g[$p]"; done; }
now; end=$((now + $1)); echo grantd-ready; exec >/dev/null 2>&1
while :; do
  now; next=$((now + 100)); [ $end -lt $next ] && next=$end; late=()
  for p in ${!g[@]}; do
    if [ ${g[$p]} -le $now ]; then late+=($p); elif [ ${g[$p]} -lt $next ]; then next=${g[$p]}; fi
  done
  reap ${late[@]}
  [ $now -lt $end ] || break
  wait=$((next - now)); [ $wait -gt 0 ] || wait=1
  printf -v wait '%d.%02d' $((wait / 100)) $((wait % 100))
  read -r -t $wait verb group for; r=$?
  look
  [ $r -le 128 ] || continue
  [ $r = 0 ] || break
  case $group in ''|*[!0-9]*) continue;; esac
  if [ "$verb" = '?' ]; then
    now; for p in ${!g[@]}; do [ ${g[$p]} != $end ] || g[$p]=$((now + group)); done; continue
  fi
  [ $group -gt 1 ] && ours $group || continue
  case $verb in
    +) now; g[$group]=$((now + for));;
    -) kill -s KILL -- -$group; unset "g[$group]";;
    !) reap $group;;
    ^) kill -s $for -- -$group;;
  esac
done
reap ${!g[@]}; look; reap ${!g[@]}
"""
).strip()

_GROUP = re.compile(rb"[1-9][0-9]{0,9}")
_ENV_NAME = re.compile(r"TERM|LANG|LC_[A-Za-z]+")
_NONCE = re.compile(r"[0-9a-f]{16,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forced:
    """What a force-command runs, read back from its text."""

    command: bytes
    cwd: str
    env: Mapping[str, str]
    centiseconds: int


class NotOurs(Fault):
    """A force-command that `force_command` would not have made."""


def force_command(command: bytes, *, cwd: str, env: Mapping[str, str], seconds: float) -> str:
    """The force-command for exactly these bytes: UTF-8 without NUL, `cwd` absolute or empty (the home).

    Raises:
        Refusal: `bad_command`, `command_too_long`.
    """
    return _forced(_text_of(command), cwd=cwd, env=env, centiseconds=_centiseconds(seconds))


def read_force_command(text: str) -> Forced:
    """The inverse of `force_command`, for whoever must know what a certificate will run. Raises NotOurs."""
    try:
        words = shlex.split(text)
        seconds, cwd, command = words[-3:]
        given = dict(word.split("=", 1) for word in words[3 : words.index("bash")])
        env = {name: value for name, value in given.items() if ENVIRONMENT.get(name) != value and name not in _LOGIN}
        centiseconds = int(seconds)
        again = _forced(command, cwd=cwd, env=env, centiseconds=centiseconds)
    except (ValueError, Refusal) as error:
        raise NotOurs("the force-command is not grantd's") from error
    # nothing above has to be right: only a text that we would have written ourselves passes
    if again != text:
        raise NotOurs("the force-command is not grantd's")
    return Forced(command=command.encode(), cwd=cwd, env=MappingProxyType(env), centiseconds=centiseconds)


def forced_seconds(text: str, command: bytes, *, cwd: str, env: Mapping[str, str]) -> float:
    """For how many seconds a force-command runs exactly this; one comparison. Raises NotOurs where it is another."""
    try:
        tail = f" {_quote(cwd)} {_quote(_text_of(command))}"
        digits = text.removesuffix(tail).rpartition(" ")[2]
        centiseconds = int(digits) if digits.isascii() and digits.isdigit() else 0
        again = _forced(_text_of(command), cwd=cwd, env=env, centiseconds=centiseconds)
    except (ValueError, Refusal) as error:
        raise NotOurs("the force-command is not grantd's") from error
    if again != text:
        raise NotOurs("the force-command is not grantd's")
    return centiseconds / 100


def read_command(command: bytes, *, cwd: str, env: Mapping[str, str], nonce: str) -> str:
    """What a pooled read's exec request says: marks its process group on stderr, then becomes the command.

    The nonce is lower-case hex and new for each command, so that no command can speak for another.
    """
    if _NONCE.fullmatch(nonce) is None:
        raise ValueError("the nonce is 16 to 64 hex digits")
    steps = [f"echo grantd-{nonce} $$ >&2"]
    if cwd:
        steps.append(f"cd -P -- {_quote(cwd)} 2>/dev/null || {{ {_NO_DIRECTORY}; exit {_NOT_RUN}; }}")
    steps.append(f"exec {_environment(env)} {_BASH} -- {_quote(_text_of(command))}")
    return _bounded("; ".join(steps))


def mark_of(nonce: str) -> bytes:
    """How the line with the process group begins, with the blank before the number."""
    return f"grantd-{nonce} ".encode()


def marked_group(line: bytes, nonce: str) -> int | None:
    """The process group in the line that `read_command` made with this nonce; None for any other line."""
    mark, _, group = line.rstrip(b"\n").partition(b" ")
    if mark != f"grantd-{nonce}".encode() or _GROUP.fullmatch(group) is None or int(group) <= 1:
        return None
    return int(group)


def reaper_command(*, seconds: float) -> str:
    """What a connection's reaper channel runs: says READY, then obeys the lines of `watch`, `ended` and `end`."""
    return f"exec /usr/bin/env -i PATH={PATH} {_BASH} {_quote(_REAP)} grantd {_centiseconds(seconds)}"


def started(*, seconds: float) -> bytes:
    """To the reaper: a command has started; see which, and end it after so many seconds whether or not it marks."""
    return b"? %d\n" % _centiseconds(seconds)


def watch(group: int, *, seconds: float) -> bytes:
    """To the reaper: end this process group after so many seconds. Only a group that sshd started is watched."""
    return b"+ %d %d\n" % (group, _centiseconds(seconds))


def ended(group: int) -> bytes:
    """To the reaper: this command ended by itself; what it left in its group goes, and the number is free again."""
    return b"- %d\n" % group


def end(group: int) -> bytes:
    """To the reaper: end this group now."""
    return b"! %d\n" % group


def signalled(group: int, name: Signal) -> bytes:
    """To the reaper: send this group a signal."""
    return b"^ %d %s\n" % (group, name.encode())


def signal_request(name: Signal) -> str:
    """What is asked for beside a force-command, on its own connection, to signal what that runs."""
    return f"grantd-signal {name}"


def _forced(command: str, *, cwd: str, env: Mapping[str, str], centiseconds: int) -> str:
    words = f'grantd "$SSH_ORIGINAL_COMMAND" {centiseconds} {_quote(cwd)} {_quote(command)}'
    return _bounded(f"exec {_environment(env)} {_BASH} {_quote(_WATCH)} {words}")


def _environment(env: Mapping[str, str]) -> str:
    if any(_ENV_NAME.fullmatch(name) is None for name in env):
        raise ValueError("only TERM, LANG and LC_* are a plan's to set")
    login = [f'{name}="${name}"' for name in _LOGIN]
    fixed = [f"{name}={_quote(value)}" for name, value in {**ENVIRONMENT, **dict(sorted(env.items()))}.items()]
    return " ".join(["/usr/bin/env -i", *login, *fixed])


def _quote(text: str) -> str:
    """Single quotes: the one quoting that every POSIX shell reads alike; 4 bytes for each quote in `text`."""
    return "'" + text.replace("'", "'\\''") + "'"


def _text_of(command: bytes) -> str:
    try:
        text = command.decode()
    except UnicodeDecodeError:
        raise invalid("bad_command", "the command is not UTF-8", "send UTF-8 text") from None
    if not text or "\0" in text:
        raise invalid("bad_command", "the command is empty or holds a NUL byte", "send a command line") from None
    return text


def _bounded(text: str) -> str:
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise invalid(
            "command_too_long", "the command does not fit into one argument", "put it in a file on the target"
        )
    return text


def _centiseconds(seconds: float) -> int:
    if not math.isfinite(seconds) or not 0 < seconds <= 10_000_000:  # noqa: PLR2004  115 days: longer than any grant
        raise ValueError("seconds must be positive and finite")
    return math.ceil(seconds * 100)
