"""The awk lexer: what only computes and prints, what writes, what is not read."""

from __future__ import annotations

import pytest

from policy.classes import CommandClass
from policy.shell.awk import awk_class

READS = [
    "{print $1}",
    "NR>1 && $3 > 100 {n++} END {print n/2}",
    "/re|x/ {print}",
    "$0 ~ /a\\/b/",
    "!seen[$0]++",
    'BEGIN {FS=":"} {printf "%s %d\\n", $1, length($2)}',
    "{ if ($1 > $2) print $1; else print $2 }",
    "{print ($1 > $2)}",
    "function f(x) { return x*2 } { print f($1) }",
    '{ print > "/dev/stderr" }',
    'while ((getline line < "/etc/hosts") > 0) n++',
    "# comment\n{ print }",
    '{ a = "x | y > z"; print a }',
    "{ x = 1e3; y = .5; z = 0x1f; print x^y }",
    "{print $NF}",
    "{for (i=1;i<=NF;i++) s+=$i} END{print s}",
    "{ print /[ab]/ ? 1 : 2 }",
    "{ x = (a) / 2 }",
    "FILENAME == ARGV[1] { n++; next } /[[:alpha:]_]+/ { getline; getline x; print x }",
]


@pytest.mark.parametrize("program", READS)
def test_programs_that_only_print(program: str) -> None:
    """I-16: an awk program is a read only if each of its tokens is known."""
    assert awk_class(program) is CommandClass.READ


@pytest.mark.parametrize(
    "program",
    [
        '{print > "out"}',
        "{print >> $1}",
        '{printf "x" > f}',
        '{print > "/dev/stdout" x}',
        "{print>f}",
        'BEGIN { print "a",\n"b" > "out" }',
    ],
)
def test_programs_that_write(program: str) -> None:
    """I-16: `print >` writes a file; a comparison in parentheses does not."""
    assert awk_class(program) is CommandClass.WRITE


@pytest.mark.parametrize(
    "program",
    [
        "{system($1)}",
        'BEGIN{system ("id")}',
        '{print | "sh"}',
        '"id" | getline x',
        '{"id" |& getline}',
        '@include "x"',
        "{@f()}",
        '{getline x < "/inet/tcp/0/h/80"}',
        '{if (x) /"/ ~ y; system("rm"); "/"}',
        '{print "unterminated}',
        "{ x++ /a/ 2 }",
        "{ getline / x /}",
        "{print /unterminated}",
        "/[/]/",
        "{foo(1)}",
        "BEGIN { func system(1) }",
        '{ $/"/;system("id")#"\n}',
        '/[[:a:]/ ] ~ /system("id")/1',
        '{ length /"/; system("id") #"\n}',
        '{ getline x < ("/in" "et/tcp/0/h/80") }',
        '{ getline x < "/in" "et/tcp/0/h/80" }',
        "{ getline x < file }",
        'BEGIN { ARGV[1] = "/in" "et/tcp/0/h/80" } 1',
        "FILENAME == ARGV[1] = x",
        "BEGIN { ARGC = 5 }",
    ],
)
def test_programs_that_run_or_are_not_read(program: str) -> None:
    """I-16: pipes and calls of `system` run commands; what the lexer cannot follow is never a read."""
    assert awk_class(program) is None
