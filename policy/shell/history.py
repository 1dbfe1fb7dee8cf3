"""git's history and its patches: which of these calls start no program that the repository names. Runs nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from policy.catalog.model import Program
from policy.classes import CommandClass
from policy.shell.effect import Effect
from policy.shell.options import Call, read_call
from policy.shell.readers import read_and_weigh
from policy.shell.rules import Scene
from policy.shell.words import Word

_SHOWS_PATCH = (
    "-p",
    "-u",
    "--patch",
    "-U",
    "--unified",
    "-S",
    "-G",
    "-L",
    "--word-diff",
    "--check",
    "-M",
    "-C",
    "--find-renames",
    "-W",
    "--function-context",
    "--binary",
    "--patch-with-stat",
    "--patch-with-raw",
    "--color-words",
    "--color-moved",
    "--word-diff-regex",
    "--pickaxe-all",
    "--pickaxe-regex",
)
_SHOWS_NONE = (
    "-s",
    "--no-patch",
    "--stat",
    "--name-only",
    "--name-status",
    "--numstat",
    "--shortstat",
    "--raw",
    "--summary",
)


_LISTS = frozenset({"log", "list", "reflog", "diff-tree"})  # without an option for it they show no patch
_BLAMES = frozenset({"blame", "annotate"})
_REFLOG_WRITES = frozenset({"expire", "delete", "drop", "write"})
# A commit by name. Nothing here can be read as a path or as a search (`A:f`, `:/text`, `A^{/text}`).
_REVISION = r"[A-Za-z0-9_](?:(?!\.\.)[A-Za-z0-9_./-])*(?:[~^]\d*)*"
_ONE = re.compile(_REVISION)
_RANGE = re.compile(rf"{_REVISION}\.\.\.?{_REVISION}")


def git_history(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """git log, show, diff, blame: a patch, and a file of the work tree, go through programs the repository names."""
    del scene
    call, effect = read_and_weigh(program, words, until_operand=False)
    if call.doubt:
        return effect
    kind = words[0].text
    if kind == "reflog" and any(not word.fixed or word.text in _REFLOG_WRITES for word in call.operands):
        return effect.at_least(CommandClass.WRITE, program.name, "may change the reflog")
    if kind in _BLAMES:
        return _blame(program, words, call, effect)
    if kind == "diff" and not (call.has("--cached", "--staged") or _of_commits(program, words)):
        reason = "may compare files of the work tree, which go through the repository's filters: --cached does not,"
        reason += " nor do two commits with -- behind them"
        return effect.at_least(CommandClass.EXECUTE, f"{program.name}.worktree", reason)
    patch = call.has(*_SHOWS_PATCH) or (kind not in _LISTS and not call.has(*_SHOWS_NONE))
    if patch and not (call.has("--no-ext-diff") and call.has("--no-textconv")):
        reason = "a patch goes through programs the repository names; --no-ext-diff --no-textconv keep them out"
        return effect.at_least(CommandClass.EXECUTE, f"{program.name}.patch", reason)
    return effect


def _blame(program: Program, words: Sequence[Word], call: Call, effect: Effect) -> Effect:
    named = _before_dashes(program, words)
    if call.has("--no-textconv") and len(named) == 1 and _ONE.fullmatch(named[0]):
        return effect
    reason = "goes through the repository's filters and textconv, unless it says --no-textconv COMMIT -- FILE"
    return effect.at_least(CommandClass.EXECUTE, f"{program.name}.worktree", reason)


def _of_commits(program: Program, words: Sequence[Word]) -> bool:
    """Whether a diff is of two commits for certain: without `--` behind them they could be files."""
    named = _before_dashes(program, words)
    if len(named) == 1:
        return _RANGE.fullmatch(named[0]) is not None
    return len(named) == len(("FROM", "TO")) and all(_ONE.fullmatch(name) for name in named)


def _before_dashes(program: Program, words: Sequence[Word]) -> list[str]:
    """The operands before `--`, where git takes nothing but commits; none if there is no `--`, or one is open."""
    before = list(takewhile(lambda word: not (word.fixed and word.text == "--"), words))
    call = read_call(program, before[1:], until_operand=False)
    known = len(before) < len(words) and not call.doubt and all(word.fixed for word in call.operands)
    return [word.text for word in call.operands] if known else []
