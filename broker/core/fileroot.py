"""The fixed text that runs a target's sftp-server with one folder as all that it can see. Never runs anything itself.

The kernel confines it, and no comparison of paths: the server gets a file system of its own, with the folder bound at
its own path and nothing beside it but the server, its libraries and one line of passwd, all of it read-only copies.
Links, `..` and renames resolve in there (M8, F13). Where the target cannot do that, the text ends; it never runs the
server without it.
"""

from __future__ import annotations

import re
from typing import Final

MAX_ROOT_BYTES: Final = 200
_ROOT: Final = re.compile(r"(/[A-Za-z0-9_+@][A-Za-z0-9._+@-]*|/\.[A-Za-z0-9_+@-][A-Za-z0-9._+@-]*)+")

PLACES: Final = "/usr/lib/openssh /usr/libexec/openssh /usr/lib/ssh /usr/libexec/ssh /usr/libexec"
"""Where the distributions keep OpenSSH's sftp-server."""

# $r the folder, $w -R or nothing, $s the server, $a the libraries that it needs, $pw the login's line of passwd.
# - The folder is entered first and asked of the kernel: if a link leads to it, or somebody swaps it meanwhile, the name
#   differs; from here on it is the working directory that is bound, whatever its name becomes.
# - A login that is not root does this as root of a user namespace of its own, and is itself again, without any
#   capability, in one more before the server starts.
# - dev/null is a pipe with a name: the server wants one to open, and this one is nobody's device.
_INSIDE: Final = r"""
set -e
n=/mnt; case $r/ in /mnt/*) n=/tmp;; esac
mount -n -t tmpfs -o mode=0755,size=64m,nr_inodes=512 grantd $n
cp -L --parents $s $a $n
mkdir -p $n/dev $n/etc $n$r
mkfifo -m 0666 $n/dev/null
echo "$pw" >$n/etc/passwd
mount -n -c --rbind . $n$r
mount -n -o remount,bind,ro $n
exec unshare $back --root=$n --wd=$r $s $w
"""

_OUTSIDE: Final = r"""
no() { echo "grantd: $1" >&2; exit 126; }
for p in @places@; do [ ! -x $p/sftp-server ] || s=$p/sftp-server; done
[ "$s" ] || no 'this host has no sftp-server'
cd -P -- $r 2>/dev/null && [ "$(readlink /proc/$$/cwd)" = $r ] || no 'the folder is not there, or a link leads to it'
for l in $(ldd $s); do case $l in /*) a="$a $l";; esac; done
ns='--user --map-root-user' back="--user --map-user=$(id -u) --map-group=$(id -g)"
[ $EUID != 0 ] || ns= back=
pw=$(getent passwd $EUID)
export r w s a pw back
unshare $ns --mount true 2>/dev/null || no 'this host does not let the login confine itself to a folder'
exec unshare $ns --mount @bash@ '@inside@'
"""


LOOK: Final = f"""
for p in {PLACES}; do [ ! -x $p/sftp-server ] || s=$p; done
[ "$s" ] && echo server || exit 0
ns='--user --map-root-user' back="--user --map-user=$(id -u) --map-group=$(id -g)"
[ $EUID != 0 ] || ns= back=
export back
unshare $ns --mount bash --norc --noprofile -c '
  mount -n -t tmpfs grantd /mnt && mount -n -o remount,bind,ro /mnt && unshare $back --root=/ --wd=/ true
' 2>/dev/null && type -P ldd getent mkfifo readlink >/dev/null && echo root
exit 0
"""
"""Says `server` where there is an sftp-server, and `root` where it could be confined. Changes nothing."""


def is_root(path: str) -> bool:
    """Whether a path can be a root: absolute, not `/`, in its one spelling, of characters that no shell reads."""
    return len(path) <= MAX_ROOT_BYTES and _ROOT.fullmatch(path) is not None


def confined(root: str, *, reading: bool) -> str:
    """The text. `root` must hold `is_root`."""
    if not is_root(root):
        raise ValueError("not a root")
    text = _OUTSIDE.replace("@places@", PLACES).replace("@bash@", "bash --norc --noprofile -c")
    return f"r={root} w={'-R' if reading else ''} a=" + text.replace("@inside@", _INSIDE)
