"""`grantctl sessions watch`: an open session as it goes on. The target's bytes never reach this terminal unexamined."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any, Final, Self

import click

from grantd.cli.drawing import TerminalFilter
from grantd.cli.exits import Exit
from grantd.cli.shell import Shell
from grantd.cli.visible import Output, exact, one_line
from grantd.errors import GrantdError
from grantd.v1 import session_pb2
from grantd.v1.session_pb2 import Oversight, Session, WatchedEvent, WatchJoined, WatchSessionResponse
from grantd.watching import SessionWatch

_OUT, _ERR, _EXEC, _EXIT, _MARK = 1, 2, 5, 6, 9
_NAMES: Final = {_EXEC: "runs", _EXIT: "exit", _MARK: "mark:"}
_TOLD: Final = {_EXEC: "argv", _EXIT: "status", _MARK: "label"}
_KEYS: Final = "q leave  p pause  r resume  k cut"
_LOOKING: Final = "q leave  k cut"


@click.command("watch")
@click.argument("session_id", metavar="SESSION")
@click.option("--reason", required=True, help="why you watch; kept in the audit log")
@click.option("--only-look", is_flag=True, help="do not count as the person who must be there")
@click.pass_obj
def watch(shell: Shell, session_id: str, reason: str, *, only_look: bool) -> int:
    """Watch an open session: what it shows now, then everything as it is recorded.

    In a terminal: q leaves, p holds the input of the session, r lets it through again, k cuts the session.
    """
    watching = shell.client.watch_session(session_id, reason=reason, only_look=only_look)
    if shell.as_json:
        shell.show_all(watching, (), lambda _: ())
        return Exit.OK
    view = _View(shell)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        for message in watching:
            view.show(message)
        view.say_end()
        return Exit.OK
    with view.restored(), _Keys() as keys:
        _at_terminal(shell, watching, view, keys)
    view.say_end()
    return Exit.OK


def _at_terminal(shell: Shell, watching: SessionWatch, view: _View, keys: _Keys) -> None:
    """Shows what comes and does what the keys say, until the session is over or the watcher leaves."""
    news: SimpleQueue[WatchSessionResponse | GrantdError | None] = SimpleQueue()
    reader = threading.Thread(target=_read, args=(watching, news, keys), daemon=True)
    reader.start()
    asked = False
    while True:
        for message in _taken(news):
            if isinstance(message, GrantdError):
                raise message
            if message is None:
                return
            view.show(message)
        for key in keys.wait():
            if asked and key == "y":
                request = session_pb2.TerminateSessionRequest(session_id=view.session.id, reason=watching.reason)
                shell.client.call(shell.client.sessions.TerminateSession, request)
            asked = key == "k"
            match key:
                case "q" | "\x03" | "\x04":
                    watching.leave()
                    return
                case "p":
                    watching.pause()
                case "r":
                    watching.resume()
                case _:
                    pass
            view.ask("cut this session? y" if asked else "")


def _read(watching: SessionWatch, news: SimpleQueue[WatchSessionResponse | GrantdError | None], keys: _Keys) -> None:
    """The stream, in a thread of its own."""
    try:
        for message in watching:
            news.put(message)
            keys.wake()
        news.put(None)
    except GrantdError as failed:
        news.put(failed)
    keys.wake()


def _taken(
    news: SimpleQueue[WatchSessionResponse | GrantdError | None],
) -> Iterator[WatchSessionResponse | GrantdError | None]:
    while not news.empty():
        yield news.get()


class _View:
    """What a watcher sees: the session's screen, or its streams as text, and a line about how it stands."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self.session = Session()
        self._joined = WatchJoined()
        self._filter = TerminalFilter()
        self._texts = {_OUT: Output(), _ERR: Output()}
        self._on_terminal = sys.stdout.isatty()
        self._standing, self._question = "", ""
        self._over = False

    def show(self, message: WatchSessionResponse) -> None:
        """One message of the broker."""
        match message.WhichOneof("message"):
            case "joined":
                self._join(message.joined)
            case "events":
                for event in message.events.events:
                    self._event(event)
                sys.stdout.flush()
            case "oversight":
                self._stand(message.oversight)
            case "ended":
                self.session, self._over = message.ended.session, True
            case _:
                pass  # a kind that this grantctl does not know yet

    def ask(self, question: str) -> None:
        """A question in the line about the session; empty takes it away."""
        if question != self._question:
            self._question = question
            self._line()

    def say_end(self) -> None:
        """The last line."""
        if self._over:
            why = f" ({one_line(self.session.end_reason)})" if self.session.end_reason else ""
            self._shell.say(f"grantctl: the session is over: {one_line(self.session.state)}{why}")

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Puts the terminal back as it was, however this is left."""
        try:
            yield
        finally:
            if self._joined.terminal:
                sys.stdout.write(self._filter.end() + "\r\n")
                sys.stdout.flush()

    def _join(self, joined: WatchJoined) -> None:
        self.session, self._joined = joined.session, joined
        session = joined.session
        what = f"{one_line(session.identity_name)} as {one_line(session.login)} on {one_line(session.target_name)}"
        self._shell.say(f"grantctl: watching {one_line(session.id)}: {what}: {exact(session.command)}")
        if not joined.attends:
            self._shell.say("grantctl: you only look: input does not flow because of you")
        if joined.terminal and self._on_terminal:
            sys.stdout.write("\x1b[0m\x1b[2J\x1b[H" + self._filter.feed(joined.restore))

    def _event(self, event: WatchedEvent) -> None:
        if event.kind in (_OUT, _ERR):
            if self._joined.terminal and self._on_terminal:
                sys.stdout.write(self._filter.feed(event.payload))
            else:
                text = self._texts[event.kind].feed(event.payload)
                click.echo(click.style(text, fg="red") if event.kind == _ERR else text, nl=False)
        elif event.kind in _TOLD and not self._joined.terminal:
            self._shell.say(click.style(f"[{_words(event)}]", dim=True))

    def _stand(self, standing: Oversight) -> None:
        held = "" if standing.flows else "INPUT HELD: paused" if standing.paused else "INPUT HELD: not watched"
        watchers = ", ".join(map(one_line, standing.watchers))
        self._standing = "  ".join(part for part in (held, f"watched by {watchers}") if part)
        self._line()

    def _line(self) -> None:
        keys = (_KEYS if self._joined.attends else _LOOKING) if self._on_terminal else ""
        line = self._question or f"{self._standing}  {keys}".rstrip()
        if not (self._joined.terminal and self._on_terminal):
            self._shell.say(f"grantctl: {line}")
            return
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
        sys.stdout.write(f"\x1b7\x1b[{rows};1H\x1b[0;7m {line[: columns - 2]} \x1b[0m\x1b[K\x1b8")
        sys.stdout.flush()


def _words(event: WatchedEvent) -> str:
    """An event that is no output, in a few words; whatever it holds is escaped."""
    try:
        told = json.loads(event.payload)
        field = _TOLD[event.kind]
        return f"{_NAMES[event.kind]} {exact(str(told[field]))}"
    except (ValueError, KeyError, TypeError):  # not as this grantctl knows it
        return f"{_NAMES[event.kind]} {exact(event.payload)}"


class _Keys:
    """The keyboard, one key at a time and not echoed, as a context."""

    def __init__(self) -> None:
        self._in = sys.stdin.fileno()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._saved: list[Any] = termios.tcgetattr(self._in)

    def __enter__(self) -> Self:
        tty.setcbreak(self._in, termios.TCSADRAIN)
        return self

    def __exit__(self, *_: object) -> None:
        termios.tcsetattr(self._in, termios.TCSADRAIN, self._saved)

    def wake(self) -> None:
        """End a wait, from any thread."""
        with contextlib.suppress(BlockingIOError):  # as many wake-ups wait as need to
            os.write(self._wake_write, b".")

    def wait(self) -> str:
        """The keys that were pressed; "" once woken. A terminal that is gone reads as leaving."""
        ready, _, _ = select.select([self._in, self._wake_read], [], [])
        if self._wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
        if self._in not in ready:
            return ""
        return os.read(self._in, 1024).decode("ascii", "replace") or "\x04"
