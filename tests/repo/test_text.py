"""What the repository's own files may say: no index address in a lock, no path of one machine, reasons where due."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from tests.peers import REPOSITORY

LOCKS: Final = sorted((REPOSITORY / "requirements").iterdir())
DECISIONS: Final = sorted((REPOSITORY / "docs" / "adr").glob("[0-9]*.md"))
HEADINGS: Final = ("Context", "Decision", "Consequences", "Security")
MADE: Final = {".git", ".venv", ".venv-clients", ".venv-gen", ".cache", "build", "dist", ".hypothesis"}
# written in pieces, so that this file does not hold what it looks for
ADDRESS: Final = re.compile(r"https?:|--(?:extra-)?index|--find-links|--trusted-host|file:|git\+")
ONE_MACHINE: Final = re.compile(r"/(?:home|Users)/[a-z]|/wor" + r"k/|/roo" + r"t/|/tmp/[a-z]+/[a-z]")
INDEX_HOST: Final = re.compile(
    r"(?:pypi|pythonhosted|npmjs|crates|artifactory|jfrog|nexus)" + r"\.(?:org|com|io)|index-ur" + r"l"
)


def own_files() -> list[Path]:
    """Every text file of the repository that no tool made."""
    found = [
        path
        for path in REPOSITORY.rglob("*")
        if path.is_file()
        and not MADE & set(path.relative_to(REPOSITORY).parts)
        and not any(part.endswith(("_cache", "__pycache__", ".egg-info")) for part in path.parts)
    ]
    return [path for path in found if b"\0" not in path.read_bytes()]


def offences(pattern: re.Pattern[str], files: list[Path]) -> list[str]:
    """The lines that the pattern finds, as file:line: text."""
    return [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()[:120]}"
        for path in files
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_locks_hold_no_address() -> None:
    """Which index serves the locks is each site's choice; the hashes make it irrelevant."""
    assert LOCKS
    assert offences(ADDRESS, LOCKS) == []


@pytest.mark.parametrize("lock", [path for path in LOCKS if path.suffix == ".txt"], ids=lambda path: path.name)
def test_locks_pin_everything_by_hash(lock: Path) -> None:
    """A line without a hash would turn off pip's check for the whole file, or fail in a fresh clone."""
    entries = re.split(r"\n(?=\S)", lock.read_text().strip())
    assert entries
    assert [
        entry for entry in entries if not re.match(r"[\w.-]+==\S+.*--hash=sha256:[0-9a-f]{64}", entry, re.DOTALL)
    ] == []


def test_no_file_speaks_of_one_machine() -> None:
    """A path of whoever wrote a file is wrong everywhere else."""
    assert offences(ONE_MACHINE, own_files()) == []


def test_no_file_names_an_index() -> None:
    """The same for the host of a package index."""
    assert offences(INDEX_HOST, own_files()) == []


@pytest.mark.parametrize("line", ["cd /wor" + "k/tree", "/home/" + "deployer/x", "pip install --index-ur" + "l x"])
def test_the_patterns_find_what_they_are_for(line: str) -> None:
    """The two tests above can fail."""
    assert ONE_MACHINE.search(line) or INDEX_HOST.search(line)


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda path: path.stem)
def test_decisions_have_their_headings(decision: Path) -> None:
    """Each ADR answers the four questions, in order, and bears its file's number (ADR 0001)."""
    text = decision.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE)[: len(HEADINGS)] == list(HEADINGS)
    assert text.startswith(f"# {decision.name[:4]}. ")


def test_decisions_have_numbers_of_their_own() -> None:
    """No number twice. One may be missing: decisions on their way at the same time take theirs when they begin."""
    numbers = [path.name[:4] for path in DECISIONS]
    assert sorted(set(numbers)) == numbers


def declared() -> set[str]:
    """Every distribution that the repository asks for by name."""
    root = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    agents = tomllib.loads((REPOSITORY / "agents" / "pyproject.toml").read_text())["project"]
    wanted = [*root["project"]["dependencies"], *root["dependency-groups"]["dev"], *agents["dependencies"]]
    wanted += [name for extra in agents["optional-dependencies"].values() for name in extra]
    for name in ("gen.in", "clients.in"):
        wanted += [line for line in (REPOSITORY / "requirements" / name).read_text().splitlines() if line[:1].isalpha()]
    return {re.split(r"[<>=;\[ ]", name, maxsplit=1)[0].lower() for name in wanted}


def test_every_dependency_has_a_reason() -> None:
    """docs/dependencies.md names exactly what the projects and gen.in ask for, each with a reason and a licence."""
    page = (REPOSITORY / "docs" / "dependencies.md").read_text()
    rows = re.findall(r"^\| ([\w.-]+) \| (.+?) \| (.+?) \|$", page, re.MULTILINE)
    listed = {name.lower() for name, reason, licence in rows if name != "distribution" and reason and licence}
    assert listed == declared()


def test_the_changelog_builds() -> None:
    """Every fragment is NAME.KIND.md with a kind that towncrier knows; it would pass over another one in silence."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["towncrier"]
    kinds = "|".join(kind["directory"] for kind in settings["type"])
    fragments = {path.name for path in (REPOSITORY / "changelog.d").iterdir()} - {"README.md"}
    assert [name for name in fragments if not re.fullmatch(rf"[\w+-]+\.({kinds})(\.\d+)?\.md", name)] == []
    draft = subprocess.run(
        [str(Path(sys.executable).with_name("towncrier")), "build", "--draft", "--version", "0"],
        check=False,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert draft.returncode == 0, draft.stderr


def test_the_documented_verbs_exist() -> None:
    """CONTRIBUTING and README speak of verbs that make knows, and leave none of the public ones out."""
    makefile = (REPOSITORY / "Makefile").read_text()
    known = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    contributing = set(re.findall(r"`make ([a-z-]+)", (REPOSITORY / "CONTRIBUTING.md").read_text()))
    readme = set(re.findall(r"\bmake ([a-z-]+)\s+#", (REPOSITORY / "README.md").read_text()))
    assert readme
    assert readme <= known
    assert contributing <= known
    assert known - contributing == {"help", "ready", "clean"}
