"""Programs whose words need more than a list of options: shells, launchers, find, xargs, sed, awk and shell builtins.

Each reader returns the effect of the call and hands what the call runs back to the scene. What it cannot follow is opaque.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from policy.catalog.model import Program, Takes
from policy.classes import CommandClass
from policy.shell.awk import awk_class
from policy.shell.effect import Effect, opaque, plain
from policy.shell.names import PASSED_TO_PROGRAMS, PLAIN_NAME, settable
from policy.shell.options import Call, read_call
from policy.shell.rules import Scene, around, by_operands, by_options, hinted, not_read, worse
from policy.shell.sed import sed_class
from policy.shell.words import Word, fixed, unknown, with_placeholder

Reader = Callable[[Program, Sequence[Word], Scene], Effect]

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=")
_EXEC = frozenset({"-exec", "-execdir", "-ok", "-okdir"})


def _call(program: Program, words: Sequence[Word], *, until_operand: bool) -> tuple[Call, Effect]:
    call = read_call(program, words[1:], until_operand=until_operand)
    if call.doubt:
        return call, not_read(program, call, words, program.name)
    return call, by_options(program, call, program.name)


def _script(scene: Scene, effect: Effect, script: Word, *, dialect: str) -> Effect:
    """An effect joined with what a literal script does; an open one is opaque."""
    if not script.fixed:
        return worse(effect, opaque(f"{effect.rule}.script", "the script is only known on the target"))
    return around(effect, scene.run_text(script, dialect=dialect))


def _joined(words: Sequence[Word]) -> Word:
    """Words as programs that hand them to a shell join them."""
    span = (words[0].span[0], words[-1].span[1])
    text = " ".join(word.text for word in words)
    return fixed(text, span) if all(word.fixed for word in words) else unknown(text, span, head="", single=True)


def _shell(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    call, effect = _call(program, words, until_operand=True)
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
    return _script(scene, effect, call.operands[0], dialect=program.name)


def _su(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    call, effect = _call(program, words, until_operand=False)
    scripts = [given.value for given in call.given if given.name in ("-c", "--command") and given.value]
    if call.doubt:
        return effect
    if len(scripts) != 1:
        return worse(effect, opaque("su.shell", "su without one command starts a shell"))
    return _script(scene, effect, scripts[0], dialect="bash")


def _launcher(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """sudo and env: options, assignments, then a command."""
    call, effect = _call(program, words, until_operand=True)
    if call.doubt:
        return effect
    rest = list(call.operands)
    while rest and (match := _ASSIGNMENT.match(rest[0].head)):
        if not PASSED_TO_PROGRAMS.fullmatch(match[1]) or not (rest[0].fixed or rest[0].single):
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
            end = _exec_end(words, index + 1)
            if end is None or end == index + 1:
                return opaque(f"{program.name} {text}", f"{text} without its end")
            inner = worse(inner, scene.run_words([with_placeholder(word, "{}") for word in words[index + 1 : end]]))
            index = end + 1
            continue
        step = 2 if option is not None and option.takes is Takes.VALUE else 1
        kept += words[index : index + step]
        index += step
    _, effect = _call(program, kept, until_operand=False)
    return around(effect, inner)


def _exec_end(words: Sequence[Word], start: int) -> int | None:
    for index in range(start, len(words)):
        text = words[index].text if words[index].fixed else ""
        if text == ";" or (text == "+" and words[index - 1].text == "{}"):
            return index
    return None


def _xargs(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """xargs: the command it is given, with words appended (or filled in) that only its input knows."""
    call, effect = _call(program, words, until_operand=True)
    if call.doubt:
        return effect
    if not call.operands:
        return replace(effect, reason="xargs alone prints its input")
    marks = [given.value for given in call.given if given.name in ("-I", "--replace", "-i")]
    if not marks:
        more = unknown("...", words[-1].span, head="", single=False)
        return around(effect, scene.run_words([*call.operands, more]))
    mark = marks[-1]
    if mark is not None and not mark.fixed:
        return worse(effect, opaque("xargs.replace", "what xargs replaces is only known on the target"))
    text = mark.text if mark is not None and mark.text else "{}"
    return around(effect, scene.run_words([with_placeholder(word, text) for word in call.operands]))


def _sed(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    del scene
    call, effect = _call(program, words, until_operand=False)
    if call.doubt or effect.opaque or call.has("--version", "--help"):
        return effect
    scripts = [given.value for given in call.given if given.name in ("-e", "--expression") and given.value]
    scripts = scripts or call.operands[:1]
    if not scripts or not all(script.fixed for script in scripts):
        return worse(effect, opaque("sed.script", "the sed script is only known on the target"))
    found = sed_class("\n".join(script.text for script in scripts))
    if found is None:
        return worse(effect, opaque("sed.script", "the sed script runs a command, or is not read"))
    return effect.at_least(found, "sed.script", "the sed script writes a file")


def _awk(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    del scene
    call, effect = _call(program, words, until_operand=True)
    if call.doubt or effect.opaque or (call.has("--version", "-V") and not call.operands):
        return effect
    script = call.operands[0] if call.operands else None
    if script is None or not script.fixed:
        return worse(effect, opaque("awk.program", "the awk program is only known on the target"))
    found = awk_class(script.text)
    if found is None:
        return worse(effect, opaque("awk.program", "the awk program runs a command, or is not read"))
    return effect.at_least(found, "awk.program", "the awk program writes a file")


def _dashed(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """kubectl exec: its own words, `--`, and the command."""
    dashes = next((i for i, word in enumerate(words) if word.fixed and word.text == "--"), None)
    own = words if dashes is None else words[:dashes]
    call, effect = _call(program, own, until_operand=False)
    if call.doubt:
        return effect
    if dashes is None or dashes + 1 == len(words):
        return worse(effect, opaque(program.name, f"{program.name} without '--' and a command"))
    return around(effect, scene.run_words(words[dashes + 1 :]))


def _remote(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """ssh: leaves the target that the grant is for; what it runs there can only raise the class."""
    call, effect = _call(program, words, until_operand=True)
    if call.doubt or (call.has("-V") and not call.operands):
        return effect
    effect = effect.at_least(CommandClass.EXECUTE, program.name, "leaves the target that the grant is for")
    if not call.operands or not (call.operands[0].operand_like or call.operands[0].single):
        return worse(effect, opaque(program.name, "which host is only known on the target"))
    script = call.operands[1:]
    return _script(scene, effect, _joined(script), dialect="sh") if script else effect


def _joins(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """watch and eval: their operands, joined, are a script."""
    call, effect = _call(program, words, until_operand=True)
    if call.doubt or (not call.operands and call.has("--version", "--help")):
        return effect
    if not call.operands:
        return (
            worse(effect, opaque(program.name, f"{program.name} without a command")) if program.bare is None else effect
        )
    return _script(scene, effect, _joined(call.operands), dialect="bash" if program.name == "eval" else "sh")


def _command(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    call, effect = _call(program, words, until_operand=True)
    if call.doubt or not call.operands or call.has("-v", "-V"):
        return effect
    return around(effect, scene.run_words(call.operands))


def _tar(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """tar also takes its first cluster without a dash."""
    first = words[1] if len(words) > 1 else None
    if first is not None and first.fixed and re.fullmatch(r"[A-Za-z]+", first.text):
        words = [words[0], fixed(f"-{first.text}", first.span), *words[2:]]
    del scene
    call, effect = _call(program, words, until_operand=False)
    return effect if call.doubt else by_operands(program, call, effect, program.name)


def _sets(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """read, mapfile, printf -v, getopts: set shell variables from data."""
    call, effect = _call(program, words, until_operand=program.name == "printf")
    if call.doubt:
        return effect
    names = [given.value for given in call.given if given.name in ("-v", "-a") and given.value]
    if program.name == "getopts":
        names += call.operands[1:2]
    elif program.name != "printf":
        names += call.operands
    if not scene.assigned(names):
        return worse(
            effect, opaque(f"{program.name}.name", f"{program.name} sets a variable that can change what programs do")
        )
    return effect


def _unset(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    del scene
    call, effect = _call(program, words, until_operand=False)
    if call.doubt or all(
        word.fixed and PLAIN_NAME.fullmatch(word.text) and settable(word.text) for word in call.operands
    ):
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
    if len(words) < 2 or (words[1].fixed and words[1].text in ("-l", "-p", "-", "")):
        return effect
    return _script(scene, effect, words[2] if words[1].text == "--" and len(words) > 2 else words[1], dialect="bash")


def _test(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """test: `-v NAME` evaluates an array subscript, and words that split could be one."""
    del scene
    effect = plain(program.base, "test", "only tests")
    operands = words[1:]
    if any(word.splits for word in operands) or (len(operands) == 2 and not operands[0].fixed):  # noqa: PLR2004 - `test OP NAME`
        return opaque("test.split", "an unquoted value can become other tests; quote it")
    for word, after in zip(operands, operands[1:], strict=False):
        if word.text in ("-v", "-R") and not (after.fixed and PLAIN_NAME.fullmatch(after.text)):
            return opaque("test.name", f"{word.text} evaluates what is in its operand")
    return effect


def _echo(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """echo: every word is text, options it does not know included."""
    del words, scene
    return plain(program.base, "echo", "prints its words")


def _service(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """service NAME status."""
    del scene
    call, effect = _call(program, words, until_operand=False)
    action = call.operands[1] if len(call.operands) > 1 else None
    if call.doubt or (action is not None and not action.fixed):
        return effect
    if (action is not None and action.text == "status") or call.has("--status-all"):
        return plain(CommandClass.READ, "service.status", "shows the state of a service")
    return effect


_IP_SHOWS = frozenset("show sho sh list lis li l ls lst get help".split())


def _ip(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """ip: an object and a verb, both of which may be cut short; only spellings of show, list and get are reads."""
    call, effect = _call(program, words, until_operand=True)
    if call.doubt or effect.opaque or not call.operands:
        return effect
    thing, *rest = call.operands
    if not thing.fixed or (rest and not rest[0].fixed):
        return worse(effect, opaque("ip.open", "what ip does is only known on the target"))
    if rest and rest[0].text in ("exec", "exe", "ex"):
        inner = rest[2:] if thing.text.startswith(("n", "v")) else []
        return (
            around(effect, scene.run_words(inner))
            if inner
            else worse(effect, opaque("ip.exec", "ip exec without a command"))
        )
    if not rest or rest[0].text in _IP_SHOWS or thing.text in ("monitor", "mon", "m", "help"):
        return effect
    return effect.at_least(
        CommandClass.WRITE, f"ip {thing.text}", f"ip {thing.text} {rest[0].text} changes the network"
    )


_DATA = ("-d", "--data", "--data-raw", "--data-binary", "--data-ascii", "--data-urlencode")


def _curl(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """curl: with -G its data is part of the address it reads."""
    del scene
    call = read_call(program, words[1:], until_operand=False)
    if call.doubt:
        return not_read(program, call, words, "curl")
    sent = any(given.option.egress for given in call.given)
    if call.has("-G", "--get"):
        call.given = [given for given in call.given if given.name not in _DATA]
    return replace(by_operands(program, call, by_options(program, call, "curl"), "curl"), egress=sent)


def _wget(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """wget: a read if the page goes to standard output, or nowhere."""
    del scene
    call, effect = _call(program, words, until_operand=False)
    outputs = [given.value.text for given in call.given if given.name in ("-O", "--output-document") and given.value]
    kept = call.has("-o", "-a", "--method", "--body-data", "--post-data", "--post-file", "-r", "-m", "-p")
    shown = call.has("--spider", "--version", "--help") or (
        outputs and set(outputs) <= {"-", "/dev/null", "/dev/stdout"}
    )
    if not call.doubt and shown and not kept:
        return plain(CommandClass.READ, "wget.shown", "wget writes no file here")
    return effect


def _copies(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """scp and rsync: to or from another host they leave the target that the grant is for."""
    del scene
    call, effect = _call(program, words, until_operand=False)
    if call.doubt or call.has("-n", "--dry-run") and not _elsewhere(call.operands):
        return effect
    if not _elsewhere(call.operands):
        return replace(effect, egress=False)
    effect = effect.at_least(CommandClass.EXECUTE, f"{program.name}.host", "leaves the target that the grant is for")
    return replace(effect, egress=True)


def _elsewhere(operands: Sequence[Word]) -> bool:
    return any(":" in word.text.partition("/")[0] or not word.operand_like for word in operands)


_MANAGER_READS = frozenset("list ls info search show status view outdated leaves version help query why tree".split())
_MANAGER_WORD = re.compile(r"[A-Za-z0-9@][A-Za-z0-9@._/+:*-]*|-v|-a|--all|--json|--installed|--long|--verbose")


def _manager(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """Package managers that are known by their verbs alone."""
    del scene
    shows = len(words) > 1 and words[1].fixed and words[1].text in (*_MANAGER_READS, "--version")
    if shows and all(word.fixed and _MANAGER_WORD.fullmatch(word.text) for word in words[2:]):
        return plain(CommandClass.READ, f"{program.name} {words[1].text}", "lists packages")
    return plain(program.base, program.name, f"{words[0].text} changes what is installed")


_VERBS: Mapping[CommandClass, frozenset[str]] = {
    CommandClass.READ: frozenset(
        "list ls describe show get view status wait lookup search filter query head tail logs log history version help info read print whoami".split()
    ),
    CommandClass.WRITE: frozenset(
        """create delete update put add remove rm set unset attach detach modify authorize revoke register deregister enable disable tag
        untag associate disassociate copy cp mv sync mb rb publish import export restore rotate cancel release allocate apply change
        configure login logout upload download edit close merge reopen comment destroy resize patch move clone init auth new build lock
        unlock pin archive rename transfer grant terminate""".split()
    ),
    CommandClass.EXECUTE: frozenset(
        "start stop run invoke execute restart send deploy rerun redeploy start-session".split()
    ),
    CommandClass.REBOOT: frozenset("reboot reset deallocate power-off shutdown suspend poweroff power-cycle".split()),
}
_NOT_A_READ = frozenset({"get-object", "get-login", "get-credentials", "get-secret-value"})


def _verbs(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """Cloud command lines: the first word with a verb that is known decides, options do not change it."""
    del scene
    name = words[0].text
    leading: list[str] = []
    index = 1
    while index < len(words) and words[index].fixed and not (leading and words[index].text.startswith("-")):
        if words[index].text in ("--profile", "--region", "--output", "--project", "-R", "--repo"):
            index += 1
        elif not words[index].text.startswith("-"):
            leading.append(words[index].text)
        index += 1
    for word in leading:
        verb = word if word in _NOT_A_READ else word.partition("-")[0]
        for command_class, verbs in _VERBS.items():
            if word in verbs or verb in verbs:
                effect = plain(command_class, f"{name} {word}", f"{name} {word} is a {command_class.word} command")
                return effect.at_least(hinted(words[1:]), f"{name} {word}", "installs or restarts something")
    return opaque(f"{name}.unknown", f"no verb of {name} that is known", floor=hinted(words[1:]))


SPECIALS: Mapping[str, Reader] = {
    "echo": _echo,
    "service": _service,
    "ip": _ip,
    "curl": _curl,
    "wget": _wget,
    "copies": _copies,
    "manager": _manager,
    "verbs": _verbs,
    "shell": _shell,
    "su": _su,
    "launcher": _launcher,
    "find": _find,
    "xargs": _xargs,
    "sed": _sed,
    "awk": _awk,
    "dashed": _dashed,
    "remote": _remote,
    "joins": _joins,
    "command": _command,
    "tar": _tar,
    "sets": _sets,
    "unset": _unset,
    "set": _set,
    "trap": _trap,
    "test": _test,
}
