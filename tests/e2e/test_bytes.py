"""The bytes that were proposed are the bytes that a person signs, that the target runs and that the recording holds."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from pathlib import Path

import pytest

from broker.core.wrapper import ENVIRONMENT
from grantd.v1.action_pb2 import ActionState
from grantd.v1.approval_pb2 import GetPendingRequest
from tests.e2e.stage import ASKS, House

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-bytes")]

EXEC = 5
# each writes `out` in its working directory, so that every one of them asks
NASTY: dict[str, str] = {
    "single quotes": "printf %s 'it'\\''s' > out",
    "double quotes": 'printf %s "a \\"b\\" c" > out',
    "mixed quotes": "printf %s 'a'\"b\"c\\ d > out",
    "quotes of the wrapper": "printf %s \"'\\\\'''\" > out",
    "dollar-quoted": r"printf %s $'a\x41\t\n\\\'' > out",
    "dollar-quoted unicode": r"printf %s $'\u20ac\U0001f600' > out",
    "octal and hex": r"printf '\101\x42\0' > out",
    "backslashes": r"printf %s \\\\a\\b > out",
    "backslash newline": "printf %s a\\\nb > out",
    "newline inside quotes": "printf %s 'line one\nline two\n' > out",
    "two lines": "printf one > out\nprintf two >> out",
    "trailing newline": "printf x > out\n",
    "tab": "printf '%s'\t'a\tb' > out",
    "umlauts": "printf %s 'äöü ß' > out",
    "other scripts": "printf %s '日本語 עברית' > out",
    "emoji": "printf %s '🧨🚀' > out",
    "combining marks": "printf %s 'e\u0301 \u00e9' > out",
    "leading dash": "printf -- '-n -e --' > out",
    "a file that is a flag": "touch -- -rf; printf %s ./-* > out",
    "here-document": "cat > out <<END\none $HOME two\nEND\n",
    "quoted here-document": "cat > out <<'END'\n$HOME `x` \\ \"\nEND\n",
    "dashed here-document": "cat > out <<-END\n\tindented\n\tEND\n",
    "here-string": 'tee out <<< "a  b"',
    "glob that matches nothing": "printf %s 'a*' nothing-here-* > out",
    "glob characters": "printf '%s|' '*' '?' '[a]' '{b,c}' > out",
    "braces": "printf '%s|' {a,b}{1,2} > out",
    "percent": "printf '%%s %d%%' 7 > out",
    "hash": "printf %s a#b '#c' > out # a comment",
    "history and tilde": "printf %s '!! ~ !x' > out",
    "semicolons and ampersands": "printf %s ';&|' > out; printf %s '&&' >> out && printf x >> out",
    "both streams": "printf out > out; printf to-stdout; printf to-stderr >&2",
    "exit status": "printf x > out; exit 41",
    "long line": "printf %s '" + "a'\\''" * 1500 + "' > out",
    "spaces at both ends": "   printf %s ' a ' > out   ",
    "variable expansion": 'x="a  b"; printf "%s|%s" "$x" ${#x} > out',
    "nothing of the login's": 'printf \'%s|\' "$TERM" "$PAGER" "$SHLVL_" > out',
}


@pytest.fixture(scope="module")
def grant(house: House) -> str:
    """One lease on the host where each of them asks."""
    return house.grant(ASKS, ttl=900)


@pytest.mark.parametrize("what", list(NASTY))
def test_what_was_shown_is_what_ran_and_what_was_recorded(house: House, grant: str, what: str, tmp_path: Path) -> None:
    """Byte for byte: on the card, on the target, in the sealed recording (I-10, I-11, I-30)."""
    line = NASTY[what].encode()
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()

    running = house.run(grant, line, cwd=str(there))
    item = running.until(ActionState.ACTION_STATE_AWAITING)
    approver = house.client("approver")
    shown = approver.call(approver.approvals.GetPending, GetPendingRequest(id=item.id)).item
    assert shown.action.command == line
    house.decide(item.id)
    action = running.finished()

    expected = _as_bash_does(line, here)
    assert (there / "out").read_bytes() == (here / "out").read_bytes()
    assert sorted(path.name for path in there.iterdir()) == sorted(path.name for path in here.iterdir())
    assert action.exit_status == expected.returncode
    assert (running.output(), running.errors()) == (expected.stdout, expected.stderr)
    played = house.played(action.session_id)
    told = json.loads(next(event.payload for event in played if event.kind == EXEC))
    assert (told["argv"].encode(), told["cwd"]) == (line, str(there))
    assert b"".join(event.payload for event in played if event.kind == 1) == expected.stdout
    assert house.session(action.session_id).command == line


@pytest.mark.parametrize("content", [b"", b"\0\xff\r\n\x1b[2J" * 10, bytes(range(256)) * 256])
def test_declared_stdin_arrives_byte_for_byte(house: House, grant: str, content: bytes, tmp_path: Path) -> None:
    """Any bytes, up to 64 KiB: hashed into what is approved; the recording keeps how much it was (I-10, I-36)."""
    running = house.run(grant, "tee copy", stdin=content, cwd=str(tmp_path))
    house.decide(running.until(ActionState.ACTION_STATE_AWAITING).id)
    action = running.finished()
    assert action.exit_status == 0
    assert (tmp_path / "copy").read_bytes() == running.output() == content
    played = house.played(action.session_id)
    told = [json.loads(event.payload) for event in played if event.kind == 12]
    assert [each["bytes"] for each in told if each["type"] == "eof"] == [len(content)]
    assert [event for event in played if event.kind == 3] == []


def _as_bash_does(line: bytes, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """The oracle: bash itself with exactly these bytes, in the environment that every command finds."""
    me = pwd.getpwuid(os.geteuid())
    env = {**ENVIRONMENT, "HOME": me.pw_dir, "USER": me.pw_name, "LOGNAME": me.pw_name, "SHELL": me.pw_shell}
    return subprocess.run(
        [b"bash", b"--norc", b"--noprofile", b"-c", b"--", line],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=30,
    )
