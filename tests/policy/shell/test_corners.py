"""Rare shapes: what is complete and understood keeps its class, what is not goes up or is refused by name."""

from __future__ import annotations

import subprocess

import pytest

from policy.classes import CommandClass
from policy.shell import Classified, Refused, classify

READS = [
    "{ ls; }",
    "if true; then\nls\nfi",
    "while true; do # look\nls\ndone",
    "case a in a) ;; esac; ls",
    "bash --version",
    "echo a | xargs",
    "unset -v FOO",
    "set -e -- a b",
    "head -n $X f",
    "service nginx status",
    "ip netns exec blue ls",
    "apt-get -s upgrade",
    "readonly -a X",
    "export LANG",
    "cat <<E -n\na\nE",
    "cat <<-E\n\ta\n\tE",
    "echo $'\\cA'",
    "echo $'\\n\\101\\x41'",
    "[ $((1+1)) -eq 2 ]",
    "cat x{1,2}<f",
    "find . -exec cat {}<f \\;",
]

ABOVE_A_READ = {
    "f() { ls; } > out": "redirect",
    "> out": "redirect",
    "cat <<E > out\na\nE": "redirect",
    "cat <<E && rm x\na\nE": "rm",
    "echo ${x:-$(rm y)}": "rm",
}

NOT_UNDERSTOOD = {
    "bash -c": "bash.script",
    "su - root": "su.shell",
    "su --frob -c ls": "su.unknown",
    "sudo --frob ls": "sudo.unknown",
    "env --frob ls": "env.unknown",
    "xargs --frob": "xargs.unknown",
    "kubectl exec --frob=$X pod -- ls": "kubectl exec.unknown",
    "kubectl exec pod": "kubectl exec",
    "ssh": "ssh",
    "unset PATH": "unset.name",
    "head -n": "head.unknown",
    "sed": "sed.script",
    "awk": "awk.program",
    "service nginx $X": "service.unknown",
    "service --frob nginx status": "service.unknown",
    "ip netns exec blue": "ip.exec",
    "apt-get -s frobnicate": "apt-get.unknown",
    "timeout 5": "timeout",
    "nohup": "nohup",
    "[[ -v a[$x] ]]": "test.name",
    "export PATH": "variable.passed",
    "for PATH in a; do ls; done": "variable.name",
    "cat <<E | sh\na\nE": "sh.file",
    "flatpak run x": "flatpak run",
    "[ $( ls ) ]": "test.split",
    "echo $((a[0]))": "arithmetic",
    ": {PATH}<f; ls": "guard.descriptor",
    "x='b[$(touch m)]'; : {a[x]}<f": "guard.descriptor",
    "cat {a['x y']}<<<z | wc": "guard.descriptor",
}

REFUSED = {
    "ls ;;": "guard.case",
    "[a = b]": "guard.bracket",
    "[ a = b]": "guard.bracket",
    "[ 1 + 1 ]": "guard.test",
    "then ls": "guard.reserved",
    "echo $": "guard.dollar",
    "ls a`ls`b": "guard.touching",
    'cat "$(cat <<E\na\nE\n)"': "guard.heredoc",
    "cat <<A <<B\na\nA\nb\nB": "parse.error",
    "cat <<E\na\nEE": "parse.error",
    "{ }; ls": "guard.empty",
    "{ # nothing\n}": "guard.empty",
    "f() { }; ls": "guard.empty",
    "if true; then fi": "guard.empty",
    "if true; then ls; else fi": "guard.empty",
    "if true; then ls; elif ls; then else ls; fi": "guard.empty",
    "while true; do done": "guard.empty",
    "for i in 1; do # nothing\ndone": "guard.empty",
    "function f { > x ls; { }; }": "guard.empty",
    "((x=1)\\\n); ls": "gate.continuation",
    "((x=1)\\\n\\\n); ls": "gate.continuation",
}


@pytest.mark.parametrize("line", READS)
def test_a_complete_read_is_one(line: str) -> None:
    """An odd spelling of a read asks nobody."""
    found = classify(line.encode())
    assert isinstance(found, Classified)
    assert (found.command_class, found.opaque) == (CommandClass.READ, False)


@pytest.mark.parametrize(("line", "rule"), ABOVE_A_READ.items())
def test_what_changes_something_is_no_read(line: str, rule: str) -> None:
    """I-16: a redirect or a command that stands in an unusual place counts all the same."""
    found = classify(line.encode())
    assert isinstance(found, Classified)
    assert found.command_class is CommandClass.WRITE
    assert rule in [part.rule for part in found.parts if part.command_class is CommandClass.WRITE]


@pytest.mark.parametrize(("line", "rule"), NOT_UNDERSTOOD.items())
def test_what_is_not_understood_goes_up(line: str, rule: str) -> None:
    """I-16: an unknown option, a missing word or a name that programs see is opaque, and says why."""
    found = classify(line.encode())
    assert isinstance(found, Classified)
    assert found.opaque
    assert found.command_class >= CommandClass.EXECUTE
    assert rule in [part.rule for part in found.parts if part.opaque]


@pytest.mark.parametrize(
    "line", [line for line, rule in REFUSED.items() if rule in ("guard.empty", "gate.continuation")]
)
def test_bash_takes_none_of_these_either(line: str) -> None:
    """A body without a command is no bash: the list of what is refused holds no line that would have run."""
    words = ["bash", "--norc", "--noprofile", "-n", "-c", line]
    assert subprocess.run(words, capture_output=True, check=False, timeout=20).returncode != 0


@pytest.mark.parametrize(("line", "rule"), REFUSED.items())
def test_what_is_no_command_is_refused(line: str, rule: str) -> None:
    """I-16: what the shell would read otherwise than the tree does not run at all."""
    found = classify(line.encode())
    assert isinstance(found, Refused)
    assert found.rule == rule
