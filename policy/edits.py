"""Small edits of a command line that might lower its class: what could be dropped, quoted or written otherwise.

Proposes only. Whether an edit helps is `policy.advice`'s to find out, by classifying the edited bytes; so an edit that
means nothing costs a try, never a wrong answer. Spans are byte offsets into the command as it was given.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tree_sitter import Node

from policy.catalog import Catalogue
from policy.catalog.model import Option, Program, Style, Takes
from policy.classes import CommandClass
from policy.shell.gate import GateError, Source, admit
from policy.shell.parts import Parts, span_of
from policy.shell.tree import parse
from policy.shell.verdict import Classified, Part
from policy.shell.words import Word, read_word

_REWRITE, _DROP, _INSTEAD = range(3)
"""How much of the meaning an edit keeps: all of it, all but what it drops, or only the subject."""

_REDIRECTS = frozenset({"file_redirect", "herestring_redirect", "heredoc_redirect"})
_EXPANSIONS = frozenset({"simple_expansion", "expansion", "command_substitution"})
_LISTS = frozenset({"program", "list", "pipeline", "compound_statement", "do_group", "subshell"})
_BACKTICK = "`"
# Sub-commands and options that many programs have for looking first; used only where the catalogue lists them.
_LOOKS = ("status", "show", "list", "ls", "get", "plan")
_DRY = ("--dry-run", "--simulate", "--just-print", "--check", "--test", "--noop")
_GLOB = re.compile(r"[*?\[]")
_QUOTABLE = re.compile(r"[^'\"\\*?\[\]~{}`]*(?:\$\{[A-Za-z_]\w*\}[^'\"\\*?\[\]~{}`]*)*")
_BLANKS = b" \t"
_SHOWN = 60
_MAX_NODES = 600
_MAX_EDITS = 200
_MAX_BLAMED = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """`put` in place of the bytes of `span`. `say` is for people: their words and pieces of the command."""

    span: tuple[int, int]
    put: str
    say: str
    rank: int

    def cost(self) -> int:
        """Bytes taken out and put in."""
        return self.span[1] - self.span[0] + len(self.put.encode())

    def applied(self, command: bytes) -> bytes:
        """The command with this edit made."""
        return command[: self.span[0]] + self.put.encode() + command[self.span[1] :]


def edits(catalogue: Catalogue, command: bytes, verdict: Classified) -> list[Edit]:
    """Edits of what gave the line its class, those that keep most of its meaning first, and then the smallest.

    None where very many parts did: no small edit helps there, and looking would take long.
    """
    blamed = _blamed(verdict)
    if len(blamed) > _MAX_BLAMED:
        return []
    try:
        source = admit(command)
        root = parse(source.data).root
    except GateError:
        return []
    page = _Page(catalogue=catalogue, command=command, source=source, parts=verdict.parts, blamed=blamed)
    found = list(itertools.islice(page.all(root), _MAX_EDITS))
    return sorted(dict.fromkeys(found), key=lambda edit: (edit.rank, edit.cost(), edit.span))


def _blamed(verdict: Classified) -> tuple[Part, ...]:
    """The parts without which the line would be less."""
    return tuple(
        part
        for part in verdict.parts
        if part.opaque or (part.command_class is verdict.command_class and part.command_class > CommandClass.READ)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """One command line, with the parts that weigh most in it."""

    catalogue: Catalogue
    command: bytes
    source: Source
    parts: tuple[Part, ...]
    blamed: tuple[Part, ...]

    def all(self, root: Node) -> Iterator[Edit]:
        nodes = list(itertools.islice(_below(root), _MAX_NODES))
        yield from self._rewritten([self._dollar(n) for n in nodes if _is_backtick(n)], "write `$( )` for backticks")
        yield from self._quoted(nodes)
        for node in nodes:
            if node.type in _REDIRECTS or node.type == "variable_assignment":
                yield from self._without(node)
            elif node.type in _LISTS:
                yield from self._members(node)
            elif node.type == "command":
                yield from self._call(node)

    # -- the shell's own parts

    def _quoted(self, nodes: Sequence[Node]) -> Iterator[Edit]:
        bare = [node for node in nodes if node.type in _EXPANSIONS and not _is_backtick(node)]
        words = {_word_of(node).id: _word_of(node) for node in bare if _stands_bare(node)}
        made = [self._edit(span_of(word), f'"{self._text(word)}"', f"quote `{self._text(word)}`", _REWRITE)
                for word in words.values() if self._is_quotable(word)]  # fmt: skip
        yield from made
        yield from self._rewritten(made, "quote every unquoted `$`")

    def _is_quotable(self, word: Node) -> bool:
        return word.type == "command_substitution" or bool(_QUOTABLE.fullmatch(self._text(word)))

    def _dollar(self, node: Node) -> Edit:
        inside = self._text(node)[1:-1]
        put = f"$({inside})" if "\\" not in inside else self._text(node)
        return self._edit(span_of(node), put, "write `$( )` for the backticks", _REWRITE)

    def _rewritten(self, made: Sequence[Edit], say: str) -> Iterator[Edit]:
        """All of them at once, where one alone would not do."""
        outer = [edit for edit in made if not any(_inside(edit.span, other.span) for other in made)]
        if not outer:
            return
        start, end = outer[0].span[0], outer[-1].span[1]
        put, at = "", start
        for edit in outer:
            put += self.command[at : edit.span[0]].decode() + edit.put
            at = edit.span[1]
        yield Edit(span=(start, end), put=put, say=say if len(outer) > 1 else outer[0].say, rank=_REWRITE)

    def _without(self, node: Node) -> Iterator[Edit]:
        """Drop a redirect, or an assignment and the ones behind it."""
        if not self._is_blamed(span_of(node)):
            return
        yield self._drop(span_of(node), f"drop `{self._text(node)}`")
        last = node
        while last.next_sibling is not None and last.type == last.next_sibling.type == "variable_assignment":
            last = last.next_sibling
        if last is not node:
            span = (node.start_byte, last.end_byte)
            yield self._drop(span, f"drop `{self._between(*span)}`")

    def _members(self, node: Node) -> Iterator[Edit]:
        """Whole members of a list or pipeline, with the operator that joins them to the rest."""
        members = [child for child in node.children if child.is_named and child.type != "comment"]
        guilty = [index for index, child in enumerate(members) if self._holds_blame(span_of(child))]
        if len(members) < 2 or not guilty:  # noqa: PLR2004  one member is the whole
            return
        runs = [(index, index) for index in guilty]
        if len(guilty) > 1:
            runs.append((guilty[0], guilty[-1]))
        for first, last in runs:
            text = self.source.data[members[first].start_byte : members[last].end_byte].decode()
            if last + 1 < len(members):
                yield self._drop((members[first].start_byte, members[last + 1].start_byte), f"without `{text}`")
            if first > 0:
                yield self._drop((members[first - 1].end_byte, members[last].end_byte), f"without `{text}`")

    # -- one call and its words

    def _call(self, node: Node) -> Iterator[Edit]:
        words = [
            read_word(child, self.source.data)
            for child in node.children
            if child.is_named and child.type not in _REDIRECTS and child.type != "variable_assignment"
        ]
        starts = {self._place(word.span)[0]: index for index, word in enumerate(words)}
        inner = sorted({starts[p.span[0]] for p in self.blamed if p.span[0] in starts and self._within(p, node)})
        for index in inner:
            yield from self._words(words[index:])
        if inner:
            yield from self._executed(words)
        if words and self._is_blamed(words[0].span):
            yield from self._unwrapped(words)

    def _unwrapped(self, words: Sequence[Word]) -> Iterator[Edit]:
        """Without the program that runs another (`flock x`, `env A=b`)."""
        started = {part.span[0] for part in self.parts}
        for index, word in enumerate(words[1:], 1):
            if self._place(word.span)[0] in started:
                text = self._between(words[0].span[0], words[index - 1].span[1])
                yield self._drop((words[0].span[0], word.span[0]), f"run `{word.text}` without `{text}`")
                return

    def _words(self, words: Sequence[Word]) -> Iterator[Edit]:
        name = words[0]
        base = name.text.rpartition("/")[2]
        program = next(iter(self.catalogue.of(base)), None) if name.fixed else None
        if "/" in name.text and program is not None:
            yield self._edit(name.span, base, f"write `{base}` for `{name.text}`", _REWRITE)
        options = dict(program.options) if program else {}
        sub = next((w for w in words[1:] if program and w.fixed and w.text in program.subs), None)
        if program is not None and sub is not None:
            yield from self._instead(program, sub)
            options |= program.subs[sub.text].options
        for word, after in itertools.zip_longest(words[1:], words[2:]):
            yield from self._word(word, after, options, program)
        if program is not None:
            yield from self._dry(program, name) if sub is None else self._dry(program.subs[sub.text], sub)
        if words[1:] and words[-1] is not sub and words[-1].fixed and words[-1].operand_like:
            yield self._drop(words[-1].span, f"drop `{words[-1].text}`")

    def _executed(self, words: Sequence[Word]) -> Iterator[Edit]:
        """What find runs on each file, from -exec to its end."""
        first = next((w for w in words if w.text in ("-exec", "-execdir", "-ok", "-okdir")), None)
        last = next((w for w in words if first and w.span > first.span and w.text in (";", "+")), None)
        if first is not None and last is not None:
            span = (first.span[0], last.span[1])
            yield self._drop(span, f"drop `{self._between(*span)}`")

    def _word(
        self, word: Word, after: Word | None, options: dict[str, Option], program: Program | None
    ) -> Iterator[Edit]:
        if _GLOB.search(word.text) and not word.fixed:
            if word.text[0] in "*?[":
                yield self._edit((word.span[0],) * 2, "./", f"write `./{word.text}` for `{word.text}`", _REWRITE)
            yield self._edit(word.span, "FILE", f"name the files instead of `{word.text}`", _DROP)
        if not word.operand_like and not word.fixed:
            yield self._edit((word.span[0],) * 2, "-- ", f"write `--` before `{word.text}`", _REWRITE)
        if word.text.startswith("-") and len(word.text) > 1:
            yield from self._option(word, after, options, program)

    def _option(
        self, word: Word, after: Word | None, options: dict[str, Option], program: Program | None
    ) -> Iterator[Edit]:
        cluster = not word.text.startswith("--") and (program is None or program.style is not Style.LONG)
        last = options.get(f"-{word.text[-1]}" if cluster else word.text)
        end = after.span[1] if last is not None and last.takes is Takes.VALUE and after is not None else word.span[1]
        yield self._drop((word.span[0], end), f"drop `{self._between(word.span[0], end)}`")
        if not (cluster and word.text.isascii() and self._between(*word.span) == word.text):
            return
        letters = word.text[1:]
        for index, letter in enumerate(letters, 1):
            to = end if index == len(letters) else word.span[0] + index + 1
            if index > 1 or len(letters) > 1:
                also = " and its value" if to > word.span[1] else ""
                yield self._edit((word.span[0] + index, to), "", f"drop the `{letter}` of `{word.text}`{also}", _DROP)

    def _instead(self, program: Program, sub: Word) -> Iterator[Edit]:
        """A sub-command that only looks."""
        for look in _LOOKS:
            if look in program.subs and program.subs[look].base is CommandClass.READ:
                yield self._edit(sub.span, look, f"use `{program.name} {look}`", _INSTEAD)
                return

    def _dry(self, program: Program, after: Word) -> Iterator[Edit]:
        """An option that makes the call a rehearsal."""
        dry = next((name for name in _DRY if name in program.reads_if), None)
        if dry is not None:
            yield self._edit((after.span[1],) * 2, f" {dry}", f"add `{dry}`", _INSTEAD)

    # -- places

    def _edit(self, span: tuple[int, int], put: str, say: str, rank: int) -> Edit:
        return Edit(span=self._place(span), put=put, say=_short(say), rank=rank)

    def _drop(self, span: tuple[int, int], say: str) -> Edit:
        """Taken out together with the blanks that parted it from its neighbours."""
        data, (start, end) = self.source.data, span
        while start > 0 and data[start - 1] in _BLANKS:
            start -= 1
        at_start = start == 0 or data[start - 1] in b"\n(;&|"
        while at_start and end < len(data) and data[end] in _BLANKS:
            end += 1
        alone = at_start or end == len(data) or data[end] in b" \t\n;)"
        return self._edit((start, end), "" if alone else " ", say, _DROP)

    def _place(self, span: tuple[int, int]) -> tuple[int, int]:
        return Parts(source=self.source, outer=None, kept=[]).place(span)

    def _is_blamed(self, span: tuple[int, int]) -> bool:
        start, end = self._place(span)
        return any(part.span[0] <= start and end <= part.span[1] for part in self.blamed)

    def _holds_blame(self, span: tuple[int, int]) -> bool:
        return any(_inside(part.span, self._place(span), strictly=False) for part in self.blamed)

    def _within(self, part: Part, node: Node) -> bool:
        return _inside(part.span, self._place(span_of(node)), strictly=False)

    def _text(self, node: Node) -> str:
        return self._between(*span_of(node))

    def _between(self, start: int, end: int) -> str:
        return self.source.data[start:end].decode()


def _below(root: Node) -> Iterator[Node]:
    """Every node, in the order of the text."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack += reversed(node.children)


def _is_backtick(node: Node) -> bool:
    return node.type == "command_substitution" and node.children[0].type == _BACKTICK


def _word_of(node: Node) -> Node:
    parent = node.parent
    return parent if parent is not None and parent.type == "concatenation" else node


def _stands_bare(node: Node) -> bool:
    """Whether an expansion is neither quoted nor on the right of an assignment, where nothing is split."""
    above = _word_of(node).parent
    return above is not None and above.type not in ("string", "variable_assignment", "expansion", "heredoc_body")


def _inside(span: tuple[int, int], other: tuple[int, int], *, strictly: bool = True) -> bool:
    return other[0] <= span[0] and span[1] <= other[1] and (span != other or not strictly)


def _short(say: str) -> str:
    return say if len(say) <= _SHOWN else f"{say[: _SHOWN - 4]}...`"
