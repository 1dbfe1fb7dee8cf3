"""What the readers of special programs share: a call read and weighed, and a script joined to it. Knows no program."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from policy.catalog.model import Program
from policy.classes import CommandClass
from policy.shell.effect import Effect, opaque
from policy.shell.options import Call, read_call
from policy.shell.rules import Scene, around, by_options, hinted, not_read, worse
from policy.shell.words import Word, fixed, unknown

Reader = Callable[[Program, Sequence[Word], Scene], Effect]
_SPOKEN = re.compile(r"[A-Za-z][A-Za-z-]*")


def read_and_weigh(program: Program, words: Sequence[Word], *, until_operand: bool) -> tuple[Call, Effect]:
    """Read a call by its program's list and weigh its options; the effect is opaque if it could not be read."""
    call = read_call(program, words[1:], until_operand=until_operand)
    if call.doubt:
        return call, not_read(program, call, words, program.name)
    return call, by_options(program, call, program.name)


def with_script(scene: Scene, effect: Effect, script: Word, *, dialect: str) -> Effect:
    """An effect joined with what a literal script does; an open one is opaque."""
    if not script.fixed:
        return worse(effect, opaque(f"{effect.rule}.script", "the script is only known on the target"))
    return around(effect, scene.run_text(script, dialect=dialect))


def joined(words: Sequence[Word]) -> Word:
    """Words as programs that hand them to a shell join them."""
    span = (words[0].span[0], words[-1].span[1])
    text = " ".join(word.text for word in words)
    return fixed(text, span) if all(word.fixed for word in words) else unknown(text, span, head="", single=True)


def in_language(effect: Effect, script: Word, judge: Callable[[str], CommandClass | None], *, rule: str) -> Effect:
    """An effect joined with that of a text in a little language; what its lexer does not read is opaque.

    Args:
        effect: what the call does besides.
        script: the text, as one word.
        judge: its lexer, which answers None for what it does not read.
        rule: the name of the rule, for people and for tests.
    """
    if not script.fixed:
        return worse(effect, opaque(rule, "the text it runs is only known on the target"))
    found = judge(script.text)
    if found is None:
        said = [fixed(word.lower(), script.span) for word in _SPOKEN.findall(script.text)]
        return worse(effect, opaque(rule, f"{script.text!r} runs code, or is not read", floor=hinted(said)))
    return effect.at_least(found, rule, f"{script.text!r} is a {found.word} text")
