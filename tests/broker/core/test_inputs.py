"""What a caller may write: every limit from both sides, and no input that breaks the check itself (I-03, I-21)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.action import MAX_CWD_BYTES, MAX_ENV, checked_command, checked_cwd, checked_env
from broker.core.errors import Blame, Refusal
from broker.core.flags import WORDS, checked_flags
from broker.core.request import MAX_TTL, checked_text, checked_ttl
from policy.shell import MAX_COMMAND_BYTES

SECOND = timedelta(seconds=1)
ANY_TEXT = st.text(st.characters(), max_size=40) | st.text(st.sampled_from("a\0\ud800\udfffé\u202e"), max_size=8)
"""Lone surrogates and NUL too: what a hostile client can put into a Python string."""


@pytest.mark.parametrize(
    ("ttl", "code"),
    [
        (timedelta(0), "ttl_too_short"),
        (-SECOND, "ttl_too_short"),
        (timedelta(microseconds=999_999), "ttl_too_short"),
        (timedelta.min, "ttl_too_short"),
        (MAX_TTL + SECOND, "ttl_too_long"),
        (MAX_TTL + timedelta(microseconds=1), "ttl_too_long"),
        (timedelta(days=3_650), "ttl_too_long"),
        (timedelta.max, "ttl_too_long"),
        (timedelta(seconds=1.5), "ttl_fraction"),
        (timedelta(seconds=1, microseconds=1), "ttl_fraction"),
    ],
)
def test_a_ttl_outside_the_limits(ttl: timedelta, code: str) -> None:
    """I-03: zero, negative, ten years and a fraction are errors of their own."""
    with pytest.raises(Refusal) as refused:
        checked_ttl(ttl)
    assert (refused.value.code, refused.value.blame) == (code, Blame.INVALID)


@given(st.integers(1, 86_400))
def test_a_ttl_within_the_limits(seconds: int) -> None:
    """Whole seconds from 1 s to 24 h pass as they are: the server never rounds or clamps."""
    assert checked_ttl(timedelta(seconds=seconds)) == timedelta(seconds=seconds)


@given(st.frozensets(st.sampled_from([*sorted(WORDS), "root", "", "SHELL"])))
def test_flags(flags: frozenset[str]) -> None:
    """Known ones pass; one unknown spoils all, and is not repeated in the message."""
    if flags <= WORDS:
        assert checked_flags(flags) == flags
        return
    with pytest.raises(Refusal) as refused:
        checked_flags(flags)
    assert refused.value.code == "unknown_flag"
    assert "root" not in refused.value.message


@given(ANY_TEXT, st.integers(0, 40))
def test_any_text_passes_or_is_refused(text: str, limit: int) -> None:
    """Limits count bytes; NUL and lone surrogates, which no store keeps, are refused whatever their length."""
    try:
        size: int | None = len(text.encode())
    except UnicodeEncodeError:
        size = None
    wanted = "bad_text" if size is None or "\0" in text else "text_too_long" if size > limit else None
    if wanted is None:
        assert checked_text("reason", text, limit) == text
        return
    with pytest.raises(Refusal) as refused:
        checked_text("reason", text, limit)
    assert (refused.value.code, refused.value.blame) == (wanted, Blame.INVALID)
    assert refused.value.message.isascii()


def test_commands_are_not_empty_and_not_too_long() -> None:
    """At the cap it passes, one byte more is refused, never cut (I-11)."""
    assert len(checked_command(b"x" * MAX_COMMAND_BYTES)) == MAX_COMMAND_BYTES
    for command, code in ((b"", "empty_command"), (b"x" * (MAX_COMMAND_BYTES + 1), "command_too_long")):
        with pytest.raises(Refusal) as refused:
            checked_command(command)
        assert refused.value.code == code


@given(ANY_TEXT.map(lambda rest: f"/{rest}") | ANY_TEXT)
def test_a_working_directory_is_absolute_and_printable(cwd: str) -> None:
    """Empty, or an absolute path without control characters, formatting characters or lone surrogates."""
    if not cwd or (cwd.startswith("/") and cwd.isprintable()):
        assert checked_cwd(cwd) == cwd
        return
    with pytest.raises(Refusal) as refused:
        checked_cwd(cwd)
    assert refused.value.code == "bad_cwd"


def test_a_working_directory_has_a_limit() -> None:
    """4 KiB of bytes, not of characters."""
    assert checked_cwd("/" + "a" * (MAX_CWD_BYTES - 1))
    with pytest.raises(Refusal):
        checked_cwd("/" + "a" * MAX_CWD_BYTES)
    with pytest.raises(Refusal):
        checked_cwd("/" + "é" * (MAX_CWD_BYTES // 2))


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"TERM": "xterm-256color", "LANG": "C.UTF-8"},
        {"LC_ALL": "de_DE.UTF-8@euro", "LC_TIME": ""},
        {"TERM": "x" * 64},
        {f"LC_{chr(65 + n)}": "C" for n in range(MAX_ENV)},
    ],
)
def test_environment_on_the_list(env: dict[str, str]) -> None:
    """TERM, LANG and LC_* with plain values; what comes back cannot be changed behind the digest."""
    checked = checked_env(env)
    assert dict(checked) == env
    with pytest.raises(TypeError):
        checked["LD_PRELOAD"] = "x"  # type: ignore[index]


@pytest.mark.parametrize(
    ("env", "code"),
    [
        ({"PATH": "."}, "env_not_allowed"),
        ({"LD_PRELOAD": "x"}, "env_not_allowed"),
        ({"BASH_ENV": "x"}, "env_not_allowed"),
        ({"term": "xterm"}, "env_not_allowed"),
        ({"": ""}, "env_not_allowed"),
        ({"LC_": "C"}, "env_not_allowed"),
        ({"LC_A=B": "C"}, "env_not_allowed"),
        ({"LC_ALL": "zh_CN.GBK"}, "env_not_allowed"),
        ({"LANG": "zh_TW"}, "env_not_allowed"),
        ({"LC_É": "C"}, "env_not_allowed"),
        ({"LC_ALL\n": "C"}, "env_not_allowed"),
        ({"LC_" + "A" * 30: "C"}, "env_not_allowed"),
        ({"TERM": "x" * 65}, "env_not_allowed"),
        ({"TERM": "a b"}, "env_not_allowed"),
        ({"TERM": "$(id)"}, "env_not_allowed"),
        ({"TERM": "x\0"}, "env_not_allowed"),
        ({"TERM": "é"}, "env_not_allowed"),
        ({"TERM": "\ud800"}, "env_not_allowed"),
        ({f"LC_{chr(65 + n)}": "C" for n in range(MAX_ENV + 1)}, "too_much_env"),
    ],
)
def test_environment_off_the_list(env: dict[str, str], code: str) -> None:
    """I-21: refused before the target sees any of it, and never repeated."""
    with pytest.raises(Refusal) as refused:
        checked_env(env)
    assert refused.value.code == code
    assert "LD_PRELOAD" not in refused.value.message


@given(st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=3))
def test_any_environment_passes_or_is_refused(env: dict[str, str]) -> None:
    """No input breaks the check; what passes is plain ASCII that no shell gives a meaning."""
    try:
        checked = checked_env(env)
    except Refusal:
        return
    for name, value in checked.items():
        assert name in {"TERM", "LANG"} or name.startswith("LC_")
        assert name.isascii()
        assert all(c.isascii() and (c.isalnum() or c in "._@-") for c in value)
