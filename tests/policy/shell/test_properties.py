"""No matter what bytes are given, `classify` answers with a verdict, soon, and never lower for being wrapped."""

from __future__ import annotations

import shlex
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy import catalog
from policy.shell import FAULT, MAX_COMMAND_BYTES, Classified, Refused, classify
from policy.shell.special import SPECIALS

SIMPLE = [
    "ls -la",
    "cat /etc/hosts",
    "rm -rf /srv/x",
    "systemctl restart nginx",
    "apt-get install -y jq",
    "reboot",
    "python3 x.py",
    "frobnicate",
    "curl -X POST -d a=b https://example.net",
    "echo x > out",
    "nohup sleep 9",
]
TOKENS = [
    *"'\"`$(){}[]<>|&;#!*?~=\\\n\t -",
    "<<EOF",
    "\nEOF\n",
    "$(",
    "${",
    "$((",
    "<(",
    "[[",
    "]]",
    "=~",
    "if ",
    "fi",
    "\\\n",
]


def _classified(command: str) -> Classified:
    verdict = classify(command.encode())
    assert isinstance(verdict, Classified), (command, verdict)
    return verdict


@given(st.binary(max_size=300))
def test_any_bytes_get_a_verdict(data: bytes) -> None:
    """I-16: total over bytes; the classifier has no fault to show."""
    verdict = classify(data)
    assert isinstance(verdict, Classified) or verdict.rule != FAULT


@given(st.lists(st.one_of(st.sampled_from(TOKENS), st.sampled_from(SIMPLE), st.text(max_size=3)), max_size=12))
@settings(max_examples=400)
def test_any_shell_like_text_gets_a_verdict(pieces: list[str]) -> None:
    """I-16: total over near-misses of shell; parts lie inside the command and bound its class."""
    command = "".join(pieces).encode("utf-8", "surrogatepass")
    verdict = classify(command)
    if isinstance(verdict, Refused):
        assert verdict.rule != FAULT
        return
    assert verdict.parts
    assert verdict.command_class == max(part.command_class for part in verdict.parts)
    assert verdict.opaque == any(part.opaque for part in verdict.parts)
    assert all(0 <= part.span[0] <= part.span[1] <= len(command) for part in verdict.parts)


@given(st.sampled_from(SIMPLE), st.sampled_from(SIMPLE), st.sampled_from([";", "&&", "||", "|", "&", "\n"]))
def test_a_line_is_as_high_as_its_highest_part(left: str, right: str, join: str) -> None:
    """I-16: joining commands never lowers either, whatever joins them."""
    one, two, both = _classified(left), _classified(right), _classified(f"{left} {join} {right}")
    assert both.command_class >= max(one.command_class, two.command_class)
    assert both.opaque == (one.opaque or two.opaque)
    assert both.egress == (one.egress or two.egress)
    assert both.outlives >= (one.outlives or two.outlives)


WRAPPERS = [
    "{ @; }", "(@)", "if true; then @; fi", "while @; do true; done", "f() { @; }; f", "! @", "echo $(@)",
    'echo "$(@)"', "cat <(@)", "case x in x) @;; esac", "for i in 1; do @; done", "x=$(@)",
]  # fmt: skip


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("command", SIMPLE)
def test_shell_syntax_never_lowers(command: str, wrapper: str) -> None:
    """I-16: a command inside any construct counts in full."""
    inner, outer = _classified(command), _classified(wrapper.replace("@", command))
    assert outer.command_class >= inner.command_class
    assert outer.opaque >= inner.opaque
    assert outer.egress == inner.egress


@pytest.mark.parametrize(
    "wrapper", ["sh -c @", "bash -c @", "eval @", "trap @ EXIT", "watch @", "su -c @ deploy", "ssh web1 @"]
)
@pytest.mark.parametrize("command", SIMPLE)
def test_quoted_scripts_count_in_full(command: str, wrapper: str) -> None:
    """I-16: quoting a script for a shell does not hide it."""
    inner, outer = _classified(command), _classified(wrapper.replace("@", shlex.quote(command)))
    assert outer.command_class >= inner.command_class
    assert outer.opaque >= inner.opaque


@pytest.mark.parametrize(
    "wrapper",
    [
        "sudo -n",
        "env TZ=UTC",
        "timeout 5",
        "nice -n 5",
        "nohup",
        "setsid",
        "time",
        "command",
        "xargs",
        "docker exec web",
    ],
)
@pytest.mark.parametrize("command", [command for command in SIMPLE if ">" not in command])
def test_launchers_count_in_full(command: str, wrapper: str) -> None:
    """I-16: a launcher has at least the class of what it launches."""
    inner, outer = _classified(command), _classified(f"{wrapper} {command}")
    assert outer.command_class >= inner.command_class
    assert outer.opaque >= inner.opaque


@pytest.mark.parametrize(
    "command",
    ["nohup ./x", "ls &", "setsid ls", "at 02:00", "crontab new", "systemd-run ls", "echo k >> ~/.ssh/authorized_keys"],
)
def test_what_outlives_the_session_is_marked(command: str) -> None:
    """I-29: work that ending the session does not end is flagged before anyone approves it."""
    assert _classified(command).outlives


@pytest.mark.parametrize(
    "command",
    [
        "echo b > /proc/sysrq-trigger",
        "tee /proc//sysrq-trigger",
        "dd of=/sys/power/state if=x",
        "systemctl start reboot.target",
    ],
)
def test_reboots_by_other_means(command: str) -> None:
    """I-16: files and units that stop the machine are reboots, whatever touches them."""
    assert _classified(command).command_class.word == "reboot"


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("echo reboot | sh", "reboot"),
        ("echo 'apt-get install -y x' | bash", "install"),
        ("./manage modprobe x", "install"),
        ("python3 x.py", "execute"),
    ],
)
def test_an_opaque_line_is_as_high_as_it_speaks(command: str, word: str) -> None:
    """I-16: what an interpreter may read from the line itself is taken at its word."""
    assert _classified(command).command_class.word == word


SHAPES = [
    b"ls;", b"|a", b"((", b"$(", b"'\"", b"a", b"{a,", b"a ", b"*", b"\\", b"\\\n", b"xargs ", b"sudo ", b"A=1 ",
    b"eval '", b"[*", b"{..", b"apt ", b"/", b"[[ a ", b"<<A\n", b"\xc3\xa9", b"`", b"-exec ",
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("prefix", [b"", b"echo ", b"awk '", b"find . ", b"sh -c '"])
def test_hostile_input_is_bounded(shape: bytes, prefix: bytes) -> None:
    """I-60: 16 KiB of any shape cost well under a second here (about 50 ms on an idle machine)."""
    command = (prefix + shape * MAX_COMMAND_BYTES)[:MAX_COMMAND_BYTES]
    start = time.process_time()
    verdict = classify(command)
    assert time.process_time() - start < 1
    assert isinstance(verdict, Classified) or verdict.rule != FAULT


def test_the_catalogue_names_the_readers_there_are() -> None:
    """An entry can name every special reader and no other."""
    assert SPECIALS.keys() == catalog.SPECIAL_READERS
