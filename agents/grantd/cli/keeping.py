"""`grantctl sessions fetch` and `export`: a recording as a file, sealed or for other programs to show."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from grantd.cli.exits import Exit
from grantd.cli.shell import Shell
from grantd.errors import Invalid
from grantd.v1 import session_pb2

_CASTS: Final = {"v2": session_pb2.EXPORT_FORM_CAST_V2, "v3": session_pb2.EXPORT_FORM_CAST_V3}


@click.command()
@click.argument("session_id", metavar="SESSION")
@click.option("--reason", required=True, help="why you fetch it; kept in the audit log")
@click.option("--out", type=click.Path(path_type=Path), help="file to make [SESSION.grec; - is stdout]")
@click.pass_obj
def fetch(shell: Shell, session_id: str, reason: str, out: Path | None) -> int:
    """Fetch the sealed recording; `grantd verify FILE` checks it without keys. Further parts get a number."""
    client = shell.client
    request = session_pb2.FetchRecordingRequest(session_id=session_id, reason=reason)
    pieces = client.stream(client.sessions.FetchRecording, request)
    if out == Path("-"):
        for piece in pieces:
            sys.stdout.buffer.write(piece.data)
        return Exit.OK
    base = out or Path(f"{_plain(session_id)}.grec")
    for part, group in itertools.groupby(pieces, lambda piece: piece.part):
        path = base if part == 0 else base.with_name(f"{base.stem}.{part}{base.suffix}")
        _write(path, (piece.data for piece in group))
        shell.say(f"wrote {path}; check it with: grantd verify {path}")
    return Exit.OK


@click.command()
@click.argument("session_id", metavar="SESSION")
@click.option("--cast", type=click.Choice(list(_CASTS)), help="an asciicast of this version")
@click.option("--html", "as_html", is_flag=True, help="one file for a browser, offline: screen, commands, search")
@click.option("--text", "as_text", is_flag=True, help="lines with times; every unsafe byte escaped")
@click.option("--with-input", is_flag=True, help="recorded input too (asciicast, text); may hold secrets")
@click.option("--reason", required=True, help="why you export it; kept in the audit log")
@click.option("--out", type=click.Path(path_type=Path), help="file to make [SESSION.cast, .html; text goes to stdout]")
@click.pass_obj
def export(
    shell: Shell,
    session_id: str,
    *,
    cast: str | None,
    as_html: bool,
    as_text: bool,
    with_input: bool,
    reason: str,
    out: Path | None,
) -> int:
    """Make a file that other programs show. It is no longer sealed: keep it as you would keep the machine's secrets.

    Whatever could act on a terminal is left out; the exact bytes are in `sessions fetch`.
    """
    form, ending = _form(cast=cast, as_html=as_html, as_text=as_text)
    if with_input and as_html:
        raise click.UsageError("--with-input goes with --cast and --text")
    client = shell.client
    request = session_pb2.ExportRecordingRequest(session_id=session_id, reason=reason, form=form, with_input=with_input)
    pieces = (piece.data for piece in client.stream(client.sessions.ExportRecording, request))
    if out == Path("-") or (out is None and not ending):
        for data in pieces:
            sys.stdout.buffer.write(data)
        return Exit.OK
    path = out or Path(f"{_plain(session_id)}{ending}")
    _write(path, pieces)
    shell.say(f"wrote {path}: an unsealed copy")
    return Exit.OK


def _form(*, cast: str | None, as_html: bool, as_text: bool) -> tuple[session_pb2.ExportForm.ValueType, str]:
    """What is asked for, and how its file's name ends; text has no file of its own."""
    if (cast is not None) + as_html + as_text != 1:
        raise click.UsageError("say one of --cast v2, --cast v3, --html, --text")
    if cast is not None:
        return _CASTS[cast], ".cast"
    return (session_pb2.EXPORT_FORM_HTML, ".html") if as_html else (session_pb2.EXPORT_FORM_TEXT, "")


def _write(path: Path, chunks: Iterator[bytes]) -> None:
    """A new file that only its owner can read. What breaks off leaves none: half a copy would pass for a whole one."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as wrong:
        raise Invalid("bad_file", f"{path} cannot be made: {wrong.strerror}", "choose another with --out") from wrong
    try:
        with os.fdopen(descriptor, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
    except BaseException:
        path.unlink()
        raise


def _plain(session_id: str) -> str:
    if not session_id.replace("_", "").isalnum():
        raise Invalid("bad_session", "that is not a session id")
    return session_id
