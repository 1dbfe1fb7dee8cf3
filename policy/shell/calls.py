"""What one simple command does: its dequoted words held against the catalogue.

Fails up: a name, option, sub-command or operand that the catalogue does not know makes the call `execute` and opaque,
and where the words themselves speak of installing or rebooting, at least that. Reads no shell syntax; that is the
walk's part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

from policy.catalog.model import Program
from policy.classes import CommandClass
from policy.shell.effect import Effect, opaque, plain
from policy.shell.options import Call, read_call
from policy.shell.rules import Scene, around, by_operands, by_options, free, hinted, not_read, worse
from policy.shell.special import SPECIALS
from policy.shell.words import Word

# Only root writes here on a target that `target add` has checked; elsewhere a name says nothing about the file.
TRUSTED_FOLDERS = frozenset({"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"})
_NAME = re.compile(r"[A-Za-z0-9_.+:\[\]-]+")
_ASCII = re.compile(r"[\t\x20-\x7e]*")
# Files that act on the machine when they are written to.
_REBOOT_FILE = re.compile(r"sysrq-trigger|\bpower/+(?:state|disk|mem_sleep)\b|/watchdog\d*\b")
_REBOOT_UNIT = re.compile(
    r"(?:reboot|poweroff|halt|kexec|soft-reboot|suspend|hibernate|hybrid-sleep|sleep|rescue|emergency|shutdown|umount|final|exit"
    r"|ctrl-alt-del|runlevel[0156])\.target|systemd-(?:reboot|poweroff|halt|kexec|suspend|hibernate|hybrid-sleep)\.service"
)
_LASTING_FILE = re.compile(
    r"authorized_keys|/etc/(?:cron|anacrontab|systemd|init|rc|profile)|/var/spool/(?:cron|at)"
    # start-up files in a home, which later commands obey (docs/classifier-binding.md)
    r"|(?:^|/|=)\.(?:bash|z|profile|ssh/|config/|aws/|kube/|docker/|gem|m2/|gradle/|cargo/|local/(?:lib|bin|share)/|pam_environment"
    r"|lesskey|less$|manpath|vault$|\w*rc\b|rpmmacros|my\.cnf|gitconfig)"
)


def stops_the_machine(path: str) -> bool:
    """Whether writing there restarts or stops the machine: told from the name, as of a command's operands."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return any(_REBOOT_FILE.search(name) for name in (path, "/" + "/".join(parts)))


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
    known = scene.programs(base)
    if slash and folder not in TRUSTED_FOLDERS:
        floor = hinted(words[1:])
        if known:  # a program of an unknown folder does at least what its namesake would
            floor = max(floor, _strictest(known, words, scene).command_class)
        return opaque("name.path", f"{name.text!r} is not in a folder that only root writes to", floor=floor)
    if not known or not _NAME.fullmatch(base):
        return opaque("name.unknown", f"{base!r} is not in the catalogue", floor=hinted(words[1:]))
    return _strictest(known, words, scene)


def _strictest(programs: Sequence[Program], words: Sequence[Word], scene: Scene) -> Effect:
    """The highest answer of all entries: a tenant's own beside the shipped one can only raise it (I-17)."""
    effects = [decide(program, words, scene, rule=_rule(program)) for program in programs]
    return reduce(worse, effects)


def _rule(program: Program) -> str:
    return f"{program.origin}:{program.name}" if program.origin else program.name


def decide(program: Program, words: Sequence[Word], scene: Scene, *, rule: str) -> Effect:
    """The effect of a call of a known program (or of one of its sub-commands)."""
    effect = _decide(program, words, scene, rule=rule)
    if program.talks and not all(word.fixed for word in words[1:]):
        effect = replace(effect, egress=True)  # what the target fills in goes to whoever is asked
    if program.configured and effect.command_class is CommandClass.READ and not scene.direct():
        reason = f"{program.name} runs what its settings name, unless it gets the broker's own environment"
        effect = effect.at_least(CommandClass.EXECUTE, f"{rule}.environment", reason)
    proved = program.keyboard and effect.command_class is CommandClass.READ and not effect.opaque
    return replace(effect, keyboard=proved and scene.direct())


def _decide(program: Program, words: Sequence[Word], scene: Scene, *, rule: str) -> Effect:
    if program.special:
        return SPECIALS[program.special](program, words, scene)
    if asks_for_help(program, words):
        return plain(CommandClass.READ, f"{rule} --help", f"{program.name} only shows its help")
    if program.free:
        return free(program, rule)
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


def asks_for_help(program: Program, words: Sequence[Word]) -> bool:
    """Exactly `PROGRAM --help` (or `PROGRAM SUB-COMMAND --help`, once the sub-commands are read), and it runs nothing.

    An interpreter that is given a file first hands `--help` to the file.
    """
    alone = [word.text for word in words[1:] if word.fixed] == ["--help"] and len(words) == len(
        (program.name, "--help")
    )
    safe = program.base <= CommandClass.WRITE and not program.opaque and program.runs_after is None
    return alone and safe and not program.configured


def _sub(program: Program, call: Call, scene: Scene, effect: Effect, rule: str) -> Effect:
    if effect.rule.endswith(".reads"):
        return effect if not call.operands else _dry(program, call, scene, effect, rule)
    if not call.operands:
        if call.has("--version", "--help", "-V", "-h"):
            return effect
        if program.bare is None:
            return worse(effect, opaque(rule, f"{program.name} without a sub-command", floor=program.unknown))
        return effect.at_least(program.bare, rule, f"{program.name} alone is {program.bare.phrase} command")
    name, *_ = call.operands
    sub = program.subs.get(name.text) if name.fixed else None
    if sub is None:
        floor = max(program.unknown, hinted(call.operands))
        return worse(
            effect, opaque(f"{rule}.unknown", f"{program.name} {name.text!r} is not in the catalogue", floor=floor)
        )
    return worse(effect, decide(replace_name(sub, program), call.operands, scene, rule=f"{rule} {name.text}"))


def _dry(program: Program, call: Call, scene: Scene, effect: Effect, rule: str) -> Effect:
    """A sub-command behind an option that makes the whole call a show (`apt-get -s upgrade`), if it is read in full."""
    name = call.operands[0]
    sub = program.subs.get(name.text) if name.fixed else None
    inner = decide(replace_name(sub, program), call.operands, scene, rule=f"{rule} {name.text}") if sub else None
    if sub is None or inner is None or inner.opaque:
        return opaque(f"{rule}.unknown", f"{program.name} {name.text!r} is not understood", floor=program.unknown)
    heeds = any(given.name in sub.reads_if for given in call.given)
    return effect if heeds else worse(effect, inner)


def replace_name(sub: Program, parent: Program) -> Program:
    """A sub-command under its full name, for reasons that people read."""
    name = f"{parent.name} {sub.name}"
    return replace(
        sub,
        name=name,
        egress=sub.egress or parent.egress,
        unknown=max(sub.unknown, parent.unknown),
        configured=sub.configured or parent.configured,
    )


def _runs(program: Program, call: Call, scene: Scene, effect: Effect, rule: str) -> Effect:
    """A program that runs the words after its own: the higher of the two."""
    own, inner = call.operands[: program.runs_after], call.operands[program.runs_after or 0 :]
    if any(not word.operand_like for word in own):
        return worse(effect, opaque(rule, f"{program.name}: where its own words end cannot be told"))
    if inner:
        return around(effect, scene.run_words(inner))
    if program.bare is not None:
        return effect.at_least(program.bare, rule, f"{program.name} alone is {program.bare.phrase} command")
    return worse(effect, opaque(rule, f"{program.name} without a command starts a shell or reads one"))


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
