"""Programs whose words need more than lists of options: little languages, archives, transfers.

Each reader returns the effect of the call; what it cannot follow is opaque. Runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from policy.catalog.model import Program, Takes
from policy.classes import CommandClass
from policy.shell.awk import awk_class
from policy.shell.crypto import openssl
from policy.shell.databases import CLIENTS
from policy.shell.effect import Effect, opaque, plain
from policy.shell.history import git_history
from policy.shell.launchers import LAUNCHERS
from policy.shell.options import Given, read_call
from policy.shell.readers import Reader, in_language, read_and_weigh
from policy.shell.rules import Scene, around, by_operands, by_options, not_read, worse
from policy.shell.sed import sed_class
from policy.shell.transfers import far_rsync, far_scp, serves_rsync, serves_scp
from policy.shell.verbs import by_manager_verb, by_verbs
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
    script = fixed("\n".join(script.text for script in scripts), scripts[0].span)
    return in_language(effect, script, sed_class, rule="sed.script")


def _awk(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    del scene
    call, effect = read_and_weigh(program, words, until_operand=True)
    if call.doubt or effect.opaque or (call.has("--version", "-V") and not call.operands):
        return effect
    script = call.operands[0] if call.operands else None
    if script is None or not script.fixed:
        return worse(effect, opaque("awk.program", "the awk program is only known on the target"))
    if any("/inet" in operand.text for operand in call.operands[1:]):
        return replace(worse(effect, opaque("awk.network", "gawk opens this name over the network")), egress=True)
    return in_language(effect, script, awk_class, rule="awk.program")


def _tar(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """tar: its first cluster may lack the dash; an archive may lie on another host."""
    del scene
    call, effect = read_and_weigh(program, _undashed(program, words), until_operand=program.stops)
    if call.doubt:
        return effect
    effect = by_operands(program, call, effect, program.name)
    files = [given.value for given in call.given if given.name in ("-f", "--file") and given.value]
    if call.has("--force-local") or all(_local(file) for file in files):
        return effect
    return replace(worse(effect, opaque("tar.host", "reads the archive over rsh or ssh")), egress=True)


def _undashed(program: Program, words: Sequence[Word]) -> Sequence[Word]:
    """The old way to write options (`tar fc a.tar x`): letters first, then the values they take, in order."""
    first = words[1] if len(words) > 1 else None
    if first is None or not first.fixed or not re.fullmatch(r"[A-Za-z]+", first.text):
        return words
    rest = list(words[2:])
    spread = [words[0]]
    for letter in first.text:
        option = program.options.get(f"-{letter}")
        spread.append(fixed(f"-{letter}", first.span))
        if option is not None and option.takes is Takes.VALUE and rest:
            spread.append(rest.pop(0))
    return [*spread, *rest]


def _local(file: Word) -> bool:
    """Whether an archive's name is certain to be one of this machine: no colon before its first slash."""
    before, slash, _ = file.head.partition("/")
    return ":" not in before and (file.fixed or bool(slash))


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
# Objects, and the ways to cut them short, whose verbs of that list only show (`ip mptcp l` is `limits`).
_IP_OBJECTS = re.compile(
    r"a|ad|addr|addre?s*|l|li|lin|link|r|ro|rou|route|n|ne|nei|neigh|neighbou?r|ru|rul|rule|netns|m|maddr|maddress|mroute"
    r"|tunnel|tuntap|vrf|nexthop|token|netconf|ntable|tcp_metrics|addrlabel"
)
_IP_ALONE = frozenset({"monitor", "monito", "monit", "moni", "mon", "help"})


def _ip(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """ip: an object and a verb, both of which may be cut short; only spellings of show, list and get are reads."""
    call, effect = read_and_weigh(program, words, until_operand=True)
    if call.doubt or effect.opaque or not call.operands:
        return effect
    thing, *rest = call.operands
    if not thing.fixed or (rest and not rest[0].fixed):
        return worse(effect, opaque("ip.open", "what ip does is only known on the target"))
    if rest and "exec".startswith(rest[0].text):  # of netns or vrf, however short; no other object has it
        inner = rest[2:]
        if not inner:
            return worse(effect, opaque("ip.exec", "ip exec without a command"))
        return around(effect, scene.run_words(inner))
    shows = not rest or rest[0].text in _IP_SHOWS
    if thing.text in _IP_ALONE or (shows and _IP_OBJECTS.fullmatch(thing.text)):
        return effect
    verb = rest[0].text if rest else ""
    return effect.at_least(CommandClass.WRITE, f"ip {thing.text}", f"ip {thing.text} {verb} may change the network")


# Without a scheme curl guesses it from the name of the host; these carry commands of the agent's own to any port.
_GUESSED = re.compile(r"(?i)(?:dict|ldap|imap|smtp|pop3)\.")
_DATA = ("-d", "--data", "--data-raw", "--data-binary", "--data-ascii", "--data-urlencode")


def _curl(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """curl: with -G its data is part of the address it reads."""
    del scene
    call = read_call(program, words[1:], until_operand=False)
    if call.doubt:
        return not_read(program, call, words, "curl")
    sent = any(given.option.egress or _names_a_file(given) for given in call.given)
    call.operands += [given.value for given in call.given if given.name == "--url" and given.value]
    if call.has("-G", "--get"):
        call.given = [given for given in call.given if given.name not in _DATA]
    effect = replace(by_operands(program, call, by_options(program, call, "curl"), "curl"), egress=sent)
    if any(_GUESSED.match(word.head) for word in call.operands):
        effect = worse(
            effect, opaque("curl.guessed", "which protocol curl speaks is guessed from the name of the host")
        )
    if call.has("--unix-socket") and effect.command_class >= CommandClass.WRITE:
        # A service that listens on a file is one of this machine: a container engine starts programs when it is told.
        effect = effect.at_least(CommandClass.EXECUTE, "curl.socket", "orders a service of this machine to act")
    return effect


def _names_a_file(given: Given) -> bool:
    """Whether what curl sends is read from a file: `-H @FILE`, and a cookie without `=`."""
    if given.value is None:
        return False
    if given.name in ("-b", "--cookie"):
        return "=" not in given.value.head
    return given.name in ("-H", "--header") and given.value.head.startswith("@")


_WGET_KEEPS = (
    *("-o", "--output-file", "-a", "--append-output", "-r", "--recursive", "-m", "--mirror", "-p", "--page-requisites"),
    *("--method", "--body-data", "--body-file", "--post-data", "--post-file"),
)


def _wget(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """wget: a read if the page goes to standard output, or nowhere."""
    del scene
    call, effect = read_and_weigh(program, words, until_operand=False)
    outputs = [given.value.text for given in call.given if given.name in ("-O", "--output-document") and given.value]
    kept = call.has(*_WGET_KEEPS)
    shown = call.has("--spider", "--version", "--help") or (
        outputs and set(outputs) <= {"-", "/dev/null", "/dev/stdout"}
    )
    if not call.doubt and shown and not kept:
        return replace(effect, command_class=CommandClass.READ, rule="wget.shown", reason="wget writes no file here")
    return effect


def _copies(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """scp and rsync: to or from another host they leave the target that the grant is for; or the far end of either."""
    if program.name == "scp" and serves_scp(words):
        return far_scp(words) if scene.direct() else opaque("scp.served", "the far end of scp, but not by itself")
    if program.name == "rsync" and serves_rsync(words):
        return far_rsync(words) if scene.direct() else opaque("rsync.served", "the far end of rsync, but not by itself")
    call, effect = read_and_weigh(program, words, until_operand=False)
    if call.doubt:
        return effect
    lists = [given.value for given in call.given if given.name == "--files-from" and given.value]
    if _elsewhere([*call.operands, *lists]):
        effect = effect.at_least(
            CommandClass.EXECUTE, f"{program.name}.host", "leaves the target that the grant is for"
        )
        return replace(effect, egress=True)
    if call.has("-n", "--dry-run") and not call.has("--log-file") and effect.command_class is CommandClass.WRITE:
        effect = plain(CommandClass.READ, f"{program.name}.dry", "only tells what it would copy")
    return replace(effect, egress=False)


def _elsewhere(operands: Sequence[Word]) -> bool:
    return any(":" in word.text.partition("/")[0] or not word.operand_like for word in operands)


SPECIALS: Mapping[str, Reader] = {
    **LAUNCHERS,
    **CLIENTS,
    "sed": _sed,
    "awk": _awk,
    "tar": _tar,
    "service": _service,
    "ip": _ip,
    "openssl": openssl,
    "curl": _curl,
    "wget": _wget,
    "copies": _copies,
    "manager": by_manager_verb,
    "verbs": by_verbs,
    "history": git_history,
}
