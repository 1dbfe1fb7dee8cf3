"""The sed lexer: what only prints, what writes, what is not read."""

from __future__ import annotations

import pytest

from policy.classes import CommandClass
from policy.shell.sed import sed_class

READS = [
    "s/a/b/",
    "s/a/b/g;s,x,y,2p",
    "s|a\\|b|c|gI",
    "1,20p",
    "$p",
    "/x/,/y/d",
    "\\,x,d",
    "/a/Id",
    "0~3d",
    "1,+3p",
    "/x/,~4p",
    "1!d",
    "/a/{s/b/c/;p}",
    "n;d",
    "y/abc/xyz/",
    ":a;N;$!ba;s/\\n/ /g",
    "a\\\nfoo\\\nbar",
    "i text w out",
    "c x",
    "r /etc/hosts",
    "q5",
    "l 20",
    "=",
    "# comment\np",
    "s/a/b/w /dev/stdout",
    "w /dev/stderr",
    "",
    "p # x",
    "s/a/b/;# x",
    "t end\n:end",
    "s/x/[y]/",
    "s/[^]a[:space:]]*//;$!{N;bx}",
]


@pytest.mark.parametrize("script", READS)
def test_scripts_that_only_print(script: str) -> None:
    """I-16: a sed script is a read only if each of its commands is known to print, cut or jump."""
    assert sed_class(script) is CommandClass.READ


@pytest.mark.parametrize("script", ["w out", "s/a/b/w out", "/x/w out", "p;W out", "{s/a/b/gw x\n}", "w /dev/stdout "])
def test_scripts_that_write(script: str) -> None:
    """I-16: `w` writes wherever it hides."""
    assert sed_class(script) is CommandClass.WRITE


@pytest.mark.parametrize(
    "script",
    [
        "e",
        "e id",
        "1e id",
        "s/a/b/e",
        "s/a/b/ge",
        "s/a/id/ep",
        "v",
        "s/a",
        "s/a/b",
        "s\na\nb\n",
        "/x",
        "1,p",
        "k",
        "y/a/",
        "s/a\nb/c/",
        "s\\a\\b\\",
        "s/[/]/w out/",
        "/1[^]/r f]s/x/y/w out",
        "ta/x}c\\\nw out\\\nta",
    ],
)
def test_scripts_that_run_or_are_not_read(script: str) -> None:
    """I-16: `e` runs a command, and a script that the lexer cannot follow is never a read."""
    assert sed_class(script) is None
