"""The text around a command: exact, readable back, the same for everybody, and nothing else."""

from __future__ import annotations

import math
import shlex
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core import wrapper
from broker.core.errors import Refusal

HOSTILE = "\n\t '\"\\$`!*?~#&|;<>(){}[]^%-\u00e9\u4e2d\U0001f512\u202e\x1b"
commands = st.text(
    st.one_of(st.sampled_from(HOSTILE), st.characters(codec="utf-8", exclude_characters="\0")), min_size=1, max_size=200
)
environments = st.dictionaries(
    st.sampled_from(["TERM", "LANG", "LC_ALL", "LC_TIME"]), st.from_regex(r"[A-Za-z0-9._@-]{0,20}", fullmatch=True)
)
folders = st.one_of(st.just(""), commands.map(lambda text: "/" + text))


@given(commands, folders, environments, st.floats(0.01, 1e6))
def test_force_command_reads_back_to_exactly_what_went_in(
    command: str, cwd: str, env: dict[str, str], seconds: float
) -> None:
    """I-10: whoever checks a force-command gets the approved bytes, directory and environment, or an error."""
    text = wrapper.force_command(command.encode(), cwd=cwd, env=env, seconds=seconds)
    forced = wrapper.read_force_command(text)
    assert forced.command == command.encode()
    assert forced.cwd == cwd
    assert {**wrapper.ENVIRONMENT, **forced.env} == {**wrapper.ENVIRONMENT, **env}
    assert forced.centiseconds == math.ceil(seconds * 100)


@given(commands, st.data())
def test_a_text_changed_in_any_place_never_reads_back_as_the_same_command(command: str, data: st.DataObject) -> None:
    """I-10: no second spelling of a force-command passes as ours."""
    text = wrapper.force_command(command.encode(), cwd="", env={}, seconds=5)
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.sampled_from(["", " ", "'", "x", ";", text[at] * 2])) + text[at + 1 :]
    try:
        forced = wrapper.read_force_command(changed)
    except wrapper.NotOurs:
        return
    assert changed == text or (forced.command, forced.cwd, forced.centiseconds, dict(forced.env)) != (
        command.encode(),
        "",
        500,
        {},
    )


@pytest.mark.parametrize(
    "text", ["", "true", "exec bash -c true", "exec /usr/bin/env -i bash --norc -c x grantd 1 '' x", "'"]
)
def test_foreign_text_is_not_read_as_ours(text: str) -> None:
    """Anything but our own wrapper is named as such."""
    with pytest.raises(wrapper.NotOurs):
        wrapper.read_force_command(text)


def test_the_largest_command_fits_even_if_it_is_all_quotes() -> None:
    """16 KiB of the worst characters stay below what sshd hands to a shell."""
    command = b"'" * (16 * 1024)
    text = wrapper.force_command(command, cwd="/" + "'" * 4000, env={}, seconds=1)
    assert len(text.encode()) < wrapper.MAX_TEXT_BYTES
    assert wrapper.read_force_command(text).command == command


@pytest.mark.parametrize(
    ("command", "code"),
    [(b"", "bad_command"), (b"a\0b", "bad_command"), (b"\xff", "bad_command"), (b"'" * 30_000, "command_too_long")],
)
def test_what_no_shell_can_take_is_refused(command: bytes, code: str) -> None:
    """Bad input gets a clear error before anything is signed."""
    with pytest.raises(Refusal) as refused:
        wrapper.force_command(command, cwd="", env={}, seconds=1)
    assert refused.value.code == code
    with pytest.raises(Refusal):
        wrapper.read_command(command, cwd="", env={}, nonce="00" * 16)


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, 1e9])
def test_a_time_that_is_none_is_an_error(seconds: float) -> None:
    """I-03: zero, negative, huge and NaN are errors, never "no limit"."""
    with pytest.raises(ValueError, match="seconds"):
        wrapper.force_command(b"true", cwd="", env={}, seconds=seconds)
    with pytest.raises(ValueError, match="seconds"):
        wrapper.reaper_command(seconds=seconds)


def test_a_nonce_is_hex_or_nothing_runs() -> None:
    """Nothing but our own hex gets into the text unquoted."""
    with pytest.raises(ValueError, match="nonce"):
        wrapper.read_command(b"true", cwd="", env={}, nonce="$(id)")


@given(st.integers(2, 2**31), st.text("0123456789abcdef", min_size=32, max_size=32))
def test_a_mark_is_known_by_its_own_nonce_alone(group: int, nonce: str) -> None:
    """I-22: no command can speak for another."""
    line = wrapper.mark_of(nonce) + b"%d\n" % group
    assert wrapper.marked_group(line, nonce) == group
    assert wrapper.marked_group(line, nonce[::-1] + "0") is None
    for forged in (b"-1", b"0", b"1", b"+5", b"5 6", b"", b"99999999999"):
        assert wrapper.marked_group(wrapper.mark_of(nonce) + forged + b"\n", nonce) is None


@pytest.mark.parametrize("shell", ["dash", "bash"])
@given(command=commands)
def test_every_login_shell_hands_over_the_exact_words(shell: str, command: str) -> None:
    """I-10: quotes, newlines, dollars, leading dashes and UTF-8 reach bash as they were approved."""
    text = wrapper.read_command(command.encode(), cwd="", env={}, nonce="ab" * 16)
    # the last word of the text is what bash -c gets: print it instead of running it
    shown = text.replace("bash --norc --noprofile -c --", "printf %s", 1)
    ran = subprocess.run([shell, "-c", shown], check=True, capture_output=True)
    assert ran.stdout == command.encode()
    assert wrapper.marked_group(ran.stderr, "ab" * 16) is not None


def test_the_environment_is_the_fixed_one() -> None:
    """The class of a command holds only where nothing but PATH's programs and no pager, hook or ext-diff runs."""
    text = wrapper.force_command(b"true", cwd="", env={"LANG": "C.UTF-8"}, seconds=1)
    words = shlex.split(text)
    assert words[:3] == ["exec", "/usr/bin/env", "-i"]
    given_names = {word.partition("=")[0] for word in words[3 : words.index("bash")]}
    assert given_names == {*wrapper.ENVIRONMENT, "HOME", "USER", "LOGNAME", "SHELL", "LANG"}


@pytest.mark.parametrize("name", ["PATH", "BASH_ENV", "LD_PRELOAD", "GIT_EXTERNAL_DIFF", "A=b", "x;id", ""])
def test_no_plan_sets_anything_but_terminal_and_language(name: str) -> None:
    """I-21: even if a check before it failed, no other variable gets into the text."""
    with pytest.raises(ValueError, match="TERM"):
        wrapper.force_command(b"true", cwd="", env={name: "x"}, seconds=1)


_SSHD = """
import os, subprocess, sys
def start(text, asked):
    return subprocess.Popen(["bash", "-c", text], start_new_session=True, env={"SSH_ORIGINAL_COMMAND": asked})
running = start(sys.argv[1], "")
start(sys.argv[2], sys.argv[3]).wait()
running.kill()
"""
"""What stands in for the target's sshd: the parent of a command that runs, and of a second request beside it."""


@pytest.mark.parametrize("asked", ["grantd-signal USR1 {}", "grantd-signal USR1\t{}", "grantd-signal USR1 {} --"])
def test_a_signal_is_one_name_and_reaches_nothing_else(asked: str) -> None:
    """I-10: what is asked for beside a force-command names no process: the certificate was for its command alone."""
    with subprocess.Popen(["sleep", "60"]) as bystander:
        running, other = (wrapper.force_command(c, cwd="", env={}, seconds=30) for c in (b"sleep 30", b"echo ran"))
        ran = subprocess.run(
            [sys.executable, "-c", _SSHD, running, other, asked.format(bystander.pid)], check=True, capture_output=True
        )
        hit = bystander.poll()
        bystander.kill()
    assert (hit, ran.stdout) == (None, b"ran\n")
