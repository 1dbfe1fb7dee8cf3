"""How options and operands move the class of a call; the parts that every reader of calls shares.

Decides no call by itself (`calls.py` does) and reads no shell syntax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from policy.catalog.model import Pattern, Program
from policy.classes import CommandClass
from policy.shell.effect import Effect, opaque, plain
from policy.shell.options import Call
from policy.shell.words import Word

_REBOOTS = frozenset(
    [
        "reboot",
        "poweroff",
        "shutdown",
        "halt",
        "suspend",
        "hibernate",
        "hybrid-sleep",
        "soft-reboot",
        "kexec",
        "power-off",
        "shut",
        "deallocate",
        "sleep-system",
    ]
)
_INSTALLS = frozenset(
    [
        "install",
        "reinstall",
        "uninstall",
        "upgrade",
        "full-upgrade",
        "dist-upgrade",
        "full-update",
        "autoremove",
        "autopurge",
        "self-update",
        "sync-packages",
    ]
)


class Scene(Protocol):
    """What a rule may ask of the command line that the call stands in."""

    def run_words(self, words: Sequence[Word]) -> Effect:
        """Decide another simple command that this one runs, and keep it as a part; the effect is of all it runs."""

    def run_text(self, script: Word, *, dialect: str) -> Effect:
        """Decide a script that this call runs, and keep its parts."""

    def assigned(self, names: Sequence[Word]) -> bool:
        """Note that the call sets these shell variables from data; False if one of them may not be set so."""

    def taken_back(self, names: Sequence[Word], *, functions: bool) -> None:
        """Note names that `unset` takes a value from, or, with `functions`, perhaps a function."""

    def defines(self, name: str) -> bool:
        """Whether the call at hand runs a function that the text has defined for certain."""

    def programs(self, name: str) -> Sequence[Program]:
        """What the catalogue says of a program; the highest of several answers counts, none is not known."""

    def direct(self) -> bool:
        """Whether the call at hand gets the environment that the broker sets, and nothing in between changes it."""


def free(program: Program, rule: str) -> Effect:
    """A program whose entry promises that no option changes its class."""
    effect = plain(program.base, rule, f"{program.name} is {program.base.phrase} command, whatever its options")
    return replace(effect, opaque=program.opaque, egress=program.egress, outlives=program.outlives)


def not_read(program: Program, call: Call, words: Sequence[Word], rule: str) -> Effect:
    """A call that could not be read: the program's own bound if only a word is open, else opaque."""
    if call.open and program.any_words is not None:
        effect = plain(
            program.any_words, f"{rule}.any", f"{call.doubt}, and no option of {program.name} does more than this"
        )
        return replace(effect, egress=program.egress, outlives=program.outlives)
    floor = max(program.unknown, hinted(words[1:]))
    return replace(
        opaque(f"{rule}.unknown", call.doubt, floor=floor),
        egress=program.egress or _sends(call),
        outlives=program.outlives,
    )


def by_options(program: Program, call: Call, rule: str) -> Effect:
    """The program's base class, raised by the options that were given."""
    if only_reads(program, call):
        return plain(CommandClass.READ, f"{rule}.reads", f"{program.name} only shows something with these options")
    effect = Effect(
        command_class=program.base,
        opaque=program.opaque,
        egress=program.egress or _sends(call),
        outlives=program.outlives,
        rule=rule,
        reason=f"{program.name} is {program.base.phrase} command",
    )
    for given in call.given:
        level, known = given.option.command_class, True
        if given.option.by_value and given.value is not None:
            level, known = _match(given.option.by_value, given.value)
        effect = effect.at_least(
            level, f"{rule} {given.name}", f"{given.name} makes {program.name} {level.phrase} command"
        )
        if given.option.opaque or not known:
            effect = effect.at_least(
                CommandClass.EXECUTE, f"{rule} {given.name}", f"what {given.name} does here is not known"
            )
            effect = replace(effect, opaque=True)
    return effect


def only_reads(program: Program, call: Call) -> bool:
    """Whether the options given turn the call into one that only shows something (`reads_if` of the entry)."""
    names = {given.name for given in call.given}
    harmless = {given.name for given in call.given if given.option.command_class is CommandClass.READ}
    others = names - program.reads_if - program.reads_with - (harmless if "*" in program.reads_with else set())
    shows = names & program.reads_if and not others
    values = all(
        _match(given.option.by_value, given.value)[0] is CommandClass.READ
        for given in call.given
        if given.option.by_value and given.value
    )
    undone = bool(program.reads_apart) and all(names & apart for apart in program.reads_apart)
    return bool(shows) and values and not undone and not (program.reads_alone and call.operands) and not call.doubt


def _sends(call: Call) -> bool:
    return any(given.option.egress for given in call.given)


def _match(patterns: Sequence[Pattern], word: Word) -> tuple[CommandClass, bool]:
    if word.fixed:
        for pattern in patterns:
            if pattern.regex.fullmatch(word.text):
                return pattern.command_class, True
        return CommandClass.EXECUTE, False
    highest = CommandClass.READ
    for pattern in patterns:  # an open word may match any pattern up to the first that its known head settles
        highest = max(highest, pattern.command_class)
        source = pattern.regex.pattern
        settled = source.endswith(".*") and "(?!" not in source  # a lookahead speaks of the rest, which is not known
        if source == ".*" or (settled and pattern.regex.fullmatch(word.head)):
            return highest, True
    return CommandClass.EXECUTE, False


def around(effect: Effect, inner: Effect) -> Effect:
    """A wrapper's own effect; what it runs is a part of its own, so only what colours the whole call is joined."""
    return replace(effect, outlives=effect.outlives or inner.outlives)


def by_operands(program: Program, call: Call, effect: Effect, rule: str) -> Effect:
    """What the operands make of a call that was read in full."""
    if effect.rule.endswith(".reads"):
        return _shown(program, call, effect, rule)
    if all(word.tame and not word.single for word in call.operands) and program.bare is not None:  # all may vanish
        alone = plain(program.bare, rule, f"{program.name} alone is {program.bare.phrase} command")
        return worse(effect, alone) if call.given else alone
    limit = program.operand_limit
    if limit is not None and (len(call.operands) > limit or any(not word.single for word in call.operands[:limit])):
        level = program.any_words if program.any_words is not None else CommandClass.EXECUTE
        effect = effect.at_least(
            level, rule, f"{program.name} with more than {limit} operands is {level.phrase} command"
        )
        effect = replace(effect, opaque=effect.opaque or program.any_words is None)
    if not program.operands:
        return effect
    for word in call.operands:
        level, known = _match(program.operands, word)
        reason = f"{word.text!r} makes {program.name} {level.phrase} command"
        if not known:
            effect = worse(
                effect, opaque(rule, f"what {program.name} does with {word.text!r} is not known", floor=program.unknown)
            )
        effect = effect.at_least(level, rule, reason)
    return effect


def _shown(program: Program, call: Call, effect: Effect, rule: str) -> Effect:
    """A call that only shows something, of whatever its operands name, as long as they are understood."""
    strange = (word for word in call.operands if program.operands and not _match(program.operands, word)[1])
    word = next(strange, None)
    if word is None:
        return effect
    return worse(effect, opaque(rule, f"what {program.name} does with {word.text!r} is not known"))


def worse(left: Effect, right: Effect) -> Effect:
    """The higher of two effects, with the flags of both."""
    high = right if right.command_class >= left.command_class else left
    return replace(
        high,
        opaque=left.opaque or right.opaque,
        egress=left.egress or right.egress,
        outlives=left.outlives or right.outlives,
        keyboard=left.keyboard and right.keyboard,
        transfer=left.transfer and right.transfer,
    )


def hinted(words: Sequence[Word]) -> CommandClass:
    """What the words of a call that is not understood speak of: it can only raise the class."""
    texts = {text for word in words for text in (word.text, word.text.lstrip("-").partition("=")[0])}
    if texts & _REBOOTS:
        return CommandClass.REBOOT
    return CommandClass.INSTALL if texts & _INSTALLS else CommandClass.READ
