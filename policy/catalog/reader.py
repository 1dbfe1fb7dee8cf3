"""One table of a catalogue file, read strictly into a `Program`. Opens no file and knows no program."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import cast

from policy.catalog.model import Option, Pattern, Program, Style, Takes
from policy.classes import CommandClass

_CLASS_WORDS = tuple(cls.word for cls in CommandClass)
_KEYS = frozenset(
    {
        "class",
        "unknown",
        "any",
        "bare",
        "style",
        "stops",
        "digits",
        "opaque",
        "egress",
        "outlives",
        "special",
        "runs_after",
    }
    | {
        "operand_limit",
        "operands",
        "free",
        "talks",
        "configured",
        "keyboard",
        "reads_if",
        "reads_with",
        "reads_apart",
        "reads_alone",
        "names",
        "sends",
        "by_value",
        "sub",
        "subs",
        "match",
        "not_match",
    }
    | {takes.value for takes in Takes}
    | set(_CLASS_WORDS)
)
_LEVEL_KEYS = frozenset({takes.value for takes in Takes} | {"opaque"})
# What speaks of readers in this code is not a tenant's to use.
_SHIPPED_KEYS = frozenset({"special", "configured"})
_OWN_KEYS = _KEYS - _SHIPPED_KEYS

# Programs that `policy.shell` reads by more than lists; an entry may name one of these and no other.
SPECIAL_READERS = frozenset(
    [
        "shell",
        "su",
        "launcher",
        "find",
        "xargs",
        "dashed",
        "remote",
        "joins",
        "command",
        "sets",
        "unset",
        "set",
        "trap",
        "test",
        "echo",
        "sed",
        "awk",
        "tar",
        "service",
        "ip",
        "curl",
        "wget",
        "copies",
        "manager",
        "verbs",
        "history",
        "psql",
        "mysql",
        "sqlite3",
        "redis",
        "mongo",
        "openssl",
    ]
)

MAX_PATTERNS = 64
"""Patterns in one list of a tenant's: every operand of a command is held against them, and it may have thousands."""

Table = Mapping[str, object]


class CatalogError(ValueError):
    """A catalogue file says something that is not understood; the message names file, line, program and key."""


class TableReader:
    """One table of a file, with its place for error messages.

    `own`: the file is a tenant's. Its patterns are globs then, since an agent chooses the words that they are held
    against, and a regular expression can be made to take for ever.
    """

    def __init__(self, *, where: str, table: object, own: bool) -> None:
        if not isinstance(table, dict):
            raise CatalogError(f"{where}: expected a table")
        self.where = where
        self._own = own
        self._table = cast("Table", table)

    def _at(self, place: str, table: object) -> TableReader:
        return TableReader(where=place, table=table, own=self._own)

    def program(self, name: str, inherited: Mapping[str, Option], style: str = Style.GNU, origin: str = "") -> Program:
        """The program that the table describes; a sub-command has its parent's options too. Raises CatalogError."""
        top = {"replaces"} if origin else set()
        self.known((_OWN_KEYS if self._own else _KEYS) | top)
        if "operands" in self._table and {"sub", "subs"} & self._table.keys():
            raise CatalogError(f"{self.where}: a program with sub-commands has no operands of its own")
        base = self._class("class") or CommandClass.READ
        style = self._text("style") or style
        options = {**inherited, **dict(self._options())}
        if self.flag("free") and base < CommandClass.WRITE:
            raise CatalogError(f"{self.where}: a program that reads is never free of its options")
        return Program(
            name=name,
            origin=origin,
            base=base,
            unknown=max(self._class("unknown") or base, CommandClass.EXECUTE),
            any_words=self._class("any"),
            bare=self._class("bare"),
            style=self._style(style),
            stops=self.flag("stops"),
            digits=self.flag("digits"),
            opaque=self.flag("opaque"),
            egress=self.flag("egress"),
            outlives=self.flag("outlives"),
            free=self.flag("free"),
            talks=self.flag("talks"),
            configured=self.flag("configured"),
            special=self._special(),
            runs_after=self._number("runs_after"),
            operand_limit=self._number("operand_limit"),
            operands=self.patterns("operands"),
            reads_if=frozenset(self.words("reads_if")),
            reads_with=frozenset(self.words("reads_with")),
            reads_apart=self._apart(),
            reads_alone=self.flag("reads_alone"),
            options=options,
            subs=dict(self._subs({} if self.flag("configured") else options, style, self._class("unknown"))),
            keyboard=self._keyboard(base),
            match=tuple(self._lines("match")),
            not_match=tuple(self._lines("not_match")),
        )

    def _style(self, word: str) -> Style:
        if word not in set(Style):
            raise CatalogError(f"{self.where}.style: {word!r} is none of {', '.join(Style)}")
        return Style(word)

    def _keyboard(self, base: CommandClass) -> bool:
        """`keyboard = "read"`: for a program that reads, and runs no other."""
        word = self._text("keyboard")
        if word is None:
            return False
        runs = {"sub", "subs", "runs_after", "special", "opaque"} & self._table.keys()
        if word != CommandClass.READ.word or base is not CommandClass.READ or runs:
            raise CatalogError(f'{self.where}.keyboard: only "read", of a program that reads and runs no other')
        return True

    def _special(self) -> str | None:
        name = self._text("special")
        if name is not None and name not in SPECIAL_READERS:
            raise CatalogError(f"{self.where}.special: there is no reader {name!r}")
        return name

    def _apart(self) -> tuple[frozenset[str], ...]:
        lists = tuple(frozenset(line.split()) for line in self._lines("reads_apart"))
        if len(lists) not in (0, len(("ONE", "OTHER"))):
            raise CatalogError(f"{self.where}.reads_apart: expected two lists of options")
        return lists

    def given(self) -> Iterator[str]:
        """The keys that are given."""
        return iter(self._table)

    def words(self, key: str) -> list[str]:
        """The words of one key, none where it is not given."""
        return (self._text(key) or "").split()

    def _options(self) -> Iterator[tuple[str, Option]]:
        sends = set(self.words("sends"))
        by_value = self._by_value()
        seen: set[str] = set()
        for level in (None, *_CLASS_WORDS):
            reader = self if level is None else self._level(level)
            if reader is None:
                continue
            base = CommandClass.from_word(level) if level else CommandClass.READ
            opaque = level is not None and reader.flag("opaque")
            for takes in Takes:
                plain = Option(takes=takes, command_class=base, opaque=opaque, egress=False, by_value=())
                for name in reader.words(takes.value):
                    if name in seen or not name.startswith(("-", "+")):
                        raise CatalogError(f"{self.where}: option {name!r} is given twice or has no dash")
                    seen.add(name)
                    special = name in sends or name in by_value
                    values = by_value.get(name, ())
                    yield name, replace(plain, egress=name in sends, by_value=values) if special else plain
        strays = (sends | set(by_value)) - seen
        if strays:
            raise CatalogError(f"{self.where}: sends or by_value name options that are not listed: {sorted(strays)}")

    def _level(self, word: str) -> TableReader | None:
        if word not in self._table:
            return None
        reader = self._at(f"{self.where}.{word}", self._table[word])
        reader.known(_LEVEL_KEYS)
        return reader

    def _subs(
        self, options: Mapping[str, Option], style: str, unknown: CommandClass | None
    ) -> Iterator[tuple[str, Program]]:
        seen: set[str] = set()
        for name, program in (*self._short_subs(options, style, unknown), *self._full_subs(options, style)):
            if name in seen:
                raise CatalogError(f"{self.where}: sub-command {name!r} is described twice")
            seen.add(name)
            yield name, program

    def _short_subs(
        self, options: Mapping[str, Option], style: str, unknown: CommandClass | None
    ) -> Iterator[tuple[str, Program]]:
        """`subs.read = "status show"`: sub-commands that need no more words than their class."""
        if "subs" not in self._table:
            return
        reader = self._at(f"{self.where}.subs", self._table["subs"])
        reader.known(frozenset(_CLASS_WORDS))
        shows = {key: self._table[key] for key in ("reads_if", "reads_with", "reads_apart") if key in self._table}
        for level in _CLASS_WORDS:
            names = reader.words(level)
            if names:  # they differ in their name alone, so the table is read once
                one = self._at(reader.where, {"class": level, **shows}).program(names[0], options, style)
                one = one if unknown is None else _with_unknown(one, unknown)
                yield from ((name, replace(one, name=name)) for name in names)

    def _full_subs(self, options: Mapping[str, Option], style: str) -> Iterator[tuple[str, Program]]:
        """`[git.sub.log]`; a key may list several spellings, and the options of the parent may follow too."""
        if "sub" not in self._table:
            return
        tables = self._table["sub"]
        if not isinstance(tables, dict):
            raise CatalogError(f"{self.where}.sub: expected tables")
        for names, table in tables.items():
            program = self._at(f"{self.where}.{names}", table).program(names.split()[0], options, style)
            for name in names.split():
                yield name, program

    def _by_value(self) -> dict[str, tuple[Pattern, ...]]:
        if "by_value" not in self._table:
            return {}
        reader = self._at(f"{self.where}.by_value", self._table["by_value"])
        return {name: reader.patterns(names) for names in reader.given() for name in names.split()}

    def patterns(self, key: str) -> tuple[Pattern, ...]:
        """The patterns of one key, in their order."""
        lines = self._lines(key)
        if self._own and len(lines) > MAX_PATTERNS:
            raise CatalogError(f"{self.where}.{key}: more than {MAX_PATTERNS} patterns")
        return tuple(self._pattern(line) for line in lines)

    def _pattern(self, line: str) -> Pattern:
        word, _, text = line.partition(" ")
        try:
            regex = _glob(text) if self._own else text
            return Pattern(command_class=CommandClass.from_word(word), regex=re.compile(regex, re.DOTALL))
        except (ValueError, re.error) as error:
            raise CatalogError(f"{self.where}: {line!r}: {error}") from None

    def known(self, keys: frozenset[str]) -> None:
        """Raises CatalogError where the table has another key than these."""
        unknown = set(self._table) - keys
        if unknown:
            raise CatalogError(f"{self.where}: unknown key {min(unknown)!r}")

    def _class(self, key: str) -> CommandClass | None:
        word = self._text(key)
        try:
            return CommandClass.from_word(word) if word else None
        except ValueError as error:
            raise CatalogError(f"{self.where}.{key}: {error}") from None

    def _lines(self, key: str) -> list[str]:
        value = self._table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
            raise CatalogError(f"{self.where}.{key}: expected a list of strings")
        return value

    def _text(self, key: str) -> str | None:
        return cast("str | None", self._typed(key, str))

    def _number(self, key: str) -> int | None:
        return cast("int | None", self._typed(key, int))

    def flag(self, key: str) -> bool:
        """Whether a key is given and true."""
        return bool(self._typed(key, bool))

    def _typed(self, key: str, kind: type) -> object:
        value = self._table.get(key)
        if value is not None and type(value) is not kind:
            raise CatalogError(f"{self.where}.{key}: expected {kind.__name__}")
        return value


def _glob(text: str) -> str:
    """A glob as a regular expression that takes no longer than the word is long."""
    head = text.removesuffix("*")
    if head != text and not set(head) & set("*?["):
        return re.escape(head) + ".*"  # so that a word is settled by its head alone
    return fnmatch.translate(text)


def _with_unknown(program: Program, unknown: CommandClass) -> Program:
    return replace(program, unknown=max(unknown, CommandClass.EXECUTE))
