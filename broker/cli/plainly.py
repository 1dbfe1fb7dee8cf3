"""How a command of `grantd` ends: a plain line on standard error, whatever happened. Imports what it needs inside."""

from __future__ import annotations

import os
import sys

import click


class plainly:  # noqa: N801  reads as a word at its call sites
    """Turns what ends a command into one plain line on standard error and exit status 1.

    Refusals and faults bring their own words, the system's errors theirs. Anything else is a bug: its traceback goes
    to the log, as one JSON line, and the plain line says so.
    """

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        causes = _causes(error) if error is not None else []
        # a real failure goes before the cancellations that it caused; click's and the interpreter's own ends pass
        for leaf in causes:
            if isinstance(leaf, Exception) and not _is_clicks(leaf):
                click.echo(f"grantd: {_plain(leaf)}", err=True)
                sys.exit(1)


def _causes(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _causes(inner)]
    return [error]


def _is_clicks(error: Exception) -> bool:
    """How click itself says what it has to say."""
    return isinstance(error, click.ClickException | click.exceptions.Exit | click.Abort)


def _plain(error: Exception) -> str:
    from broker.core.errors import Fault, Refusal  # noqa: PLC0415

    match error:
        case Refusal():
            return escaped(error.message) + (f"\n  {escaped(error.way_out)}" if error.way_out else "")
        case Fault():
            return escaped(error.what)
        case OSError():
            where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
            return escaped(where + (error.strerror or str(error)))
        case _:
            import structlog  # noqa: PLC0415

            structlog.get_logger().error("command.failed", exc_info=error)
            return f"a bug in grantd ({type(error).__name__}); the log has the traceback"


def escaped(text: str) -> str:
    """Text that may quote a file or a name, for a terminal: control characters shown, never sent (I-11, I-27)."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def quiet() -> None:
    """Warnings alone, on standard error: for commands that people read."""
    from broker.logs import configure  # noqa: PLC0415

    configure("warning", stream=sys.stderr)
