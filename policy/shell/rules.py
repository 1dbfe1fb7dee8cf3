"""What one simple command does: its dequoted words held against the catalogue.

Fails up: a name, option, sub-command or operand that the catalogue does not know makes the call `execute` and opaque, and where
the words themselves speak of installing or rebooting, at least that. Reads no shell syntax; that is the walk's part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from policy import catalog
from policy.catalog.model import Pattern, Program
from policy.classes import CommandClass
from policy.shell.effect import Effect, opaque, plain
from policy.shell.options import Call, read_call
from policy.shell.words import Word

# Only root writes here on a target that `target add` has checked; elsewhere a name says nothing about the file.
TRUSTED_FOLDERS = frozenset({"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"})
_NAME = re.compile(r"[A-Za-z0-9_.+:\[\]-]+")
_ASCII = re.compile(r"[\x20-\x7e]*")
_REBOOTS = frozenset(
    "reboot poweroff shutdown halt suspend hibernate hybrid-sleep soft-reboot kexec power-off shut deallocate sleep-system".split()
)
_INSTALLS = frozenset(
    "install reinstall uninstall upgrade full-upgrade dist-upgrade full-update autoremove autopurge self-update sync-packages".split()
)
# Files that act on the machine when they are written to.
_REBOOT_FILE = re.compile(r"/+(?:proc/+sysrq-trigger|sys/+power/+(?:state|disk|mem_sleep)|dev/+watchdog\d*)")
_REBOOT_UNIT = re.compile(
    r"(?:reboot|poweroff|halt|kexec|soft-reboot|suspend|hibernate|hybrid-sleep|sleep|rescue|emergency|shutdown|umount|final|exit"
    r"|ctrl-alt-del|runlevel[0156])\.target|systemd-(?:reboot|poweroff|halt|kexec|suspend|hibernate|hybrid-sleep)\.service"
)
_LASTING_FILE = re.compile(
    r"authorized_keys|/etc/(?:cron|anacrontab|systemd|init|rc|profile)|/var/spool/(?:cron|at)|/\.(?:bash|z|ssh/)"
)


class Scene(Protocol):
    """What a rule may ask of the command line that the call stands in."""

    def run_words(self, words: Sequence[Word]) -> Effect:
        """Decide another simple command that this one runs, and keep it as a part; the effect is of all it runs."""

    def run_text(self, script: Word, *, dialect: str) -> Effect:
        """Decide a script that this call runs, and keep its parts."""

    def assigned(self, names: Sequence[Word]) -> bool:
        """Note that the call sets these shell variables from data; False if one of them may not be set so."""

    def defines(self, name: str) -> bool:
        """Whether the text has defined this function for certain."""


def weigh(words: Sequence[Word], scene: Scene) -> Effect:
    """The effect of a simple command, its name included; at least one word."""
    return with_files(words, _weigh(words, scene))


def _weigh(words: Sequence[Word], scene: Scene) -> Effect:
    name = words[0]
    if not name.fixed:
        return opaque("name.open", "which program runs is only known on the target", floor=hinted(words[1:]))
    if scene.defines(name.text):
        return plain(CommandClass.READ, "function.call", "calls a function defined above, whose body is decided there")
    folder, slash, base = name.text.rpartition("/")
    program = catalog.shipped().get(base)
    if slash and folder not in TRUSTED_FOLDERS:
        floor = max(hinted(words[1:]), _by_name(program, words, scene))
        return opaque("name.path", f"{name.text!r} is not in a folder that only root writes to", floor=floor)
    if program is None or not _NAME.fullmatch(base):
        return opaque("name.unknown", f"{base!r} is not in the catalogue", floor=hinted(words[1:]))
    return decide(program, words, scene, rule=program.name)


def _by_name(program: Program | None, words: Sequence[Word], scene: Scene) -> CommandClass:
    """A program of an unknown folder does at least what its namesake would."""
    if program is None:
        return CommandClass.EXECUTE
    return decide(program, words, scene, rule=program.name).command_class


def decide(program: Program, words: Sequence[Word], scene: Scene, *, rule: str) -> Effect:
    """The effect of a call of a known program (or of one of its sub-commands)."""
    from policy.shell.special import SPECIALS

    if program.special:
        return SPECIALS[program.special](program, words, scene)
    if program.free:
        return _free(program, rule)
    until_operand = bool(program.subs) or program.runs_after is not None or program.stops
    call = read_call(program, words[1:], until_operand=until_operand)
    effect = by_options(program, call, rule)
    if call.doubt:
        return not_read(program, call, words, rule)
    if program.subs:
        return _sub(program, call, scene, effect, rule)
    if program.runs_after is not None:
        return _runs(program, call, scene, effect, rule)
    return by_operands(program, call, effect, rule)


def _free(program: Program, rule: str) -> Effect:
    """A program whose entry promises that no option changes its class."""
    effect = plain(program.base, rule, f"{program.name} is a {program.base.word} command, whatever its options")
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
    if _only_reads(program, call):
        return plain(CommandClass.READ, f"{rule}.reads", f"{program.name} only shows something with these options")
    effect = Effect(
        command_class=program.base,
        opaque=program.opaque,
        egress=program.egress or _sends(call),
        outlives=program.outlives,
        rule=rule,
        reason=f"{program.name} is a {program.base.word} command",
    )
    for given in call.given:
        level, known = given.option.command_class, True
        if given.option.by_value and given.value is not None:
            level, known = _match(given.option.by_value, given.value)
        effect = effect.at_least(
            level, f"{rule} {given.name}", f"{given.name} makes {program.name} a {level.word} command"
        )
        if given.option.opaque or not known:
            effect = effect.at_least(
                CommandClass.EXECUTE, f"{rule} {given.name}", f"what {given.name} does here is not known"
            )
            effect = replace(effect, opaque=True)
    return effect


def _only_reads(program: Program, call: Call) -> bool:
    names = {given.name for given in call.given}
    shows = names & program.reads_if and not names - program.reads_if - program.reads_with
    values = all(
        _match(given.option.by_value, given.value)[0] is CommandClass.READ
        for given in call.given
        if given.option.by_value and given.value
    )
    return bool(shows) and values and not (program.reads_alone and call.operands) and not call.doubt


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
        if pattern.regex.pattern == ".*" or (
            pattern.regex.pattern.endswith(".*") and pattern.regex.fullmatch(word.head)
        ):
            return highest, True
    return CommandClass.EXECUTE, False


def _sub(program: Program, call: Call, scene: Scene, effect: Effect, rule: str) -> Effect:
    if not call.operands:
        if call.has("--version", "--help", "-V", "-h"):
            return effect
        if program.bare is None:
            return worse(effect, opaque(rule, f"{program.name} without a sub-command", floor=program.unknown))
        return effect.at_least(program.bare, rule, f"{program.name} alone is a {program.bare.word} command")
    name, *_ = call.operands
    sub = program.subs.get(name.text) if name.fixed else None
    if sub is None:
        floor = max(program.unknown, hinted(call.operands))
        return worse(
            effect, opaque(f"{rule}.unknown", f"{program.name} {name.text!r} is not in the catalogue", floor=floor)
        )
    return worse(effect, decide(replace_name(sub, program), call.operands, scene, rule=f"{rule} {name.text}"))


def replace_name(sub: Program, parent: Program) -> Program:
    """A sub-command under its full name, for reasons that people read."""
    name = f"{parent.name} {sub.name}"
    return replace(sub, name=name, egress=sub.egress or parent.egress, unknown=max(sub.unknown, parent.unknown))


def _runs(program: Program, call: Call, scene: Scene, effect: Effect, rule: str) -> Effect:
    """A program that runs the words after its own: the higher of the two."""
    own, inner = call.operands[: program.runs_after], call.operands[program.runs_after or 0 :]
    if any(not word.operand_like for word in own):
        return worse(effect, opaque(rule, f"{program.name}: where its own words end cannot be told"))
    if inner:
        return around(effect, scene.run_words(inner))
    if program.bare is not None:
        return effect.at_least(program.bare, rule, f"{program.name} alone is a {program.bare.word} command")
    return worse(effect, opaque(rule, f"{program.name} without a command starts a shell or reads one"))


def around(effect: Effect, inner: Effect) -> Effect:
    """A wrapper's own effect when what it runs is a part of its own: flags come together, the class stays the wrapper's."""
    return replace(effect, egress=effect.egress, outlives=effect.outlives or inner.outlives)


def by_operands(program: Program, call: Call, effect: Effect, rule: str) -> Effect:
    if not call.operands and program.bare is not None:
        alone = plain(program.bare, rule, f"{program.name} alone is a {program.bare.word} command")
        return worse(effect, alone) if call.given else alone
    limit = program.operand_limit
    if limit is not None and (len(call.operands) > limit or any(not word.single for word in call.operands[:limit])):
        level = program.any_words if program.any_words is not None else CommandClass.EXECUTE
        effect = effect.at_least(
            level, rule, f"{program.name} with more than {limit} operands is a {level.word} command"
        )
        effect = replace(effect, opaque=effect.opaque or program.any_words is None)
    if not program.operands:
        return effect
    for word in call.operands:
        level, known = _match(program.operands, word)
        reason = f"{word.text!r} makes {program.name} a {level.word} command"
        if not known:
            effect = worse(
                effect, opaque(rule, f"what {program.name} does with {word.text!r} is not known", floor=program.unknown)
            )
        effect = effect.at_least(level, rule, reason)
    return effect


def worse(left: Effect, right: Effect) -> Effect:
    high = right if right.command_class >= left.command_class else left
    return replace(
        high,
        opaque=left.opaque or right.opaque,
        egress=left.egress or right.egress,
        outlives=left.outlives or right.outlives,
    )


def hinted(words: Sequence[Word]) -> CommandClass:
    """What the words of a call that is not understood speak of: it can only raise the class."""
    texts = {text for word in words for text in (word.text, word.text.lstrip("-").partition("=")[0])}
    if texts & _REBOOTS:
        return CommandClass.REBOOT
    return CommandClass.INSTALL if texts & _INSTALLS else CommandClass.READ


def with_files(words: Sequence[Word], effect: Effect) -> Effect:
    """Files that act when they are written, whichever program writes them; and names that are not ASCII."""
    if effect.command_class >= CommandClass.WRITE:
        if any(_REBOOT_UNIT.fullmatch(word.text) for word in words[1:]):
            effect = effect.at_least(
                CommandClass.REBOOT, "unit.reboot", "names a unit that restarts or stops the machine"
            )
        texts = [word.text for word in words[1:]]
        if any(_REBOOT_FILE.search(text) for text in texts):
            effect = effect.at_least(
                CommandClass.REBOOT, "file.reboot", "writes a file that restarts or stops the machine"
            )
        if any(_LASTING_FILE.search(text) for text in texts):
            effect = replace(effect, outlives=True)
    strange = next(
        (word for word in words if word.text.startswith("-") and not _ASCII.fullmatch(word.text.partition("=")[0])),
        None,
    )
    if strange is not None and effect.rule != "name.open":
        effect = worse(effect, opaque("option.charset", f"{strange.text!r} has characters that no option has"))
    return effect
