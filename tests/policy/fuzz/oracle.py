"""shfmt as a second parser: which commands it finds in a script. Runs nothing of it; decides nothing.

Many scripts are given to one process, parted by commands that count them; where that cannot be (one of them does not
parse, or swallows the mark after it), each gets a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, cast

from policy.shell import Refused, Verdict

SHFMT: Final = Path(sys.executable).with_name("shfmt")
BATCH: Final = 100
_MARK: Final = "zz-part-"
_EXPANDS: Final = frozenset("\\*?[{~")

Tree = dict[str, object]


def commands(scripts: Sequence[bytes]) -> list[frozenset[str] | None]:
    """The literal command names that shfmt finds in each script; None where it finds the script malformed."""
    found: list[frozenset[str] | None] = []
    for start in range(0, len(scripts), BATCH):
        batch = scripts[start : start + BATCH]
        found += _together(batch) or [_alone(script) for script in batch]
    return found


def hides(verdict: Verdict, names: frozenset[str]) -> frozenset[str]:
    """The commands of a script that a claim about it passes over: none, unless the two parsers disagree."""
    if isinstance(verdict, Refused) or verdict.opaque:
        return frozenset()
    told = {part.argv[0].rpartition("/")[2] for part in verdict.parts if part.argv}
    return frozenset(name for name in names if name.rpartition("/")[2] not in told)


def _alone(script: bytes) -> frozenset[str] | None:
    tree = _tree(script)
    return None if tree is None else frozenset(_names(tree))


def _together(batch: Sequence[bytes]) -> list[frozenset[str] | None] | None:
    parted = b"".join(b"%s\n%s%d\n" % (script, _MARK.encode(), number) for number, script in enumerate(batch))
    tree = _tree(parted)
    if tree is None:
        return None
    found: list[frozenset[str] | None] = []
    names: set[str] = set()
    for statement in cast("list[Tree]", tree["Stmts"]):
        here = list(_names(statement))
        if here == [f"{_MARK}{len(found)}"]:
            found.append(frozenset(names))
            names = set()
        else:
            names.update(here)
    return found if len(found) == len(batch) else None


def _tree(script: bytes) -> Tree | None:
    done = subprocess.run([SHFMT, "-ln=bash", "--to-json"], input=script, capture_output=True, check=False)
    return None if done.returncode else cast("Tree", json.loads(done.stdout))


def _names(node: object) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _names(item)
    elif isinstance(node, dict):
        if node.get("Type") == "CallExpr" and node.get("Args"):
            name = _literal(node["Args"][0])
            if name is not None:
                yield name
        for value in node.values():
            if isinstance(value, (dict, list)):
                yield from _names(value)


def _literal(word: Tree) -> str | None:
    """A word of plain text and simple quotes; None where it takes more than that to know it."""
    text = ""
    for part in cast("list[Tree]", word["Parts"]):
        kind, value = part["Type"], str(part.get("Value", ""))
        quoted = kind == "SglQuoted" and not part.get("Dollar")
        if kind == "DblQuoted":
            inner = _literal({"Parts": part.get("Parts") or []})
            if inner is None:
                return None
            text += inner
        elif quoted or (kind == "Lit" and not _EXPANDS & set(value)):
            text += value
        else:
            return None
    return text
