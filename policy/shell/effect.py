"""What one program call comes to, before it is placed in a command line. Values only."""

from __future__ import annotations

from dataclasses import dataclass, replace

from policy.classes import CommandClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The class of one call, what made it so, and whether all of it was understood."""

    command_class: CommandClass
    opaque: bool
    egress: bool
    outlives: bool
    rule: str
    reason: str
    keyboard: bool = False
    """It may be given a keyboard, which nobody reads beforehand, and stays a read."""
    transfer: bool = False
    """The far end of a copy: its stdin is the protocol, and names the files."""

    def at_least(self, command_class: CommandClass, rule: str, reason: str) -> Effect:
        """This effect, raised to a class if it is below it; the higher one's rule and reason are kept."""
        if command_class <= self.command_class:
            return self
        return replace(self, command_class=command_class, rule=rule, reason=reason)


def plain(command_class: CommandClass, rule: str, reason: str) -> Effect:
    """An effect that was understood in full."""
    return Effect(command_class=command_class, opaque=False, egress=False, outlives=False, rule=rule, reason=reason)


def opaque(rule: str, reason: str, *, floor: CommandClass = CommandClass.EXECUTE) -> Effect:
    """What was parsed but not understood: `execute` or `floor`, whichever is higher, and always for a person."""
    return Effect(
        command_class=max(floor, CommandClass.EXECUTE),
        opaque=True,
        egress=False,
        outlives=False,
        rule=rule,
        reason=reason,
    )
