"""git log, show and diff: which of them start no program that the repository names. Runs nothing."""

from __future__ import annotations

from collections.abc import Sequence

from policy.catalog.model import Program
from policy.classes import CommandClass
from policy.shell.effect import Effect
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


def git_history(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """git log, show, diff: a patch, and a file of the work tree, go through programs that the repository names."""
    del scene
    call, effect = read_and_weigh(program, words, until_operand=False)
    if call.doubt:
        return effect
    kind = words[0].text
    patch = call.has(*_SHOWS_PATCH) or (kind != "log" and not call.has(*_SHOWS_NONE))
    bare = call.has("--no-ext-diff") and call.has("--no-textconv")
    if kind == "diff" and not call.has("--cached", "--staged"):
        reason = "compares files of the work tree, which go through the repository's filters; --cached does not"
        return effect.at_least(CommandClass.EXECUTE, f"git {kind}.worktree", reason)
    if patch and not bare:
        reason = "a patch goes through programs the repository names; --no-ext-diff --no-textconv keep them out"
        return effect.at_least(CommandClass.EXECUTE, f"git {kind}.patch", reason)
    return effect
