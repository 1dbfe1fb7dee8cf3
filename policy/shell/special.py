"""Programs whose words need more than lists of options: little languages, archives, transfers, verbs of clouds.

Each reader returns the effect of the call; what it cannot follow is opaque. Runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from policy.catalog.model import Program
from policy.classes import CommandClass
from policy.shell.awk import awk_class
from policy.shell.effect import Effect, opaque, plain
from policy.shell.launchers import LAUNCHERS
from policy.shell.options import read_call
from policy.shell.readers import Reader, read_and_weigh
from policy.shell.rules import Scene, around, by_operands, by_options, hinted, not_read, worse
from policy.shell.sed import sed_class
from policy.shell.words import Word, fixed


def _sed(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    del scene
    call, effect = read_and_weigh(program, words, until_operand=False)
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
    call, effect = read_and_weigh(program, words, until_operand=True)
    if call.doubt or effect.opaque or (call.has("--version", "-V") and not call.operands):
        return effect
    script = call.operands[0] if call.operands else None
    if script is None or not script.fixed:
        return worse(effect, opaque("awk.program", "the awk program is only known on the target"))
    found = awk_class(script.text)
    if found is None:
        return worse(effect, opaque("awk.program", "the awk program runs a command, or is not read"))
    return effect.at_least(found, "awk.program", "the awk program writes a file")


def _tar(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """tar also takes its first cluster without a dash."""
    first = words[1] if len(words) > 1 else None
    if first is not None and first.fixed and re.fullmatch(r"[A-Za-z]+", first.text):
        words = [words[0], fixed(f"-{first.text}", first.span), *words[2:]]
    del scene
    call, effect = read_and_weigh(program, words, until_operand=False)
    return effect if call.doubt else by_operands(program, call, effect, program.name)


def _service(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """service NAME status."""
    del scene
    call, effect = read_and_weigh(program, words, until_operand=False)
    action = call.operands[1] if len(call.operands) > 1 else None
    if call.doubt or (action is not None and not action.fixed):
        return effect
    if (action is not None and action.text == "status") or call.has("--status-all"):
        return plain(CommandClass.READ, "service.status", "shows the state of a service")
    return effect


_IP_SHOWS = frozenset(["show", "sho", "sh", "list", "lis", "li", "l", "ls", "lst", "get", "help"])


def _ip(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """ip: an object and a verb, both of which may be cut short; only spellings of show, list and get are reads."""
    call, effect = read_and_weigh(program, words, until_operand=True)
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
    call, effect = read_and_weigh(program, words, until_operand=False)
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
    call, effect = read_and_weigh(program, words, until_operand=False)
    if call.doubt or (call.has("-n", "--dry-run") and not _elsewhere(call.operands)):
        return effect
    if not _elsewhere(call.operands):
        return replace(effect, egress=False)
    effect = effect.at_least(CommandClass.EXECUTE, f"{program.name}.host", "leaves the target that the grant is for")
    return replace(effect, egress=True)


def _elsewhere(operands: Sequence[Word]) -> bool:
    return any(":" in word.text.partition("/")[0] or not word.operand_like for word in operands)


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
        "version",
        "help",
        "query",
        "why",
        "tree",
    ]
)
_MANAGER_RUNS = frozenset({"run", "exec", "shell", "develop", "build", "test"})
_MANAGER_WORD = re.compile(r"[A-Za-z0-9@][A-Za-z0-9@._/+:*-]*|-v|-a|--all|--json|--installed|--long|--verbose")


def _manager(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """Package managers that are known by their verbs alone."""
    del scene
    shows = len(words) > 1 and words[1].fixed and words[1].text in (*_MANAGER_READS, "--version")
    if shows and all(word.fixed and _MANAGER_WORD.fullmatch(word.text) for word in words[2:]):
        return plain(CommandClass.READ, f"{program.name} {words[1].text}", "lists packages")
    if any(word.text in _MANAGER_RUNS for word in words[1:3]):
        return opaque(f"{program.name} runs", f"{words[0].text} runs a program or a shell", floor=hinted(words[1:]))
    return plain(program.base, program.name, f"{words[0].text} changes what is installed")


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
            "print",
            "whoami",
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
_NOT_A_READ = frozenset({"get-object", "get-login", "get-credentials", "get-secret-value"})


def _verbs(_program: Program, words: Sequence[Word], scene: Scene) -> Effect:
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
                effect = effect.at_least(hinted(words[1:]), f"{name} {word}", "installs or restarts something")
                return replace(effect, egress=verb in _SENDS, opaque=verb in _OPENS)
    return opaque(f"{name}.unknown", f"no verb of {name} that is known", floor=hinted(words[1:]))


SPECIALS: Mapping[str, Reader] = {
    **LAUNCHERS,
    "sed": _sed,
    "awk": _awk,
    "tar": _tar,
    "service": _service,
    "ip": _ip,
    "curl": _curl,
    "wget": _wget,
    "copies": _copies,
    "manager": _manager,
    "verbs": _verbs,
}
