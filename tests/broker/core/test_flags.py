"""What a grant carries beyond commands: known, spelled in one way, read back to exactly what was asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.errors import Refusal
from broker.core.flags import (
    Destination,
    checked_flags,
    copies_files,
    destination,
    destination_of,
    forwards,
    max_sessions,
    rights,
)
from broker.core.forward import command_of, destination_in, forwarded
from policy.shell import Classified, classify

GOOD = ["shell", "raw_shell", "sftp", "stream_stdin", "sessions=2", "sessions=10", "forward=db.internal:5432",
        "forward=10.0.0.7:22", "forward=[::1]:80", "forward=[2001:db8::1]:443", "forward=a_b-c.d:1"]  # fmt: skip
BAD = ["forward", "root", "", "sessions", "sessions=", "sessions=1", "sessions=11", "sessions=02", "sessions=2 ",
       "forward=", "forward=db", "forward=db:", "forward=:80", "forward=db:0", "forward=db:65536", "forward=db:080",
       "forward=DB:80", "forward=db.:80", "forward=.db:80", "forward=d b:80", "forward=db:80;id", "forward=$(id):80",
       "forward=127.1:80", "forward=0x7f.1:80", "forward=010.0.0.7:80", "forward=::1:80", "forward=[::0001]:80",
       "forward=[fe80::1%eth0]:80", "forward=db:80\n", "forward=-db:80", "forward=*:80", "forward=db/x:80",
       "forward=[db]:80", "forward=0x7f000001:80", "forward=127.0x1:80", "shell=1", "sftp,shell"]  # fmt: skip


@pytest.mark.parametrize("flag", GOOD)
def test_what_is_known_is_taken_as_it_is(flag: str) -> None:
    """One spelling of each."""
    assert checked_flags(frozenset({flag})) == {flag}


@pytest.mark.parametrize("flag", BAD)
def test_everything_else_is_refused(flag: str) -> None:
    """I-20: no second spelling of a destination, no wildcard, nothing that a shell could read as more than a word."""
    with pytest.raises(Refusal) as refused:
        checked_flags(frozenset({flag}))
    assert refused.value.code in {"unknown_flag", "bad_destination"}


@given(st.text(max_size=60))
def test_any_text_is_a_flag_or_refused(text: str) -> None:
    """No exception but a refusal; what passes reads back as one destination whose flag it is."""
    try:
        checked_flags(frozenset({f"forward={text}"}))
    except Refusal:
        return
    (to,) = forwards(frozenset({f"forward={text}"}))
    assert text == str(to)


def test_too_many_are_refused() -> None:
    """I-60: sixteen destinations; one number of sessions."""
    with pytest.raises(Refusal):
        checked_flags(frozenset(f"forward=a:{port}" for port in range(1, 18)))
    with pytest.raises(Refusal):
        checked_flags(frozenset({"sessions=2", "sessions=3"}))


def test_sessions_at_a_time_are_one_unless_the_grant_says_more() -> None:
    """I-22."""
    assert max_sessions(frozenset({"shell"})) == 1
    assert max_sessions(frozenset({"sessions=7"})) == 7
    assert max_sessions(frozenset({"sessions=99", "sessions=x"})) == 1


def test_policies_see_rights_as_words() -> None:
    """A policy that forbids `forward` forbids every destination."""
    flags = frozenset({"forward=a:1", "forward=b:2", "sftp"})
    assert rights(flags | {"sessions=3"}) == flags | {"forward"}


def test_a_root_for_files_is_not_left_by_way_of_scp() -> None:
    """I-28: scp and rsync know no root."""
    assert copies_files(frozenset({"sftp"}))
    assert not copies_files(frozenset({"sftp", "sftp-root=/srv/app"}))
    assert not copies_files(frozenset({"shell"}))


@pytest.mark.parametrize(("host", "same"), [("DB.Internal", "db.internal:1"), ("::0001", "[::1]:1")])
def test_a_client_may_spell_a_destination_otherwise(host: str, same: str) -> None:
    """What `ssh -L` was told is compared as what it means."""
    assert destination_of(host, 1) == destination(same)


@pytest.mark.parametrize("to", [Destination(host="db.internal", port=5432), Destination(host="::1", port=80)])
def test_a_forward_is_a_command_that_reads_back(to: Destination) -> None:
    """I-10: host and port are bytes of the action; nothing but the exact text is one."""
    command = command_of(to)
    assert destination_in(command) == to
    seen = classify(command)
    assert isinstance(seen, Classified)
    assert forwarded(seen) == to
    for other in (command + b" ", command + b";id", command.replace(b" ", b"  "), b"x" + command, command + b"9999999"):
        assert destination_in(other) is None


@pytest.mark.parametrize(
    "line",
    ["grantd-forward a 1; id", "grantd-forward a 1 | cat", "sudo grantd-forward a 1", "nc a 1", "grantd-forward"],
)
def test_a_line_that_does_more_is_no_forward(line: str) -> None:
    """It is decided like any other, and `grantd-forward` is no program that a target has."""
    seen = classify(line.encode())
    assert isinstance(seen, Classified)
    assert forwarded(seen) is None
