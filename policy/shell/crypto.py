"""openssl: a sub-command with its own options, and names of files that can be more than names. Runs nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from policy.catalog.model import Program
from policy.shell.effect import Effect, opaque
from policy.shell.readers import read_and_weigh
from policy.shell.rules import Scene, by_operands, hinted, worse
from policy.shell.words import Word

# Where OpenSSL 3 wants a certificate or a key it takes a URI too, and the one of an engine loads a library.
_STORES = frozenset(
    {
        *("-in", "-key", "-inkey", "-signkey", "-CA", "-CAkey", "-cert", "-CAfile", "-CAstore"),
        *(
            "-untrusted",
            "-trusted",
            "-certfile",
            "-force_pubkey",
            "-sign",
            "-verify",
            "-prverify",
            "-CRLfile",
            "-issuer",
            "-VAfile",
        ),
    }
)
_PLAIN_NAME = re.compile(r"(?:file:)?[^:]*|[^A-Za-z].*", re.DOTALL)


def openssl(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """openssl SUB-COMMAND: read in full, and none of its files is a URI that loads code."""
    del scene
    name = words[1] if len(words) > 1 else None
    sub = program.subs.get(name.text) if name is not None and name.fixed else None
    if sub is None:
        return opaque("openssl.unknown", "which part of openssl runs is not known", floor=hinted(words[1:]))
    call, effect = read_and_weigh(replace(sub, name=f"openssl {sub.name}"), words[1:], until_operand=False)
    if not all(word.fixed for word in words):
        effect = replace(effect, egress=effect.egress or sub.talks)
    if call.doubt:
        return effect
    stores = [given.value for given in call.given if given.name in _STORES and given.value]
    if not all(_is_file(word) for word in [*stores, *call.operands]):
        return worse(effect, opaque("openssl.store", "a name that is not plainly a file may load a library"))
    return by_operands(sub, call, effect, effect.rule)


def _is_file(word: Word) -> bool:
    return _PLAIN_NAME.fullmatch(word.text) is not None if word.fixed else word.head[:1] in ("/", ".", "~")
