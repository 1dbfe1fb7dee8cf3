"""A copied house is what `grantd init` makes: every file and mode, at its own place, and nothing of a sibling's."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.e2e.founded import BASE_PORT, copied
from tests.e2e.stage import found

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e-founded")]

PORTS = range(20_001, 20_006)
OF_THE_ORIGINAL = (b"grantd-founded-", *(mark + str(BASE_PORT)[:-1].encode() for mark in (b":", b"= ", b'"')))
"""Its folder and its ports, as text writes them; bare digits may be part of a digest."""


def test_a_copy_is_what_init_makes(tmp_path: Path) -> None:
    """The same files with the same modes; those that no key or time is in say the same, but for whose they are."""
    made, copy = tmp_path / "made", tmp_path / "copy"
    for folder in (made, copy):
        folder.mkdir()
    found(made, PORTS[0])
    copied(copy, PORTS, found)
    assert _modes(copy) == _modes(made)
    assert (copy / "grantd.toml").read_text() == (made / "grantd.toml").read_text().replace(str(made), str(copy))
    told = [(each / "data/owner/profile.toml").read_text().splitlines() for each in (made, copy)]
    assert [line for line in told[0] if "_id" not in line] == [line for line in told[1] if "_id" not in line]


def test_a_copy_knows_nothing_of_where_it_came_from(tmp_path: Path) -> None:
    """No file names the original's folder or ports; what a sibling wrote since is not in it."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        copied(folder, PORTS, found)
        for path in folder.rglob("*"):
            if path.is_file():
                said = path.read_bytes()
                assert not [word for word in OF_THE_ORIGINAL if word in said], path
                assert b"a sibling wrote this" not in said, path
        for name in ("data/recordings/mine", "data/grantd.db", "data/signer/trust.jsonl"):
            with (folder / name).open("ab") as file:
                file.write(b"a sibling wrote this")
    assert sorted(_modes(first)) == sorted(_modes(second))


def _modes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): stat.filemode(path.stat().st_mode) for path in folder.rglob("*")}
