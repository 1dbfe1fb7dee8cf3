"""The catalogue: what programs do, as data (one TOML file a family), read strictly.

A key that is not understood is an error, and so is a program named twice: an entry never means less than it says.
Never runs anything and holds no rule of its own; the examples in the shipped entries are checked by the tests, those of
a tenant's own when they are loaded (`policy.ruleset`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from policy.catalog.model import Program, Takes
from policy.catalog.reader import SPECIAL_READERS, CatalogError, TableReader
from policy.classes import CommandClass

__all__ = [
    "SPECIAL_READERS",
    "CatalogError",
    "Catalogue",
    "Own",
    "Program",
    "parse",
    "parse_own",
    "shipped",
    "shipped_alone",
    "with_own",
]

_MAX_DOTS = 100
_MAX_OPTIONS = 100_000
"""Options of a file's programs, each counted again for every sub-command that it may follow."""
_HEADER = re.compile(r"\s*\[\s*['\"]?([A-Za-z0-9_.+-]+?)['\"]?\s*[\].]")
_OWN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
# bash runs these itself, whatever is installed: `compgen -b` and `compgen -k` of bash 5.2
_BUILTINS = frozenset([
    "alias", "bg", "bind", "break", "builtin", "caller", "cd", "command", "compgen", "complete", "compopt",
    "continue", "declare", "dirs", "disown", "echo", "enable", "eval", "exec", "exit", "export", "false", "fc",
    "fg", "getopts", "hash", "help", "history", "jobs", "kill", "let", "local", "logout", "mapfile", "popd",
    "printf", "pushd", "pwd", "read", "readarray", "readonly", "return", "set", "shift", "shopt", "source",
    "suspend", "test", "times", "trap", "true", "type", "typeset", "ulimit", "umask", "unalias", "unset",
    "wait", "if", "then", "else", "elif", "fi", "case", "esac", "for", "select", "while", "until", "do", "done",
    "in", "function", "time", "coproc",
])  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Catalogue:
    """Every program that is known, by each of its names.

    A name with two entries is a shipped program that a tenant describes too: both decide, and the higher answer counts,
    so that an entry of one's own can raise a class and never lower it (I-17). `lowered` are the names whose shipped
    entry the tenant's own replaces, which two people signed for.
    """

    entries: Mapping[str, tuple[Program, ...]]
    lowered: Mapping[str, Program]

    def of(self, name: str) -> tuple[Program, ...]:
        """What is known of a program; empty where nothing is."""
        return self.entries.get(name, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """A tenant's own entries, by each of their names; `replaces` names those that say so."""

    programs: Mapping[str, Program]
    replaces: frozenset[str]


@cache
def shipped() -> Mapping[str, Program]:
    """Every program of the shipped files, by each of its names."""
    folder = resources.files(__name__)
    programs: dict[str, Program] = {}
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".toml"):
            _merge(programs, parse(entry.read_text("utf-8"), entry.name))
    return programs


@cache
def shipped_alone() -> Catalogue:
    """The catalogue of a tenant that adds nothing."""
    return Catalogue(entries={name: (program,) for name, program in shipped().items()}, lowered={})


def parse(text: str, file: str) -> Mapping[str, Program]:
    """The programs of one shipped file, by each of their names.

    Raises:
        CatalogError: not TOML, an unknown key, a wrong type, a name given twice.
    """
    programs: dict[str, Program] = {}
    for name, table in _tables(text, file).items():
        reader = TableReader(where=f"{file}: [{name}]", table=table, own=False)
        program = reader.program(name, inherited={})
        _merge(programs, dict.fromkeys((name, *reader.words("names")), program))
    return programs


def parse_own(files: Mapping[str, str]) -> Own:
    """The programs of a tenant's own files, file name to TOML text.

    Raises:
        CatalogError: as `parse`, with the line; a name that is no program's, that bash keeps to itself, or that
        replaces nothing.
    """
    programs: dict[str, Program] = {}
    replaces: set[str] = set()
    for file in sorted(files):
        _must_be_cheap(files[file], file)
        lines = _lines(files[file])
        tables = _tables(files[file], file)
        if sum(_options(table, 0) for table in tables.values()) > _MAX_OPTIONS:
            raise CatalogError(
                f"{file}: more than {_MAX_OPTIONS} options, those that sub-commands share counted for each"
            )
        for name, table in tables.items():
            where = f"{file}:{lines.get(name, 1)}: [{name}]"
            reader = TableReader(where=where, table=table, own=True)
            program = reader.program(name, inherited={}, origin=file)
            names = (name, *reader.words("names"))
            for each in names:
                _must_be_own(each, where)
            _merge(programs, dict.fromkeys(names, program))
            replaces |= set(names) if reader.flag("replaces") else set()
    strays = sorted(replaces - shipped().keys())
    if strays:
        raise CatalogError(f"{strays[0]!r} replaces a shipped entry that is not there")
    return Own(programs=programs, replaces=frozenset(replaces))


def with_own(own: Own) -> Catalogue:
    """The shipped catalogue and a tenant's own entries beside it."""
    base = shipped()
    beside = {
        name: (program,) if name in own.replaces or name not in base else (base[name], program)
        for name, program in own.programs.items()
    }
    lowered = {name: own.programs[name] for name in own.replaces}
    return Catalogue(entries={**shipped_alone().entries, **beside}, lowered=lowered)


def _must_be_own(name: str, where: str) -> None:
    if not _OWN_NAME.fullmatch(name):
        raise CatalogError(f"{where}: {name!r} is no program's bare name")
    if name in _BUILTINS and name not in shipped():
        raise CatalogError(f"{where}: {name!r} is bash's own, no entry can speak for it")


def _tables(text: str, file: str) -> Mapping[str, object]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise CatalogError(f"{file}: {error}") from None


def _must_be_cheap(text: str, file: str) -> None:
    """Refuses dotted keys that tomllib would need the square of: `a.a.a...` in 200 KB takes all memory there is."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > _MAX_DOTS:
            raise CatalogError(f"{file}:{number}: more than {_MAX_DOTS} dots in a line: write the list in several")


def _options(table: object, shared: int) -> int:
    """How many options a table and its sub-commands have, `shared` being those of its parents."""
    if not isinstance(table, dict):
        return 0
    levels = (table, *(table.get(level.word) for level in CommandClass))
    lists = (level.get(takes.value) for level in levels if isinstance(level, dict) for takes in Takes)
    own = shared + sum(len(words.split()) for words in lists if isinstance(words, str))
    subs = table.get("sub")
    return own + sum(_options(sub, own) for sub in subs.values()) if isinstance(subs, dict) else own


def _lines(text: str) -> Mapping[str, int]:
    """Where each program's table begins, as people count lines, of those written plainly."""
    found: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            found.setdefault(header[1], number)
    return found


def _merge(programs: dict[str, Program], more: Mapping[str, Program]) -> None:
    for name, program in more.items():
        if name in programs:
            raise CatalogError(f"{name!r} is described twice")
        programs[name] = program
