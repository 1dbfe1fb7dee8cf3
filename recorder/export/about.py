"""Whose copy this is, and of what: every export says it. Values may come from agents and are shown escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from recorder.escape import visible


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """One export: the session it shows and who took it away."""

    session: str
    recording: str
    title: str
    """The command or the kind of session, as text; anything may stand in it."""
    who: str
    login: str
    target: str
    opened_at: datetime
    state: str
    """How the recording ends: `final`, `truncated`, `torn`, `open`."""
    leaves: int
    root: bytes
    """What the audit log committed to; empty while nothing was."""
    asked: Mapping[str, str]
    """What was asked for, by the id that decisions bear in the recording; empty where the recording says it itself."""
    exporter: str
    exported_at: datetime


def watermark(about: About) -> Iterator[tuple[str, str]]:
    """(what, value) of everything that ties a copy to its session, its root and its exporter; values made visible."""
    yield "session", visible(about.session)
    yield "command", visible(about.title)
    yield "who", visible(f"{about.who} as {about.login} on {about.target}")
    yield "opened", _moment(about.opened_at)
    yield "recording", visible(f"{about.recording} ({about.state})")
    yield "root", f"{about.root.hex() or 'none yet'} ({about.leaves} leaves)"
    yield "exported by", visible(f"{about.exporter}, {_moment(about.exported_at)}")


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
