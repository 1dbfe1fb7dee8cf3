"""The daemon's commands: what tools rely on (classify, verify), and that every end of a command is a plain line."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result

from broker import cli
from broker.cli.plainly import plainly
from broker.core.errors import SignerFault, invalid
from recorder.grec import Kind
from tests.recorder.recordings import DONE, meta, store

pytestmark = pytest.mark.usefixtures("own_logs")
PROGRAM: Final = str(Path(sys.executable).parent / "grantd")
HEAVY: Final = (
    "grpc",
    "asyncssh",
    "sqlalchemy",
    "alembic",
    "cryptography.x509",
    "pydantic",
    "uvloop",
    "jwt",
    "cedarpy",
)
WORDS: Final = {"read", "write", "execute", "install", "reboot", "refused"}


def run(*words: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """grantd as a process."""
    environ = {**os.environ, **(env or {})}
    done = subprocess.run([PROGRAM, *words], input=stdin, capture_output=True, check=False, timeout=30, env=environ)
    out, err = done.stdout.decode(), done.stderr.decode()
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def in_process(*words: str) -> Result:
    """grantd within this process."""
    return CliRunner().invoke(cli.grantd, list(words), prog_name="grantd")


# ---- classify
def test_classify_answers_each_line_in_order() -> None:
    """One word a line, whatever the line is; a lone surrogate stands for a byte that is not UTF-8 and is refused."""
    lines = [
        '"uname -a"', '"rm -rf /srv/x"', '"reboot"', '"apt-get install -y nginx"',
        '"\\udc80"', '"ls \\ud800"', "not json", '["ls"]', "7", "", '"ls"x', json.dumps("ls\0"), '"uname -a"',
    ]  # fmt: skip
    done = run("classify", stdin="\n".join(lines).encode())
    answers = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert answers[:4] == ["read", "write", "reboot", "install"]
    assert answers[4:] == ["refused"] * 8 + ["read"]


@pytest.mark.parametrize("raw", [b"\xff\xfe\n", b'"\xff"\n', b'"ls\xe9"\n', b"\0\n", b'"a\rb"\n', b'"\xe2\x80\xa8"\n'])
def test_classify_has_one_answer_a_line_for_any_bytes(raw: bytes) -> None:
    """Bytes that are no text do not end it, and no other character than a newline ends a line."""
    done = run("classify", stdin=raw + b'"uname"\n', env={"PYTHONIOENCODING": "utf-8:strict"})
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first in WORDS - {"read"}
    assert second == "read"


def test_classify_flushes_each_answer() -> None:
    """A tool that asks one line at a time gets each answer before it asks again."""
    with subprocess.Popen([PROGRAM, "classify"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for command, word in (("uname -a", b"read\n"), ("reboot", b"reboot\n"), ("uname", b"read\n")):
            process.stdin.write(json.dumps(command).encode() + b"\n")
            process.stdin.flush()
            assert select.select([process.stdout], [], [], 20)[0]
            assert process.stdout.readline() == word
        process.stdin.close()
        assert process.wait(10) == 0


def test_explain_is_one_json_object_a_line() -> None:
    """Every part with its class, the rule that said so, and where it stands."""
    done = run("classify", "--explain", stdin=b'"uname -a; reboot"\n"\\udc80"\n')
    both, bad = map(json.loads, done.stdout.splitlines())
    assert both["class"] == "reboot"
    assert [part["class"] for part in both["parts"]] == ["read", "reboot"]
    assert bad["class"] == "refused"
    assert bad["rule"]


@pytest.mark.parametrize("words", [["classify"], ["verify", __file__], ["--help"]])
def test_the_light_commands_load_no_heavy_library(words: list[str]) -> None:
    """Tools call them often, and a verifier must need no daemon: they start without what the daemon needs."""
    script = (
        "import json, sys\nfrom broker.cli import grantd\n"
        f"try:\n    grantd({words!r})\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input="", capture_output=True, text=True, check=True, timeout=30
    )
    loaded = set(json.loads(done.stderr))
    assert "broker.cli" in loaded
    assert not loaded & {*HEAVY, "asyncio"}


# ---- verify
@pytest.fixture
async def recording(tmp_path: Path) -> Path:
    """The directory of a finished one."""
    (tmp_path / "recordings").mkdir()
    with store(tmp_path / "recordings") as recordings:
        sink = await recordings.create(meta())
        await sink.event(Kind.OUT, 0, b"Linux\n")
        await sink.close(DONE)
    return next((tmp_path / "recordings").rglob("p*.grec")).parent


def test_verify_says_yes_and_no(recording: Path, tmp_path: Path) -> None:
    """Exit 0 if all is well, 1 if anything is not; a readable line for each file either way."""
    broken = tmp_path / "broken"
    shutil.copytree(recording, broken)
    victim = next(broken.glob("p*.grec"))
    victim.chmod(0o600)
    victim.write_bytes(victim.read_bytes()[:-20])
    good = run("verify", str(recording))
    assert (good.returncode, good.stderr) == (0, "")
    assert str(recording) in good.stdout
    both = run("verify", str(recording), str(broken))
    assert both.returncode == 1
    assert str(recording) in both.stdout
    assert str(broken) in both.stdout
    assert "Traceback" not in both.stderr


@pytest.mark.parametrize("content", [b"", b"\0", b"nonsense\n", b"\xff" * 5_000, b"{}", b"\x1b[2J"])
def test_verify_of_anything_else_is_a_no(tmp_path: Path, content: bytes) -> None:
    """Never a traceback, never a yes, never an escape on the terminal."""
    file = tmp_path / "file"
    file.write_bytes(content)
    done = run("verify", str(file))
    assert done.returncode == 1
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_verify_without_a_file_is_a_mistake_of_use() -> None:
    """2, as everywhere."""
    assert run("verify").returncode == 2
    assert run("verify", "/nowhere/at/all").returncode == 2


# ---- how commands end
def _raise(error: BaseException) -> None:
    raise error


ENDS: Final[list[tuple[Callable[[], BaseException], str]]] = [
    (lambda: invalid("x", "no such thing", "try another"), "grantd: no such thing\n  try another\n"),
    (lambda: SignerFault("the signer did not start"), "grantd: the signer did not start\n"),
    (lambda: PermissionError(13, "Permission denied", "/etc/x"), "grantd: /etc/x: Permission denied\n"),
    (lambda: OSError(28, "No space left on device"), "grantd: No space left on device\n"),
    (lambda: OSError("odd"), "grantd: odd\n"),
    (lambda: SignerFault("bad \x1b[31m name"), "grantd: bad \\x1b[31m name\n"),
    (lambda: ExceptionGroup("", [ExceptionGroup("", [SignerFault("inner")])]), "grantd: inner\n"),
]


@pytest.mark.parametrize(("make", "said"), ENDS, ids=[said.strip() for _, said in ENDS])
def test_every_end_is_plain(make: Callable[[], BaseException], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, one way out, status 1, no traceback, no escape."""
    with pytest.raises(SystemExit) as caught, plainly():
        _raise(make())
    assert caught.value.code == 1
    assert capsys.readouterr().err == said


def test_a_bug_is_plain_for_people_and_whole_in_the_log() -> None:
    """The traceback is not lost: one JSON line of the log holds it."""
    script = "from broker.cli.plainly import plainly, quiet\nquiet()\nwith plainly():\n    {}['canary']\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)
    logged, told = done.stderr.splitlines()
    assert done.returncode == 1
    assert told == "grantd: a bug in grantd (KeyError); the log has the traceback"
    assert json.loads(logged)["exception"].startswith("Traceback")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_the_interpreters_own_ends_pass(error: BaseException) -> None:
    """Ctrl-C is no refusal."""
    with pytest.raises(type(error)), plainly():
        _raise(error)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot read"), ("data = ", "is not TOML"),
        ('data = "/x"\nprot = 1\n', "prot: there is no such setting"),
        ('data = "/x"\nlog_level = "\\u001b[31m"\n', "log_level"), ('data = "/x"\n"\\u001b[31m" = 1\n', "\\x1b[31m"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_broken_configuration_is_one_line(tmp_path: Path, command: str, text: str | None, said: str) -> None:
    """Status 1, file and key, and what to do about it."""
    config = tmp_path / "grantd.toml"
    if text is not None:
        config.write_text(text)
        config.chmod(0o600)
    done = run(command, "--config", str(config))  # a process: `serve` hardens whatever runs it before it reads a line
    assert done.returncode == 1
    assert done.stderr.startswith("grantd: ")
    assert said in done.stderr
    assert str(config) in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert "\x1b" not in done.stderr
    assert done.stdout == ""


def test_the_light_commands_start_quickly() -> None:
    """Half a second at most, also on a busy machine: the best of several counts."""
    best = 9.0
    for _ in range(5):
        started = time.monotonic()
        run("classify", stdin=b'"ls"\n')
        best = min(best, time.monotonic() - started)
    assert best < 0.5 * (1 + os.getloadavg()[0])


# ---- serve
_ASK_KERNEL: Final = """
import contextlib, ctypes, resource, sys
from broker import cli
from broker.cli.plainly import plainly
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
with contextlib.suppress(SystemExit):
    cli.grantd(sys.argv[1:])
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE))
"""


def test_the_broker_leaves_no_core_and_nobody_reads_its_memory(tmp_path: Path) -> None:
    """I-36: PR_GET_DUMPABLE is 0 and RLIMIT_CORE 0, both before the settings are read: here there are none."""
    words = [sys.executable, "-c", _ASK_KERNEL, "serve", "--config", str(tmp_path / "absent.toml")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "0 0 0\n"
    assert "absent.toml" in done.stderr


# ---- signer
@pytest.mark.parametrize("words", [(), ("--directory", "/x"), ("--config", "/x", "--allowed-uid", "0")])
def test_the_signer_is_told_all_or_a_file(words: tuple[str, ...]) -> None:
    """Half of it, or both ways at once, is a mistake of usage."""
    assert in_process("signer", *words).exit_code == 2


def test_the_signer_reads_its_own_file(tmp_path: Path) -> None:
    """`--config` says where its keys are: here there are none, which is one line and status 1."""
    config = tmp_path / "signer.toml"
    config.write_text(f'directory = "{tmp_path}/keys"\nsocket = "{tmp_path}/s"\nbroker = {os.getuid()}\n')
    config.chmod(0o600)
    words = [sys.executable, "-m", "broker", "signer", "--config", str(config)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert f"{tmp_path}/keys: no signer keys here" in done.stderr
