"""What every grantctl command shares: the profile it acts as, how it answers (text or JSON), what it says on stderr.

Data goes to stdout, talk to stderr. Nothing of an agent, a target or the broker reaches the terminal unescaped.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from grantd.cli.visible import one_line
from grantd.client import Client
from grantd.errors import GrantdError
from grantd.profile import VARIABLE, Profile

CLASS_COLOURS: Final = {"read": "green", "write": "yellow", "execute": "red", "install": "magenta", "reboot": "magenta"}


@dataclass(slots=True, kw_only=True)
class Shell:
    """One invocation."""

    profile_name: str | None = None
    as_json: bool = False
    _client: Client | None = field(default=None, repr=False)

    @property
    def client(self) -> Client:
        """The client of the profile, opened at first use."""
        if self._client is None:
            self._client = Client(Profile.load(self.profile_name))
        return self._client

    def close(self) -> None:
        """End what was opened."""
        if self._client is not None:
            self._client.close()

    def show(self, message: Message, text: Callable[[], str]) -> None:
        """One answer: a JSON object, or its text."""
        click.echo(as_json(message) if self.as_json else text())

    def show_all(self, messages: Iterable[Message], head: Sequence[str], row: Callable[[Any], Sequence[str]]) -> None:
        """Many answers: JSON lines, or a table."""
        if self.as_json:
            for message in messages:
                click.echo(as_json(message))
            return
        click.echo(table(head, [row(message) for message in messages]))

    def say(self, text: str) -> None:
        """A line of talk, for people: stderr. The caller escapes what is not ours."""
        click.echo(text, err=True)

    def fail(self, error: GrantdError) -> None:
        """Say what went wrong and the way out."""
        self.say(failure_text(error, as_json=self.as_json))


def failure_text(error: GrantdError, *, as_json: bool) -> str:
    """What went wrong and the way out, for standard error."""
    if as_json:
        told = {"code": error.code, "message": error.message, "way_out": error.way_out}
        return json.dumps({"error": told})
    way_out = f"\n  {one_line(error.way_out)}" if error.way_out else ""
    return f"grantctl: {one_line(error.message)}{way_out}"


def as_json(message: Message) -> str:
    """One line; field names of the protos; bytes in base64."""
    return json.dumps(
        MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns; cells are escaped here."""
    cells = [tuple(head), *(tuple(one_line(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([click.style(lines[0], bold=True), *lines[1:]])


def facts(pairs: Mapping[str, str]) -> str:
    """Names and values, one a line; empty values are left out, values are escaped here."""
    width = max(map(len, pairs), default=0)
    return "\n".join(f"{name.ljust(width)}  {one_line(value)}" for name, value in pairs.items() if value)


def moment(stamp: Timestamp) -> str:
    """`2026-11-22 03:04:05Z`, or nothing where it is not set."""
    if not stamp.seconds:
        return ""
    return stamp.ToDatetime(tzinfo=UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def span(value: timedelta) -> str:
    """`1h05m`, `4m32s`, `12s`: rounded down to the second; nothing below zero."""
    seconds = max(0, int(value.total_seconds()))
    hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def word(enum_name: str, prefix: str) -> str:
    """`REQUEST_STATE_PENDING` -> `pending`."""
    return enum_name.removeprefix(prefix).lower()


def class_badge(class_word: str) -> str:
    """A class word in its colour."""
    return click.style(one_line(class_word), fg=CLASS_COLOURS.get(class_word, "red"), bold=True)


def now() -> datetime:
    """The machine's wall clock."""
    return datetime.now(UTC)


class DurationType(click.ParamType[timedelta]):
    """`90s`, `15m`, `1h30m`."""

    name = "duration"
    _UNITS: Final = {"h": 3600, "m": 60, "s": 1}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:  # noqa: ANN401  click's
        if isinstance(value, timedelta):
            return value
        seconds, digits = 0, ""
        for character in str(value):
            if character.isdecimal() and character.isascii():
                digits += character
            elif digits and character in self._UNITS:
                seconds, digits = seconds + int(digits) * self._UNITS[character], ""
            else:
                self.fail(f"{one_line(str(value))!r} is not a duration; write 90s, 15m or 1h30m", param, ctx)
        if digits or not str(value):
            self.fail(f"{one_line(str(value))!r} has no unit; write 90s, 15m or 1h30m", param, ctx)
        if seconds > _MAX_SECONDS:
            self.fail("that is more than ten years", param, ctx)
        return timedelta(seconds=seconds)


_MAX_SECONDS: Final = 10 * 366 * 86400
DURATION: Final = DurationType()


def shared(command: click.Command) -> click.Command:
    """Give a command the options that all have, once; they mean the same before and after its name."""
    if any(parameter.name == "output" for parameter in command.params):
        return command
    command.params += [
        click.Option(
            ["--profile"],
            metavar="NAME|DIR",
            expose_value=False,
            callback=_take_profile,
            help=f"whose identity to use (${VARIABLE}; default: default)",
        ),
        click.Option(
            ["-o", "--output"],
            type=click.Choice(["text", "json"]),
            expose_value=False,
            callback=_take_output,
            help="json: one object, or one a line",
        ),
    ]
    return command


def _take_profile(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Shell).profile_name = value


def _take_output(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Shell).as_json = value == "json"


def colour_allowed() -> bool:
    """Whether colour may be used at all; click turns it off by itself where the output is no terminal."""
    return not os.environ.get("NO_COLOR") and sys.stdout.isatty()
