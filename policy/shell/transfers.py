"""The far ends of copying over SSH, as stock clients ask for them: `scp -t`, `scp -f`, `rsync --server`.

Each speaks a protocol on its standard streams: which files it reads or writes stands there, and not in its words. The
words are held against what clients are known to send; anything else makes the call opaque.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from policy.classes import CommandClass
from policy.shell.effect import Effect, opaque, plain
from policy.shell.words import Word

_SCP_OPTION: Final = re.compile(r"-[vrpdq]*[tf]?[vrpdq]*")
# One word of letters, and behind `e.` what the client can do. Not `s`: the rest of the words would come by stdin.
_RSYNC_LETTERS: Final = re.compile(r"-[vqbunlLkKWHOJogDtUpEAXrdRxSizcIyCmN]*(?:e\d*\.\d*[A-Za-z]*)?|-B\d+")
_RSYNC_EITHER: Final = re.compile(
    r"--(?:numeric-ids|(?:no-)?implied-dirs|ignore-errors|ignore-missing-args|size-only|append|append-verify|inplace"
    r"|partial|existing|ignore-existing|ignore-non-existing|from0|specials|devices|no-specials|no-devices|stats"
    r"|safe-links|copy-unsafe-links|munge-links|one-file-system|whole-file|no-whole-file|old-compress|new-compress"
    r"|prune-empty-dirs|fuzzy|open-noatime|fsync|msgs2stderr|no-msgs2stderr|list-only|dirs|recursive"
    r"|(?:bwlimit|timeout|contimeout|compress-level|checksum-seed|modify-window|max-size|min-size|block-size)=[\d.kKmMgGbB-]+"
    r"|(?:compress-choice|checksum-choice|skip-compress)=[\w,./-]*|(?:log-format|out-format)=[%\w ]*"
    r"|(?:info|debug)=[\w,]+|files-from=-)"
)
_RSYNC_RECEIVER: Final = re.compile(
    r"--(?:delete|del|delete-before|delete-during|delete-delay|delete-after|delete-excluded|delete-missing-args|force"
    r"|delay-updates|preallocate|mkpath|sparse|remove-source-files|keep-dirlinks|max-delete=\d+"
    r"|(?:partial-dir|backup-dir|temp-dir|suffix|compare-dest|copy-dest|link-dest|chmod|usermap|groupmap)=.*)",
    re.DOTALL,
)


_KERNEL: Final = frozenset({"proc", "sys", "dev"})


def serves_scp(words: Sequence[Word]) -> bool:
    """Whether a call of scp is the far end of one: `-t` or `-f` among its options."""
    return any(
        word.fixed and re.fullmatch(r"-[vrpdq]*[tf][vrpdq]*", word.text) is not None for word in words[1:]
    ) and all(word.text != "-S" for word in words)


def serves_rsync(words: Sequence[Word]) -> bool:
    """Whether a call of rsync is the far end of one: nothing but `--server` comes first."""
    return len(words) > 1 and words[1].fixed and words[1].text == "--server"


def far_scp(words: Sequence[Word]) -> Effect:
    """`scp -f FILES`: a read; `scp -t PLACE`: a write of whatever the stream names below it."""
    index = 1
    letters = ""
    while index < len(words) and words[index].fixed and _SCP_OPTION.fullmatch(words[index].text):
        letters += words[index].text[1:]
        index += 1
    operands = list(words[index:])
    dashes = bool(operands) and operands[0].fixed and operands[0].text == "--"
    operands = operands[1:] if dashes else operands
    plain_words = bool(operands) and (dashes or all(word.operand_like for word in operands))
    if letters.count("t") + letters.count("f") != 1 or not plain_words or (len(operands) > 1 and "t" in letters):
        return opaque("scp.served", "not how a client asks for the far end of scp")
    return _end("scp", reads="f" in letters, place=operands[-1], deep="r" in letters)


def far_rsync(words: Sequence[Word]) -> Effect:
    """`rsync --server --sender ...`: a read; without `--sender` a write of what the stream names below its place."""
    rest = list(words[2:])
    reads = bool(rest) and rest[0].fixed and rest[0].text == "--sender"
    rest = rest[1:] if reads else rest
    while rest and rest[0].fixed and rest[0].text != ".":
        if not _rsync_option(rest.pop(0).text, reads=reads):
            return opaque("rsync.served", "an option that no client is known to send to the far end of rsync")
    operands = rest[1:]
    if not rest or not operands or not all(word.operand_like for word in operands) or (len(operands) > 1 and not reads):
        return opaque("rsync.served", "not how a client asks for the far end of rsync")
    return _end("rsync", reads=reads, place=operands[-1], deep=True)


def _of_the_kernel(place: Word, *, deep: bool) -> bool:
    """Whether files that the stream names could be the kernel's: a write to one of them may stop the machine.

    The names of the files are not seen, so the place decides. `deep`: folders below it are written to as well.
    """
    if not place.fixed:
        return False  # an open word makes the call opaque, or is bounded, where words are read
    parts: list[str] = []
    for part in place.text.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in ("", ".", ".."):
            parts.append(part)
    absolute = place.text.startswith("/")
    rises = ".." in place.text.split("/")
    if not parts:
        return deep and (absolute or rises)
    return parts[0] in _KERNEL and (absolute or rises)


def _rsync_option(text: str, *, reads: bool) -> bool:
    either = _RSYNC_LETTERS.fullmatch(text) or _RSYNC_EITHER.fullmatch(text)
    return bool(either or (not reads and _RSYNC_RECEIVER.fullmatch(text)))


def _end(name: str, *, reads: bool, place: Word, deep: bool) -> Effect:
    if reads:
        effect = plain(CommandClass.READ, f"{name}.sends", f"sends files to a client's {name}")
    elif _of_the_kernel(place, deep=deep):
        effect = plain(CommandClass.REBOOT, f"{name}.kernel", f"a client's {name} may write to the kernel's own files")
        effect = replace(effect, outlives=True)
    else:
        # a start-up file can be among them
        effect = plain(CommandClass.WRITE, f"{name}.receives", f"writes the files that a client's {name} sends")
        effect = replace(effect, outlives=True)
    return replace(effect, transfer=True)
