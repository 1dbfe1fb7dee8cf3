"""Walk a checked tree and keep a part for everything in it that does something.

The class of a command line is the maximum over its parts, so a part may be counted too often but never left out. A node
this walk has no reader for becomes an opaque part. Runs nothing, reads nothing but the tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from tree_sitter import Node

from policy.catalog import Catalogue, Program
from policy.classes import CommandClass
from policy.shell import calls
from policy.shell.assignments import Assignments
from policy.shell.conditions import Conditions
from policy.shell.effect import Effect, opaque, plain
from policy.shell.expansions import Expansions
from policy.shell.gate import GateError
from policy.shell.names import PASSED_TO_PROGRAMS, settable
from policy.shell.parts import Parts, span_of, total
from policy.shell.scripts import read_script
from policy.shell.tree import Tree
from policy.shell.values import Values
from policy.shell.verdict import Part
from policy.shell.words import Word, fixed

MAX_WRAPPERS = 8

_CONTAINERS = frozenset(
    [
        "program",
        "list",
        "pipeline",
        "negated_command",
        "subshell",
        "compound_statement",
        "do_group",
        "if_statement",
        "elif_clause",
        "else_clause",
        "while_statement",
        "case_statement",
        "case_item",
        "variable_assignments",
    ]
)
_REDIRECTS = frozenset({"file_redirect", "herestring_redirect", "heredoc_redirect"})
_PLAIN_FILE = re.compile(r"[\w./,:+@%=-]+")
_STREAMS = frozenset({"/dev/null", "/dev/stdout", "/dev/stderr", "/dev/tty"})
_NUMBER = re.compile(r"-?\d+")
_FOR_THE_MISSING = "command_not_found_handle"  # bash runs it in the place of any program that is not there


@dataclass(slots=True, kw_only=True)
class Walk:
    """One script: the line itself, at depth 0, or one that it quotes."""

    tree: Tree
    parts: Parts
    values: Values
    catalogue: Catalogue
    depth: int
    wrapped: int = 0
    expansions: Expansions = field(init=False)
    conditions: Conditions = field(init=False)
    assignments: Assignments = field(init=False)

    def __post_init__(self) -> None:
        self.expansions = Expansions(
            data=self.tree.data,
            parts=self.parts,
            values=self.values,
            run=self._container,
            statements=frozenset(_STATEMENTS),
        )
        data, parts, expansions = self.tree.data, self.parts, self.expansions
        self.conditions = Conditions(data=data, parts=parts, expansions=expansions)
        self.assignments = Assignments(data=data, parts=parts, values=self.values, expansions=expansions)

    def run(self) -> None:
        """Walk the whole tree; parts are kept in the order they are met."""
        for rule, reason in self.tree.doubts:
            self.parts.keep((0, len(self.tree.data)), (), opaque(rule, reason))
        self.statement(self.tree.root)

    # -- statements

    def statement(self, node: Node) -> None:
        """A node in command position."""
        reader = _STATEMENTS.get(node.type)
        if reader is not None:
            reader(self, node)
        elif node.type in _CONTAINERS:
            self._container(node)
        elif node.type != "comment":
            self.expansions.word(node)  # the word after `case`, a pattern; anything else is marked there

    def _container(self, node: Node) -> None:
        if node.children and node.children[0].type == "((":
            self.expansions.arithmetic(node)
            return
        for child in node.children:
            if child.is_named:
                self.statement(child)
            elif child.type == "&":
                self._background(child)

    def _background(self, node: Node) -> None:
        effect = plain(CommandClass.READ, "shell.background", "what stands before & keeps running by itself")
        self.parts.keep(span_of(node), ("&",), replace(effect, outlives=True))

    def command(self, node: Node, extra: Sequence[Node] = (), lost: Sequence[Word] = ()) -> None:
        words: list[Word] = []
        passed: list[Node] = []
        for child in (*node.children, *extra):
            if child.type == "variable_assignment":
                passed.append(child)
            elif child.type in _REDIRECTS:
                words += [self.expansions.known_word(more) for more in self._redirect(child)]
            elif child.type == "command_name":
                words.append(self.expansions.word(child))
            else:
                words.append(self.expansions.known_word(child))
        words += lost
        reads = bool(words) and words[0].fixed and words[0].text == "read"
        for child in passed:
            self.assignments.passed(child, also="IFS" if reads else "")
        if words:
            self.run_words(words)

    def redirected(self, node: Node) -> None:
        body = None if node.children[0].type in _REDIRECTS else node.children[0]
        rest = node.children if body is None else node.children[1:]
        extra = [word for child in rest for word in self._redirect(child)]
        lost = self._lost_dashes(node.children)
        if body is not None and body.type == "command":
            self.command(body, extra, lost)
        elif extra or lost:
            raise GateError("guard.redirect", "words after a redirect that belong to no command")
        elif body is not None:
            self.statement(body)

    def _lost_dashes(self, children: Sequence[Node]) -> list[Word]:
        """The operands `-` that stand before a here-document, which the parser drops (see guard G4)."""
        gaps = pairwise(children)
        pairs = [(left.end_byte, right.start_byte) for left, right in gaps if right.type == "heredoc_redirect"]
        return [fixed("-", pair) for pair in pairs if self.tree.data[pair[0] : pair[1]].strip() == b"-"]

    def loop(self, node: Node) -> None:
        name, body = (
            next(child for child in node.children if child.type == kind) for kind in ("variable_name", "do_group")
        )
        values = [
            self.expansions.word(child) for child in node.children if child.is_named and child not in (name, body)
        ]
        text = self._text(name)
        number = bool(values) and all(value.fixed and _NUMBER.fullmatch(value.text) for value in values)
        # `select` may leave the name empty; a quoted script may be evaluated where the name is another loop's
        literal = bool(values) and all(value.fixed for value in values) and node.children[0].type == "for"
        literal = literal and not PASSED_TO_PROGRAMS.fullmatch(text)  # bash itself sets LINES and COLUMNS
        if literal and self.depth == 0 and text not in self.expansions.bound:
            self.values.turns_over(text, node.start_byte, number=number)
            self._turns(body, text, list(dict.fromkeys(value.text for value in values)))
        else:
            self.values.sets(text, number=number)
            self._turn(body, {name: value for name, value in self.expansions.bound.items() if name != text})
        self.assignments.named(node, text)

    def _turns(self, body: Node, name: str, values: Sequence[str]) -> None:
        """The body of a loop over literals, for each of them; once, with nothing known, where that is too long."""
        around = {other: value for other, value in self.expansions.bound.items() if other != name}
        if not self.values.turns.affords((body.end_byte - body.start_byte) * (len(values) - 1)):
            self._turn(body, around)
            return
        seen: set[Part] = set()
        for value in values:
            before = len(self.parts.kept)
            self._turn(body, {**around, name: value})
            self.parts.forget_repeats(before, seen)

    def _turn(self, body: Node, bound: dict[str, str]) -> None:
        with self.expansions.binding(bound):
            self.statement(body)

    def c_for(self, node: Node) -> None:
        for child in node.children:
            if child.type in {"do_group", "compound_statement"}:
                self.statement(child)
            elif child.is_named:
                self.expansions.evaluated(child, "arithmetic", "arithmetic evaluates the values in it as code")

    def function(self, node: Node) -> None:
        name, body = node.children_by_field_name("name"), node.children_by_field_name("body")
        text = self._text(name[0])
        for child in node.children:
            if child.type in _REDIRECTS:
                self._redirect(child)
        for child in body:
            self._turn(child, {})  # called from anywhere
        self.values.bodies.append(text)
        after = node.next_sibling
        apart = node.parent is None or node.parent.type != "program" or (after is not None and after.type == "&")
        if self.programs(text) or text == _FOR_THE_MISSING or apart:
            self.parts.keep(
                span_of(node), (text,), opaque("function.name", f"the function {text!r} may stand for a program")
            )
        else:
            self.values.defines(text)

    def unset(self, node: Node) -> None:
        self.run_words([self.expansions.word(child) for child in node.children])

    # -- redirects

    def redirect(self, node: Node) -> None:
        """A redirect where a command should be: `$(< file)` reads, `$(> file)` writes."""
        if self._redirect(node):
            raise GateError("guard.redirect", "words after a redirect that belong to no command")

    def _redirect(self, node: Node) -> list[Node]:
        """Keep what a redirect does; return the words behind it that belong to the command."""
        if node.type == "herestring_redirect":
            for child in node.children:
                if child.is_named:
                    self.expansions.word(child)
            return []
        if node.type == "heredoc_redirect":
            return self._heredoc(node)
        operator = next(child.type for child in node.children if not child.is_named)
        targets = [child for child in node.children if child.is_named and child.type != "file_descriptor"]
        if targets:
            self._target(node, operator, self.expansions.known_word(targets[0]))
        return targets[1:]

    def _heredoc(self, node: Node) -> list[Node]:
        words: list[Node] = []
        for child in node.children:
            if child.type in _REDIRECTS:
                words += self._redirect(child)
            elif child.type == "heredoc_body" or child.type in ("heredoc_start", "heredoc_end", "file_descriptor"):
                continue
            elif child.type in _STATEMENTS or child.type in _CONTAINERS:
                self.statement(child)
            elif child.is_named:
                words.append(child)
            elif child.type == "&":
                self._background(child)
        return words

    def _target(self, node: Node, operator: str, target: Word) -> None:
        if operator in ("<", "<&") and not _network(target):
            return
        duplicates = operator == ">&" and target.fixed and re.fullmatch(r"\d+-?|-", target.text)
        if duplicates or (target.fixed and (target.text in _STREAMS or re.fullmatch(r"/dev/fd/\d+", target.text))):
            return
        if target.head.startswith("/dev/fd/"):
            return  # >(command): what it does is a part of its own
        effect = plain(CommandClass.WRITE, "redirect", f"writes the file {target.text}")
        if operator == ">&" and not (target.fixed and _PLAIN_FILE.fullmatch(target.text)):
            effect = opaque("redirect.twice", "bash expands the word after >& twice, so that quoted code in it runs")
        elif _network(target):
            effect = replace(opaque("redirect.network", "opens a network connection"), egress=True)
        elif not target.fixed and not target.tail:
            effect = opaque("redirect.open", "which file is written is only known on the target")
        words = [fixed(operator, span_of(node)), target]
        self.parts.keep(span_of(node), (operator, target.text), calls.with_files(words, effect))

    # -- the scene that rules see

    def run_words(self, words: Sequence[Word]) -> Effect:
        """Decide a simple command and keep it as a part."""
        self.wrapped += 1
        if self.wrapped > MAX_WRAPPERS:
            effect = opaque("command.depth", "commands that run commands that run commands")
        else:
            effect = calls.weigh(words, self)
        self.wrapped -= 1
        span = (words[0].span[0], words[-1].span[1])
        self.parts.keep(span, tuple(word.text for word in words), effect)
        return effect

    def run_text(self, script: Word, *, dialect: str) -> Effect:
        """Decide a quoted script; its parts have the span of the word it stands in."""
        read = read_script(script, dialect, depth=self.depth, read_before=self.values.script_bytes)
        if isinstance(read, Effect):
            self.parts.keep(script.span, (script.text,), read)
            return read
        source, tree = read
        parts = Parts(source=source, outer=self.parts.place(script.span), kept=self.parts.kept)
        before = len(parts.kept)
        scripted = self.values.of_script()
        Walk(tree=tree, parts=parts, values=scripted, catalogue=self.catalogue, depth=self.depth + 1).run()
        return total(parts.kept[before:])

    def assigned(self, names: Sequence[Word]) -> bool:
        """Note variables that a builtin sets from data."""
        for name in names:
            self.values.sets(name.text, number=False)
            self.values.arrays.add(name.text)  # `read -a` and mapfile make one
        return all(name.fixed and settable(name.text) for name in names)

    def taken_back(self, names: Sequence[Word], *, functions: bool) -> None:
        """Note names that `unset` takes a value from, or, with `functions`, perhaps a function."""
        for name in names:
            self.values.free.add(name.text)
            if functions:
                self.values.unset.setdefault(name.text, (name.span, self.parts))

    def defines(self, name: str) -> bool:
        """Whether the text has defined this function for certain, and the call at hand would run it.

        A launcher (`command`, `env`, `xargs`) never sees the shell's functions; it runs the program of that name.
        """
        return self.wrapped == 1 and name in self.values.functions

    def programs(self, name: str) -> Sequence[Program]:
        """What the catalogue says of a program."""
        return self.catalogue.of(name)

    def direct(self) -> bool:
        """Whether the call at hand is one of the line itself, so that it gets the environment the broker sets."""
        return self.depth == 0 and self.wrapped == 1

    def _text(self, node: Node) -> str:
        return self.tree.data[node.start_byte : node.end_byte].decode()


def _network(target: Word) -> bool:
    return any(name in text for name in ("/dev/tcp", "/dev/udp") for text in (target.text, target.head))


_STATEMENTS: Mapping[str, Callable[[Walk, Node], None]] = {
    "command": Walk.command,
    "redirected_statement": Walk.redirected,
    "for_statement": Walk.loop,
    "c_style_for_statement": Walk.c_for,
    "function_definition": Walk.function,
    **dict.fromkeys(_REDIRECTS, Walk.redirect),
    "test_command": lambda walk, node: walk.conditions.test(node),
    "variable_assignment": lambda walk, node: walk.assignments.alone(node),
    "declaration_command": lambda walk, node: walk.assignments.declaration(node),
    "unset_command": Walk.unset,
}
