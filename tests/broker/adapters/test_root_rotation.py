"""The root key changes in its file: killed at any step, and repeated, both keys are there until one is given up."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.adapters.key_file import RootKeyFault
from broker.adapters.root_key import RootKeys, make_root_key, root_id
from broker.adapters.root_rotation import RootFiles


class Killed(BaseException):
    """The process is no more: nothing catches this."""


@pytest.fixture
def files(tmp_path: Path) -> RootFiles:
    """A fresh root key."""
    made = RootFiles(path=tmp_path / "keys" / "root.key", owner=os.geteuid())
    make_root_key(made.path)
    return made


def change(files: RootFiles) -> None:
    """What `grantd vault rotate-root` does to the files."""
    if not files.read().previous:
        files.prepare()
        files.swap()


class Killer:
    """Ends the process before, or right after, the n-th step."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, *, after: bool) -> None:
        self.left, self.after, self.fell = at, after, False
        for owner, name in ((os, "open"), (os, "fsync"), (os, "link"), (Path, "rename"), (Path, "unlink")):
            patch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*words: Any, **more: Any) -> Any:  # noqa: ANN401  as the real one
            self.left -= 1
            if self.left == 0 and not self.after:
                self._die()
            made = real(*words, **more)
            if self.left == 0:
                self._die()
            return made

        return step

    def _die(self) -> None:
        self.fell = True
        raise Killed


def test_killed_at_each_step_nothing_is_lost(tmp_path: Path) -> None:
    """The old key can be read after each kill; started again, the change is made once and both keys are there."""
    count = 0
    for after in (False, True):
        for at in range(1, 200):
            files = RootFiles(path=tmp_path / f"{after}-{at}" / "root.key", owner=os.geteuid())
            make_root_key(files.path)
            old = root_id(files.path.read_bytes())
            with pytest.MonkeyPatch.context() as patch:
                killer = Killer(patch, at, after=after)
                try:
                    change(files)
                except Killed:
                    count += 1
            assert files.read().of_id(old) is not None, (after, at)
            change(files)
            roots = files.read()
            assert [key.id for key in roots.previous] == [old], (after, at)
            assert roots.primary.id != old
            assert roots.coming == ()
            if not killer.fell:
                break
    assert count > 20, "it was killed at many different steps"


def test_a_reader_at_each_step_finds_the_old_key(files: RootFiles) -> None:
    """A broker that looks between any two steps of the change can read the key that everything lies under."""
    old, seen = root_id(files.path.read_bytes()), []
    real_rename, real_link = Path.rename, os.link

    def look() -> None:
        roots = RootKeys(files.path, {}, owner=os.geteuid()).read()
        assert roots.of_id(old) is not None
        seen.append(roots.primary.id)

    def rename(self: Path, target: Path) -> Path:
        look()
        made = real_rename(self, target)
        look()
        return made

    def link(*words: Any, **more: Any) -> None:  # noqa: ANN401  as the real one
        real_link(*words, **more)
        look()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        patch.setattr(os, "link", link)
        change(files)
    assert len(set(seen)) == 2, "it looked before and after"


def test_a_second_change_waits_for_the_end_of_the_first(files: RootFiles) -> None:
    """Whatever still lies under the former key could not be opened by anybody once it is overwritten."""
    change(files)
    files.prepare()
    with pytest.raises(RootKeyFault, match="finish that change first"):
        files.swap()


def test_giving_up_the_former_key_overwrites_it(files: RootFiles) -> None:
    """The file that had it holds zeros by the time that its name goes; the primary one stays."""
    change(files)
    held = os.open(files.previous, os.O_RDONLY)
    try:
        files.forget()
        assert os.pread(held, 32, 0) == bytes(32)
    finally:
        os.close(held)
    roots = files.read()
    assert roots.previous == ()
    assert not files.previous.exists()


def test_a_change_that_was_stopped_half_way_never_costs_the_primary_key(files: RootFiles) -> None:
    """`previous` may be the primary file's second name: giving it up then would zero the only key."""
    os.link(files.path, files.previous)
    before = files.path.read_bytes()
    with pytest.raises(RootKeyFault, match="no former root key"):
        files.forget()
    assert files.path.read_bytes() == before
    change(files)
    assert [key.id for key in files.read().previous] == [root_id(before)]


def test_a_half_made_key_is_never_seen(files: RootFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made under another name first: a broker that starts meanwhile finds a whole key or none."""

    def no_space(descriptor: int) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        files.prepare()
    assert not files.next.exists()
    assert files.read().coming == ()
