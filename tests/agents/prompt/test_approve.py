"""`grantctl approve` on a real terminal, against the wire's fake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from broker.core import records
from grantd.v1.approval_pb2 import DecideRequest, PendingItem
from grantd.v1.options_pb2 import VERDICT_APPROVE, VERDICT_DENY
from tests.agents.conftest import Person
from tests.agents.console import GRANTCTL, READING_SECONDS, Console, on_terminal
from tests.agents.fake_broker import FakeBroker
from tests.agents.items import access_item, action_item, daemon_record, is_signed

WRITE = b"install -m 0644 app.conf /srv/app/app.conf"


@pytest.fixture
def console(person: Person) -> Iterator[Console]:
    """The prompt, started; it shows what the broker holds."""
    with on_terminal(person.profile.directory, "approve") as started:
        yield started


def approved(broker: FakeBroker, item: PendingItem) -> DecideRequest:
    """The decision that came, after checking all that makes it a valid yes."""
    decision = broker.settle()
    record = daemon_record(item.action)
    assert decision.verdict == VERDICT_APPROVE
    assert decision.digest == records.digest_of(record)
    assert is_signed(record, decision.signature, records.APPROVAL_NAMESPACE, broker.approval_key)
    return decision


def never_decided(console: Console, broker: FakeBroker) -> None:
    """Nothing was sent, and nothing will be."""
    console.read(READING_SECONDS)
    assert broker.decisions == []


def test_a_write_is_approved_with_y_and_enter(broker: FakeBroker, console: Console) -> None:
    """Shown, typed, signed over exactly what was shown, and the signature holds for the daemon (I-10)."""
    item = action_item(WRITE, reason="release 14")
    broker.add(item)
    console.expect("type y and Enter")
    shown = console.text()
    assert WRITE.decode() in shown
    assert "web1" in shown
    assert "deploy" in shown
    assert "release 14" in shown
    console.type("y\r")
    approved(broker, item)
    console.expect(f"{item.id}: approved")
    console.type("q")
    assert console.wait() == 0


def test_what_executes_needs_the_code(broker: FakeBroker, console: Console) -> None:
    """`y` and Enter do nothing; `a`, the code, Enter approve (I-15)."""
    item = action_item(b"systemctl restart app", command_class="execute")
    broker.add(item)
    code = records.code_of(item.digest)
    console.expect(f"type {code} and Enter")
    console.type("y\r")
    never_decided(console, broker)
    console.type(f"a{code}\r")
    approved(broker, item)


def test_an_access_request_is_approved(broker: FakeBroker, console: Console) -> None:
    """Over its own record."""
    item = access_item(ceiling="write")
    broker.add(item)
    console.expect("MAY THIS ACCESS BE GRANTED?")
    console.type("y\r")
    decision = broker.settle()
    assert decision.id == item.id
    assert decision.digest == item.digest


def test_a_denial_is_signed_and_carries_its_note(broker: FakeBroker, console: Console) -> None:
    """Over the denial's own prefix: no yes can be made of it."""
    item = action_item(WRITE)
    broker.add(item)
    console.expect("type y and Enter")
    console.type("dnot on friday\r")
    decision = broker.settle()
    record = records.denial_record(daemon_record(item.action))
    assert (decision.verdict, decision.note) == (VERDICT_DENY, "not on friday")
    assert is_signed(record, decision.signature, records.APPROVAL_NAMESPACE, broker.approval_key)
    console.expect("denied")


def test_type_ahead_never_approves(broker: FakeBroker, person: Person) -> None:
    """Keys pressed before the program and before the card were there are thrown away (I-15)."""
    broker.add(action_item(WRITE))
    with on_terminal(person.profile.directory, "approve") as console:
        console.write(b"y\ry\r")
        console.expect("type y and Enter")
        never_decided(console, broker)


def test_keys_for_one_card_never_approve_the_next(broker: FakeBroker, console: Console) -> None:
    """The card goes away under the approver's fingers and another takes its place (I-14, I-15)."""
    first, second = action_item(WRITE, number=1), action_item(b"rm -r /srv/app", number=2)
    broker.add(first)
    broker.add(second)
    console.expect(first.id)
    console.read(READING_SECONDS)
    console.write(b"y")
    console.read(0.05)
    broker.take(first.id, "expired")
    console.expect("rm -r /srv/app")
    console.write(b"y")
    console.read(0.05)
    console.write(b"\r")
    never_decided(console, broker)


def test_keys_pressed_while_a_decision_is_on_its_way_are_thrown_away(broker: FakeBroker, console: Console) -> None:
    """They are flushed before the next card is judged, not merely refused (I-15)."""
    broker.decide_seconds = 0.6
    broker.add(action_item(WRITE, number=1))
    broker.add(action_item(b"rm -r /srv/app", number=2))
    console.expect("type y and Enter")
    console.type("y\r")
    broker.settle()
    console.write(b"y")
    console.expect("rm -r /srv/app")
    console.read(READING_SECONDS)
    assert "too early" not in console.text()
    assert "pasted" not in console.text()
    assert len(broker.decisions) == 1


@pytest.mark.parametrize("pasted", [b"y\r", b"\x1b[200~y\x1b[201~"])
def test_pasted_text_never_approves(broker: FakeBroker, console: Console, pasted: bytes) -> None:
    """With brackets or without (I-15)."""
    broker.add(action_item(WRITE))
    console.expect("type y and Enter")
    console.read(READING_SECONDS)
    console.write(pasted)
    never_decided(console, broker)
    console.write(b"\r")
    never_decided(console, broker)
    assert b"\x1b[?2004h" in console.raw, "and the terminal was asked to bracket pastes"


def test_a_resize_never_approves(broker: FakeBroker, console: Console) -> None:
    """What was typed is void, and the card is drawn again for the new size (I-15)."""
    broker.add(action_item(WRITE))
    console.expect("type y and Enter")
    console.type("y")
    console.resize(70, 50)
    console.expect("the window changed")
    console.write(b"\r")
    never_decided(console, broker)
    console.type("y\r")
    broker.settle()


def test_a_hang_up_never_approves(broker: FakeBroker, console: Console) -> None:
    """The window closes in the middle of a yes (I-15)."""
    broker.add(action_item(WRITE))
    console.expect("type y and Enter")
    console.type("y")
    console.hang_up()
    assert console.process.wait(5) != 0
    assert broker.decisions == []


@pytest.mark.parametrize("key", ["\x03", "q"])
def test_leaving_never_approves(broker: FakeBroker, console: Console, key: str) -> None:
    """Interrupt, EOF, q: the program ends, the terminal is as it was."""
    broker.add(action_item(WRITE))
    console.expect("type y and Enter")
    assert console.is_raw()
    console.type("y")
    console.write(b"\x1b")
    console.type(key)
    assert console.wait() == 0
    assert not console.is_raw()
    assert b"\x1b[?2004l" in console.raw
    assert broker.decisions == []


def test_a_signal_to_end_puts_the_terminal_back(broker: FakeBroker, console: Console) -> None:
    """SIGTERM: no decision, modes restored."""
    broker.add(action_item(WRITE))
    console.expect("type y and Enter")
    console.signal(signal.SIGTERM)
    assert console.wait() == 128 + signal.SIGTERM
    assert not console.is_raw()
    assert broker.decisions == []


def test_a_long_card_has_to_be_paged_to_its_end(broker: FakeBroker, person: Person) -> None:
    """On a small screen y does nothing until the last page was shown (I-11)."""
    item = action_item(b"printf '%s\\n' " + b"abc " * 300 + b">/srv/last")
    broker.add(item)
    with on_terminal(person.profile.directory, "approve", columns=60, rows=26) as console:
        console.expect("page 1 of")
        assert "/srv/last" not in console.text()
        assert "type y and Enter" not in console.text()
        console.type("y\x7f")
        never_decided(console, broker)
        while "type y and Enter" not in console.text():
            assert broker.decisions == []
            console.type(" ")
        console.type("y\r")
        approved(broker, item)


def test_a_window_too_small_to_read_decides_nothing(broker: FakeBroker, person: Person) -> None:
    """It asks for room, and goes on once there is some."""
    broker.add(action_item(WRITE))
    with on_terminal(person.profile.directory, "approve", columns=30, rows=8) as console:
        console.expect("make the window")
        console.type("y\r")
        assert broker.decisions == []
        console.resize(90, 50)
        console.expect("type y and Enter")


HOSTILE = (
    "\x1b[H\x1b[2J \x1b]52;c;ZXZpbA==\x07 \x1b]0;title\x07 \x1b[8m \x1b[6n \x1b[A \x05 \x9b2J "
    "\u202eevil \u2066 \u200b e\u0301 \u00a0 \u2028 \ue000 \u0430 \r"
)
OURS = "\u2502\u250a\u2592\u27e6\u27e7\u2500\u00b7"
COLOURS = ("0", "1", "2", "3", "32", "33", "36", "1;31")


def test_hostile_text_never_reaches_the_terminal(broker: FakeBroker, person: Person) -> None:
    """In reason, names, notes and command: shown escaped, and not one byte of it as it is (F37, F38)."""
    item = action_item(b"echo '" + HOSTILE.encode() + b"'", reason=HOSTILE)
    item.identity_name = item.target_name = f"n{HOSTILE}"
    item.policy_reasons[:] = [HOSTILE]
    broker.add(item)
    with on_terminal(person.profile.directory, "approve", columns=250) as console:
        console.expect("type y and Enter")
        console.type("e")
        console.expect("WHY A PERSON IS ASKED")
        broker.take(item.id, HOSTILE)
        console.expect("nothing waits")
        sent, shown = console.raw.decode(), console.text()
    for ours in ("\x1b[?2004h", "\x1b[2K", "\r", "\n", *(f"\x1b[{colour}m" for colour in COLOURS)):
        sent = sent.replace(ours, "")
    assert all(" " <= character <= "~" or character in OURS for character in sent), repr(sent)
    for escape in ("\\x1b]52;c;", "\\x05", "\\u009b2J", "\\u202eevil", "\\u200b", "e\\u0301", "\\u0430", "\\r"):
        assert shown.count(escape) >= 4, f"{escape} is hidden somewhere"


def test_an_item_whose_digest_does_not_fit_is_not_asked(broker: FakeBroker, console: Console) -> None:
    """It is named and passed over; the next one is shown (I-10, I-14)."""
    forged = action_item(WRITE, number=1)
    forged.action.login = "root"
    broker.add(forged)
    broker.add(action_item(b"touch /srv/ok", number=2))
    console.expect("cannot be decided here")
    console.expect("touch /srv/ok")
    assert "root" not in console.text()


def test_a_change_while_shown_voids_what_was_seen(broker: FakeBroker, console: Console) -> None:
    """Another digest under the same id: said, and drawn anew with an empty input (I-14)."""
    broker.add(action_item(WRITE, number=7))
    console.expect("type y and Enter")
    console.type("y")
    changed = action_item(b"rm -r /srv", number=7)
    broker.add(changed)
    console.expect("what you saw is void")
    console.expect("rm -r /srv")
    console.write(b"\r")
    never_decided(console, broker)


def test_what_somebody_else_decided_goes_away(broker: FakeBroker, console: Console) -> None:
    """Said in words."""
    item = action_item(WRITE)
    broker.add(item)
    console.expect("type y and Enter")
    broker.take(item.id, "denied")
    console.expect(f"{item.id}: it is denied now")
    console.expect("nothing waits for you")


def test_what_expires_while_shown_goes_away(broker: FakeBroker, console: Console) -> None:
    """By the broker's clock, also where its word is late."""
    broker.add(action_item(WRITE, lives=timedelta(seconds=2)))
    console.expect("type y and Enter")
    console.expect("left |")
    console.expect("it expired", 6)


def test_a_refusal_by_the_broker_is_told(broker: FakeBroker, console: Console) -> None:
    """And the item is not asked again."""
    broker.refuse_decisions = "own_request"
    broker.add(action_item(WRITE))
    console.expect("type y and Enter")
    console.type("y\r")
    console.expect("not decided: not by you")
    console.expect("nothing waits for you")


def test_explain_and_skip(broker: FakeBroker, console: Console) -> None:
    """Explain keeps the question; skip passes it on."""
    broker.add(action_item(WRITE, number=1))
    broker.add(action_item(b"touch /srv/second", number=2))
    console.expect("of 2 waiting")
    console.type("e")
    console.expect("WHY A PERSON IS ASKED")
    console.type("s")
    console.expect("touch /srv/second")
    assert broker.decisions == []


def test_once_leaves_when_nothing_waits(broker: FakeBroker, person: Person) -> None:
    """With nothing there, and after the last one."""
    with on_terminal(person.profile.directory, "approve", "--once") as console:
        assert console.wait() == 0
    broker.add(action_item(WRITE))
    with on_terminal(person.profile.directory, "approve", "--once") as console:
        console.expect("type y and Enter")
        console.type("y\r")
        assert console.wait() == 0
    assert len(broker.decisions) == 1


def test_one_by_its_id(broker: FakeBroker, person: Person) -> None:
    """Only that; one that does not wait is said."""
    first, second = action_item(WRITE, number=1), action_item(b"touch /srv/second", number=2)
    broker.add(first)
    broker.add(second)
    with on_terminal(person.profile.directory, "approve", second.id) as console:
        console.expect("touch /srv/second")
        console.type("y\r")
        assert console.wait() == 0
    assert [decision.id for decision in broker.decisions] == [second.id]
    with on_terminal(person.profile.directory, "approve", "ac_nothing") as console:
        assert console.wait() == 1
        console.expect("does not wait")


def test_without_a_terminal_nothing_is_decided(broker: FakeBroker, person: Person) -> None:
    """A pipe is refused with a sentence; `-o json` lists (I-15)."""
    item = action_item(WRITE)
    broker.add(item)
    command = [GRANTCTL, "--profile", str(person.profile.directory), "approve"]
    piped = subprocess.run(command, input=b"y\r" * 50, capture_output=True, check=False, timeout=20)
    assert piped.returncode == 2
    assert b"terminal" in piped.stderr
    listed = subprocess.run([*command, "-o", "json"], input=b"y\r", capture_output=True, check=True, timeout=20)
    assert json.loads(listed.stdout)["id"] == item.id
    one = subprocess.run([*command, item.id, "-o", "json"], capture_output=True, check=True, timeout=20)
    assert json.loads(one.stdout)["action"]["login"] == "deploy"
    assert broker.decisions == []


def test_no_colour_where_it_is_not_wanted(broker: FakeBroker, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR: the words say it all."""
    broker.add(action_item(b"reboot", command_class="reboot"))
    command = [GRANTCTL, "--profile", str(person.profile.directory), "approve"]
    with Console(command, env={"NO_COLOR": "1"}) as console:
        console.expect("REBOOT")
        assert b"\x1b[1" not in console.raw
        assert b"\x1b[3" not in console.raw


@pytest.mark.terminal
def test_in_tmux(broker: FakeBroker, person: Person, tmp_path: Path) -> None:
    """What most approvers sit at: shown whole, approved by keys sent one by one."""
    item = action_item(WRITE, reason="release 14")
    broker.add(item)
    socket = f"{tmp_path}/tmux"

    def tmux(*words: str) -> str:
        env = {name: value for name, value in os.environ.items() if name != "TMUX"}
        return subprocess.run(
            ["tmux", "-S", socket, *words], check=True, capture_output=True, text=True, env=env
        ).stdout

    directory = str(person.profile.directory)
    tmux("new-session", "-d", "-x", "90", "-y", "48", f"exec {GRANTCTL} --profile {directory} approve --once")
    try:
        deadline = time.monotonic() + 15
        while "type y and Enter" not in (screen := tmux("capture-pane", "-p")):
            assert time.monotonic() < deadline, screen
            time.sleep(0.1)
        time.sleep(READING_SECONDS)
        for key in ("y", "Enter"):
            tmux("send-keys", key)
            time.sleep(0.1)
        approved(broker, item)
    finally:
        subprocess.run(["tmux", "-S", socket, "kill-server"], check=False, capture_output=True)


@pytest.mark.parametrize("encoding", ["ascii", "ascii:replace", "latin-1", "cp437"])
def test_a_terminal_that_is_not_utf8_decides_nothing(
    broker: FakeBroker, person: Person, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """I-11: where a mark cannot be written as itself, two different commands could look the same: nothing is shown."""
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    broker.add(action_item(b"rm -rf  /x"))
    with on_terminal(person.profile.directory, "approve") as console:
        assert console.wait() != 0
        assert "deciding needs a terminal in UTF-8" in console.text()
        assert "LC_ALL=C.UTF-8" in console.text()
        assert "rm -rf" not in console.text()
