"""Package managers and cloud command lines, known by the verbs among their words alone. Runs nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from policy.catalog.model import Program
from policy.classes import CommandClass
from policy.shell.aws import by_operation
from policy.shell.effect import Effect, opaque, plain
from policy.shell.rules import Scene, hinted
from policy.shell.words import Word

_MANAGER_READS = frozenset(
    [
        "list",
        "ls",
        "info",
        "search",
        "show",
        "status",
        "view",
        "outdated",
        "leaves",
        "query",
        "why",
    ]
)
_MANAGER_RUNS = frozenset({"run", "exec", "shell", "develop", "build", "test"})
_MANAGER_WORD = re.compile(r"[A-Za-z0-9@][A-Za-z0-9@._/+:*-]*|-v|-a|--all|--json|--installed|--long|--verbose")


def by_manager_verb(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """Package managers that are known by their verbs alone."""
    del scene
    name = words[0].text.rpartition("/")[2]  # an entry of many names: the rule says which one it was
    alone = len(words) == len((name, "VERB"))
    reads = _MANAGER_READS | ({"version", "--version", "help"} if alone else frozenset())
    shows = len(words) > 1 and words[1].fixed and words[1].text in reads
    if shows and all(word.fixed and _MANAGER_WORD.fullmatch(word.text) for word in words[2:]):
        return plain(CommandClass.READ, f"{name} {words[1].text}", "lists packages")
    if any(word.text in _MANAGER_RUNS for word in words[1:3]):
        return opaque(f"{name} runs", f"{name} runs a program or a shell", floor=hinted(words[1:]))
    return plain(program.base, name, f"{name} changes what is installed")


_VERBS: Mapping[CommandClass, frozenset[str]] = {
    CommandClass.READ: frozenset(
        [
            "list",
            "ls",
            "describe",
            "show",
            "get",
            "view",
            "status",
            "wait",
            "lookup",
            "search",
            "filter",
            "query",
            "head",
            "tail",
            "logs",
            "log",
            "history",
            "version",
            "help",
            "info",
            "read",
            "whoami",
            "exists",
            "print",
            "explain",
            "top",
            "cat",
            "du",
            "hash",
        ]
    ),
    CommandClass.WRITE: frozenset(
        [
            "create",
            "delete",
            "update",
            "put",
            "add",
            "remove",
            "rm",
            "set",
            "unset",
            "attach",
            "detach",
            "modify",
            "authorize",
            "revoke",
            "register",
            "deregister",
            "enable",
            "disable",
            "tag",
            "untag",
            "associate",
            "disassociate",
            "copy",
            "cp",
            "mv",
            "sync",
            "mb",
            "rb",
            "publish",
            "import",
            "export",
            "restore",
            "rotate",
            "cancel",
            "release",
            "allocate",
            "apply",
            "change",
            "configure",
            "login",
            "logout",
            "upload",
            "download",
            "edit",
            "close",
            "merge",
            "reopen",
            "comment",
            "destroy",
            "resize",
            "patch",
            "move",
            "clone",
            "init",
            "auth",
            "new",
            "build",
            "lock",
            "unlock",
            "pin",
            "archive",
            "rename",
            "transfer",
            "grant",
            "terminate",
            "get-credentials",
            "purge",
            "prune",
        ]
    ),
    CommandClass.EXECUTE: frozenset(
        ["start", "stop", "run", "invoke", "execute", "restart", "send", "deploy", "rerun", "redeploy", "start-session"]
    ),
    CommandClass.REBOOT: frozenset(
        ["reboot", "reset", "deallocate", "power-off", "shutdown", "suspend", "poweroff", "power-cycle"]
    ),
}
_SENDS = frozenset({"publish", "upload", "cp", "sync", "mv", "push", "put"})
_OPENS = frozenset({"run", "exec", "invoke", "execute"})  # what they run is not in the text
_NOT_A_READ = frozenset({"get-object", "get-credentials"})
_PACKAGES = frozenset({("gcloud", "components"), ("az", "extension"), ("az", "upgrade"), ("openstack", "plugin")})


# Words that are also names of services (`aws logs`, `az search`): a verb only where no other word follows.
_ALSO_NOUNS = frozenset({"logs", "log", "search", "query", "history", "version", "info", "status", "wait", "filter"})
_VERB_VALUES = frozenset(
    [
        "--profile",
        "--region",
        "--output",
        "--project",
        "--query",
        "--subscription",
        "--resource-group",
        "--zone",
        "--location",
        "--account",
        "--format",
        "--filter",
        "--limit",
        "--organization",
        "--context",
        "--freshness",
        "--order",
    ]
)
_WRITES_FILE = re.compile(r"-O|--?[a-z-]*(?:file|dest|dir|path)[a-z-]*(?:=.*)?")


def by_verbs(_program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """Cloud command lines: the highest verb of all their words; a read only if every word before it is known."""
    del scene
    name, said = words[0].text.rpartition("/")[2], _operands_of_verbs(words[1:])
    if name == "aws":
        return by_operation(words)
    if _asks_for_help(words):
        return plain(CommandClass.READ, f"{name} --help", "shows a manual")
    floor = hinted(words[1:])
    found = [(verb, level) for word in said for verb, level in _verb_of(word, last=word is said[-1])]
    unknown = next((word for word in words[1:] if not word.fixed or word.text.startswith("-")), None)
    strange = not found or _in_doubt(words[1:], said, found)
    if strange:
        text = unknown.text if unknown is not None else "no word of it"
        high = max([floor, *(level for _, level in found)])
        return opaque(f"{name}.unknown", f"what {name} does is not known: {text!r}", floor=high)
    verb, level = max(found, key=lambda item: item[1])
    effect = plain(level, f"{name} {verb}", f"{name} {verb} is {level.phrase} command")
    effect = effect.at_least(floor, f"{name} {verb}", "installs or restarts something")
    if level > CommandClass.READ and (name, said[0].text) in _PACKAGES:
        effect = effect.at_least(CommandClass.INSTALL, f"{name} {verb}", "changes what the program is made of")
    if any(_WRITES_FILE.fullmatch(word.head) and word.text not in _VERB_VALUES for word in words[1:]):
        effect = effect.at_least(CommandClass.WRITE, f"{name} {verb}", "may write a file")
    return replace(
        effect, egress=any(verb in _SENDS for verb, _ in found), opaque=any(verb in _OPENS for verb, _ in found)
    )


def _asks_for_help(words: Sequence[Word]) -> bool:
    """The last word is --help, and no option before it can take that for its value."""
    *before, last = words
    return last.text == "--help" and bool(before) and all(word.fixed for word in words) and before[-1].head[:1] != "-"


def _operands_of_verbs(words: Sequence[Word]) -> list[Word]:
    """All words but options and the values of those that are known; a value counted as a word can only raise."""
    values = {index + 1 for index, word in enumerate(words) if word.fixed and word.text in _VERB_VALUES}
    return [word for index, word in enumerate(words) if index not in values and not word.head.startswith("-")]


def _verb_of(word: Word, *, last: bool) -> list[tuple[str, CommandClass]]:
    if not word.fixed:
        return []
    whole = word.text in _NOT_A_READ
    verb = word.text if whole else word.text.partition("-")[0]
    levels = [level for level, verbs in _VERBS.items() if word.text in verbs or verb in verbs]
    noun = word.text in _ALSO_NOUNS and not last
    return [(verb, level) for level in levels if not (noun and level is CommandClass.READ)]


def _in_doubt(words: Sequence[Word], said: Sequence[Word], found: Sequence[tuple[str, CommandClass]]) -> bool:
    """Whether an option or an open word stands before the verb that decides, so that it may be no verb at all."""
    first = next((word for word in said if _verb_of(word, last=word is said[-1])), None)
    before = words[: words.index(first)] if first is not None else words
    skipped = {index + 1 for index, word in enumerate(before) if word.fixed and word.text in _VERB_VALUES}
    return bool(found) and any(
        not word.fixed or (word.text.startswith("-") and word.text not in _VERB_VALUES)
        for index, word in enumerate(before)
        if index not in skipped or not word.single
    )
