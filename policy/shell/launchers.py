"""Shells, launchers and shell builtins: programs whose words run other programs or change the shell itself.

Each reader returns the effect of the call and hands what the call runs back to the scene. What it cannot follow is
opaque.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from policy.catalog.model import Program, Takes
from policy.classes import CommandClass
from policy.shell.effect import Effect, opaque, plain
from policy.shell.names import PLAIN_NAME, passes, settable
from policy.shell.readers import Reader, joined, read_and_weigh, with_script
from policy.shell.rules import Scene, around, worse
from policy.shell.words import Word, unknown, with_placeholder

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=")
_EXEC = frozenset({"-exec", "-execdir", "-ok", "-okdir"})


def _shell(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    call, effect = read_and_weigh(program, words, until_operand=True)
    if call.doubt:
        return effect
    if not call.has("-c"):
        if call.has("--version", "--help") and not call.operands:
            return effect
        return worse(
            effect, opaque(f"{program.name}.file", f"{program.name} runs a script that the command does not show")
        )
    if not call.operands:
        return worse(effect, opaque(f"{program.name}.script", f"{program.name} -c without a script"))
    return with_script(scene, effect, call.operands[0], dialect=program.name)


def _su(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    call, effect = read_and_weigh(program, words, until_operand=False)
    scripts = [given.value for given in call.given if given.name in ("-c", "--command") and given.value]
    if call.doubt:
        return effect
    if len(scripts) != 1:
        return worse(effect, opaque("su.shell", "su without one command starts a shell"))
    return with_script(scene, effect, scripts[0], dialect="bash")


def _launcher(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """sudo and env: options, assignments, then a command."""
    call, effect = read_and_weigh(program, words, until_operand=True)
    if call.doubt:
        return effect
    if program.name == "sudo" and call.has("-b", "--background"):
        effect = replace(effect, outlives=True)
    rest = list(call.operands)
    while rest and (match := _ASSIGNMENT.match(rest[0].head)):
        value = rest[0].text[match.end() :] if rest[0].fixed else None
        if not passes(match[1], value) or not (rest[0].fixed or rest[0].single):
            effect = worse(effect, opaque(f"{program.name}.variable", f"{match[1]} can change what programs do"))
        del rest[0]
    if rest:
        return around(effect, scene.run_words(rest))
    if program.name == "env" or call.has("-l", "--list", "-v", "--validate", "-V", "--version", "-k", "-K", "--help"):
        return effect
    return worse(effect, opaque(f"{program.name}.shell", f"{program.name} without a command starts a shell"))


def _find(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """find: each -exec is a command of its own; the rest is tests and actions by the list."""
    kept: list[Word] = [words[0]]
    inner = plain(CommandClass.READ, program.name, "")
    index = 1
    while index < len(words):
        text = words[index].text if words[index].fixed else ""
        option = program.options.get(text)
        if text in _EXEC:
            end = _exec_end(words, index + 1, plus=text in ("-exec", "-execdir"))
            if end is None or end == index + 1:
                return opaque(f"{program.name} {text}", f"where {text} ends cannot be told")
            inner = worse(inner, scene.run_words([with_placeholder(word, "{}") for word in words[index + 1 : end]]))
            index = end + 1
            continue
        step = 2 if option is not None and option.takes is Takes.VALUE else 1
        kept.append(words[index])
        kept += [_file_names(program, words, at) for at in range(index + 1, min(index + step, len(words)))]
        index += step
    _, effect = read_and_weigh(program, kept, until_operand=False)
    return around(effect, inner)


# A character that no test, action or operator of find has in it.
_NO_ACTION = re.compile(r"[._~:@%]")


def _file_names(program: Program, words: Sequence[Word], at: int) -> Word:
    """The value of a test; an unquoted pattern as one word, if no word it becomes can be an action.

    Of several file names the first is the value, and the others make find refuse the whole. Without any (nullglob) the
    word behind is the value instead; if that takes none itself, what follows is read as before.
    """
    word = words[at]
    behind = words[at + 1] if at + 1 < len(words) else None
    plain_name = _NO_ACTION.search(word.tail) or word.operand_like
    if word.fixed or word.single or word.splits or not plain_name:
        return word
    if behind is not None:
        option = program.options.get(behind.text)
        if not behind.fixed or behind.text in _EXEC or (option is not None and option.takes is not Takes.NOTHING):
            return word
    return unknown(word.text, word.span, head=word.head, single=True)


def _exec_end(words: Sequence[Word], start: int, *, plus: bool) -> int | None:
    """The word that ends an -exec; None if there is none, or a word before it might be one."""
    for index in range(start, len(words)):
        word = words[index]
        if not word.fixed and (not word.single or word.head in ("", ";", "+")):
            return None
        if word.text == ";" or (plus and word.text == "+" and words[index - 1].text == "{}"):
            return index
    return None


def _xargs(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """xargs: the command it is given, with words appended (or filled in) that only its input knows."""
    call, effect = read_and_weigh(program, words, until_operand=True)
    if call.doubt:
        return effect
    if not call.operands:
        return replace(effect, reason="xargs alone prints its input")
    marks = [given.value for given in call.given if given.name in ("-I", "--replace", "-i")]
    if not marks:
        more = unknown("...", words[-1].span, head="", single=False)
        return around(effect, scene.run_words([*call.operands, more]))
    mark = marks[-1]
    if mark is not None and (not mark.fixed or not mark.text):
        return worse(effect, opaque("xargs.replace", "what xargs replaces is only known on the target"))
    if len(marks) > 1 or call.has("-n", "--max-args", "-L", "--max-lines", "-l"):
        return worse(effect, opaque("xargs.replace", "of -I and -n or -L the later one holds, and the other is undone"))
    text = mark.text if mark is not None else "{}"
    return around(effect, scene.run_words([with_placeholder(word, text) for word in call.operands]))


def _dashed(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """kubectl exec: its own words, `--`, and the command."""
    dashes = next((i for i, word in enumerate(words) if word.fixed and word.text == "--"), None)
    own = words if dashes is None else words[:dashes]
    call, effect = read_and_weigh(program, own, until_operand=False)
    if call.doubt:
        return effect
    if dashes is None or dashes + 1 == len(words):
        return worse(effect, opaque(program.name, f"{program.name} without '--' and a command"))
    return around(effect, scene.run_words(words[dashes + 1 :]))


def _remote(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """ssh: leaves the target that the grant is for; what it runs there can only raise the class."""
    call, effect = read_and_weigh(program, words, until_operand=True)
    if call.doubt or (call.has("-V") and not call.operands):
        return effect
    effect = effect.at_least(CommandClass.EXECUTE, program.name, "leaves the target that the grant is for")
    if not call.operands or not (call.operands[0].operand_like or call.operands[0].single):
        return worse(effect, opaque(program.name, "which host is only known on the target"))
    script = call.operands[1:]
    return with_script(scene, effect, joined(script), dialect="sh") if script else effect


def _joins(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """watch and eval: their operands, joined, are a script."""
    call, effect = read_and_weigh(program, words, until_operand=True)
    if call.doubt or (not call.operands and call.has("--version", "--help")):
        return effect
    if not call.operands:
        return (
            worse(effect, opaque(program.name, f"{program.name} without a command")) if program.bare is None else effect
        )
    return with_script(scene, effect, joined(call.operands), dialect="bash" if program.name == "eval" else "sh")


def _command(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    call, effect = read_and_weigh(program, words, until_operand=True)
    if call.doubt or not call.operands or call.has("-v", "-V"):
        return effect
    return around(effect, scene.run_words(call.operands))


_CONVERSION = re.compile(r"%(?:%|[-+ #0'*.\d]*(?:[hjlLtz]*[diouxXeEfFgGaAcsbqQ]|\([^()]*\)T))")
# Where a builtin that sets variables names them: in the value of this option, and in its operands from this one on.
_TARGETS: Mapping[str, tuple[str, int | None]] = {
    "printf": ("-v", None),
    "read": ("-a", 0),
    "mapfile": ("", 0),
    "getopts": ("", 1),
    "wait": ("-p", None),
}


def _sets(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """read, mapfile, printf -v, getopts, wait -p: set shell variables from data."""
    call, effect = read_and_weigh(program, words, until_operand=program.stops)
    if call.doubt:
        return effect
    option, first = _TARGETS[program.name]
    names = [given.value for given in call.given if given.name == option and given.value]
    if first is not None:
        names += call.operands[first : 2 if program.name == "getopts" else None]
    names = [name for name in names if not (name.fixed and name.text == "_")]  # bash sets it at every command itself
    if not scene.assigned(names):
        return worse(
            effect, opaque(f"{program.name}.name", f"{program.name} sets a variable that can change what programs do")
        )
    if program.name == "printf" and not _only_prints(call.operands):
        return worse(effect, opaque("printf.format", "a format that is not understood could set a variable (%n)"))
    return effect


def _only_prints(operands: Sequence[Word]) -> bool:
    """Whether no conversion of the format sets a variable; `%n` takes its name from the words behind the format."""
    if len(operands) < len(("FORMAT", "NAME")):
        return True
    return operands[0].fixed and "%" not in _CONVERSION.sub("", operands[0].text)


def _unset(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """unset: without -v it takes a function where there is no variable of that name."""
    call, effect = read_and_weigh(program, words, until_operand=True)
    if call.doubt:
        return effect
    scene.taken_back(call.operands, functions=not call.has("-v"))
    if all(word.fixed and PLAIN_NAME.fullmatch(word.text) and settable(word.text) for word in call.operands):
        return effect
    return worse(effect, opaque("unset.name", "unset of a variable that can change what programs do"))


def _set(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """set: a few switches; `+x` turns one off. Everything after `--` are words of the script."""
    del scene
    known = re.compile(r"--|[-+][euxfCnvhb]*o?|pipefail|errexit|nounset|xtrace|noglob|noclobber")
    for word in words[1:]:
        if not word.fixed or not known.fullmatch(word.text):
            return opaque("set.option", f"set {word.text!r} changes how the shell reads what follows")
        if word.text == "--":
            break
    return plain(program.base, "set", "sets a switch of this shell")


def _trap(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    effect = plain(program.base, "trap", "sets what this shell does on a signal")
    if not words[1:] or (words[1].fixed and words[1].text in ("-l", "-p", "-", "")):
        return effect
    return with_script(scene, effect, words[2] if words[1].text == "--" and words[2:] else words[1], dialect="bash")


def _test(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """test: `-v NAME` evaluates an array subscript, and words that split could be one."""
    del scene
    effect = plain(program.base, "test", "only tests")
    operands = words[1:]
    if any(word.splits for word in operands) or (len(operands) == len(("OP", "NAME")) and not operands[0].fixed):
        return opaque("test.split", "an unquoted value can become other tests; quote it")
    for word, after in itertools.pairwise(operands):
        if word.text in ("-v", "-R") and not (after.fixed and PLAIN_NAME.fullmatch(after.text)):
            return opaque("test.name", f"{word.text} evaluates what is in its operand")
    return effect


def _echo(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """echo, true, `:`: every word is text, options it does not know included."""
    del words, scene
    return plain(program.base, program.name, "only takes its words as text")


LAUNCHERS: Mapping[str, Reader] = {
    "shell": _shell,
    "su": _su,
    "launcher": _launcher,
    "find": _find,
    "xargs": _xargs,
    "dashed": _dashed,
    "remote": _remote,
    "joins": _joins,
    "command": _command,
    "sets": _sets,
    "unset": _unset,
    "set": _set,
    "trap": _trap,
    "test": _test,
    "echo": _echo,
}
