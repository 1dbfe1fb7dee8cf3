"""The catalogue: its examples hold, and its reader refuses what it does not understand."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy import catalog
from policy.catalog.model import Program
from policy.classes import CommandClass
from policy.explain import word_of
from policy.shell import classify

PROGRAMS = {program.name: program for program in catalog.shipped().values()}


def _examples(kind: str) -> list[tuple[str, str]]:
    lines = [line for program in PROGRAMS.values() for line in getattr(program, kind)]
    return [(word, command) for word, _, command in (line.partition(": ") for line in lines)]


@pytest.mark.parametrize(("word", "command"), _examples("match"))
def test_match(word: str, command: str) -> None:
    """I-16: an entry means what its examples say."""
    assert word_of(classify(command.encode())) == word


@pytest.mark.parametrize(("word", "command"), _examples("not_match"))
def test_not_match(word: str, command: str) -> None:
    """I-16: an entry never means less than its counter-examples ask; they are all higher or refused."""
    got = word_of(classify(command.encode()))
    assert got != word
    assert got == "refused" or CommandClass.from_word(got) > CommandClass.from_word(word)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=lambda program: str(program.name))
def test_every_entry_has_an_example(program: Program) -> None:
    """An entry without an example promises nothing."""
    assert program.match


# Files whose entries do not all have counter-examples yet; this may only shrink.
_FILES_WITHOUT = frozenset(
    [
        "containers",
        "databases",
        "files",
        "languages",
        "network",
        "packages",
        "remote",
        "services",
        "vcs",
    ]
)
_FILES = [path for path in Path(catalog.__file__).parent.glob("*.toml") if path.stem not in _FILES_WITHOUT]


@pytest.mark.parametrize("path", sorted(_FILES), ids=lambda path: str(path.stem))
def test_every_lesser_entry_has_a_counter_example(path: Path) -> None:
    """I-16: an entry that reads or writes says which of its calls must never be that."""
    lesser = [
        program
        for program in catalog.parse(path.read_text("utf-8"), path.name).values()
        if program.base < CommandClass.EXECUTE and not program.opaque
    ]
    assert [program.name for program in lesser if not program.not_match] == []


def test_the_catalogue_is_wide_enough() -> None:
    """The programs an operations agent uses most are in it."""
    common = """
    ls cat head tail grep find stat du df ps top free uname uptime id who hostname date env printenv which
    journalctl systemctl service ss ip ping dig curl wget cp mv rm mkdir touch chmod chown ln tee sed awk sort
    uniq wc cut tr xargs tar gzip git docker kubectl apt apt-get dpkg dnf rpm pip npm reboot shutdown kill
    crontab mount umount useradd usermod sysctl modprobe sh bash sudo timeout nice nohup ssh scp rsync python3
    """
    assert set(common.split()) <= set(catalog.shipped())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[x", "x.toml"),
        ("x = 1", "expected a table"),
        ("[x]\nclas = 'read'", "unknown key 'clas'"),
        ("[x]\nclass = 'raed'", "no such command class"),
        ("[x]\nflags = ['-a']", "expected str"),
        ("[x]\nflags = '-a -a'", "given twice"),
        ("[x]\nflags = 'a'", "no dash"),
        ("[x]\nflags = '-a'\nwrite.flags = '-a'", "given twice"),
        ("[x]\nwrite.flag = '-a'", "unknown key 'flag'"),
        ("[x]\nsends = '-d'", "not listed"),
        ("[x]\nby_value.'-d' = ['read x']", "not listed"),
        ("[x]\noperands = 'read x'", "expected a list"),
        ("[x]\noperands = ['raed x']", "no such command class"),
        ("[x]\noperands = ['read (']", "read ("),
        ("[x]\nfree = true", "never free"),
        ("[x]\nfree = 1", "expected bool"),
        ("[x]\noperand_limit = true", "expected int"),
        ("[x]\nstops = 0", "expected bool"),
        ("[x]\nnames = 'y'\n[y]", "described twice"),
        ("[x]\nsubs.read = 'a'\nsub.a = {}", "described twice"),
        ("[x]\nsubs.raed = 'a'", "unknown key 'raed'"),
        ("[x]\nsub = 1", "expected tables"),
        ("[x]\nstyle = 'posix'", "posix"),
        ("[x]\nspecial = 'magic'", "magic"),
    ],
)
def test_what_the_reader_refuses(text: str, message: str) -> None:
    """A key, class or type that is not understood is an error with its place, never skipped."""
    with pytest.raises(catalog.CatalogError) as caught:
        catalog.parse(text, "x.toml")
    assert message in str(caught.value)


def test_a_sub_command_takes_the_options_of_its_parent() -> None:
    """Global options may follow the sub-command, and the sub-command's own meaning wins."""
    program = catalog.parse("[x]\nflags = '-q -f'\nsub.'a b' = {values = '-f'}\nsubs.write = 'c'", "x.toml")["x"]
    assert set(program.subs) == {"a", "b", "c"}
    assert program.subs["a"].options["-f"].takes is not program.options["-f"].takes
    assert program.subs["a"].options["-q"] == program.options["-q"]
    assert program.subs["c"].base is CommandClass.WRITE
