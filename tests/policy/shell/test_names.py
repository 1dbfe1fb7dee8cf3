"""A bare name is a program in a directory that only root writes to, and no line moves it."""

from __future__ import annotations

import pytest

from policy.classes import CommandClass
from policy.shell import Classified, classify

ELSEWHERE = [
    *[
        "./ls",
        "bin/ls",
        "../ls",
        "/srv/x/bin/ls",
        "/bin/../tmp/ls",
        "//bin/ls",
        "/usr/bin//ls",
        "/bin/./ls",
    ],
    *["/opt/x/bin/ls", "/snap/bin/ls", "/usr/lib/x/ls", "~/ls", "~root/bin/ls", '"$HOME"/ls', "$x/ls", "*/ls", "./l?"],
]
WRAPPERS = [
    *["{}", "env {}", "env LANG=C {}", "sudo {}", "sudo -u bob {}", "doas {}", "command {}", "exec {}", "timeout 5 {}"],
    *["nice {}", "nohup {}", "setsid {}", "xargs {}", "xargs -I@ {} @", r"find . -exec {} \;", "time {}", "! {}"],
    *["docker exec c {}", "kubectl exec p -- {}", "bash -c '{}'", "sudo env {}", "id | {}", "( {} )", "echo $({})"],
]
MOVERS = [
    *["PATH=/tmp ls", "PATH=/tmp; ls", "PATH+=:/tmp; ls", "export PATH=/tmp; ls", "declare PATH=/tmp; ls"],
    *["readonly PATH=/tmp; ls", "typeset -n r=PATH; r=/tmp; ls", "declare -n r=PATH; r=/tmp; ls", "unset PATH; ls"],
    *["env PATH=/tmp ls", "sudo PATH=/tmp ls", "xargs env PATH=. ls", "env -u PATH ls", "env -i ls", "exec -c ls"],
    *["read PATH <<< /tmp; ls", "for PATH in /tmp; do ls; done", "printf -v PATH /tmp; ls", "mapfile PATH < x; ls"],
    *["getopts a PATH; ls", "select PATH in a; do ls; done", "wait -p PATH; ls", ": ${PATH:=/tmp}; ls"],
    *[": $((PATH=1)); ls", "((PATH=1)); ls", "let PATH=1; ls", "exec {PATH}>/dev/null; ls", "export -n PATH; ls"],
    *["set -k; ls PATH=/tmp", "hash -p /tmp/x ls; ls", "builtin hash -p /tmp/x ls", "command hash -p /tmp/x ls"],
    *["BASH_CMDS[ls]=/tmp/x; ls", "BASH_ALIASES[ls]=id; ls", "alias ls=id; ls", "shopt -s expand_aliases; ls"],
    *["ls() { id; }; ls", "function ls { id; }; ls", "cd() { id; }; cd", "enable -f /tmp/x.so ls", "EXECIGNORE=x ls"],
    *["CDPATH=/tmp; cd x", "unset -f ls; ls", "BASH_ENV=x bash -c ls", "PROMPT_COMMAND=ls; id"],
]


def _is_no_read(line: str) -> None:
    verdict = classify(line.encode())
    assert not isinstance(verdict, Classified) or verdict.command_class >= CommandClass.EXECUTE, line


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_program_from_elsewhere_is_never_known(wrapper: str) -> None:
    """I-16: a path says nothing about a file outside root's directories, however deep the call stands."""
    for name in ELSEWHERE:
        _is_no_read(wrapper.replace("{}", name, 1))


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("folder", ["", "/bin/", "/usr/bin/", "/usr/local/bin/", "/sbin/", "/usr/sbin/"])
def test_a_program_of_roots_directories_is_known(wrapper: str, folder: str) -> None:
    """The rule has another side: these names are what they say."""
    verdict = classify(wrapper.replace("{}", f"{folder}id", 1).encode())
    assert isinstance(verdict, Classified)
    assert verdict.command_class is CommandClass.READ, wrapper


@pytest.mark.parametrize("line", MOVERS)
def test_no_line_moves_a_bare_name(line: str) -> None:
    """I-16: whatever would make a bare name mean another program is execute."""
    _is_no_read(line)
