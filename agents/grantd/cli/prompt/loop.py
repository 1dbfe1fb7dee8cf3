"""The prompt's loop: shows one question after the other, oldest first, and carries out what the keys said.

The question on the screen is never replaced by another while keys could be meant for it: when it goes away, that is
said, and the next one starts with its first page and an empty input.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, assert_never

from grantd import records
from grantd.cli.prompt import card
from grantd.cli.prompt.dialogue import (
    Approve,
    Deny,
    Dialogue,
    Effect,
    Explain,
    Hint,
    NextPage,
    Phase,
    Quit,
    Redraw,
    Skip,
)
from grantd.cli.prompt.feed import Added, Alarm, Feed, Gone, InStep, Lost, News, Refused
from grantd.cli.prompt.lines import Line, Span, Style, cells, foreign, join
from grantd.cli.prompt.question import Question, Untruthful, pose
from grantd.cli.prompt.terminal import Input, Resized, Terminal, Woken
from grantd.cli.shell import span as time_span
from grantd.cli.signing import Signer
from grantd.client import Client
from grantd.errors import GrantdError, NotFound, Unavailable, Unreachable
from grantd.v1.approval_pb2 import DecideRequest, DecideResponse, PendingItem
from grantd.v1.options_pb2 import VERDICT_APPROVE, VERDICT_DENY, Verdict

_TICK_SECONDS: Final = 1.0
_MIN_COLUMNS: Final = 40
_MIN_ROWS: Final = 10
_KEPT_ROWS: Final = 2
"""Rows that a page leaves free: the toolbar, and one of what was there before."""
_KEYS: Final = "d deny  e explain  r reread  s skip  q quit"


@dataclass(slots=True)
class _Shown:
    """The question on the screen."""

    question: Question
    pages: list[list[Line]]
    dialogue: Dialogue


class Loop:
    """One approver at one terminal.

    Args:
        me: the approver's identity id.
        only: an id to decide; None for everything that waits.
        once: leave when nothing waits any more.
        now: the broker's time (its clock decides what is late).
    """

    def __init__(
        self,
        *,
        client: Client,
        terminal: Terminal,
        feed: Feed,
        signer: Signer,
        me: str,
        only: str | None,
        once: bool,
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._terminal = terminal
        self._feed = feed
        self._signer = signer
        self._me = me
        self._only = only
        self._once = once
        self._now = now
        self._waiting: dict[str, PendingItem] = {}
        self._left: set[tuple[str, bytes]] = set()
        self._shown: _Shown | None = None
        self._in_step = False
        self._seen = False
        self._away = False

    def run(self) -> None:
        """Until the approver quits, or nothing is left where that was asked for. Raises GrantdError."""
        while True:
            self._hear()
            self._look_at_time()
            if self._shown is None and not self._next() and self._is_over():
                return
            self._show_toolbar()
            happened = self._terminal.wait(_TICK_SECONDS)
            match happened:
                case Input(data, at):
                    if not self._typed(data, at):
                        return
                case Resized():
                    self._resized()
                case Woken():
                    pass
                case _:
                    assert_never(happened)

    # --- news

    def _hear(self) -> None:
        while not self._feed.news.empty():
            self._learn(self._feed.news.get())

    def _learn(self, news: News) -> None:
        match news:
            case Added(item):
                self._add(item)
            case Gone(gone, state):
                self._waiting.pop(gone, None)
                self._leave(gone, f"it is {state} now")
            case Alarm(glass):
                who, where = foreign(glass.person_name, Style.TITLE), foreign(glass.target_name)
                self._say([*cells("BREAK-GLASS by ", Style.WARNING), *who, *cells(" on "), *where, *cells(": ")])
                self._say([*cells("  "), *foreign(glass.reason)])
            case InStep(ids):
                self._in_step, self._away = True, False
                for gone in [each for each in self._waiting if each not in ids]:
                    del self._waiting[gone]
                    self._leave(gone, "it waits no longer")
            case Lost():
                self._away = True
            case Refused(error):
                raise error
            case _:
                assert_never(news)

    def _add(self, item: PendingItem) -> None:
        if self._only not in (None, item.id) or self._me in item.approved_by:
            return
        self._waiting[item.id] = item
        self._seen = True
        if self._shown is None or self._shown.question.id != item.id:
            return
        if self._shown.question.digest != item.digest:
            self._leave(item.id, "it changed: what you saw is void")
        # more votes alone change nothing that is signed

    def _leave(self, gone: str, why: str) -> None:
        """The question on the screen went away."""
        if self._shown is not None and self._shown.question.id == gone:
            self._say([*foreign(gone, Style.TITLE), *cells(": "), *foreign(why)])
            self._shown = None

    def _look_at_time(self) -> None:
        now = self._now()
        for id_, item in list(self._waiting.items()):
            if item.expires_at.ToDatetime(tzinfo=now.tzinfo) <= now:
                del self._waiting[id_]
                self._leave(id_, "nobody decided in time, it expired")

    # --- showing

    def _next(self) -> bool:
        """Show the oldest question that was not left; False if there is none."""
        fresh = [item for item in self._waiting.values() if (item.id, item.digest) not in self._left]
        for item in sorted(fresh, key=lambda each: (each.proposed_at.seconds, each.proposed_at.nanos, each.id)):
            try:
                question = pose(item)
            except Untruthful as wrong:
                self._left.add((item.id, item.digest))
                self._say([*foreign(item.id, Style.WARNING), *cells(f" cannot be decided here: {wrong}")])
                continue
            self._draw(question)
            return True
        return False

    def _draw(self, question: Question) -> None:
        """From the first page, with an empty input."""
        columns, rows = self._terminal.columns, self._terminal.rows
        if columns < _MIN_COLUMNS or rows < _MIN_ROWS:
            self._shown = None
            return
        lines = card.draw(question, width=columns - 1, now=self._now())
        height = rows - _KEPT_ROWS
        pages = [lines[at : at + height] for at in range(0, len(lines), height)]
        self._shown = _Shown(question, pages, Dialogue(expected=question.expected, pages=len(pages)))
        self._draw_page(self._shown)

    def _draw_page(self, shown: _Shown) -> None:
        self._terminal.write(shown.pages[shown.dialogue.page])
        self._terminal.flush_input()
        shown.dialogue.drawn(time.monotonic())

    def _resized(self) -> None:
        if self._shown is not None:
            self._say(cells("the window changed: shown again", Style.DIM))
            self._draw(self._shown.question)

    def _say(self, row: list[Span]) -> None:
        self._terminal.write([tuple(join(row))])

    def _show_toolbar(self) -> None:
        away = [Span("broker away | ", Style.WARNING)] if self._away or self._feed.silent else []
        if self._shown is None:
            self._terminal.toolbar((*away, *self._idle()))
            return
        left = time_span(self._shown.question.expires_at - self._now())
        waiting = f" of {len(self._waiting)} waiting" if len(self._waiting) > 1 else ""
        head = Span(f"{left} left{waiting} | ", Style.LABEL)
        hint = self._shown.dialogue.hint
        told = [Span(f"{hint} | ", Style.WARNING)] if hint is not Hint.NONE else []
        self._terminal.toolbar((*away, head, *told, *_keys(self._shown)))

    def _idle(self) -> list[Span]:
        small = self._terminal.columns < _MIN_COLUMNS or self._terminal.rows < _MIN_ROWS
        if small:
            return [Span(f"make the window {_MIN_COLUMNS}x{_MIN_ROWS} or larger", Style.WARNING)]
        return [Span("nothing waits for you  q quit", Style.DIM)]

    # --- keys

    def _typed(self, data: bytes, at: float) -> bool:
        """False to leave."""
        if self._shown is None:
            return data not in (b"", b"q", b"\x03", b"\x04")
        effect = self._shown.dialogue.read(data, at)
        return True if effect is None else self._carry_out(self._shown, effect)

    def _carry_out(self, shown: _Shown, effect: Effect) -> bool:
        match effect:
            case NextPage():
                self._draw_page(shown)
            case Redraw():
                self._draw(shown.question)
            case Explain():
                self._terminal.write(card.explain(shown.question, width=self._terminal.columns - 1))
                shown.dialogue.drawn_more(time.monotonic())
            case Approve():
                self._decide(shown.question, VERDICT_APPROVE, "")
            case Deny(note):
                self._decide(shown.question, VERDICT_DENY, note)
            case Skip():
                self._put_aside(shown.question)
                self._say([*foreign(shown.question.id, Style.TITLE), *cells(": left to others")])
            case Quit():
                return False
            case _:
                assert_never(effect)
        return True

    def _decide(self, question: Question, verdict: Verdict.ValueType, note: str) -> None:
        yes = verdict == VERDICT_APPROVE
        if yes and not question.is_recent(datetime.now(UTC)):
            self._say(
                [*cells("not decided: ", Style.WARNING), *cells("by this machine's clock it was not asked just now")]
            )
            return
        self._terminal.toolbar((Span("signing...", Style.DIM),))
        signed = question.record if yes else records.denial_record(question.record)
        try:
            request = DecideRequest(
                id=question.id,
                verdict=verdict,
                digest=question.digest,
                signature=self._signer.sign(records.APPROVAL_NAMESPACE, signed),
                note=note,
            )
            told = self._client.call(self._client.approvals.Decide, request)
        except GrantdError as refused:
            self._refused(question, refused)
            return
        self._put_aside(question)
        self._say([*foreign(question.id, Style.TITLE), *cells(f": {_outcome(told, yes=yes)}")])

    def _refused(self, question: Question, error: GrantdError) -> None:
        self._say([*cells("not decided: ", Style.WARNING), *foreign(error.message)])
        if error.way_out:
            self._say([*cells("  "), *foreign(error.way_out)])
        self._shown = None
        if not isinstance(error, (Unreachable, Unavailable)):
            self._left.add((question.id, question.digest))  # asked again it would be refused again

    def _put_aside(self, question: Question) -> None:
        self._left.add((question.id, question.digest))
        self._shown = None

    def _is_over(self) -> bool:
        """Nothing to show: whether that is the end. Raises NotFound where the one that was named never waited."""
        if not self._in_step:
            return False
        if self._only is not None and not self._seen:
            raise NotFound(
                "not_found", f"{self._only} does not wait for you", "grantctl approve -o json lists what does"
            )
        return self._once or self._only is not None


def _keys(shown: _Shown) -> list[Span]:
    dialogue = shown.dialogue
    match dialogue.phase:
        case Phase.READING:
            return [Span(f"page {dialogue.page} of {dialogue.pages}  Space goes on  {_KEYS}")]
        case Phase.CHOOSING:
            yes = "a approve" if shown.question.typed else "y+Enter approve"
            return [Span(f"{yes}  {_KEYS}")]
        case Phase.CONFIRMING:
            what = "type the code above" if shown.question.typed else "type y"
            return [Span(f"{what}, then Enter (Esc goes back): "), Span(_tail(dialogue.typed), Style.TITLE)]
        case Phase.NOTING:
            return [Span("why not? Enter denies, Esc goes back: "), *foreign(_tail(dialogue.note))]


def _tail(text: str) -> str:
    """What fits of what is being typed."""
    return text[-24:]


def _outcome(told: DecideResponse, *, yes: bool) -> str:
    if not yes:
        return "denied"
    if told.missing:
        return f"you said yes; {told.missing} more must"
    return "approved"


def broker_clock(server: datetime, read_at: datetime, now: Callable[[], datetime]) -> Callable[[], datetime]:
    """The broker's clock as seen from here: our own, moved by the difference at one reading."""
    ahead: timedelta = server - read_at
    return lambda: now() + ahead
