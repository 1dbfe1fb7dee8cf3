"""The recording of a command holds, byte for byte, what a witness on the target saw of it (I-30).

The witness stands in the login's shell and is no part of grantd. `python -m pytest -s tests/e2e/test_tap*.py` prints
what was compared.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from grantd.cli.sshfiles import SshFiles
from tests.agents.console import Console
from tests.e2e.stage import FREE, House
from tests.e2e.tap import CHAN, HIDDEN, IN, OUT, RESIZE, Tapped, spoken
from tests.e2e.test_stock_clients import pending

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-tap")]
MIB = 1 << 20


def ssh(house: House, files: SshFiles, *words: str) -> list[str]:
    """The words of a stock ssh; options first, the command behind `--`."""
    at = words.index("--") if "--" in words else len(words)
    base = ["ssh", *house.ssh_options(files), "-p", str(files.port)]
    return [*base, *words[:at], f"{files.user}@{files.host}", *words[at + 1 :]]


def test_large_binary_output(tapped: Tapped, tmp_path: Path) -> None:
    """A read of more than 8 MiB, every byte value in it."""
    (tmp_path / "big").write_bytes(bytes(range(256)) * 4096 + os.urandom(8 * MIB + 1))
    grant = tapped.house.grant()
    ran = spoken(ssh(tapped.house, tapped.house.ssh_files(grant), "--", f"cat {tmp_path}/big"))
    assert ran.returncode == 0, ran.stderr
    ((tap, _),) = tapped.agree("exec", grant)
    assert ran.stdout == tap.kept("out") == (tmp_path / "big").read_bytes()


def test_errors_between_output(tapped: Tapped) -> None:
    """Two streams in turn: each whole and in its order."""
    grant = tapped.house.grant()
    line = "for i in $(seq 3000); do echo out $i; echo err $i >&2; done; exit 7"
    ran = spoken(ssh(tapped.house, tapped.house.ssh_files(grant), "--", line))
    ((tap, _),) = tapped.agree("exec, stderr between", grant)
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, tap.kept("out"), tap.err)


@pytest.mark.parametrize("line", ["sha256sum", "tee {}/copy", "cat"], ids=["read", "write", "both ways"])
def test_stdin_from_a_pipe(tapped: Tapped, tmp_path: Path, line: str) -> None:
    """8 MiB in, for a pooled read and a command with a certificate of its own."""
    given, grant = os.urandom(8 * MIB + 3), tapped.house.grant(flags=("stream_stdin",))
    words = ssh(tapped.house, tapped.house.ssh_files(grant), "--", line.format(tmp_path))
    ran = spoken(words, stdin=given)
    ((tap, recorded),) = tapped.agree(f"exec, stdin piped ({line.partition(' ')[0]})", grant)
    assert ran.returncode == 0, ran.stderr
    assert tap.kept("in") == given
    (told,) = (note for note in recorded.notes(CHAN) if note["type"] == "eof")
    assert told["bytes"] == len(given)


def script(folder: Path, text: str) -> str:
    """The words that run a text which nobody reads beforehand: a person decides, and it gets the keyboard."""
    (folder / "script").write_text(text + "\n")
    return f"bash {folder}/script"


def test_a_terminal_with_a_keyboard_and_another_size(tapped: Tapped, tmp_path: Path) -> None:
    """What the pty's master saw, keys, echo and control characters; each size."""
    grant = tapped.house.grant(flags=("stream_stdin",))
    line = script(tmp_path, "stty size; read -r a; echo got $a; read -rs b; echo; stty size; exit 3")
    words = ssh(tapped.house, tapped.house.ssh_files(grant), "-tt", "--", line)
    with Console(words, env={"TERM": "xterm"}, columns=90, rows=20) as console:
        tapped.house.decide(pending(tapped.house, line))
        console.expect("20 90")
        console.write(b"wrong\x15right \xc3\xa4\t\x1b[A\x7f\r")
        console.expect("got")
        console.resize(101, 31)
        console.read(0.3)
        console.write(b"hunter2\r")
        assert console.wait() == 3
        assert b"31 101" in console.raw
    ((tap, recorded),) = tapped.agree("exec in a terminal", grant)
    assert b"hunter2" in tap.kept("in"), "everything is kept, as the operator said"
    assert recorded.stream(RESIZE) == tap.kept("sizes")
    assert struct.unpack(">4H", tap.kept("sizes")) == (90, 20, 101, 31)


def test_a_terminal_without_a_keyboard(tapped: Tapped) -> None:
    """A read in a terminal: nothing typed arrives there, and Ctrl-C ends it."""
    grant = tapped.house.grant()
    words = ssh(tapped.house, tapped.house.ssh_files(grant), "-tt", "--", "echo ready; sleep 60")
    with Console(words, env={"TERM": "xterm"}) as console:
        console.expect("ready")
        console.write(b"typed\r")
        console.read(0.3)
        console.write(b"\x03")
        console.wait()
    ((tap, recorded),) = tapped.agree("exec in a terminal, no keyboard", grant, keeps_input=False)
    assert tap.kept("in") == b"\x03"
    assert recorded.stream(IN) == b""
    assert any(b'"signal": "INT"' in event.payload for event in recorded.events)


def test_lines_of_a_gated_shell(tapped: Tapped, tmp_path: Path) -> None:
    """Each line of `ssh -T < script` is a session of its own, and is what ran there."""
    grant = tapped.house.grant(flags=("shell",))
    script = f"cd {tmp_path}\necho a > made\ncat made; ls /nowhere\nprintf '\\0\\377\\001'\n"
    ran = spoken(ssh(tapped.house, tapped.house.ssh_files(grant), "-T"), stdin=script.encode())
    pairs = tapped.agree("gated shell, a line", grant, 4)
    shown = b"".join(tap.kept("out") for tap, _ in pairs[1:])
    assert ran.stdout == shown == b"a\n\0\377\1"


def test_a_line_of_a_gated_shell_in_a_terminal(tapped: Tapped, tmp_path: Path) -> None:
    """`tty LINE` at the prompt: the keyboard is the line's as long as it runs."""
    grant = tapped.house.grant(flags=("shell",))
    words = ssh(tapped.house, tapped.house.ssh_files(grant))
    with Console(words, env={"TERM": "vt220"}, columns=120, rows=30) as console:
        console.expect("~ $")
        line = script(tmp_path, "echo ready; read a; echo got $a")
        console.type(f"tty {line}\r")
        tapped.house.decide(pending(tapped.house, line))
        console.expect("\nready")
        console.type("secret\r")
        console.expect("got secret")
        console.type("exit\r")
        console.wait()
    ((tap, _),) = tapped.agree("gated shell, a line in a terminal", grant)
    assert tap.kept("in").endswith(b"secret\r")


def test_a_raw_shell(tapped: Tapped) -> None:
    """Everything typed and everything shown, with a size that changes."""
    grant = tapped.house.grant(flags=("raw_shell",))
    words = ssh(tapped.house, tapped.house.ssh_files(grant), "-tt")
    with Console(words, env={"TERM": "vt220"}, columns=100, rows=24) as console:
        tapped.house.decide(pending(tapped.house, "bash --login"))
        console.type("echo $((40+2)); head -c 100000 /dev/urandom | base64; echo end-of-it\r")
        console.expect("\nend-of-it")
        console.resize(80, 30)
        console.type("stty size; exit 5\r")
        console.expect("30 80")
        assert console.wait() == 5
    ((tap, recorded),) = tapped.agree("raw shell", grant)
    assert recorded.kind == "raw_shell"
    assert recorded.stream(RESIZE) == tap.kept("sizes")


def test_over_grpc(tapped: Tapped, tmp_path: Path) -> None:
    """The agents' own way in is no other: streams and declared stdin."""
    grant, given = tapped.house.grant(), os.urandom(60_000)
    running = tapped.house.run(grant, f"tee {tmp_path}/copy", stdin=given)
    assert running.finished().exit_status == 0
    ((tap, _),) = tapped.agree("Execute, declared stdin", grant)
    assert tap.kept("in") == given == running.output()


@pytest.mark.parametrize("keeps", ["echoed", "off"])
def test_less_is_kept_where_the_operator_says_so(tapped_less: Tapped, keeps: str, tmp_path: Path) -> None:
    """`echoed`: the line that came back, and never the one that did not. `off`: names of keys. Output always."""
    tapped_less.restart(keeps)
    house = tapped_less.house
    grant = house.grant(flags=("stream_stdin",))
    line = script(tmp_path, "echo ready; read a; read -rsp Name: b; echo; echo $a")
    words = ssh(house, house.ssh_files(grant), "-tt", "--", line)
    with Console(words, env={"TERM": "xterm"}) as console:
        house.decide(pending(house, line))
        console.expect("ready")
        console.type("visible\r")
        console.expect("Name:")
        console.type("hunter2\r")
        console.expect("\nvisible")
        console.wait()
    ((tap, recorded),) = tapped_less.agree(f"exec in a terminal, input={keeps}", grant, keeps_input=False)
    assert tap.kept("in") == b"visible\rhunter2\r"
    assert recorded.stream(IN) == (b"visible\r" if keeps == "echoed" else b"")
    assert recorded.stream(HIDDEN).count(b"\x03ENTER") == 2
    assert b"hunter2" not in b"".join(event.payload for event in recorded.events)
    piped = house.grant(FREE, flags=("stream_stdin",))
    assert spoken(ssh(house, house.ssh_files(piped), "--", "cat"), stdin=b"hunter2").stdout == b"hunter2"
    ((tap, recorded),) = tapped_less.agree(f"exec, stdin piped, input={keeps}", piped, keeps_input=False)
    (told,) = (note for note in recorded.notes(CHAN) if note["type"] == "eof")
    assert (told["bytes"], recorded.stream(IN), tap.kept("in")) == (7, b"", b"hunter2")
    assert recorded.stream(OUT) == b"hunter2", "cat wrote it"
