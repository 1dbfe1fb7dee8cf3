"""A profile is private or refused, and replaced whole or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from grantd.errors import ProfileProblem
from grantd.profile import Description, Profile, locate, replace_file

TOLD = Description(
    address="127.0.0.1:8443", join_address="127.0.0.1:8444", tenant="t1", identity_id="ag_1", name='de"ploy\u00e9r'
)


def made(where: Path) -> Profile:
    """A profile whose keys are only words."""
    return Profile.create(where, description=TOLD, key=b"key", certificate=b"certificate", ca=b"ca")


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    """All four files, and every character of the description."""
    written = made(tmp_path / "p")
    loaded = Profile.load(tmp_path / "p")
    assert loaded == written
    assert (loaded.key, loaded.certificate, loaded.ca) == (b"key", b"certificate", b"ca")


def test_it_is_private_from_the_first_moment(tmp_path: Path) -> None:
    """Directory 0700, files 0600, whatever the umask (I-54)."""
    made(tmp_path / "p")
    assert stat.S_IMODE((tmp_path / "p").stat().st_mode) == 0o700
    for file in ("profile.toml", "client.key", "client.pem", "ca.pem", "lock"):
        assert stat.S_IMODE((tmp_path / "p" / file).stat().st_mode) == 0o600, file


@pytest.mark.parametrize("name", [".", "profile.toml", "client.key", "client.pem", "ca.pem"])
def test_an_open_profile_is_refused(tmp_path: Path, name: str) -> None:
    """Open to others, and it is said how to close it; nothing is repaired silently (I-54)."""
    made(tmp_path / "p")
    path = tmp_path / "p" / name
    path.chmod(path.stat().st_mode | 0o040)
    with pytest.raises(ProfileProblem, match="open to other users") as refused:
        Profile.load(tmp_path / "p")
    assert "chmod" in refused.value.way_out


@pytest.mark.parametrize(
    ("toml", "what"),
    [
        ('address = "x"\n', "lacks a key"),
        ("address = 1\n", "not a string"),
        ('color = "red"\n', "unknown"),
        ("]", "cannot be read"),
        ('a = "\xff"', "cannot be read"),
    ],
)
def test_a_damaged_description_is_refused(tmp_path: Path, toml: str, what: str) -> None:
    """Unknown keys too: a misspelt one would otherwise be silently without effect."""
    made(tmp_path / "p")
    (tmp_path / "p/profile.toml").write_bytes(toml.encode("latin-1"))
    with pytest.raises(ProfileProblem, match=what):
        Profile.load(tmp_path / "p")


def test_no_profile_says_how_to_get_one(tmp_path: Path) -> None:
    """The way out is named."""
    with pytest.raises(ProfileProblem) as refused:
        Profile.load(tmp_path / "nothing")
    assert refused.value.code == "no_profile"
    assert "--join" in refused.value.way_out


def test_a_name_is_a_folder_below_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name, path, variable, default, in this order."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert locate("work") == tmp_path / "grantd/work"
    assert locate(f"{tmp_path}/x") == tmp_path / "x"
    assert locate(None) == tmp_path / "grantd/default"
    monkeypatch.setenv("GRANTCTL_PROFILE", "other")
    assert locate(None) == tmp_path / "grantd/other"
    with pytest.raises(ProfileProblem):
        locate("..")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """A failed write leaves the old content and no litter."""
    path = tmp_path / "file"
    replace_file(path, b"old")
    with pytest.raises(TypeError):
        replace_file(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_description_that_toml_cannot_keep_is_refused(tmp_path: Path) -> None:
    """A control character in a name never becomes another line of the file."""
    hostile = Description(address="a", join_address="b", tenant="t", identity_id="i", name='x"\naddress = "evil')
    with pytest.raises(ProfileProblem):
        Profile.create(tmp_path / "p", description=hostile, key=b"", certificate=b"", ca=b"")
