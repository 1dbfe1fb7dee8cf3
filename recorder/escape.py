"""Text of agents and targets, made safe to print: every odd character becomes visible, none is dropped."""

from __future__ import annotations

import codecs

_BYTE_ESCAPES = range(0xDC80, 0xDD00)  # how surrogateescape carries a byte that is not UTF-8
_ASCII_END = 0x80
_BMP_END = 0x10000


def visible(text: str) -> str:
    r"""Printable characters and tabs as they are; the rest as \xNN (a byte), \uNNNN or \UNNNNNNNN. Injective."""
    return "".join(map(_visible, text))


def _visible(char: str) -> str:
    if char == "\\":
        return "\\\\"
    if char.isprintable() or char == "\t":
        return char
    code = ord(char)
    if code in _BYTE_ESCAPES:
        return f"\\x{code - 0xDC00:02x}"
    if code < _ASCII_END:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < _BMP_END else f"\\U{code:08x}"


class Decoder:
    """UTF-8 in pieces; a byte that is none survives to be shown. A character split between pieces comes out whole."""

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def feed(self, data: bytes) -> str:
        """The characters that are complete."""
        return self._decoder.decode(data)

    def end(self) -> str:
        """What was left incomplete."""
        return self._decoder.decode(b"", final=True)
