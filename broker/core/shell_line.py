"""What a line typed in the gated shell asks for: a command, or something that the gateway keeps for later lines.

Every command runs in a shell of its own, so only the directory and exported variables go from line to line, and those
as bytes that the classifier, the person and the recording see. Pure; decides nothing about access.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from policy.shell.outline import Alone, Outline, outline

MAX_KEPT: Final = 32
"""Exported variables of one session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A line to propose: the exact bytes that would run."""

    line: bytes
    terminal: bool = False
    """Whether it runs in a terminal of its own, on the target."""
    note: str = ""
    """What of it will not stay, in words; or empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeDirectory:
    """`cd` alone: a read whose only output is the new directory."""

    line: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """`export NAME=VALUE` alone."""

    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """`unset NAME` alone."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListKept:
    """`export` alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """`exit`. `status`: the one that was named."""

    status: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Help:
    """`help`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowHistory:
    """`history`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotKept:
    """What would only change a shell that is gone after the line: told, not run."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """Blanks and comments."""


Asked = Command | ChangeDirectory | Keep | Drop | ListKept | Leave | Help | ShowHistory | NotKept | Nothing

_OWN_SHELL = "each line runs in a shell of its own"
_STATE: Final[Mapping[str, str]] = {
    "alias": "aliases", "unalias": "aliases", "set": "shell options", "shopt": "shell options", "trap": "traps",
    "umask": "a umask", "ulimit": "limits", "pushd": "a directory stack", "popd": "a directory stack",
    "dirs": "a directory stack", "bg": "jobs", "fg": "jobs", "jobs": "jobs", "disown": "jobs", "wait": "jobs",
    "fc": "a history of bash's own", "bind": "key bindings", "complete": "completions", "hash": "a hash table",
    "enable": "builtins", "suspend": "a job to suspend", "exec": "a shell to replace",
}  # fmt: skip
# Programs that draw on the whole screen or read keys: what gets a terminal unasked. No matter of access.
_FULL_SCREEN: Final = frozenset([
    "alsamixer", "atop", "bmon", "btop", "cfdisk", "dialog", "dstat", "emacs", "glances", "gdu", "htop", "iftop",
    "iotop", "iptraf", "joe", "jed", "lazydocker", "lazygit", "less", "links", "lnav", "lynx", "mc",
    "micro", "more", "most", "mtr", "multitail", "nano", "ncdu", "ne", "nethogs", "nload", "nmtui", "nvim",
    "nvtop", "powertop", "pstop", "ranger", "rvim", "screen", "slabtop", "tig", "tmux", "top", "vi", "view",
    "vifm", "vim", "vimdiff", "visudo", "vipw", "w3m", "watch", "whiptail", "zless", "zmore",
])  # fmt: skip
_RUNNERS: Final = frozenset({"sudo", "doas", "env", "nice", "runuser"})
_TERMINAL = re.compile(r"\s*tty[ \t]+(?=[^-\s])")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CD = re.compile(r"cd(?:\s+(?:-P|-L))?(?:\s+--)?(?:\s+(?P<to>.*))?", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]*")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"([^"$`\\!]*)"')
_STATUS = re.compile(r"[0-9]{1,3}")
_MAX_STATUS = 255


def read_line(text: str, *, kept: Mapping[str, str], before: str) -> Asked:
    """What a typed line asks for.

    Args:
        text: as it was entered.
        kept: exported variables so far.
        before: the directory before the last `cd`; empty where there was none.
    """
    line = text.strip()
    seen = outline(line.encode("utf-8", "surrogateescape"))
    if seen is None:
        # refused by the classifier, or nothing: the gate says which, with its own words
        return Nothing() if not line or line.startswith("#") else Command(line=_with(kept, text))
    if seen.background:
        return NotKept(why=f"{_OWN_SHELL}, which would end a job in the background; leave out the last '&'")
    match seen.alone:
        case Alone.COMMAND:
            return _command(text, seen, kept, before)
        case Alone.DECLARATION if seen.words[0] == "export":
            return _export(seen)
        case Alone.UNSET if all(_NAME.fullmatch(word) for word in seen.words[1:]) and seen.words[0] == "unset":
            return Drop(names=seen.words[1:])
        case Alone.ASSIGNMENT | Alone.DECLARATION | Alone.UNSET:
            return NotKept(why=f"{_OWN_SHELL}: a variable does not stay; `export NAME=VALUE` keeps one")
        case Alone.FUNCTION:
            return NotKept(why=f"{_OWN_SHELL}: functions do not stay; define and call in one line")
        case None:
            moves = "cd" in seen.commands
            return _to_run(text, seen, kept, note="the directory of this line does not stay" if moves else "")


def _to_run(text: str, seen: Outline, kept: Mapping[str, str], *, note: str = "") -> Command:
    asked_for = _TERMINAL.match(text)
    names = (*seen.commands, *(seen.words if seen.commands and seen.commands[0] in _RUNNERS else ()))
    drawn = any(name.rpartition("/")[2] in _FULL_SCREEN for name in names)
    line = text[asked_for.end() :] if asked_for else text
    return Command(line=_with(kept, line), terminal=drawn or asked_for is not None, note=note)


def _command(text: str, seen: Outline, kept: Mapping[str, str], before: str) -> Asked:
    name, words = seen.words[0], seen.words[1:]
    if name in {"exit", "logout"} and len(words) <= 1 and all(map(_STATUS.fullmatch, words)):
        return Leave(status=min(int(words[0]), _MAX_STATUS) if words else None)
    if name == "help" and not words:
        return Help()
    if name == "history" and not words:
        return ShowHistory()
    if name == "cd":
        return _change_directory(text.strip(), kept, before)
    if name in _STATE:
        return NotKept(why=f"{_OWN_SHELL}: {_STATE[name]} would not stay")
    return _to_run(text, seen, kept)


def _change_directory(line: str, kept: Mapping[str, str], before: str) -> Asked:
    found = _CD.fullmatch(line)
    to = ((found and found["to"]) or "").strip()
    if found is None or "\n" in to:
        return NotKept(why="say `cd DIRECTORY`")
    if to == "-":
        if not before:
            return NotKept(why="there was no directory before this one")
        to = quoted(before)
    command = f"cd -P -- {to} && pwd -P" if to else "cd -P && pwd -P"
    return ChangeDirectory(line=_with(kept, command) if "$" in to else command.encode("utf-8", "surrogateescape"))


def _export(seen: Outline) -> Asked:
    if len(seen.words) == 1:
        return ListKept()
    variables: dict[str, str] = {}
    for word in seen.words[1:]:
        name, equals, value = word.partition("=")
        plain = literal(value)
        if not equals or _NAME.fullmatch(name) is None or plain is None:
            return NotKept(why="only `export NAME=VALUE` with a plain value is kept, without expansions")
        variables[name] = plain
    return Keep(variables=variables)


def literal(word: str) -> str | None:
    """The value of a word that bash would not expand; None for any other."""
    for shape in (_SINGLE, _DOUBLE):
        if found := shape.fullmatch(word):
            return found[1]
    return word if _PLAIN.fullmatch(word) else None


def quoted(value: str) -> str:
    """A value as one word that bash takes as it is."""
    return "'" + value.replace("'", "'\\''") + "'"


def _with(kept: Mapping[str, str], text: str) -> bytes:
    """The line behind the variables that are kept: exactly what runs, so exactly what is classified."""
    exports = " ".join(f"{name}={quoted(value)}" for name, value in sorted(kept.items()))
    return ((f"export {exports}; " if exports else "") + text).encode("utf-8", "surrogateescape")
