"""Start-up files that an approved write once planted in the login's home: no later read obeys them.

Real programs. Each plant is first seen to work without the broker's environment, so that no test passes for want of it.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.core.wrapper import ENVIRONMENT, PATH
from policy.classes import CommandClass
from policy.shell import Classified, classify
from policy.shell.names import settable
from tests.peers_postgres import PostgresDatabase


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """A file below the home, the read that would obey it; `@` stands for the home."""

    program: str
    file: str
    text: str
    read: str


NROFF = "".join(f"DEFINE {name} @/evil\n" for name in ("nroff", "troff", "tbl", "preconv", "cat", "pager"))
PLANTS = [
    Plant(program="less", file=".lesskey", text="#env\nLESSOPEN=|@/evil %s\n", read="less data"),
    Plant(program="man", file=".manpath", text=NROFF, read="man @/x.1"),
    Plant(program="wget", file=".wgetrc", text="logfile = @/MARK\n", read="wget -t1 -O- http://127.0.0.1:9/x"),
]


def _ran(command: str, home: Path, environment: dict[str, str]) -> bool:
    """Whether what was planted has left its mark."""
    (home / "MARK").unlink(missing_ok=True)
    words = ["bash", "--norc", "--noprofile", "-c", "--", command]
    given = {**environment, "HOME": str(home), "PATH": PATH}
    subprocess.run(words, cwd=home, env=given, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
    return (home / "MARK").exists()


def _home(folder: Path, file: str, text: str) -> Path:
    (folder / "data").write_text("x\n")
    (folder / "x.1").write_text(".TH X 1\n.SH NAME\nx - y\n")
    (folder / "evil").write_text(f"#!/bin/sh\ntouch {folder}/MARK\ncat\n")
    (folder / "evil").chmod(0o755)
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(text.replace("@", str(folder)))
    return folder


def _need(program: str) -> None:
    if shutil.which(program, path=PATH) is None:
        pytest.skip(f"{program} is not installed")


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: f"{plant.program} {plant.file}")
def test_a_read_obeys_no_file_in_the_home(plant: Plant, tmp_path: Path) -> None:
    """I-16: what is called a read stays one, whatever lies in the home of the login."""
    _need(plant.program)
    home = _home(tmp_path, plant.file, plant.text)
    read = plant.read.replace("@", str(home))
    verdict = classify(read.encode())
    assert isinstance(verdict, Classified)
    assert (verdict.command_class, verdict.opaque) == (CommandClass.READ, False)
    bare = {"MANPAGER": "cat"}
    if not _ran(read, home, bare):
        pytest.skip(f"this {plant.program} reads no {plant.file}")
    assert not _ran(read, home, dict(ENVIRONMENT))


def test_python_programs_run_no_code_of_the_home(tmp_path: Path) -> None:
    """I-16: a .pth file in the user's own site-packages runs in every Python program, but not here."""
    _need("python3")
    version = subprocess.run(
        ["python3", "-Ic", "import sys; print('%d.%d' % sys.version_info[:2])"],
        env={"PATH": PATH}, capture_output=True, text=True, check=True, timeout=20,
    ).stdout.strip()  # fmt: skip
    home = _home(tmp_path, f".local/lib/python{version}/site-packages/x.pth", "import os; open('@/MARK', 'w')\n")
    assert _ran("python3 -c 1", home, {}), "the plant works"
    assert not _ran("python3 -c 1", home, dict(ENVIRONMENT))


def test_curl_obeys_the_targets_own_empty_file(tmp_path: Path) -> None:
    """Where the target has /etc/grantd/.curlrc, curl looks no further; without it, ~/.curlrc counts."""
    _need("curl")
    home = _home(tmp_path, ".curlrc", 'output = "@/MARK"\n')
    read = f"curl -s file://{home}/data"
    assert _ran(read, home, {**ENVIRONMENT, "CURL_HOME": "/nonexistent"}), "the plant works"
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / ".curlrc").touch()
    assert ENVIRONMENT["CURL_HOME"] == "/etc/grantd"
    assert not _ran(read, home, {**ENVIRONMENT, "CURL_HOME": str(folder)})


@pytest.mark.parametrize("name", sorted(ENVIRONMENT))
def test_no_command_takes_the_environment_away(name: str) -> None:
    """I-16: a line that sets or unsets one of these names, or clears them all, is no read any more."""
    assert not settable(name)
    for line in (f"{name}=x; ls", f"unset {name}; ls", f"{name}=x ls", f"export {name}=x; ls", f"env -u {name} ls"):
        verdict = classify(line.encode())
        assert isinstance(verdict, Classified)
        assert verdict.command_class >= CommandClass.EXECUTE, line


@pytest.mark.parametrize("line", ["env -i less x", "env --ignore-environment man x", "exec -c less x", "env - less x"])
def test_no_command_clears_the_environment(line: str) -> None:
    """I-16: without the broker's environment nothing is a read."""
    verdict = classify(line.encode())
    assert isinstance(verdict, Classified)
    assert verdict.command_class >= CommandClass.EXECUTE


@pytest.mark.postgres
def test_psql_obeys_no_psqlrc(postgres_database: PostgresDatabase, tmp_path: Path) -> None:
    """I-16: ~/.psqlrc can run a program; it is not read."""
    _need("psql")
    home = _home(tmp_path, ".psqlrc", r"\! touch @/MARK" + "\n")
    url = postgres_database.admin.set(drivername="postgresql").render_as_string(hide_password=False)
    read = f"psql '{url}' -c 'select 1'"
    assert _ran(read, home, {}), "the plant works"
    assert not _ran(read, home, dict(ENVIRONMENT))


@pytest.mark.parametrize("file", ["~/.bashrc", ".curlrc", "$HOME/.sqliterc", "/srv/a/.config/git/config", "~/.my.cnf"])
def test_a_write_that_plants_a_start_up_file_is_said_to_outlive(file: str) -> None:
    """I-29: what later commands obey is flagged before it is approved."""
    for line in (f"cp x {file}", f"echo x > {file}"):
        verdict = classify(line.encode())
        assert isinstance(verdict, Classified)
        assert verdict.outlives, line
    plain = classify(b"cp x src/main.rs")
    assert isinstance(plain, Classified)
    assert not plain.outlives
