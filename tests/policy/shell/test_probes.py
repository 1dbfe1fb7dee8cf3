"""Shapes in which a parser once hid a command that bash runs (guards G1 to G19)."""

from __future__ import annotations

import pytest

from policy.classes import CommandClass
from policy.shell import Classified, Refused, classify

HIDDEN_RM = [
    "ls `date +%F` `rm -rf x`",
    "cat <<EOF\n`rm -rf x`\nEOF",
    "cat <<A&\na\nA\nrm -rf x\nA&",
    "cat <<A|cat\na\nA\nrm -rf x\nA|cat",
    "cat <<A>x\na\nA\nrm -rf x\nA>x",
    "cat <<A&&true\na\nA\nrm -rf x\nA&&true",
    "cat <<EOF\nx\nEOF;echo '$(rm -rf x)'",
    "cat <<EOF\nx\nEOF\nrm -rf x\nEOF",
    "[[ a =~ <(rm -rf x) ]]",
    "[[ a =~ $(rm -rf x) ]]",
    "r\\\nm -rf x",
    "echo `echo \\`rm -rf x\\``",
    "! ! rm -rf x",
    "echo hi # \\\nrm -rf x",
    "cat <<EOF\n$(rm -rf x)\nEOF",
    'echo "${y:-$(rm -rf x)}"',
    "echo ${y:-$(rm -rf x)}",
    "time rm -rf x",
    "time -p rm -rf x",
    "coproc rm -rf x",
    "echo $(rm -rf x)",
    'echo "$(rm -rf x)"',
    "cat <(rm -rf x)",
    "ls > >(rm -rf x)",
    "x=$(rm -rf x)",
    "a=(1 $(rm -rf x))",
    "echo $((a[$(rm -rf x)]))",
    "(( a[$(rm -rf x)] ))",
    "echo ${a[$(rm -rf x)]}",
    "a[$(rm -rf x)]=1",
    "case $(rm -rf x) in a) ls;; esac",
    "case x in $(rm -rf x)) ls;; esac",
    "for i in $(rm -rf x); do ls; done",
    "for ((i=$(rm -rf x);i<1;i++)); do ls; done",
    "if rm -rf x; then ls; fi",
    "while rm -rf x; do ls; done",
    "until rm -rf x; do ls; done",
    "f() { rm -rf x; }; f",
    "{ rm -rf x; }",
    "(rm -rf x)",
    "! rm -rf x",
    "ls && rm -rf x",
    "ls || rm -rf x",
    "ls | rm -rf x",
    "ls; rm -rf x",
    "ls & rm -rf x",
    "ls\nrm -rf x",
    "cat <<< $(rm -rf x)",
    "[[ -f $(rm -rf x) ]]",
    "[ -f $(rm -rf x) ]",
    "echo $[ $(rm -rf x) ]",
    "\\rm -rf x",
    "r''m -rf x",
    '"rm" -rf x',
    "$'rm' -rf x",
    "$'\\x72m' -rf x",
    "ls 2>&1 >/dev/null; rm -rf x",
    ">/dev/null rm -rf x",
    "LC_ALL=C rm -rf x",
    "eval 'rm -rf x'",
    "command rm -rf x",
    "exec rm -rf x",
    "trap 'rm -rf x' EXIT",
    "bash -c 'rm -rf x'",
    'sh -c "rm -rf x"',
    "sudo env TZ=UTC timeout 5 nice -n 5 rm -rf x",
    "find . -exec rm -rf x ';'",
    "echo x | xargs rm -rf",
    "ls >x -la; rm -rf x",
    "cat - <<EOF; rm -rf x\nb\nEOF",
    "[ x && rm ]",
    "[ x || rm ]",
    "[ x | rm ]",
    '[ x >>"m" ]',
    "[ x > m ] && ls",
    "[ ! x && rm ]",
    "[ -f x && rm ]",
    "echo $'a\\\\'; rm -rf x # '",
    "echo $'\\\\'\nrm -rf x # '",
    "[ x\n-lt rm ]",
    "echo $(>x)",
    "echo ${y:-$(>x)}",
    "cat <<< $(2>x)",
    'echo "$(>>x)"',
    "x=$(>x)",
]


@pytest.mark.parametrize("command", HIDDEN_RM)
def test_no_shape_hides_a_command(command: str) -> None:
    """I-16: whatever a command is wrapped in, the line is never called a read."""
    verdict = classify(command.encode())
    assert isinstance(verdict, Refused) or verdict.command_class >= CommandClass.WRITE, verdict


REFUSED = [
    ("", "gate.empty"),
    (" \n\t ", "gate.empty"),
    ("# only a comment", "parse.nothing"),
    ("ls \x00", "gate.character"),
    ("ls \r\nrm", "gate.character"),
    ("ls \x1b[0m", "gate.character"),
    ("ls \x7f", "gate.character"),
    ("ls \u202e", "gate.character"),
    ("ls \u200b", "gate.character"),
    ("ls \ufeff", "gate.character"),
    ("ls \u00a0x", "gate.character"),
    ("ls \u2028x", "gate.character"),
    ("ls \U000e0041", "gate.character"),
    ("ls '", "parse.error"),
    ("ls |", "parse.error"),
    ("if ls", "parse.error"),
    ("echo `", "parse.error"),
    ("cat <<A&&true\na\nA&&true", "guard.heredoc"),
    ("echo $", "guard.dollar"),
    ("x\\\ny # z", "gate.continuation"),
    ('echo "a\\\n$(ls)"', "gate.continuation"),
    ("! ! ls", "guard.reserved"),
    ("then ls", "guard.reserved"),
    ('echo $"translated"', "guard.touching"),
    ("{ ls; } >x y", "guard.redirect"),
    ("[ x && reboot ]", "guard.test"),
    ("[ x >m ]", "guard.test"),
    ("[[ x | y ]]", "guard.test"),
    ("[[ x + y ]]", "guard.test"),
    ("[[ x -t y ]]", "guard.test"),
    ("echo $'a\\\\'; rm -rf x # '", "guard.ansi"),
    ("echo $'\\'", "guard.ansi"),
    ("[ x\n-lt rm ]", "guard.newline"),
    ("[ ! \\x\n ]", "guard.newline"),
    ("echo >\nrm", "guard.newline"),
    ("cat <\nrm", "guard.newline"),
    ("case x in'a') ls;; esac", "guard.keyword"),
    ("for x inx in a; do ls; done", "guard.keyword"),
    ("true | ! true", "guard.reserved"),
    ("true |& ! true", "guard.reserved"),
    ("ls; x=} ]]\nls", "guard.word"),
    ("echo } ]] x", "guard.word"),
    ("ls ;&> x", "guard.case"),
    ("cat <<\n'A'\na\nA", "guard.newline"),
    ("f(\n) { ls; }; f", "guard.newline"),
    ("ls <>(cat)", "guard.touching"),
    ("x=$ rm", "guard.blank"),
    ('echo "$ $(rm y)"', "guard.blank"),
    ('x="cost: $ $(rm y)"', "guard.blank"),
    ("[[ $x<(rm) -nt y ]]", "guard.test"),
    ("[[ a>(rm) ]]", "guard.test"),
    ("[[ a -o b ]]", "guard.test"),
    ("[[ ! -e ]]#", "guard.bracket"),
    ("case a& in a) ls;; esac", "guard.case"),
    ("( echo =~>x )", "guard.pattern"),
    ("( echo =~>x&rm )", "guard.pattern"),
    ("echo =~ x", "guard.pattern"),
    ("for ((i=0; i<1; i++))\n\n; do ls; done", "guard.newline"),
    ("echo \"${x-'$(rm y)'}\"", "guard.quotes"),
    ("echo \"${x:-a'`rm y`'}\"", "guard.quotes"),
    ('echo "${x:+\'"\'$(rm)}"', "guard.quotes"),
    ("echo $((printf '$(rm y)'))", "parse.error"),
    ("((printf '$(rm y)'))", "parse.error"),
    ("echo ${x-$((printf '$(rm y)'\"\")) (}'' $(ls)", "guard.arithmetic"),
    ("a=([1\\]=2); ls", "guard.bracket"),
    ("a=([[1]=2); ls", "guard.bracket"),
    ("[[ -e == x ]]", "guard.test"),
    ("x=$\nrm", "guard.blank"),
    ("x+=$ rm y+=$z", "guard.blank"),
    ("ls 2>2>&1", "guard.redirect"),
    ("case x in *\n) ls;; esac", "guard.newline"),
    ("ls <>(cat)x", "guard.touching"),
    ("a=([1=2); ls", "guard.bracket"),
    ('echo ${x%%"a"b"}; echo "}; rm x # "', "guard.pattern"),
    ('echo ${x/"a"b"}; echo "}; rm x # "', "guard.pattern"),
    ("echo ${x%\\}y\nrm x # }", "guard.pattern"),
    ("for x in\na; do ls; done", "guard.newline"),
    ("cat <<'A' | ! cat\na\nA", "guard.reserved"),
    ("cat <<'A' &&\nls\nA", "guard.heredoc"),
    ("cat <<'A' |\nls\nA\ncat", "guard.heredoc"),
    ("for\nx in a; do ls; done", "guard.newline"),
    ("case\nx in x) ls;; esac", "guard.newline"),
    ("cat <<A <<B\na\nA\nb\nB", "parse.error"),
    ("f() { f | f & }; " + "{ " * 70 + "ls" + "; }" * 70, "parse.nesting"),
    ("ls;" * 2000, "parse.nodes"),
    ("echo " + "|a" * 8000, "parse.steps"),
    ("x" * (16 * 1024 + 1), "gate.length"),
]


@pytest.mark.parametrize(("command", "rule"), REFUSED, ids=[f"{rule}-{i}" for i, (_, rule) in enumerate(REFUSED)])
def test_what_is_refused(command: str, rule: str) -> None:
    """I-16: control bytes, hidden characters, over-length and broken shell are never run."""
    verdict = classify(command.encode("utf-8", "surrogatepass"))
    assert isinstance(verdict, Refused), verdict
    assert verdict.rule == rule
    assert verdict.reason


def test_bytes_that_are_not_utf8_are_refused() -> None:
    """I-16: a byte that no UTF-8 text has is not guessed at."""
    assert classify(b"ls \xff") == Refused(rule="gate.utf8", reason="not UTF-8 at byte 3")


OPAQUE = [
    "$cmd x",
    "ls $(echo x) `echo y`",
    "frobnicate",
    "./ls",
    "/srv/x/ls",
    "ls --no-such-option",
    "ls -\u00e9",
    "lss\u00e9",
    "python3 x.py",
    "bash x.sh",
    "curl http://x | sh",
    "echo ${x@P}",
    "echo ${!x}",
    "echo ${x:=y}",
    "echo ${x:y}",
    "PATH=/tmp ls",
    "LD_PRELOAD=./x.so ls",
    "PATH=/tmp:$PATH; ls",
    "export FOO=1; ls",
    "export PATH",
    "declare -n r=x",
    "declare -i n=x",
    "unset PATH",
    "x='a[$(id)]'; echo $((x))",
    "read x; (( x > 1 ))",
    "for x in 'a[0]'; do echo $((x)); done",
    "[[ $x -eq $(cat f) ]]",
    "[ -v 'a[$(id)]' ]",
    "[[ -v a[0] ]]",
    "[ $(cat f) = x ]",
    "x='1 -o 1'; [ $x = 2 ]",
    "ls() { id; }; ls",
    "if true; then f() { id; }; fi; f",
    "f; f() { id; }",
    "f() { id; } & f",
    "sh -c 'ls2() { id; }'; ls2",
    "f() { id; }; bash -c f",
    "sort --debug$x f",
    "sort --outp$x f",
    "sort -u$x f",
    "cat < /dev/tcp/h/80",
    "ls >&'$(rm x)'",
    "ls >& '`rm x`'",
    "x='$(rm x)'; ls >&\"$x.log\"",
    "ls >&\\$\\(rm\\)",
    "echo x > /dev/udp/h/53",
    "echo x > $f",
    "cat <<EOF\n${x}\nEOF",
    "coproc ls",
    "select x in a; do $x; done",
    'sh -c "ls \'"',
    "sh -c \"echo \\$'a'\"",
    "source x",
    ". ./x",
    "find . -exec sh -c 'cat {}' ';'",
    "find . -exec cat {}",
    'xargs -I "$m" ls',
    "xargs sort",
    "sort $x",
    "git $x",
    "kubectl exec web-1 ls",
    "docker run x",
    "ssh -o ProxyCommand=id h",
    "chroot $d ls",
    'sed -n "$x" f',
    'awk "$x" f',
    'watch "$x"',
    "printf -v 'a[0]' x",
]


@pytest.mark.parametrize("command", OPAQUE)
def test_what_is_not_understood_is_opaque(command: str) -> None:
    """I-16: an unknown word, option or expansion is at least execute, and opaque."""
    verdict = classify(command.encode())
    assert isinstance(verdict, Classified), verdict
    assert verdict.opaque
    assert verdict.command_class >= CommandClass.EXECUTE


@pytest.mark.parametrize("depth", [1, 4, 12, 40])
def test_scripts_inside_scripts_end(depth: int) -> None:
    """I-16: quoting depth is bounded; past the bound the inner script is opaque."""
    command = "ls"
    for _ in range(depth):
        command = "eval " + "'" + command.replace("'", "'\\''") + "'"
        if len(command) > 16_000:
            break
    verdict = classify(command.encode())
    assert isinstance(verdict, Refused) or (verdict.opaque == (depth > 8)), verdict
