"""Parse a command line and hold the tree against the bytes (guards G1 and G3 to G22).

The parser alone is not believed: a dozen shapes are known where it reports no error and hides a command that bash runs.
A tree that leaves this module accounts for every byte; what it cannot account for is refused, what it does not know is
marked. Never decides what a command does.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field

import tree_sitter
import tree_sitter_bash
from tree_sitter import Node

from policy.shell.bounds import BARE, check_array, no_word_after, one_word, takes_words
from policy.shell.brackets import TESTS, check_test
from policy.shell.gate import GateError
from policy.shell.heredocs import HereDocuments
from policy.shell.kinds import KNOWN_KINDS, RESERVED

MAX_NODES = 5_000
MAX_NESTING = 64

MAX_STEPS = 400  # of the parser, about 100 operations each; a tree of MAX_NODES needs fewer

_LANGUAGE = tree_sitter.Language(tree_sitter_bash.language())

# Where two touching children would be two words to the parser and one to bash.
_WORD_LISTS = frozenset({"command", "for_statement", "array", "declaration_command", "unset_command", "file_redirect"})
_NOT_WORDS = frozenset({"file_redirect", "file_descriptor", "herestring_redirect", "heredoc_redirect", "do_group"})
# Leaves whose inside is text to the parser: a gap or an odd token in them is not a dropped one.
_QUOTED = frozenset({"raw_string", "ansi_c_string", "comment", "heredoc_body", "heredoc_start", "heredoc_end"})
# What bash reads as a keyword only if it is a whole word, and the node that some of them must belong to.
_KEYWORDS = RESERVED - {"[[", "]]", "!", "{", "}"}
_KEYWORDS_OF = {"{": "compound_statement", "}": "compound_statement", "!": "negated_command"}
_BEFORE_A_NAME = frozenset({"for", "select", "case", "function"})
_AFTER_PIPE = re.compile(rb"(?<![|])[|]&?[ \t\n]*\Z")
_WORD_ENDS = frozenset(b" \t\n;&|()<>`")
# Between two of their children nothing may stand, or bash ends the word there.
_ONE_WORD = frozenset({"simple_expansion", "concatenation", "variable_assignment"})
# A newline between two of their children ends the command for bash, whatever the parser makes of it.
_ONE_LINE = frozenset(
    [
        "command",
        "redirected_statement",
        "file_redirect",
        "herestring_redirect",
        "declaration_command",
        "unset_command",
        "concatenation",
    ]
)
_PLAIN_IN_BRACES = re.compile(rb"""(?:[^\\'"`}]|\\[^}'"`\\$\n])*""")
_PLAIN_PATTERN = re.compile(rb"""(?:[^\\'"`]|\\[^\n]|"[^"\\$`]*"|'[^']*')*""")
_DESCRIPTOR = re.compile(rb"[0-9]+|\{[A-Za-z_][A-Za-z0-9_]*\}")
_SETS_ITS_NUMBER = re.compile(rb"\{[A-Za-z_]\w*(?:\[.*\])?\}", re.DOTALL)
_SPECIAL = re.compile(rb"""(?!\A)[$]|[`\\"}]""")  # the first `$` is that of a string $'...'
_DOUBLE_OPEN = re.compile(rb"[$]?\(\(")
_NAME = re.compile(rb"[ \t\n]*\w+|\S")  # `"$ $(x)"`: to the parser the second `$` is the name of the first
_ANSI = re.compile(rb"[$]'(?:[^'\\]|\\.)*'", re.DOTALL)
_BODIES = frozenset({"compound_statement", "do_group", "if_statement", "elif_clause", "else_clause"})
_OPENS = frozenset({"{", "do", "then", "else"})
_CLOSES = frozenset({"}", "done", "fi", "elif_clause", "else_clause"})
_CASE_ENDS = frozenset({";;", ";&", ";;&"})
_CODE = re.compile(rb"[$](?:[({\[])|`|[<>]\(")
_PERHAPS_CODE = re.compile(rb"[$<>]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A parsed command line whose bytes are all accounted for. `doubts`: reasons why it must count as opaque."""

    root: Node
    data: bytes
    doubts: tuple[tuple[str, str], ...]


def parse(data: bytes) -> Tree:
    """The tree of a gated command line.

    Raises:
        GateError: it is not valid shell, or a guard found a byte that the tree does not explain.
    """
    root = raw_tree(data)
    if root.has_error:
        raise GateError("parse.error", "not a complete shell command")
    if root.descendant_count > MAX_NODES:
        raise GateError("parse.nodes", f"more than {MAX_NODES} syntax nodes")
    guard = _Guard(data=data)
    guard.check(root)
    return Tree(root=root, data=data, doubts=tuple(dict.fromkeys(guard.doubts)))


def raw_tree(data: bytes) -> Node:
    """Parse within MAX_STEPS: text full of errors can cost the parser quadratic time."""
    steps = 0

    def too_long(_offset: int, _error: bool) -> bool:  # noqa: FBT001 - the parser's own signature
        nonlocal steps
        steps += 1
        return steps > MAX_STEPS

    # A parser of its own for each call: the callbacks let other threads in.
    parser = tree_sitter.Parser(_LANGUAGE)
    try:
        return parser.parse(lambda offset, _point: data[offset:], progress_callback=too_long).root_node
    except ValueError:
        raise GateError("parse.steps", f"the parser did not end within {MAX_STEPS} steps") from None


@dataclass(slots=True, kw_only=True)
class _Guard:
    """One pass over the leaves in order: G4 to G7 and G9 to G22."""

    data: bytes
    end: int = 0
    doubts: list[tuple[str, str]] = field(default_factory=list)
    heredocs: HereDocuments = field(init=False)

    def __post_init__(self) -> None:
        self.heredocs = HereDocuments(data=self.data)

    def check(self, root: Node) -> None:
        self._visit(root, None, 0)
        self._gap(len(self.data), "")  # G9: the tree spans the whole input

    def _visit(self, node: Node, parent: Node | None, depth: int) -> None:
        if depth > MAX_NESTING:
            raise GateError("parse.nesting", f"nested deeper than {MAX_NESTING}")
        kind = node.type
        if node.is_named and kind not in KNOWN_KINDS:
            self.doubts.append(("guard.kind", f"the shape {kind!r} is not understood"))
        children = node.children
        if not children or kind in _QUOTED:
            self._leaf(node, kind, parent)
            return
        self._shape(node, kind, children, parent)
        for child in children:
            self._visit(child, node, depth + 1)

    def _gap(self, start: int, kind: str) -> None:
        """G4: between two leaves there is only white space; anything else is a token that the tree lost.

        One loss is known and made good by the walk: the operand `-` right before a here-document.
        """
        lost = self.data[self.end : start].strip(b" \t\n")
        if lost and not (lost == b"-" and kind in ("<<", "<<-")):
            raise GateError("guard.gap", f"bytes {self.end} to {start} are not part of any word")

    def _leaf(self, node: Node, kind: str, parent: Node | None) -> None:
        self._gap(node.start_byte, kind)
        self.end = max(self.end, node.end_byte)
        text = self.data[node.start_byte : node.end_byte]
        if node.is_missing:
            raise GateError("parse.error", f"incomplete: {kind} is missing")
        if b"`" in text and kind not in ("raw_string", "heredoc_body"):
            self._backtick(text, kind)
        elif node.is_named:
            self._text(text, kind, parent)
        elif parent is not None:
            self._token(node, kind, parent)

    def _text(self, text: bytes, kind: str, parent: Node | None) -> None:
        if kind in BARE:
            one_word(text, parent)
        if kind == "file_descriptor" and not _DESCRIPTOR.fullmatch(text):
            raise GateError("guard.redirect", "a word that the parser takes for a file descriptor")  # `-2>f` runs `-2`
        if kind in ("word", "string_content", "heredoc_content") and _unescaped_code(text, kind):
            raise GateError("guard.hidden", "a substitution that is not read as one")
        if kind in ("regex", "extglob_pattern"):
            self._pattern(text, parent)
        elif kind == "ansi_c_string" and not _ANSI.fullmatch(text):
            raise GateError("guard.ansi", "a string $'...' that ends before it seems to")  # G13
        elif kind in ("raw_string", "ansi_c_string") and _SPECIAL.search(text) and _in_quoted_braces(parent):
            raise GateError("guard.quotes", "single quotes that do not quote, inside of double ones")  # G18

    def _token(self, node: Node, kind: str, parent: Node) -> None:
        if kind == "$" and parent.type in ("command", "concatenation", "redirected_statement"):
            raise GateError("guard.dollar", "a '$' that begins no expansion")
        if kind == ";" and self.data[node.end_byte : node.end_byte + 1] in (b";", b"&"):
            raise GateError("guard.case", "';' that begins a longer operator")
        if kind in _CASE_ENDS and parent.type != "case_item":
            raise GateError("guard.case", f"{kind!r} outside case")
        if kind in ("[", "]", "[[", "]]") and parent.type == "test_command":
            self._bracket(node, kind)
        elif kind in _KEYWORDS or _KEYWORDS_OF.get(kind) == parent.type:
            self._keyword(node, kind, parent)

    def _pattern(self, text: bytes, parent: Node | None) -> None:
        """G12, and G16: the parser does not read quotes and escapes in a pattern, so it may end where bash goes on."""
        in_braces = parent is not None and parent.type == "expansion"
        if text.startswith(b"#") and not in_braces:
            raise GateError("guard.pattern", "a pattern that bash reads as a comment")  # `[[ b = #* ]]` has no end
        if not (_PLAIN_IN_BRACES if in_braces else _PLAIN_PATTERN).fullmatch(text):
            raise GateError("guard.pattern", "a pattern with quotes whose end cannot be told for certain")
        if _CODE.search(text):
            self.doubts.append(("guard.pattern", "a pattern that holds a substitution"))

    def _backtick(self, text: bytes, kind: str) -> None:
        if kind not in ("`", "comment") and text != b"`":
            raise GateError("guard.backtick", "a backtick inside a word")  # G7
        self.doubts.append(("guard.backtick", "backticks; write $( ) instead"))  # G11

    def _keyword(self, node: Node, kind: str, parent: Node) -> None:
        """G14: a keyword that touches another word is none to bash; before a newline or after a pipe some are not."""
        before, after = (
            self.data[max(node.start_byte - 1, 0) : node.start_byte],
            self.data[node.end_byte : node.end_byte + 1],
        )
        if not _WORD_ENDS.issuperset(before + after):
            raise GateError("guard.keyword", f"{kind!r} that is part of a word")
        listed = kind == "in" and parent.type == "for_statement"
        named = node.next_sibling if kind in _BEFORE_A_NAME or listed else None
        if named is not None and self.data.find(b"\n", node.end_byte, named.start_byte) >= 0:
            raise GateError("guard.newline", f"a newline after {kind!r}")
        if kind == "!" and _AFTER_PIPE.search(self.data[: node.start_byte]):
            raise GateError("guard.reserved", "'!' after a pipe")

    def _bracket(self, node: Node, kind: str) -> None:
        beside = (
            self.data[node.end_byte : node.end_byte + 1]
            if kind.startswith("[")
            else self.data[node.start_byte - 1 : node.start_byte]
        )
        after = self.data[node.end_byte : node.end_byte + 1]
        if beside not in (b" ", b"\t", b"\n") or (kind.startswith("]") and not _WORD_ENDS.issuperset(after)):
            raise GateError("guard.bracket", f"{kind!r} that is part of a word")

    def _shape(self, node: Node, kind: str, children: list[Node], parent: Node | None) -> None:
        self._spaces(kind, children)
        if kind in _BODIES:
            _must_hold_a_command(children)
        if kind == "command":
            self._command(children)
        elif kind in ("command_substitution", "subshell") and _DOUBLE_OPEN.match(self.data, node.start_byte):
            # G19: bash reads `((...))` as arithmetic first, and there single quotes do not quote.
            raise GateError("guard.arithmetic", "'((' that may be arithmetic or not")
        elif kind == "heredoc_redirect":
            self._on_one_line(children[:2])
            if self.heredocs.runs_code(node, parent):
                self.doubts.append(("guard.heredoc", "a here-document that runs code while it is read"))
        elif kind == "file_redirect":
            self._redirect(children, parent)
        elif kind == "array":
            check_array([_text(self.data, child) for child in children[1:-1]], parent)
        elif kind == "test_command":
            double = children[0].type == "[["
            check_test(self.data, node, double=double)
            if not double:
                self._test_on_one_line(node)

    def _spaces(self, kind: str, children: list[Node]) -> None:
        """G5, G15, G17: what may touch, and what white space may stand between."""
        if kind in _WORD_LISTS:
            self._touching(children)
        if kind in _ONE_WORD:
            self._as_one_word(children)
        if kind == "simple_expansion" and not _NAME.fullmatch(_text(self.data, children[-1])):
            raise GateError("guard.blank", "a '$' and a name with white space between")
        if kind in _ONE_LINE:
            self._on_one_line(children)
        elif kind == "function_definition":
            self._on_one_line([child for child in children if child.type in ("(", ")")])
        elif kind == "c_style_for_statement":
            self._on_one_line([child for child in children if child.type in ("))", ";")][-2:])
        elif kind == "case_statement" and any(child.type in ("&", ";") for child in children):
            raise GateError("guard.case", "an operator beside 'in'")
        elif kind == "case_item":
            head = children[: [child.type for child in children].index(")") + 1]
            self._on_one_line(head)
            if any(left.is_named and right.is_named for left, right in itertools.pairwise(head)):
                raise GateError("guard.case", "two words in one pattern of a case")

    def _as_one_word(self, children: list[Node]) -> None:
        """G17: white space ends a word; to the parser `x=$ reboot` is one assignment, for bash one and a command."""
        for left, right in itertools.pairwise(children):
            if self.data[left.end_byte : right.start_byte].strip(b" \t\n") or left.end_byte == right.start_byte:
                continue
            raise GateError("guard.blank", "white space inside a word")
        self._descriptor(children[0].start_byte, children[-1].end_byte)

    def _descriptor(self, start: int, end: int) -> None:
        """G22: `{name}<file` is no word to bash: it sets the name, and in `{a[x]}<file` evaluates what x holds."""
        if self.data[end : end + 1] in (b"<", b">") and _SETS_ITS_NUMBER.fullmatch(self.data, start, end):
            self.doubts.append(("guard.descriptor", "a redirect that sets a variable"))

    def _redirect(self, children: list[Node], parent: Node | None) -> None:
        if not takes_words(parent):
            no_word_after(children)
        last = children[-1]
        if _text(self.data, last).isdigit() and self.data[last.end_byte : last.end_byte + 1] in (b"<", b">"):
            raise GateError("guard.redirect", "a redirect to a redirect")
        for left, right in itertools.pairwise(children):
            begins = self.data[right.start_byte : right.start_byte + 2] in (b"<(", b">(")
            if begins and left.end_byte == right.start_byte:
                raise GateError("guard.touching", "a redirect that touches a substitution")

    def _on_one_line(self, children: list[Node]) -> None:
        """G15: a newline outside of quotes ends a simple command."""
        for left, right in itertools.pairwise(children):
            if self.data.find(b"\n", left.end_byte, right.start_byte) >= 0:
                raise GateError("guard.newline", "a newline inside a command")

    def _test_on_one_line(self, node: Node) -> None:
        self._on_one_line(node.children)
        for child in node.children:
            if child.type in TESTS:
                self._test_on_one_line(child)

    def _touching(self, children: list[Node]) -> None:
        for left, right in itertools.pairwise(children):
            if left.end_byte == right.start_byte and _is_word(left) and _is_word(right):
                raise GateError("guard.touching", f"two words that touch at byte {right.start_byte}")

    def _command(self, children: list[Node]) -> None:
        for child in children:
            if child.type == "subshell":
                raise GateError("guard.subshell", "a subshell inside a command")
            if child.type in ("=~", "regex"):
                raise GateError("guard.pattern", "a pattern outside of a test, where bash reads words and operators")
            if child.type == "command_name" and self.data[child.start_byte : child.end_byte].decode() in RESERVED:
                raise GateError("guard.reserved", "a reserved word where a command should be")


def _must_hold_a_command(children: list[Node]) -> None:
    """G20: bash takes no `{ }` and no `then fi`; the parser takes both."""
    said = [child.type for child in children if child.type not in ("comment", "\n")]
    for opens, after in itertools.pairwise([*said, ""]):
        if opens in _OPENS and (not after or after in _CLOSES):
            raise GateError("guard.empty", f"no command after {opens!r}")


def _is_word(node: Node) -> bool:
    return (node.is_named or node.type == "$") and node.type not in _NOT_WORDS


def _text(data: bytes, node: Node) -> bytes:
    return data[node.start_byte : node.end_byte]


def _in_quoted_braces(node: Node | None) -> bool:
    """Whether a word stands in `${...}` and that in a string: `"${x:-'$(reboot)'}"` restarts the machine."""
    braces = False
    while node is not None and node.type not in ("command_substitution", "process_substitution"):
        if braces and node.type == "string":
            return True
        braces = braces or node.type == "expansion"
        node = node.parent
    return False


def _unescaped_code(text: bytes, kind: str) -> bool:
    """Whether a plain piece of text holds what bash would expand; escaped pairs are not looked at."""
    if not _PERHAPS_CODE.search(text):
        return False
    bare = re.sub(rb"\\.", b"", text, flags=re.DOTALL)
    marks = (b"$(", b"${", b"$[") if kind != "word" else (b"$", b"<(", b">(")
    return any(mark in bare for mark in marks)
