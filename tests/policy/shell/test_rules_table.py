"""Where classifiers are beaten, one row each: bash does it here, with a marker for the harm, and no claim denies it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Final

import pytest

from policy.explain import word_of
from policy.shell import Classified, Refused, classify
from tests.policy.fuzz.arena import Arena, Did, arena
from tests.policy.fuzz.hunt import is_hole

PROGRAMS: Final = (
    *("awk", "bash", "env", "find", "git", "nice", "nohup", "setsid", "sh", "sort", "stdbuf", "sed", "tar", "timeout"),
    *("uniq", "xargs"),
)
# zz-mark is a program that no catalogue knows, m a file; `touch m` and `> m` stand for any change.
RUN: Final[dict[str, list[str]]] = {
    "chaining": [
        "true; zz-mark",
        "true && zz-mark",
        "false || zz-mark",
        "true | zz-mark",
        "true & zz-mark",
        "true\nzz-mark",
        "{ zz-mark; }",
        "(zz-mark)",
        "if zz-mark; then true; fi",
        "while zz-mark; do break; done",
        "! zz-mark",
        "case x in x) zz-mark;; esac",
        "f() { zz-mark; }; f",
        "for i in 1; do zz-mark; done",
        "time zz-mark",
    ],
    "substitution": [
        "echo $(zz-mark)",
        'echo "$(zz-mark)"',
        "echo `zz-mark`",
        "cat <(zz-mark)",
        "echo ${y:-$(zz-mark)}",
        "cat <<E\n$(zz-mark)\nE",
        "cat <<E\n`zz-mark`\nE",
        "x=$(zz-mark)",
        "a=($(zz-mark))",
        "cat <<< $(zz-mark)",
        "case $(zz-mark) in *) ;; esac",
        "echo $((1 + $(zz-mark) 1))",
        "echo $[ $(zz-mark) 1 ]",
        "[[ -f $(zz-mark) ]]",
        "for i in $(zz-mark); do true; done",
        "x=a; echo ${x/$(zz-mark)/}",
        "[[ a =~ $(zz-mark) ]]",
        "echo >$(zz-mark)m",
        "echo `echo \\`zz-mark\\``",
        "cat <<E\n${y:-$(zz-mark)}\nE",
        "ls > >(zz-mark)",
    ],
    "array subscript": [
        "x='a[$(zz-mark)]'; echo $((x))",
        "echo $((a[$(zz-mark)]))",
        "[[ -v 'a[$(zz-mark)]' ]]",
        "[[ 'a[$(zz-mark)]' -eq 0 ]]",
        "echo ${a[$(zz-mark)]}",
        "printf -v 'a[$(zz-mark)]' x",
        "a=(1); unset 'a[$(zz-mark)]'",
        "read 'a[$(zz-mark)]' <<< x",
        "let 'a[$(zz-mark)]'",
        "declare -i n='a[$(zz-mark)]'",
        "test -v 'a[$(zz-mark)]'",
        "((a[$(zz-mark)]))",
        "x='a[$(zz-mark)]'; ((x++))",
        "x='a[$(zz-mark)]'; [[ x -lt 1 ]]",
        "x='a[$(zz-mark)]'; for ((;x;)); do break; done",
        "x='a[$(zz-mark)]'; y=abc; echo ${y:x}",
        "x='a[$(zz-mark)]'; a[x]=1",
        "a[$(zz-mark)]=1",
    ],
    "prompt expansion": [
        "x='$(zz-mark)'; echo \"${x@P}\"",
        "x='a[$(zz-mark)]'; echo ${!x}",
        "PS4='$(zz-mark)'; set -x; true",
    ],
    "env prefix": [
        "PS4='$(zz-mark)' bash -xc true",
        "ENV=x BASH_ENV='$(zz-mark)' bash -c true",
    ],
    "builtins that set the stage": [
        "shopt -s expand_aliases\nalias ls=zz-mark\nls",
        "hash -p ../bin/zz-mark ls; ls",
        "ls() { zz-mark; }; ls",
        "trap zz-mark EXIT",
        "trap zz-mark DEBUG; true",
        "eval zz-mark",
        "exec zz-mark",
        "command zz-mark",
        "builtin eval zz-mark",
        ". /dev/stdin <<< zz-mark",
        "mapfile -C zz-mark -c1 x <<< a",
        "jobs -x zz-mark",
        "command_not_found_handle() { zz-mark; }; nosuch",
        "declare -n r='a[$(zz-mark)]'; echo $r",
        "coproc zz-mark",
    ],
    "path-qualified basename": [
        "../bin/zz-mark",
        "cd ../bin; ./zz-mark",
        "x=../bin; $x/zz-mark",
    ],
    "escapes and quotes": [
        "find . -\\exec zz-mark \\;",
        "find . '-exec' zz-mark \\;",
        'sort -"o" m /dev/null',
        "zz''-mark",
        "\\zz-mark",
        "$'zz-mark'",
        "$'\\x7az-mark'",
        '"zz-mark"',
        "echo $'a\\\\'; zz-mark # '",
        "z\\z-mark",
    ],
    "line continuation": [
        "zz-\\\nmark",
        "true \\\n; zz-mark",
        "echo hi # \\\nzz-mark",
        "tou\\\nch m",
        "true '\\\n'; zz-mark",
    ],
    "braces, globs, IFS": [
        "{zz-mark,x}",
        "x=zz-mark; $x",
        "IFS=x; y=zz-markxa; $y",
        "../bin/zz*",
        "sort /dev/null {-o,m}",
    ],
    "data becomes options": [
        "echo m | xargs touch",
        "echo zz-mark | xargs -I{} env {}",
        "x='-o m'; sort $x /dev/null",
        "echo zz-mark | xargs env",
        "echo zz-mark | xargs -n1 timeout 5",
        "echo 'a; zz-mark' | xargs -I{} sh -c 'echo {}'",
    ],
    "redirect forms": [
        "echo >m",
        ">m",
        "echo &>m",
        "echo >|m",
        "true 2>m",
        "echo >>m",
        "echo 1<>m",
        "echo >&m",
        "{ echo; } >m",
        "cat <<E >m\na\nE",
        "echo $(>m)",
        "echo >&'$(zz-mark)'",
        "for i in 1; do echo; done >m",
        "echo>m",
        "exec >m",
        "[[ a ]] >m",
        "f() { echo; } >m; f",
    ],
    "find": [
        "find . -exec zz-mark \\;",
        "find . -fprint m",
        "find . -execdir zz-mark ';'",
        "find . -fls m",
    ],
    "awk, sed": [
        "awk 'BEGIN {system(\"zz-mark\")}'",
        "awk 'BEGIN {print > \"m\"}'",
        "awk 'BEGIN {\"zz-mark\" | getline}'",
        'awk \'BEGIN {print "x" | "zz-mark"}\'',
        "echo | sed 'w m'",
        "echo | sed '1e zz-mark'",
        "echo zz-mark | sed 's/a/a/e'",
        "echo | sed -n '/x/!wm'",
        "echo | sed -e p -e 'w m'",
    ],
    "option runs a program": [
        "tar cf /dev/null --checkpoint=1 --checkpoint-action=exec=zz-mark /dev/null",
        "tar cf m -I zz-mark /dev/null",
        "env -S zz-mark",
        "xargs -a /dev/null zz-mark",
        "tar cf m --use-compress-prog=zz-mark /dev/null",
    ],
    "option writes a file": [
        "sort -o m /dev/null",
        "sort -om /dev/null",
        "sort -uom /dev/null",
        "sort --outp=m /dev/null",
        "tar cf m /dev/null",
        "find . -fprintf m x",
        "uniq /dev/null m",
    ],
    "git": [
        "git -c alias.x='!zz-mark' x",
        "git init -q .",
        "git config -f m a.b c",
        "git --no-pager -c alias.x='!zz-mark' x",
    ],
    "wrappers": [
        "env zz-mark",
        "timeout 5 zz-mark",
        "nice zz-mark",
        "nohup zz-mark",
        "setsid zz-mark",
        "bash -c zz-mark",
        "sh -c 'zz-mark'",
        "env -i ../bin/zz-mark",
        "stdbuf -o0 zz-mark",
        "xargs zz-mark </dev/null",
        "env nice timeout 5 zz-mark",
        "bash -c 'sh -c zz-mark'",
        "env -u X Y=1 zz-mark",
        "timeout -k 1 5 zz-mark",
    ],
}

SAID: Final[dict[str, list[tuple[str, str]]]] = {
    "display": [
        ("ls\u200b", "refused"),
        ("ls \u202e", "refused"),
        ("l\u0455", "execute"),
        ("\uff4cs", "execute"),
        ("ls -\u0430", "execute"),
        ("echo \xe9t\xe9", "read"),
        ("grep -r '\u65e5\u672c' /srv", "read"),
    ],
    "empty parse, cap overflow": [
        ("", "refused"),
        ("# ls", "refused"),
        ("ls;" * 2000, "refused"),
        ("(" * 70 + "ls" + ")" * 70, "refused"),
    ],
    "state verbs": [
        ("systemctl status x", "read"),
        ("systemctl enable x", "write"),
        ("systemctl start x", "execute"),
        ("ip link show", "read"),
        ("ip link set eth0 up", "write"),
        ("ip l s eth0 up", "write"),
        ("mount", "read"),
        ("mount /dev/vdb /mnt", "write"),
        ("hostname", "read"),
        ("hostname x", "write"),
        ("crontab -l", "read"),
        ("sysctl a.b", "read"),
        ("sysctl a.b=1", "write"),
        ("date", "read"),
        ("date -s 1", "write"),
        ("iptables -L", "read"),
        ("iptables -F", "write"),
        ("apt list", "read"),
        ("apt install x", "install"),
    ],
    "reboot by other means": [
        ("echo b > /proc/sysrq-trigger", "reboot"),
        ("tee /proc/sysrq-trigger <<< b", "reboot"),
        ("init 6", "reboot"),
        ("systemctl isolate rescue.target", "reboot"),
        ("systemctl start reboot.target", "reboot"),
        ("kexec -e", "reboot"),
        ("telinit 1", "reboot"),
        ("echo mem > /sys/power/state", "reboot"),
        ("shutdown -r +5", "reboot"),
        ("cp x /proc/sysrq-trigger", "reboot"),
        ("sudo sh -c 'init 0'", "reboot"),
    ],
}


@pytest.fixture(scope="module")
def place() -> Iterator[Arena]:
    """An arena with the programs of the table."""
    with arena(*(name for name in PROGRAMS if shutil.which(name))) as made:
        yield made


@pytest.mark.parametrize(("row", "command"), [(row, command) for row, some in RUN.items() for command in some])
def test_what_bash_does_is_never_denied(row: str, command: str, place: Arena) -> None:
    """I-16: bash runs the marker or changes a file, and the verdict allows for it."""
    verdict = classify(command.encode())
    did = place.alone(command.encode())
    assert did != Did(), "the row shows nothing: bash does nothing"
    assert not is_hole(verdict, did), verdict
    assert not did.ran or isinstance(verdict, Refused) or verdict.opaque, verdict


@pytest.mark.parametrize(("row", "command", "word"), [(row, *pair) for row, some in SAID.items() for pair in some])
def test_what_is_not_run_here_is_said_by_name(row: str, command: str, word: str) -> None:
    """I-16: characters, caps, verbs and files that decide the class do."""
    assert word_of(classify(command.encode())) == word


def test_every_rule_has_rows() -> None:
    """No rule without a command that needs it."""
    assert len(RUN) + len(SAID) >= 20
    assert min(map(len, RUN.values())) > 1
    assert min(map(len, SAID.values())) > 1
    assert isinstance(classify(b"zz-mark"), Classified)
