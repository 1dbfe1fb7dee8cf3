"""Walk a checked tree and keep a part for everything in it that does something.

The class of a command line is the maximum over its parts, so a part may be counted too often but never left out. A node
this walk has no reader for becomes an opaque part. Runs nothing, reads nothing but the tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from tree_sitter import Node

from policy import catalog
from policy.classes import CommandClass
from policy.shell import calls
from policy.shell.effect import Effect, opaque, plain
from policy.shell.gate import MAX_COMMAND_BYTES, GateError, Source, admit
from policy.shell.names import PASSED_TO_PROGRAMS, PLAIN_NAME, settable
from policy.shell.tree import Tree, parse
from policy.shell.verdict import Part
from policy.shell.words import Word, fixed, read_word

MAX_SCRIPT_DEPTH = 8
MAX_SCRIPT_BYTES = 2 * MAX_COMMAND_BYTES  # of all quoted scripts of a line together
MAX_WRAPPERS = 8
MAX_PARTS = 2_000

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
_SUBSTITUTIONS = frozenset({"command_substitution", "process_substitution"})
_OPERATORS = frozenset(
    {":-", "-", ":+", "+", ":?", "?", "#", "##", "%", "%%", "/", "//", "/#", "/%", "^", "^^", ",", ",,"}
)
_STREAMS = frozenset({"/dev/null", "/dev/stdout", "/dev/stderr", "/dev/tty"})
_NUMBER = re.compile(r"-?\d+")
_ARITHMETIC = frozenset(
    {"binary_expression", "unary_expression", "postfix_expression", "ternary_expression", "parenthesized_expression"}
)
_COMPARES = frozenset({"-eq", "-ne", "-lt", "-le", "-gt", "-ge"})
# What POSIX shells read otherwise than bash; a script for them that holds one of these is not read by the bash grammar.
_NOT_POSIX = re.compile(
    r"[$]['\"\[]|[<>]\(|\[\[|<<<|&>|\|&|\(\(|;&|\bfunction\b|\bcoproc\b|\btime\b|\bselect\b|\{[^}\s]*(?:,|\.\.)|\+=\("
)


@dataclass(slots=True, kw_only=True)
class Names:
    """What a command line is known to put into its variables, for places where bash evaluates a value as code."""

    untrusted: set[str] = field(default_factory=set)
    evaluated: dict[str, tuple[int, int]] = field(default_factory=dict)
    functions: set[str] = field(default_factory=set)
    script_bytes: list[int] = field(default_factory=list)

    def of_script(self) -> Names:
        """The names of a script that is run apart: values are shared, to be strict; functions are not."""
        return Names(untrusted=self.untrusted, evaluated=self.evaluated, script_bytes=self.script_bytes)


@dataclass(slots=True, kw_only=True)
class Walk:
    """One script. `outer` is the span that its parts get if it was quoted inside another script."""

    source: Source
    tree: Tree
    parts: list[Part]
    names: Names
    outer: tuple[int, int] | None
    depth: int
    wrapped: int = 0

    def run(self) -> None:
        """Walk the whole tree; parts are appended in the order they are met."""
        for rule, reason in self.tree.doubts:
            self._keep((0, len(self.tree.data)), (), opaque(rule, reason))
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
            self.word(node)  # the word after `case`, a pattern; anything else is marked there

    def _container(self, node: Node) -> None:
        if node.children and node.children[0].type == "((":
            self._arithmetic(node)
            return
        for child in node.children:
            if child.is_named:
                self.statement(child)
            elif child.type == "&":
                self._background(child)

    def _background(self, node: Node) -> None:
        effect = plain(CommandClass.READ, "shell.background", "what stands before & keeps running by itself")
        self._keep(_span(node), ("&",), replace(effect, outlives=True))

    def command(self, node: Node, extra: Sequence[Node] = (), lost: Sequence[Word] = ()) -> None:
        words: list[Word] = []
        passed: list[Node] = []
        for child in (*node.children, *extra):
            if child.type == "variable_assignment":
                passed.append(child)
            elif child.type in _REDIRECTS:
                words += [self.word(more) for more in self._redirect(child)]
            else:
                words.append(self.word(child))
        words += lost
        reads = bool(words) and words[0].fixed and words[0].text == "read"
        for child in passed:
            self._passed(child, also="IFS" if reads else "")
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
        values: list[Word] = []
        name = ""
        for child in node.children:
            if child.type == "variable_name":
                name = self._text(child)
            elif child.type == "do_group":
                self.statement(child)
            elif child.is_named:
                values.append(self.word(child))
        if not all(value.fixed and _NUMBER.fullmatch(value.text) for value in values) or not values:
            self.names.untrusted.add(name)
        self._named(node, name)

    def c_for(self, node: Node) -> None:
        for child in node.children:
            if child.type in {"do_group", "compound_statement"}:
                self.statement(child)
            elif child.is_named:
                self._arithmetic(child)

    def function(self, node: Node) -> None:
        name, body = node.children_by_field_name("name"), node.children_by_field_name("body")
        text = self._text(name[0])
        for child in node.children:
            if child.type in _REDIRECTS:
                self._redirect(child)
        for child in body:
            self.statement(child)
        after = node.next_sibling
        apart = node.parent is None or node.parent.type != "program" or (after is not None and after.type == "&")
        if text in catalog.shipped() or apart:
            self._keep(_span(node), (text,), opaque("function.name", f"the function {text!r} may stand for a program"))
        else:
            self.names.functions.add(text)

    def test(self, node: Node) -> None:
        double = node.children[0].type == "[["
        self._keep(_span(node), ("[[" if double else "[",), plain(CommandClass.READ, "test", "only tests"))
        for child in node.children:
            if child.is_named:
                self._condition(child, double=double)

    def _condition(self, node: Node, *, double: bool) -> None:
        operators = {self._text(child) for child in node.children if child.type == "test_operator"}
        if node.type in _ARITHMETIC:
            for child in node.children:
                if double and operators & _COMPARES and child.is_named and child.type != "test_operator":
                    self._evaluated(child, "test.number", "a number comparison evaluates its operands as code")
                elif operators & {"-v", "-R"} and child.type != "test_operator":
                    self._plain_name(child)
                elif child.is_named:
                    self._condition(child, double=double)
            return
        word = self.word(node)
        if word.splits and not double:
            self._evaluated(node, "test.split", "an unquoted value can become other tests; quote it")

    def _plain_name(self, node: Node) -> None:
        word = self.word(node)
        if not (word.fixed and PLAIN_NAME.fullmatch(word.text)):
            self._keep(_span(node), (word.text,), opaque("test.name", "-v evaluates what is in its operand"))

    # -- variables

    def assignment(self, node: Node) -> None:
        """`NAME=value` on its own: it stays in this shell unless the name is one that programs see."""
        name, value = self._assigned(node)
        text = self._text(node)
        if settable(name):
            effect = plain(CommandClass.READ, "variable", "sets a variable of this shell")
        else:
            effect = opaque("variable.name", f"{name} can change what programs do")
        self._keep(_span(node), (text,), effect)
        if value is not None and not _numeric(value, self._text(value)):
            self.names.untrusted.add(name)

    def _passed(self, node: Node, *, also: str = "") -> None:
        """`NAME=value command`: the program sees it. `read` alone takes an IFS of its own."""
        name, _ = self._assigned(node)
        if name != also and not PASSED_TO_PROGRAMS.fullmatch(name):
            self._keep(
                _span(node), (self._text(node),), opaque("variable.passed", f"{name} can change what programs do")
            )

    def _assigned(self, node: Node) -> tuple[str, Node | None]:
        name = ""
        value: Node | None = None
        for child in node.children:
            if child.type == "variable_name" and not name:
                name = self._text(child)
            elif child.type == "subscript":
                name = self._text(child.children[0])
                self.names.untrusted.add(name)
                self._subscript(child)
            elif child.type == "array":
                value = child
                for item in child.children:
                    if item.is_named:
                        self.statement(item) if item.type == "variable_assignment" else self.word(item)
            elif child.is_named:
                value = child
                self.word(child)
        return name, value

    def declaration(self, node: Node) -> None:
        keyword = self._text(node.children[0])
        allowed = {"-r", "-g", "-a", "--"} if keyword != "export" else {"--"}
        for child in node.children[1:]:
            if child.type == "variable_assignment":
                (self._passed if keyword == "export" else self.assignment)(child)
                if keyword == "export":
                    self.names.untrusted.add(self._text(child.children[0]))
            elif child.type == "variable_name":
                self._declared(child, keyword)
            elif child.is_named and self._text(child) not in allowed:
                self.word(child)
                self._keep(
                    _span(child),
                    (keyword, self._text(child)),
                    opaque("declare.option", f"{keyword} with a word that is not known"),
                )
        self._keep(_span(node), (keyword,), plain(CommandClass.READ, "declare", "declares variables of this shell"))

    def _declared(self, node: Node, keyword: str) -> None:
        name = self._text(node)
        if keyword == "export" and not PASSED_TO_PROGRAMS.fullmatch(name):
            self._keep(_span(node), (keyword, name), opaque("variable.passed", f"{name} can change what programs do"))

    def unset(self, node: Node) -> None:
        self.run_words([self.word(child) for child in node.children])

    def _named(self, node: Node, name: str) -> None:
        if not settable(name):
            self._keep(_span(node), (name,), opaque("variable.name", f"{name} can change what programs do"))

    # -- redirects

    def _redirect(self, node: Node) -> list[Node]:
        """Keep what a redirect does; return the words behind it that belong to the command."""
        if node.type == "herestring_redirect":
            for child in node.children:
                if child.is_named:
                    self.word(child)
            return []
        if node.type == "heredoc_redirect":
            return self._heredoc(node)
        operator = next(child.type for child in node.children if not child.is_named)
        targets = [child for child in node.children if child.is_named and child.type != "file_descriptor"]
        if targets:
            self._target(node, operator, self.word(targets[0]))
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
        if _network(target):
            effect = replace(opaque("redirect.network", "opens a network connection"), egress=True)
        elif not target.fixed and not target.tail:
            effect = opaque("redirect.open", "which file is written is only known on the target")
        words = [fixed(operator, _span(node)), target]
        self._keep(_span(node), (operator, target.text), calls.with_files(words, effect))

    # -- words

    def word(self, node: Node) -> Word:
        """Dequote a word and decide every command, expansion and subscript inside it."""
        self._inside(node)
        return read_word(node, self.tree.data)

    def _inside(self, node: Node) -> None:
        kind = node.type
        if kind in _SUBSTITUTIONS:
            self._container(node)
        elif kind == "expansion":
            self._expansion(node)
        elif kind == "arithmetic_expansion":
            self._arithmetic(node)
        elif kind == "subscript":
            self._subscript(node)
        elif kind in _STATEMENTS:
            self._keep(_span(node), (self._text(node),), opaque("word.kind", f"{kind!r} where a word should be"))
        else:
            for child in node.children:
                if child.is_named:
                    self._inside(child)

    def _expansion(self, node: Node) -> None:
        """`${...}`: only operators that cut, replace or choose text; `@P`, `!` and `:=` evaluate or assign."""
        operators = [child.type for child in node.children if not child.is_named and child.type not in ("${", "}", '"')]
        names = [
            child for child in node.children if child.type in ("variable_name", "subscript", "special_variable_name")
        ]
        numbers = operators in ([":"], [":", ":"])
        literal = all(child.type == "number" for child in node.children if child.is_named and child not in names[:1])
        if not names or (any(operator not in _OPERATORS for operator in operators) and not (numbers and literal)):
            self._keep(
                _span(node), (self._text(node),), opaque("expansion.operator", "an expansion that evaluates or assigns")
            )
        for child in node.children:
            if child.is_named:
                self._inside(child)

    def _subscript(self, node: Node) -> None:
        for child in node.children[1:]:
            if child.is_named and self._text(child) not in ("@", "*"):
                self._evaluated(child, "subscript", "an array subscript is evaluated as code")

    def _arithmetic(self, node: Node) -> None:
        for child in node.children or [node]:
            if child.is_named:
                self._evaluated(child, "arithmetic", "arithmetic evaluates the values in it as code")

    def _evaluated(self, node: Node, rule: str, reason: str) -> None:
        """A place where bash evaluates values: literal numbers and names that hold numbers only are safe."""
        kind, text = node.type, self._text(node).strip().strip('"')
        if kind in _ARITHMETIC:
            for child in node.children:
                if child.is_named and child.type != "test_operator":
                    self._evaluated(child, rule, reason)
        elif kind == "variable_assignment":
            self._named(node, self._text(node.children[0]))
            for child in node.children[1:]:
                if child.is_named:
                    self._evaluated(child, rule, reason)
        elif kind == "arithmetic_expansion":
            self._arithmetic(node)
        elif re.fullmatch(r"[$]?[A-Za-z_]\w*|[$]\{[A-Za-z_]\w*\}", text):
            self.names.evaluated.setdefault(text.strip("${}"), _span(node))
        elif not re.fullmatch(r"-?\d+|[$][#?$!]|[$]\{#\w+(?:\[[@*]\])?\}", text):
            self._inside(node)
            self._keep(_span(node), (text,), opaque(rule, reason))

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
        self._keep(span, tuple(word.text for word in words), effect)
        return effect

    def run_text(self, script: Word, *, dialect: str) -> Effect:
        """Decide a quoted script; its parts have the span of the word it stands in."""
        read = self._read_script(script, dialect)
        if isinstance(read, Effect):
            self._keep(script.span, (script.text,), read)
            return read
        source, tree = read
        span = self._place(script.span)
        names = self.names.of_script()
        inner = Walk(source=source, tree=tree, parts=self.parts, names=names, outer=span, depth=self.depth + 1)
        before = len(self.parts)
        inner.run()
        return _sum(self.parts[before:])

    def _read_script(self, script: Word, dialect: str) -> Effect | tuple[Source, Tree]:
        self.names.script_bytes.append(len(script.text))
        if self.depth >= MAX_SCRIPT_DEPTH or sum(self.names.script_bytes) > MAX_SCRIPT_BYTES:
            return opaque("script.depth", "scripts inside scripts inside scripts")
        if dialect not in ("bash", "eval") and _NOT_POSIX.search(script.text):
            return opaque("script.dialect", f"{dialect} does not read this script as bash would")
        try:
            source = admit(script.text.encode())
            return source, parse(source.data)
        except (GateError, UnicodeEncodeError) as error:
            return opaque("script.unread", f"the script inside is not read: {error}")

    def assigned(self, names: Sequence[Word]) -> bool:
        """Note variables that a builtin sets from data."""
        self.names.untrusted.update(name.text for name in names)
        return all(name.fixed and settable(name.text) for name in names)

    def defines(self, name: str) -> bool:
        """Whether the text has defined this function for certain."""
        return name in self.names.functions

    # -- parts

    def _text(self, node: Node) -> str:
        return self.tree.data[node.start_byte : node.end_byte].decode()

    def _place(self, span: tuple[int, int]) -> tuple[int, int]:
        if self.outer is not None:
            return self.outer
        start, end = span
        return self.source.origin(start), self.source.origin(max(end - 1, start)) + min(end - start, 1)

    def _keep(self, span: tuple[int, int], argv: tuple[str, ...], effect: Effect) -> None:
        if len(self.parts) >= MAX_PARTS:
            raise GateError("parse.parts", f"more than {MAX_PARTS} parts")
        self.parts.append(
            Part(
                span=self._place(span),
                argv=argv,
                command_class=effect.command_class,
                opaque=effect.opaque,
                egress=effect.egress,
                outlives=effect.outlives,
                rule=effect.rule,
                reason=effect.reason,
            )
        )

    def settle(self) -> None:
        """After the whole line is read: values that bash evaluates as code must be numbers wherever they are set."""
        for name in sorted(self.names.evaluated.keys() & self.names.untrusted):
            span = self.names.evaluated[name]
            self._keep(
                span, (name,), opaque("arithmetic.name", f"{name} is evaluated as code and its value is not a number")
            )


def _span(node: Node) -> tuple[int, int]:
    return node.start_byte, node.end_byte


def _numeric(node: Node, text: str) -> bool:
    """Whether the value of an assignment is a number whatever happens."""
    return node.type == "arithmetic_expansion" or bool(re.fullmatch(r"""["']?-?\d+["']?|[$][#?$!]|[$]\{#\w+\}""", text))


def _network(target: Word) -> bool:
    return any(name in text for name in ("/dev/tcp", "/dev/udp") for text in (target.text, target.head))


def _sum(parts: Iterable[Part]) -> Effect:
    """The effect of a script from its parts."""
    kept = list(parts)
    top = max(kept, key=lambda part: (part.command_class, part.opaque), default=None)
    if top is None:
        return plain(CommandClass.READ, "script", "runs nothing")
    return Effect(
        command_class=top.command_class,
        opaque=any(part.opaque for part in kept),
        egress=any(part.egress for part in kept),
        outlives=any(part.outlives for part in kept),
        rule=top.rule,
        reason=top.reason,
    )


_STATEMENTS: Mapping[str, Callable[[Walk, Node], None]] = {
    "command": Walk.command,
    "redirected_statement": Walk.redirected,
    "for_statement": Walk.loop,
    "c_style_for_statement": Walk.c_for,
    "function_definition": Walk.function,
    "test_command": Walk.test,
    "variable_assignment": Walk.assignment,
    "declaration_command": Walk.declaration,
    "unset_command": Walk.unset,
}
