"""Split the words of a call into options and operands, by a program's own list. Knows no program and gives no class.

An option that is not on the list is not skipped over: the rest of the call cannot be read then, and the result says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from policy.catalog.model import Option, Program, Style, Takes
from policy.shell.words import Word, fixed


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An option that was given, with its value (None for a flag, or an optional value left out)."""

    name: str
    option: Option
    value: Word | None


@dataclass(slots=True, kw_only=True)
class Call:
    """A call as its program reads it.

    `doubt`: why it could not be read, "" if it could; `open` if a word could be anything.
    """

    given: list[Given] = field(default_factory=list)
    operands: list[Word] = field(default_factory=list)
    doubt: str = ""
    open: bool = False

    def has(self, *names: str) -> bool:
        """Whether one of these options was given."""
        return any(given.name in names for given in self.given)


def read_call(program: Program, words: Sequence[Word], *, until_operand: bool) -> Call:
    """Read the words after a program's name.

    Args:
        program: its options and its way of writing them.
        words: everything after the name.
        until_operand: stop at the first operand, for programs whose operand is a sub-command or another program.
    """
    reader = _Reader(program=program, words=list(words), stop=until_operand)
    reader.read()
    return reader.call


@dataclass(slots=True, kw_only=True)
class _Reader:
    program: Program
    words: list[Word]
    stop: bool
    call: Call = field(default_factory=Call)
    index: int = 0

    def read(self) -> None:
        while self.index < len(self.words) and not self.call.doubt:
            word = self.words[self.index]
            self.index += 1
            if word.fixed and word.text == "--" and self.program.style is Style.GNU:
                self._rest()
            elif self._is_operand(word):
                self.call.operands.append(word)
                if self.stop:
                    self._rest()
            elif word.fixed or (word.single and word.head.startswith("-")):
                self._option(word)
            else:
                self.call.open = True
                self.call.doubt = f"{word.text!r} can become any word, options included"

    def _rest(self) -> None:
        self.call.operands += self.words[self.index :]
        self.index = len(self.words)

    def _is_operand(self, word: Word) -> bool:
        if word.fixed and word.text in self.program.options:
            return False
        return word.operand_like or self._is_tame(word) or (word.fixed and word.text == "-")

    def _is_tame(self, word: Word) -> bool:
        """A number may also be no word at all: so only where it does not matter which operand is the first."""
        return word.tame and not self.stop and not self.program.special

    def _option(self, word: Word) -> None:
        head = word.text if word.fixed else word.head
        if self.program.digits and word.fixed and head[1:].isdigit():
            return
        if head.startswith("--") or self.program.style is Style.LONG:
            self._long(word, head)
        else:
            self._cluster(word, head)

    def _long(self, word: Word, head: str) -> None:
        name, equals, value = head.partition("=")
        option = self.program.options.get(name)
        if option is None or (not word.fixed and not equals) or (equals and option.takes is Takes.NOTHING):
            self._unknown(word)
        elif equals:
            self._give(name, option, self._tail(word, value))
        elif option.takes is Takes.VALUE:
            self._give(name, option, self._next(word))
        else:
            self._give(name, option, None)

    def _cluster(self, word: Word, head: str) -> None:
        for place in range(1, len(head)):
            name = head[0] + head[place]
            option = self.program.options.get(name)
            if option is None:
                self._unknown(word)
                return
            rest = head[place + 1 :]
            if option.takes is Takes.NOTHING:
                self._give(name, option, None)
                continue
            glued = bool(rest) or not word.fixed
            if option.takes is Takes.OPTIONAL or glued:
                self._give(name, option, self._tail(word, rest) if glued else None)
            else:
                self._give(name, option, self._next(word))
            return
        if not word.fixed:
            self._unknown(word)

    def _tail(self, word: Word, text: str) -> Word:
        """The value glued to an option; as open as the word it stands in."""
        if word.fixed:
            return fixed(text, word.span)
        return Word(text=word.text, fixed=False, head=text, tail=word.tail, single=True, splits=False, span=word.span)

    def _next(self, word: Word) -> Word | None:
        if self.index == len(self.words):
            self.call.doubt = f"{word.text!r} lacks its value"
            return None
        value = self.words[self.index]
        self.index += 1
        if not (value.fixed or value.single):
            self.call.open = True
            self.call.doubt = f"{value.text!r} may become several words"
        return value

    def _give(self, name: str, option: Option, value: Word | None) -> None:
        self.call.given.append(Given(name=name, option=option, value=value))

    def _unknown(self, word: Word) -> None:
        self.call.open = not word.fixed
        self.call.doubt = f"the option {word.text!r} is not known"
