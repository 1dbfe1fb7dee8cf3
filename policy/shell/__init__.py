"""From the bytes of a command line to what it does. Total and bounded: any bytes get a verdict, no exception escapes.

Advises people and drives the tiers; it is not the security boundary (the certificate's force-command, the login's own
rights and the recorder are). Runs nothing and reads nothing but its argument and the shipped catalogue.
"""

from __future__ import annotations

import re

from policy.catalog import Catalogue, shipped_alone
from policy.classes import CommandClass
from policy.shell.gate import MAX_COMMAND_BYTES, GateError, admit
from policy.shell.parts import Parts
from policy.shell.tree import parse
from policy.shell.values import Values
from policy.shell.verdict import Classified, Part, Refused, Verdict
from policy.shell.walk import Walk

__all__ = ["MAX_COMMAND_BYTES", "Classified", "Part", "Refused", "Verdict", "classify", "classify_by"]

FAULT = "classifier.fault"  # no input is known that gets it; tests and fuzzers fail on it

# Where part of a line is not understood, the rest of its text may be what that part runs (`echo reboot | sh`).
_SAYS_REBOOT = re.compile(
    r"\b(?:reboot|poweroff|halt|shutdown|kexec|telinit|soft-reboot|hibernate)\b|\binit +[06]\b|sysrq-trigger"
)
_MANAGER = re.compile(
    r"\b(?:apt|apt-get|aptitude|dnf|yum|zypper|apk|pacman|rpm|dpkg|snap|flatpak|brew|pip3?|pipx|uv|npm|yarn|pnpm|gem|cargo|go|conda)\b"
)
_CHANGES = re.compile(
    r"\b(?:install|add|remove|purge|upgrade|dist-upgrade|full-upgrade|autoremove|uninstall)\b|\s-[iUe]\b"
)
_SEGMENT = re.compile(r"[^|;&\n]+")
_KERNEL = re.compile(r"\b(?:insmod|modprobe|rmmod)\b")


def classify(command: bytes) -> Verdict:
    """`classify_by` the shipped catalogue alone."""
    return classify_by(shipped_alone(), command)


def classify_by(catalogue: Catalogue, command: bytes) -> Verdict:
    """What a command line does, or why it is never run.

    Args:
        catalogue: which programs are known, and what they do.
        command: the exact bytes that would run under `bash -c`.

    Returns:
        Classified with the highest class of its parts, or Refused. Any input gets one of the two.
    """
    try:
        parts = _parts(catalogue, command)
    except GateError as error:
        return Refused(rule=error.rule, reason=str(error))
    except Exception as error:  # noqa: BLE001 - the one place: a fault of the classifier never lets a command through
        return Refused(rule=FAULT, reason=f"the classifier failed: {type(error).__name__}")
    if not parts:
        return Refused(rule="parse.nothing", reason="nothing in it does anything")
    return _verdict(parts)


def _parts(catalogue: Catalogue, command: bytes) -> tuple[Part, ...]:
    source = admit(command)
    parts = Parts(source=source, outer=None, kept=[])
    values = Values()
    Walk(tree=parse(source.data), parts=parts, values=values, catalogue=catalogue, depth=0).run()
    values.settle()
    said = _said(command) if any(part.opaque for part in parts.kept) else ()
    return (*parts.kept, *said)


def _verdict(parts: tuple[Part, ...]) -> Classified:
    return Classified(
        command_class=max(part.command_class for part in parts),
        opaque=any(part.opaque for part in parts),
        egress=any(part.egress for part in parts),
        outlives=any(part.outlives for part in parts),
        parts=parts,
        keyboard=all(part.keyboard for part in parts),
        transfer=all(part.transfer for part in parts),
    )


def _said(command: bytes) -> tuple[Part, ...]:
    """What the words of a line that is not understood speak of, as a part of its own."""
    text = command.decode()
    if _SAYS_REBOOT.search(text):
        return (_word_part(command, CommandClass.REBOOT, "speaks of restarting, in a line that is not all understood"),)
    if _KERNEL.search(text) or any(_installs(segment) for segment in _SEGMENT.findall(text)):
        return (
            _word_part(command, CommandClass.INSTALL, "speaks of installing, in a line that is not all understood"),
        )
    return ()


def _installs(segment: str) -> bool:
    manager = _MANAGER.search(segment)
    return manager is not None and _CHANGES.search(segment, manager.end()) is not None


def _word_part(command: bytes, command_class: CommandClass, reason: str) -> Part:
    return Part(
        span=(0, len(command)),
        argv=(),
        command_class=command_class,
        opaque=True,
        egress=False,
        outlives=False,
        rule="line.says",
        reason=reason,
    )
