"""Text is read as UTF-8 when it is decided; nothing lets the target's bash read the same bytes as another text (I-16).

In GBK and its like the second byte of a character may be a backslash, which then quotes nothing.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which

import pytest

from policy.classes import CommandClass
from policy.shell import Classified, classify

QUOTED = 'echo "\u4e2d\\$(touch ran)"'
"""Four bytes of the letter and its neighbour: in UTF-8 an escaped dollar, in GBK a letter and a substitution."""
CHARSET = [
    *["zh_CN.GBK", "zh_CN", "zh_TW.BIG5", "zh_HK.BIG5-HKSCS", "ja_JP.SJIS", "zh_CN.GB18030", "ko_KR.JOHAB", "de_DE"],
    *["zh_CN.UTF-8x", "../x.UTF-8", "UTF-8"],
]
WAYS = [
    *["{}={}; {line}", "{}={}\n{line}", "export {}={}; {line}", "declare {}={}; {line}", "readonly {}={}; {line}"],
    *["{}={} bash -c '{line}'", "env {}={} bash -c '{line}'", "sudo {}={} bash -c '{line}'", "{}='{}'; {line}"],
    *["x={}; {}=$x; {line}", "{}=C; {}+={}; {line}", "{}[0]={}; {line}", "{}=({}); {line}", "read {} <<< {}; {line}"],
    *["for {} in {}; do {line}; done", "printf -v {} {}; {line}", ": ${{{}:={}}}; {line}"],
    "{}=C.UTF-8 {}={} bash -c '{line}'",
]
NAMES = ["LC_ALL", "LC_CTYPE", "LANG"]


def spelled(way: str, name: str, value: str) -> str:
    """One way of setting a name before the line."""
    braces, order = way.count("{}"), {"x={}; {}=$x; {line}": (value, name)}
    values = order.get(way) or ((name,) * (braces - 1) + (value,))
    return way.format(*values, line=QUOTED)


def _class(line: str) -> CommandClass | None:
    verdict = classify(line.encode())
    return verdict.command_class if isinstance(verdict, Classified) else None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_no_read_chooses_another_character_set(way: str, name: str) -> None:
    """However the variable is set, and whatever it is set to, but for what reads bash's text as UTF-8 or bytes."""
    for value in CHARSET:
        found = _class(spelled(way, name, value))
        assert found is None or found >= CommandClass.EXECUTE, (way, name, value)


@pytest.mark.parametrize(
    "value", ["", "C", "POSIX", "C.UTF-8", "C.utf8", "de_DE.UTF-8", "sr_RS.UTF-8@latin", "'C.UTF-8'"]
)
def test_the_usual_ones_stay_reads(value: str) -> None:
    """What people write to get plain messages is no reason to ask anybody."""
    for line in ("LC_ALL={} ls", "LC_ALL={}; ls", "export LC_ALL={}; ls", "env LC_ALL={} ls", "sudo LC_ALL={} ls"):
        assert _class(line.format(value)) is CommandClass.READ, line
    assert _class("LC_TIME=de_DE ls") is CommandClass.READ, "chooses no character set"
    assert _class("export LANG; ls") is CommandClass.READ


def test_bash_does_read_it_otherwise(tmp_path: Path) -> None:
    """What all this is about: the escaped dollar runs a command, once the shell reads GBK."""
    if which("localedef") is None or not Path("/usr/share/i18n/charmaps/GBK.gz").exists():
        pytest.skip("no source of the GBK locale on this machine")
    made = ["localedef", "-i", "zh_CN", "-f", "GBK", "--no-archive", str(tmp_path / "zh_CN.GBK")]
    subprocess.run(made, check=False, capture_output=True)
    env = {"PATH": "/usr/bin:/bin", "LOCPATH": str(tmp_path)}
    for charset, ran in (("C.UTF-8", False), ("C", False), ("zh_CN.GBK", True)):
        line = ["bash", "--norc", "--noprofile", "-c", "--", f"LC_ALL={charset}; {QUOTED}"]
        subprocess.run(line, cwd=tmp_path, env=env, check=True, capture_output=True)
        assert (tmp_path / "ran").exists() is ran, charset
