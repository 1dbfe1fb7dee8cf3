"""The gated shell through the door: every line an action, nothing else on the target (I-16, I-18, I-23, I-30)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import asyncssh
import pytest
from asyncssh.packet import String

from broker.core.action import ActionState
from broker.core.approval import Verdict
from broker.core.grant import EndReason
from broker.proxy import limits
from broker.service import pump
from broker.service.ports import PolicyVersion
from policy.engine import shipped_policy
from policy.ruleset import Ruleset
from recorder.grec import Kind
from recorder.outline import outline_of
from tests.broker.proxy.shell.world import SHELL, Seat, actions, allowed, awaiting, recorded
from tests.broker.proxy.world import Gate, until
from tests.broker.rpc.agent import decide, identified
from tests.broker.rpc.world import TENANT
from tests.pace import Since

EYES = """
@id("four.eyes") @watched
permit (principal, action == Action::"run", resource) when { principal.teams.containsAny(resource.teams) };
"""


async def test_a_line_is_an_action(front: Gate) -> None:
    """I-18: proposed, decided, recorded like any other; its exact bytes run."""
    seat = await Seat.taken(front)
    assert front.house.targets.plans == []
    await seat.enter("echo one; echo two")
    rows = await seat.prompt(2)
    assert rows[-3:-1] == ["one", "two"]
    assert [(a.command, a.state) for a in await actions(front)] == [(b"echo one; echo two", ActionState.SUCCEEDED)]
    await seat.enter("ls /nowhere-at-all")
    rows = await seat.sees("[2]")
    await seat.enter("exit")
    assert await seat.left() == 2


async def test_a_write_waits_in_place_and_runs_when_allowed(front: Gate, folder: Path) -> None:
    """The wait is shown with its time; a person allows it."""
    seat = await Seat.taken(front)
    made = f"{folder}/made"
    await seat.enter(f"touch {made}")
    await seat.sees("waiting for a person")
    action = await awaiting(front)
    await decide(front.house, action.id, Verdict.APPROVE)
    await seat.sees("allowed")
    await seat.prompt(2)
    assert (await actions(front))[-1].state is ActionState.SUCCEEDED


async def test_ctrl_c_takes_back_what_waits(front: Gate) -> None:
    """F06: nobody is asked any more for what nobody wants any more."""
    seat = await Seat.taken(front)
    await seat.enter("touch /nowhere")
    await seat.sees("waiting for a person")
    await awaiting(front)
    seat.type(b"\x03")
    await seat.sees("cancelled")
    await seat.prompt(2)
    assert (await actions(front))[-1].state is ActionState.CANCELLED
    assert front.house.targets.plans == []


async def test_leaving_takes_back_what_waits(front: Gate) -> None:
    """F06: also where the connection breaks."""
    seat = await Seat.taken(front)
    await seat.enter("touch /nowhere")
    action = await awaiting(front)
    seat.client.abort()
    await until(lambda: not front.door_busy())
    assert (await actions(front))[-1].id == action.id
    assert (await actions(front))[-1].state is ActionState.CANCELLED


async def test_what_is_not_allowed_is_told_and_the_shell_goes_on(front: Gate) -> None:
    """Denied by policy, refused by the classifier: in words, and nothing on the target."""
    seat = await Seat.taken(front)
    await seat.enter("apt-get install -y hello")
    await seat.sees("policy does not allow this")
    await seat.enter("echo )")
    await seat.sees("not a command that can be decided")
    assert front.house.targets.plans == []
    await seat.enter("echo on")
    await seat.until(lambda rows: "on" in rows)


async def test_the_directory_goes_from_line_to_line(front: Gate, folder: Path) -> None:
    """`cd` is a read; later lines carry what it told as theirs, and the person sees it in the prompt."""
    (folder / "inner").mkdir()
    seat = await Seat.taken(front)
    await seat.enter(f"cd {folder}")
    await seat.sees(f"{folder} $")
    await seat.enter("cd inner")
    await seat.sees(f"{folder}/inner $")
    await seat.enter("pwd")
    await seat.until(lambda rows: f"{folder}/inner" in rows)
    await seat.enter("cd -")
    await seat.until(lambda rows: rows[-1].endswith(f"{folder} $"))
    assert [action.cwd for action in await actions(front)] == [
        "", str(folder), f"{folder}/inner", f"{folder}/inner"
    ]  # fmt: skip
    await seat.enter("cd /nowhere-at-all")
    await seat.sees("No such file or directory")
    assert all(action.command_class.word == "read" for action in await actions(front))


@pytest.mark.parametrize("told", [b"x\\ny", b"/x\\033]0;y\\007", b"relative", b"/a\\nb", b"", b"/\\377"])
async def test_a_target_that_lies_about_its_directory_is_not_believed(front: Gate, told: bytes) -> None:
    """I-27, F38: only an absolute path that can be shown is kept."""
    seat = await Seat.taken(front)
    front.house.targets.instead = f"printf '{told.decode()}\\n'".encode()
    await seat.enter("cd /tmp")
    await seat.sees("no directory that can be shown")
    assert b"\x1b]0;" not in seat.raw


async def test_exported_variables_are_part_of_the_line(front: Gate) -> None:
    """F16, I-34: what runs is what is decided and recorded; a name that programs see raises the class."""
    seat = await Seat.taken(front)
    await seat.enter("export LANG='C'")
    await seat.enter("echo $LANG")
    await seat.until(lambda rows: "C" in rows)
    assert (await actions(front))[-1].command == b"export LANG='C'; echo $LANG"
    await seat.enter("export LD_PRELOAD=/tmp/x.so")
    await seat.sees("every line is at least execute")
    await seat.enter("echo now")
    action = await awaiting(front)
    assert (action.command, action.opaque) == (b"export LANG='C' LD_PRELOAD='/tmp/x.so'; echo now", True)
    seat.type(b"\x03")
    await seat.sees("cancelled")
    await seat.enter("unset LD_PRELOAD")
    await seat.enter("echo later")
    await seat.until(lambda rows: "later" in rows)


async def test_what_is_typed_while_a_line_runs_runs_nothing(front: Gate) -> None:
    """It stands in the next line, for the person to enter; it never reaches the target."""
    seat = await Seat.taken(front)
    await seat.enter("sleep 0.5")
    await until(lambda: len(front.house.targets.plans) == 1)
    seat.type("echo ahead", "\r")
    await seat.until(lambda rows: "$ echo ahead" in rows[-1])
    assert len(await actions(front)) == 1
    seat.type("\r")
    await seat.until(lambda rows: "ahead" in rows)


async def test_ctrl_c_interrupts_and_twice_cuts(front: Gate) -> None:
    """On the target; what ignores the signal is ended by the second."""
    seat = await Seat.taken(front)
    await seat.enter("sleep 60")
    await until(lambda: len(front.house.targets.plans) == 1)
    seat.type(b"\x03")
    await seat.sees("[130]")
    front.house.targets.deaf = True
    await seat.enter("sleep 61")
    await until(lambda: len(front.house.targets.plans) == 2)
    seat.type(b"\x03")
    await asyncio.sleep(0.1)
    seat.type(b"\x03")
    await seat.sees("ended: cancelled")
    assert (await actions(front))[-1].state is ActionState.CUT


async def test_a_program_with_a_terminal_has_the_keyboard_as_long_as_it_runs(front: Gate) -> None:
    """Its keys are its own, its size follows; afterwards they are the editor's again."""
    seat = await Seat.taken(front)
    await seat.enter("tty stty size; head -n 1; echo got")
    await allowed(front)
    await seat.sees("30 160")
    seat.type("hello", "\r")
    await seat.until(lambda rows: rows.count("hello") >= 1 and "got" in rows)
    await seat.prompt(2)
    plan = front.house.targets.plans[-1]
    assert plan.pty is not None
    assert plan.env["TERM"] == "xterm-256color"
    seat.type("echo back", "\r")
    await seat.until(lambda rows: "back" in rows)
    assert front.house.targets.plans[-1].pty is None


async def test_output_without_a_line_end_does_not_eat_the_prompt(front: Gate) -> None:
    """The prompt begins a row of its own; what a program left on is put back."""
    seat = await Seat.taken(front)
    await seat.enter(r"printf '\033[31mred\033[?1049hx'")
    await seat.until(lambda _: b"\x1b[?1049l" in seat.raw)
    rows = await seat.until(lambda rows: rows[-1].endswith("$"))
    assert rows[-1].startswith("deploy@web1")
    assert seat.screen.cursor.attrs.fg == "default"


async def test_the_whole_shell_is_recorded_as_it_was_shown(front: Gate) -> None:
    """I-30: one recording of the terminal beside one of each line; marks name the actions."""
    seat = await Seat.taken(front)
    await seat.enter("echo shown")
    await seat.prompt(2)
    await seat.enter("exit")
    assert await seat.left() == 0
    await until(lambda: not front.door_busy())
    sessions, events = await recorded(front)
    assert [session.kind for session in sessions] == ["exec", "shell"]
    assert all(session.recording_state == "final" for session in sessions)
    shell = events[sessions[1].id]
    assert b"".join(e.payload for e in shell if e.kind == Kind.OUT) == seat.raw
    marks = [json.loads(e.payload) for e in shell if e.kind == Kind.MARK]
    assert [mark["audit"] for mark in marks] == [(await actions(front))[0].id]
    assert Kind.IN not in {e.kind for e in shell}
    admin = await identified(front.house, "admin")
    reader, asked = await front.house.cases.session.review(admin, sessions[1].id, "a test")
    (command,) = outline_of(reader.events(), asked).commands
    assert (command.text, command.verdict) == ("echo shown", "read: unattended")
    names = await front.house.events()
    assert names.count("session.opened") == names.count("session.closed") == 2


async def test_without_the_flag_there_is_no_shell(front: Gate) -> None:
    """I-20: refused and audited, as before."""
    client = await front.connect(await front.admit())
    with pytest.raises(asyncssh.ChannelOpenError):
        await client.create_process(term_type="xterm", encoding=None)
    assert await front.features() == ["shell"]
    client.abort()


async def test_the_end_of_the_access_ends_the_shell_with_its_reason(front: Gate) -> None:
    """I-01, I-02: revoked, cut within a second, the person is told; the line that ran is cut with it."""
    seat = await Seat.taken(front)
    await seat.enter("sleep 60")
    await until(lambda: len(front.house.targets.plans) == 1)
    grant = (await actions(front))[0].grant_id
    since = Since()
    await front.house.cases.ending.end(TENANT, grant, EndReason.REVOKED, by="")
    assert await seat.left() == 126
    assert since.s() < 2
    assert any("ended: revoked" in row for row in seat.rows())
    assert (await actions(front))[0].state is ActionState.CUT
    assert front.house.world.live.count() == 0


async def test_warnings_stand_above_the_line(front: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that is typed stays; the access ends on time."""
    monkeypatch.setattr(pump, "WARN_AT", (2.0,))
    seat = await Seat.taken(front, ttl_s=4)
    seat.type("echo draf")
    rows = await seat.sees("access ends in 2 s")
    assert rows[-1].split("$ ")[1].startswith("echo draf")
    assert await seat.left() == 126
    assert any("ended: expired" in row for row in seat.rows())


async def test_an_idle_prompt_ends(front: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that somebody left open does not stay open."""
    monkeypatch.setattr(limits, "SHELL_IDLE_S", 0.3)
    seat = await Seat.taken(front)
    assert await seat.left() == 0
    assert any("ended: idle" in row for row in seat.rows())


async def test_tab_completes_programs_and_remote_paths(front: Gate, folder: Path) -> None:
    """A listing is a read through the gate; names that a terminal would obey are left out, options are not typed."""
    for name in ("alpha one", "alpha two", "-rf", "x\x1b]0;y\x07"):
        (folder / name).touch()
    seat = await Seat.taken(front)
    seat.type("journalct", "\t")
    await seat.sees("$ journalctl")
    seat.type(b"\x15", f"cat {folder}/al", "\t")
    await seat.sees(f"cat {folder}/alpha\\ ")
    seat.type("\t")
    await seat.sees("alpha one  alpha two")
    listed = await actions(front)
    assert [action.command for action in listed] == [f"ls -1Ap -- '{folder}/'".encode()]
    seat.type("t", "\t")
    await seat.sees("alpha\\ two")
    seat.type(b"\x15", f"cd {folder}", "\r")
    await seat.prompt(2)
    seat.type("cat ", "\t", "\t")
    await seat.sees("-rf")
    seat.type("-", "\t")
    await seat.sees("cat ./-rf")
    assert b"\x1b]0;" not in seat.raw


async def test_completion_never_asks_a_person(front: Gate) -> None:
    """Where a read is not free, Tab knows nothing."""
    seat = await Seat.taken(front)
    await seat.enter("export LD_PRELOAD=/x")
    await seat.sees("kept")
    seat.type("cat $(", "\t")
    seat.type(b"\x15", "cat /tm", "\t")
    await asyncio.sleep(0.2)
    assert not [action for action in await actions(front) if action.state is ActionState.AWAITING]


async def test_the_class_is_shown_before_enter(front: Gate) -> None:
    """By the rules that decide: also what makes a line never run."""
    seat = await Seat.taken(front)
    seat.type("ls")
    await seat.sees("$ ls  read")
    seat.type(b"\x15", "rm -r x")
    await seat.sees("$ rm -r x  write")
    seat.type(b"\x15", "$x y")
    await seat.sees("execute, a person looks")
    assert await actions(front) == []


async def test_help_says_what_runs_unasked(front: Gate) -> None:
    """Tier, ceiling, time; from the very policy that decides."""
    seat = await Seat.taken(front)
    await seat.enter("help")
    await seat.sees("tier approval, up to execute")
    await seat.sees("runs without asking: read;")


async def test_a_second_request_after_the_shell_is_refused(front: Gate) -> None:
    """I-22: neither an exec nor another shell."""
    shown = await front.admit(flags=SHELL)
    client = await front.entered(shown)
    await client.session()
    client.request(b"shell")
    assert (await client.next(99, 100))[0] == 99
    client.request(b"exec", String(b"id"))
    client.request(b"shell")
    assert [(await client.next(99, 100))[0] for _ in range(2)] == [100, 100]
    client.abort()


async def test_who_watches_the_shell_watches_its_lines(front: Gate) -> None:
    """F14: where lines must be watched, watching the shell around them is enough; a pause there holds a line."""
    world, cases = front.house.world, front.house.cases
    sources = {**shipped_policy(), "eyes.cedar": EYES}
    version = PolicyVersion(tenant=TENANT, version=Ruleset.load(sources).version, sources=sources, put_by="",
                            put_at=world.clock.now())  # fmt: skip
    await world.store.run(TENANT, lambda tx: tx.policies.put(version))
    seat = await Seat.taken(front)
    (shell,) = [live for live in world.live.all() if live.tenant == TENANT]
    await seat.enter("echo one")
    await seat.sees("held: this must be watched")
    assert front.house.targets.plans == []
    manager = await identified(front.house, "manager")
    async with cases.watch.watching(manager, shell.session, "a test", only_look=False) as watch:
        await seat.prompt(2)
        await cases.watch.pause(watch)
        await seat.enter("echo two")
        await seat.sees("held: an operator paused your input")
        assert len(front.house.targets.plans) == 1
        await cases.watch.resume(watch)
        await seat.prompt(3)
    shown = b"".join(item.event.payload for item in shell.feed.snapshot().events if item.event.kind == Kind.OUT)
    assert b"one" in shown
    assert b"two" in shown


async def test_a_dumb_terminal_is_sent_text_alone(front: Gate, folder: Path) -> None:
    """TERM=dumb: prompt, editing, a wait and a refusal without one escape sequence."""
    seat = await Seat.taken(front, term="dumb")
    await seat.until(lambda rows: rows[-1].endswith("$"))
    seat.type("echo ab", "\x7f", "c", "\x01", "\x05", "\r")
    await seat.until(lambda rows: "ac" in rows and rows[-1].endswith("$"))
    seat.type(f"touch {folder}/made", "\r")
    await allowed(front)
    await seat.sees("grantd: allowed")
    await seat.until(lambda rows: rows[-1].endswith("$"))
    seat.type("exit", "\r")
    assert await seat.left() == 0
    assert set(seat.raw) <= {*range(32, 127), *b"\r\n\b\a"}


async def test_the_prompt_fits_a_window_that_changed(front: Gate) -> None:
    """Made narrow it says less, made wide again it says all; what is typed stays."""
    seat = await Seat.taken(front)
    seat.type("echo draft")
    await seat.sees("approval <=")
    seat.screen.resize(30, 40)
    seat.process.change_terminal_size(40, 30)
    await seat.until(lambda rows: "approval <=" not in rows[-1] and rows[-1].endswith("echo draft"))
    seat.screen.resize(30, 160)
    seat.process.change_terminal_size(160, 30)
    await seat.until(lambda rows: "approval <=" in rows[-1] and "echo draft" in rows[-1])
