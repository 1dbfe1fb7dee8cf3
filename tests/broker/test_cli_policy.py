"""`grantd policy`: what an operator is told about files before anything is put."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import policy
from broker import cli

pytestmark = pytest.mark.usefixtures("own_logs")
SHIPPED = Path(policy.__file__).parent


def run(*words: str) -> Result:
    """grantd within this process."""
    return CliRunner().invoke(cli.grantd, ["policy", *words], prog_name="grantd")


# ---- check
def test_check_of_the_shipped_policy_is_silent() -> None:
    """It loads, without a warning; the version is told."""
    good = run("check", str(SHIPPED))
    assert (good.exit_code, good.stderr) == (0, "")
    assert "policies load; version " in good.stdout


def test_check_tells_every_problem_of_every_file(tmp_path: Path) -> None:
    """Exit 1, a line a problem with `file:line:column`, nothing on standard output."""
    (tmp_path / "a.cedar").write_text("\n\npermit (\n")
    (tmp_path / "b.cedar").write_text('@id("b") permit (principal, action == Action::"rum", resource);\npermit (x);')
    bad = run("check", str(tmp_path))
    assert (bad.exit_code, bad.stdout) == (1, "")
    assert [line.split(": ")[0] for line in bad.stderr.splitlines()] == ["a.cedar:3:1", "b.cedar:1:47", "b.cedar:2:9"]
    assert "did you mean `run`?" in bad.stderr


def test_check_warns_and_still_passes(tmp_path: Path) -> None:
    """A suspicious set is said to be so; exit 0, for it may be meant."""
    shutil.copy(SHIPPED / "tiers.cedar", tmp_path)
    (tmp_path / "site.cedar").write_text(
        '@id("x") forbid (principal, action, resource) when { resource.tier == "tru" };'
    )
    seen = run("check", str(tmp_path))
    assert seen.exit_code == 0
    assert "site.cedar:1:71: warning: x: resource.tier is never" in seen.stderr


@pytest.mark.parametrize(
    "content", [b"permit (", b"\xff", b"", b'@id("\x1b[2J") permit (principal, action, resource);']
)
def test_check_of_anything_else_is_a_plain_no(tmp_path: Path, content: bytes) -> None:
    """I-11: exit 1, no traceback, no escape on the terminal."""
    (tmp_path / "mine.cedar").write_bytes(content)
    bad = run("check", str(tmp_path))
    assert bad.exit_code == 1
    assert bad.stderr
    assert "\x1b" not in bad.stderr
    assert "Traceback" not in bad.stderr
