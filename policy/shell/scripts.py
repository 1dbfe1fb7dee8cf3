"""Scripts that a command line quotes for a shell: the same gate and parser again, within bounds. Decides nothing."""

from __future__ import annotations

import re

from policy.shell.effect import Effect, opaque
from policy.shell.gate import MAX_COMMAND_BYTES, GateError, Source, admit
from policy.shell.tree import Tree, parse
from policy.shell.words import Word

MAX_SCRIPT_DEPTH = 8
MAX_SCRIPTS = 32  # of a line; each costs a third of a millisecond, however short
MAX_SCRIPT_BYTES = 2 * MAX_COMMAND_BYTES  # of all quoted scripts of a line together
# What POSIX shells read otherwise than bash; a script for them that holds one of these is not read by the bash grammar.
_NOT_POSIX = re.compile(
    r"[$]['\"\[]|[<>]\(|\[\[|<<<|&>|\|&|\(\(|;&|\bfunction\b|\bcoproc\b|\btime\b|\bselect\b|\{[^}\s]*(?:,|\.\.)|\+=\("
)


def read_script(script: Word, dialect: str, *, depth: int, read_before: list[int]) -> Effect | tuple[Source, Tree]:
    """The tree of a literal script, or the effect of one that is not read.

    Args:
        script: the word that holds it.
        dialect: the shell that reads it; "eval" is bash itself.
        depth: how many scripts this one stands in.
        read_before: the sizes of the scripts read so far, to which this one is added.
    """
    read_before.append(len(script.text))
    if depth >= MAX_SCRIPT_DEPTH or len(read_before) > MAX_SCRIPTS or sum(read_before) > MAX_SCRIPT_BYTES:
        return opaque("script.depth", "scripts inside scripts, or too many of them")
    if dialect not in ("bash", "eval") and _NOT_POSIX.search(script.text):
        return opaque("script.dialect", f"{dialect} does not read this script as bash would")
    try:
        source = admit(script.text.encode())
        return source, parse(source.data)
    except (GateError, UnicodeEncodeError) as error:
        return opaque("script.unread", f"the script inside is not read: {error}")
