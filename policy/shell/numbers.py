"""Which command substitutions put numbers, or nothing, in their place: bash may evaluate one, and none is an option.

Everything else may print `-o`, or `a[$(command)]`, which arithmetic runs. Reads the tree alone, and
knows a few programs by heart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tree_sitter import Node

from policy.shell.words import read_word

_COUNTS: Final = re.compile(r"-[lcwm]")
_DIGITS: Final = frozenset({"0-9", "[:digit:]"})
_ENGINES: Final = frozenset({"docker", "podman", "nerdctl", "crictl"})
_QUIET: Final = re.compile(r"-[al]*q[al]*|--quiet")
_PICKS: Final = re.compile(
    r"-[al]+|--(?:all|latest|no-trunc|filter|name|label|state|pod|image|last)(?:=.*)?|[^-].*", re.DOTALL
)
_CUTS: Final = re.compile(r"(?:head|tail)(?: -n ?\d+| -\d+)?")
_MATCHES: Final = re.compile(r"-(?=\w*c)[cviEFwxhs]+")


def prints_a_number(node: Node, data: bytes) -> bool:
    """Whether this word is `$(...)`, quoted or not, whose last program prints one number whatever it reads."""
    stages = _stages(node, data)
    return bool(stages) and _is_count(stages[-1])


def prints_digits(node: Node, data: bytes) -> bool:
    """As `prints_a_number`, or the identifiers of containers: words of hexadecimal digits, of any number."""
    stages = _stages(node, data)
    listing = next((at for at, words in enumerate(stages) if _lists_ids(words)), None)
    ids = listing is not None and all(map(_cuts_lines, stages[listing + 1 :]))
    return ids or (bool(stages) and _is_count(stages[-1]))


def _stages(node: Node, data: bytes) -> Sequence[Sequence[str]]:
    """The words of each program in the pipeline of a substitution; none for a stage that cannot be told."""
    if node.type == "string":
        inside = [child for child in node.children if child.type != '"']
        alone = len(inside) == 1 and node.child_count == len(('"', "$(...)", '"'))
        return _stages(inside[0], data) if alone else ()
    statements = [child for child in node.children if child.is_named]
    if node.type != "command_substitution" or len(statements) != 1 or node.children[0].type != "$(":
        return ()
    whole = statements[0]
    if whole.type != "pipeline":
        return (_words(whole, data),)
    if any(child.type == "|&" for child in whole.children):
        return ()
    return tuple(_words(child, data) for child in whole.children if child.is_named)


def _words(node: Node, data: bytes) -> Sequence[str]:
    """What a program is given; nothing where that is open, or where something else could come out of it."""
    if node.type == "redirected_statement":
        node, *redirects = node.children
        if not all(_keeps_output(redirect, data) for redirect in redirects):
            return ()
    if node.type != "command" or any(child.type == "variable_assignment" for child in node.children):
        return ()
    words = [read_word(child, data) for child in node.children]
    return [word.text for word in words] if all(word.fixed for word in words) else ()


def _keeps_output(redirect: Node, data: bytes) -> bool:
    """A file to read, or complaints thrown away: nothing else that could come out of it."""
    text = data[redirect.start_byte : redirect.end_byte].decode()
    return re.fullmatch(r"2> ?/dev/null|< ?[\w./-]+", text) is not None


def _is_count(words: Sequence[str]) -> bool:
    counts = _COUNTERS.get(words[0]) if words else None
    return counts is not None and counts(words[1:])


def _lists_ids(words: Sequence[str]) -> bool:
    """`docker ps -aq`: identifiers, with options that pick among them. Further on, `-q` may be an option's value."""
    name, verb, quiet, *rest = (*(words[1:] if words[:1] == ["sudo"] else words), "", "", "")
    listing = name in _ENGINES and verb == "ps" and _QUIET.fullmatch(quiet) is not None
    return listing and all(word == "" or _PICKS.fullmatch(word) for word in rest)


def _cuts_lines(words: Sequence[str]) -> bool:
    return bool(words) and _CUTS.fullmatch(" ".join(words)) is not None


def _grep(given: Sequence[str]) -> bool:
    """`grep -c PATTERN`: of what it reads, or of one file; of several it names each."""
    options = [word for word in given if word.startswith("-")]
    return (
        len(options) == 1 and _MATCHES.fullmatch(options[0]) is not None and 1 <= len(given) - 1 <= len(("RE", "FILE"))
    )


_COUNTERS: Final[Mapping[str, Callable[[Sequence[str]], bool]]] = {
    "nproc": lambda given: list(given) in ([], ["--all"]),
    "wc": lambda given: len(given) == 1 and _COUNTS.fullmatch(given[0]) is not None,
    "tr": lambda given: list(given[:-1]) in (["-dc"], ["-cd"], ["-d", "-c"], ["-c", "-d"]) and given[-1] in _DIGITS,
    "grep": _grep,
    "date": lambda given: list(given) in (["+%s"], ["-u", "+%s"]),
    "id": lambda given: list(given) in (["-u"], ["-g"]),
}
