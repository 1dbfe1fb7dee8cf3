"""A tenant's own entries: they add programs, raise shipped ones, and lower one only where they say so (I-17)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy import catalog
from policy.catalog import CatalogError
from policy.classes import CommandClass
from policy.explain import word_of
from policy.ruleset import Ruleset, RulesetError
from policy.shell import Classified, classify

MYTOOL = """
[mytool]
class = "read"
flags = "-v --verbose"
values = "-n --name"
write.values = "-o --out"
match = ["read: mytool -v show", "write: mytool list -o x"]
not_match = ["read: mytool --fix show"]
subs.execute = "restart"
sub."show list" = {class = "read"}
"""
PROGRAMS = sorted(catalog.shipped())


def load(text: str, **more: str) -> Ruleset:
    """The shipped policy and one file of programs."""
    return Ruleset.load({"tools.toml": text, **more})


def word(rules: Ruleset, command: str) -> str:
    """The class of a command line under these rules."""
    return word_of(rules.classify(command.encode()))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("mytool show -v", "read"),
        ("mytool list --out f", "write"),
        ("mytool restart", "execute"),
        ("mytool frob", "execute"),
        ("mytool show --frob", "execute"),
        ("sudo mytool show | head", "read"),
        ("./mytool show", "execute"),
    ],
)
def test_a_program_of_ones_own(command: str, expected: str) -> None:
    """What is listed has its class, what is not is execute; without the file the name is nobody's."""
    assert word(load(MYTOOL), command) == expected
    assert word_of(classify(command.encode())) == "execute"


def test_patterns_are_globs() -> None:
    """`*` stands for anything, a dot for a dot, and what no pattern takes is not understood."""
    rules = load('[mytool]\noperands = ["write /srv/*", "read *.conf", "read -"]')
    told = {line: word(rules, f"mytool {line}") for line in ("a.conf", "/srv/x", "aXconf", "-", '"$x"', '"/srv/$x"')}
    assert told == {
        "a.conf": "read", "/srv/x": "write", "aXconf": "execute", "-": "read", '"$x"': "execute", '"/srv/$x"': "write",
    }  # fmt: skip


def test_a_glob_is_soon_done_whatever_the_word() -> None:
    """I-60: an agent chooses the word, so no pattern may take longer than the word is long."""
    rules = load('[mytool]\noperands = ["read *a*a*a*a*a*a*a*a*b"]\nmatch = ["read: mytool aaaaaaaab"]')
    assert word(rules, "mytool " + "a" * 16_000) == "execute"


@pytest.mark.parametrize(
    ("own", "command", "expected"),
    [
        ('[cat]\nclass = "write"', "cat /etc/hosts", "write"),
        ('[cat]\nclass = "read"', "cat --no-such-option x", "execute"),
        ('[rm]\nclass = "read"\nany = "read"', "rm /srv/x", "write"),
        ('[python3]\nclass = "read"\nany = "read"', "python3 x.py", "execute"),
        ('[reboot]\nclass = "write"\nfree = true', "reboot", "reboot"),
        ('[eval]\nclass = "read"\nany = "read"', 'eval "$x"', "execute"),
        ('[echo]\nclass = "read"\nany = "read"\nunknown = "install"', "echo $(reboot)", "reboot"),
    ],
)
def test_a_shipped_program_is_raised_and_never_lowered(own: str, command: str, expected: str) -> None:
    """I-17: both entries decide, and the higher answer counts."""
    assert word(load(own), command) == expected


CLASSES = st.sampled_from([level.word for level in CommandClass])


@given(
    st.sampled_from(PROGRAMS), CLASSES, CLASSES, st.sampled_from(["", "-x", "--help", "status", "a b", "-rf /", ">f"])
)
def test_no_entry_lowers_what_is_shipped(name: str, base: str, any_words: str, rest: str) -> None:
    """I-17, whatever the entry says of the program."""
    own = f"[{name!r}]\nclass = {base!r}\nany = {any_words!r}\nsubs.read = 'status'\nreads_if = '-x'\nflags = '-x'\n"
    command = f"{name} {rest}".encode()
    try:
        rules = load(own)
    except RulesetError as error:
        assert "bare name" in str(error) or "bash's own" in str(error)  # noqa: PT017  both outcomes are allowed
        return
    before, after = classify(command), rules.classify(command)
    if isinstance(before, Classified):
        assert isinstance(after, Classified)
        assert after.command_class >= before.command_class
        assert (after.opaque, after.egress, after.outlives) >= (before.opaque, before.egress, before.outlives)


def test_replacing_lowers_and_is_told() -> None:
    """An entry that says so stands instead of the shipped one; `lowers` names it, until it is the one in force."""
    shipped = Ruleset.load({})
    rules = load('[docker]\nreplaces = true\nclass = "read"\nsubs.read = "run"')
    assert word(rules, "docker run x") == "read"
    assert [set(a.lowers(b)) for a, b in ((rules, shipped), (rules, rules), (shipped, rules))] == [
        {"docker"},
        set(),
        set(),
    ]
    again = load('[docker]\nreplaces = true\nclass = "read"\nsubs.read = "run"\n[mytool]\nclass = "read"')
    assert again.lowers(rules) == set()
    more = load('[docker]\nreplaces = true\nclass = "read"\nsubs.read = "run exec"')
    assert more.lowers(rules) == {"docker"}


def test_the_rule_names_the_file() -> None:
    """An explanation says which file of the tenant's decided."""
    verdict = load(MYTOOL).classify(b"mytool restart")
    assert isinstance(verdict, Classified)
    assert verdict.parts[0].rule == "tools.toml:mytool restart"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\n[mytool]\nclas = 'read'", "tools.toml:3: [mytool]: unknown key 'clas'"),
        ("[mytool]\nspecial = 'shell'", "unknown key 'special'"),
        ("[mytool]\nconfigured = true", "unknown key 'configured'"),
        ("[mytool.sub.x]\nspecial = 'shell'", "unknown key 'special'"),
        ("['/usr/bin/mytool']\nclass = 'read'", "no program's bare name"),
        ("[mytool]\nnames = 'a/b'", "no program's bare name"),
        ("[mytool]\nnames = '../b'", "no program's bare name"),
        ("[enable]\nclass = 'read'", "bash's own"),
        ("[mytool]\nnames = 'coproc'", "bash's own"),
        ("[mytool]\nreplaces = true", "replaces a shipped entry that is not there"),
        ("[mytool]\nreplaces = 1", "expected bool"),
        ("[mytool.sub.x]\nreplaces = true", "replaces"),
        ("[mytool]\nmatch = ['read: mytool --x']", "it is execute"),
        ("[mytool]\nclass = 'write'\nnot_match = ['write: mytool']", "must be higher"),
        ("[mytool]\nmatch = ['mytool']", "class: command"),
        ("[mytool]\nmatch = ['read mytool']", "class: command"),
        ("x" * 5, "tools.toml"),
        ("a = " + "[" * 4000, "tools.toml"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    """With file, line and key; nothing is skipped."""
    with pytest.raises(RulesetError) as caught:
        load(text)
    assert message in str(caught.value)


def test_a_name_stands_once() -> None:
    """Also over two files."""
    with pytest.raises(RulesetError, match="described twice"):
        load("[mytool]", **{"more.toml": "[mytool]"})


def test_shipped_files_take_no_keys_of_a_tenants() -> None:
    """A shipped entry replaces nothing."""
    with pytest.raises(CatalogError, match="replaces"):
        catalog.parse("[x]\nreplaces = true", "x.toml")


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a." * 100_000 + "b = 1", "t.toml:1: more than 100 dots in a line"),
        ("[x]\n[" + "a." * 100_000 + "b]", "t.toml:2: more than 100 dots in a line"),
        (f"[x]\noperands = {['read a*'] * 65}", "t.toml:1: [x].operands: more than 64 patterns"),
        (
            f"[x]\nflags = '{' '.join(f'-{i}' for i in range(9_000))}'\n"
            + "\n".join(f"sub.s{i} = {{}}" for i in range(12)),
            "t.toml: more than 100000 options",
        ),
        ("x = " + "[" * 100_000, "t.toml: "),
        ("".join(f"[t{n}]\n" for n in range(25_000)) + "colour = 3", "t.toml:25000: [t24999]: unknown key 'colour'"),
    ],
)
def test_no_file_takes_all_memory_or_time(text: str, message: str) -> None:
    """I-60: what a reader of policies may have checked costs what its length says; the line is still told."""
    with pytest.raises(RulesetError) as caught:
        Ruleset.load({"t.toml": text})
    assert str(caught.value).startswith(message)
