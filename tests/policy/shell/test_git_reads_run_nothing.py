"""Each kind of git read, run for real in a repository whose settings and attributes name programs everywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from broker.core.wrapper import ENVIRONMENT
from policy.classes import CommandClass
from policy.shell import Classified, classify

NOBODY = 65534
PLANT = r"""
git init -q . && git config user.email a@example.net && git config user.name a
echo 1 > f; echo x > g; git add f g; git commit -qm one; echo 2 > f; git commit -qam two; git tag v1
s='gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----'
git notes add -m n HEAD; git bundle create -q b HEAD
echo 5 > f; git stash -q
git cat-file commit HEAD | sed "/^committer/a $s" > c
git update-ref HEAD "$(git hash-object -t commit -w c)"; rm c
printf '#!/bin/sh\ntouch "%s/m"; cat 2>/dev/null\n' "$PWD" > evil; chmod +x evil; e=$PWD/evil
for s in diff.evil.command diff.evil.textconv diff.external filter.evil.clean filter.evil.smudge filter.evil.process \
  core.fsmonitor core.pager pager.log pager.branch core.editor core.sshCommand core.askPass gpg.program \
  gpg.ssh.program gpg.x509.program man.evil.cmd remote.origin.uploadpack core.gitProxy \
  interactive.diffFilter alias.log alias.status \
  core.alternateRefsCommand; do git config "$s" "$e"; done
git config man.viewer evil; git config log.showSignature true; git config remote.origin.url .
git config format.pretty '%G? %s'; git config diff.submodule diff; git config alias.reflog-show "!$e"
echo '* diff=evil filter=evil' > .gitattributes; sleep 0.01; printf '3\n' > f; touch g; rm -f m
"""
READS = [
    *["git log", "git log --oneline -5", "git log --stat", "git log --name-status --follow f", "git log --graph --all"],
    *["git log -p --no-ext-diff --no-textconv", "git log -S1 --no-ext-diff --no-textconv", "git log --raw"],
    *["git log --format=%h", "git show --stat HEAD", "git show -s", "git show --no-ext-diff --no-textconv HEAD"],
    *["git show --no-ext-diff --no-textconv HEAD:f", "git diff --cached --no-ext-diff --no-textconv"],
    *["git diff --cached --stat", "git diff --staged --name-only", "git branch", "git branch -vv", "git branch --list"],
    *["git tag -l", "git tag -n", "git remote -v", "git remote get-url origin", "git reflog", "git stash list"],
    *[
        "git rev-parse HEAD",
        "git rev-list --count HEAD",
        "git shortlog -sn HEAD",
        "git describe --always",
        "git ls-files -s",
    ],
    *[
        "git ls-files -o",
        "git ls-files -d",
        "git ls-tree -r HEAD",
        "git for-each-ref",
        "git show-ref",
        "git cat-file -p HEAD",
    ],
    *[
        "git fsck",
        "git show-branch",
        "git var -l",
        "git check-attr -a f",
        "git check-ignore -v f",
        "git count-objects -v",
    ],
    *[
        "git merge-base HEAD HEAD",
        "git name-rev HEAD",
        "git config -l",
        "git config --get diff.external",
        "git version",
    ],
    *["git diff --name-status HEAD~1..HEAD --", "git diff --stat v1~1 v1 -- f", "git diff --numstat HEAD~1...HEAD --"],
    *["git diff --no-ext-diff --no-textconv HEAD~1 HEAD -- f", "git diff --name-only HEAD~1..HEAD --"],
    *[
        "git diff-tree -r HEAD~1 HEAD",
        "git diff-tree --no-commit-id --name-status -r HEAD~1",
        "git diff-tree --stat v1",
    ],
    *[
        "git diff-tree -p --no-ext-diff --no-textconv HEAD~1 HEAD",
        "git stash show --stat",
        "git stash show --name-only",
    ],
    *[
        "git stash show -p --no-ext-diff --no-textconv",
        "git stash list --stat",
        "git reflog -n 3",
        "git reflog show HEAD",
    ],
    *[
        "git blame --no-textconv HEAD -- f",
        "git blame --no-textconv -L 1,1 HEAD~1 -- f",
        "git annotate --no-textconv v1 -- f",
    ],
    *["git grep -n 1", "git grep -l 1 HEAD", "git grep --cached 1", "git grep -W --untracked x", "git worktree list"],
    *["git notes", "git notes list", "git notes show HEAD", "git bundle list-heads b", "git bundle verify b"],
    *[
        "git branch --contains HEAD~1",
        "git branch -r --merged HEAD",
        "git tag --contains v1 'v*'",
        "git log --binary --no-ext-diff --no-textconv",
        "git commit-graph verify",
        "git multi-pack-index verify",
        "git sparse-checkout list",
    ],
    *[
        "git replace -l",
        "git symbolic-ref HEAD",
        "git bisect log",
        "git rev-parse --abbrev-ref HEAD",
        "git ls-files -s -v",
    ],
    *[
        "git config --get-regexp '^diff' evil",
        "git check-attr diff -- f",
        "git cat-file --batch-check --batch-all-objects",
    ],
    *["git --help", "git -P log -1", "git --no-optional-locks log -1", "cd . && git log -1"],
]


@pytest.fixture(scope="module")
def planted() -> Iterator[Path]:
    """A repository that names a program wherever git lets it; the program leaves the marker `m`."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    done = _run("bash", "-c", PLANT, folder=folder, environment={"PATH": "/usr/bin:/bin", "HOME": str(folder)})
    assert (folder / ".gitattributes").exists(), done.stderr
    yield folder
    shutil.rmtree(folder)


def _run(*words: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    """As nobody where that can be chosen: nothing that a hole would run gets more than this folder."""
    user = NOBODY if os.geteuid() == 0 else None
    groups: list[int] | None = [] if user else None
    return subprocess.run(
        words, cwd=folder, env=environment, user=user, group=user, extra_groups=groups,
        stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False,
    )  # fmt: skip


def _marked(command: str, folder: Path, given: Mapping[str, str] = ENVIRONMENT) -> bool:
    (folder / "m").unlink(missing_ok=True)
    environment = {**given, "HOME": str(folder)}
    _run("bash", "--norc", "--noprofile", "-c", "--", command, folder=folder, environment=environment)
    return (folder / "m").exists()


@pytest.mark.parametrize("command", READS)
def test_a_git_read_runs_nothing_of_the_repository(command: str, planted: Path) -> None:
    """I-16: what is called a read starts no program that the repository names."""
    verdict = classify(command.encode())
    assert isinstance(verdict, Classified)
    assert verdict.command_class is CommandClass.READ, verdict
    assert not verdict.opaque
    assert not _marked(command, planted)


def test_git_before_2_31_is_held_too(planted: Path) -> None:
    """I-16: without GIT_CONFIG_COUNT, which an older git does not know, no read runs anything either."""
    old = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(("GIT_CONFIG_K", "GIT_CONFIG_V"))}
    del old["GIT_CONFIG_COUNT"]
    assert [command for command in READS if _marked(command, planted, old)] == []
    del old["GIT_CONFIG_PARAMETERS"]
    assert _marked("git log -1", planted, old), "the plant works"


WOULD = [
    *["git status", "git diff", "git show", "git blame f", "git log -p", "git help log", "git blame HEAD -- f"],
    *["git diff --stat", "git diff --name-status HEAD", "git log -S1", "git log --binary"],
    *["git diff-tree -p --ext-diff --textconv HEAD~1 HEAD", "git reflog -p", "git blame --no-textconv -- f"],
    *["git grep --textconv 1"],
]


@pytest.mark.parametrize("command", WOULD)
def test_what_is_no_read_would_run_it(command: str, planted: Path) -> None:
    """The plant works: these run it, and are classified up."""
    verdict = classify(command.encode())
    assert isinstance(verdict, Classified)
    assert verdict.command_class >= CommandClass.EXECUTE
    assert _marked(command, planted)
