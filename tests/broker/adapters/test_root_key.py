"""One strong, private root key from one place, or no start (I-54)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from broker.adapters.root_key import (
    CREDENTIAL,
    ENVIRONMENT,
    ENVIRONMENT_PREVIOUS,
    RootKeyFault,
    RootKeys,
    make_root_key,
    root_id,
)
from broker.adapters.vault import Place, SealingKey
from broker.core.errors import Fault
from broker.core.keymaterial import WeakKey

ME = os.geteuid()
PLACE = Place(tenant="t1", kind="tenant_key", id="vault", field="key", version=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A fresh root key."""
    make_root_key(tmp_path / "private" / "root.key")
    return tmp_path / "private" / "root.key"


def load_root_key(path: Path | None, environ: dict[str, str], *, owner: int) -> SealingKey:
    """The primary key of wherever it is."""
    return RootKeys(path, environ, owner=owner).read().primary


def write(path: Path, data: bytes, mode: int = 0o400) -> Path:
    """A file of exactly this content and mode."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    return path


def is_of(key: SealingKey, data: bytes) -> bool:
    """Whether the key is the one of these 32 bytes, without looking into it."""
    return key.id == root_id(data)


def test_a_made_key_is_private_and_loads(path: Path) -> None:
    """32 random bytes, 0400 in a directory 0700; loading it names it."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert is_of(load_root_key(path, {}, owner=ME), path.read_bytes())


def test_a_key_is_never_overwritten(path: Path) -> None:
    """A second init changes nothing: everything sealed would be lost."""
    before = path.read_bytes()
    with pytest.raises(RootKeyFault, match="never overwritten"):
        make_root_key(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o440, 0o404, 0o444, 0o600 | 0o020, 0o602, 0o644, 0o777])
def test_a_key_that_others_can_see_is_refused(path: Path, mode: int) -> None:
    """One bit for group or world is enough."""
    path.chmod(mode)
    with pytest.raises(RootKeyFault, match="others may read"):
        load_root_key(path, {}, owner=ME)


@pytest.mark.parametrize(
    "weak",
    [bytes(32), b"\xff" * 32, b"A" * 32, b"changeme" * 4, bytes(range(32)), b"0123456789abcdef" * 2],
    ids=["zero", "ones", "letters", "sample", "counted", "repeated"],
)
def test_a_weak_key_is_refused(path: Path, weak: bytes) -> None:
    """No constant, counted or sample key starts, from a file or the environment; the message never shows it."""
    write(path, weak)
    for given, environ in ((path, {}), (None, {ENVIRONMENT: weak.hex()})):
        with pytest.raises(WeakKey) as refused:
            load_root_key(given, environ, owner=ME)
        assert weak.hex() not in refused.value.what


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_key_of_another_size_is_refused(path: Path, size: int) -> None:
    """Neither short nor with a newline behind it."""
    write(path, os.urandom(size))
    with pytest.raises(RootKeyFault, match="exactly 32 bytes"):
        load_root_key(path, {}, owner=ME)


def test_what_is_no_private_file_is_refused(path: Path) -> None:
    """Missing, a link, a directory, a pipe, another's."""
    with pytest.raises(RootKeyFault, match="own user"):
        load_root_key(path, {}, owner=ME + 1)
    link, pipe = path.parent / "link", path.parent / "pipe"
    link.symlink_to(path)
    os.mkfifo(pipe, 0o400)
    for wrong in (path.parent / "missing", link, path.parent, pipe):
        with pytest.raises(RootKeyFault):
            load_root_key(wrong, {}, owner=ME)


def test_a_systemd_credential_is_taken(tmp_path: Path) -> None:
    """$CREDENTIALS_DIRECTORY/grantd-root, with the group bits of systemd's access list but none for the world."""
    key = os.urandom(32)
    write(tmp_path / CREDENTIAL, key, 0o440)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert is_of(load_root_key(None, environ, owner=ME), key)
    (tmp_path / CREDENTIAL).chmod(0o444)
    with pytest.raises(RootKeyFault, match="others may read"):
        load_root_key(None, environ, owner=ME)


def test_a_key_in_the_environment_is_taken_out_of_it(path: Path) -> None:
    """For development: it works, it warns, it is gone from the environment, and the warning does not show it (I-36)."""
    key = os.urandom(32)
    environ = {ENVIRONMENT: key.hex()}
    with capture_logs() as logs:
        assert is_of(load_root_key(None, environ, owner=ME), key)
    assert environ == {}
    (warning,) = logs
    assert warning["log_level"] == "warning"
    assert key.hex() not in repr(logs)
    # taken out as well where another place is the one that counts
    environ = {ENVIRONMENT: key.hex()}
    with pytest.raises(RootKeyFault, match="more than one"):
        load_root_key(path, environ, owner=ME)
    assert environ == {}


@pytest.mark.parametrize("text", ["", "zz" * 32, "0x" + "ab" * 31])
def test_another_text_in_the_environment_is_refused(text: str) -> None:
    """64 hex digits, or a refusal that does not repeat what was there."""
    with pytest.raises(Fault) as refused:
        load_root_key(None, {ENVIRONMENT: text}, owner=ME)
    assert not text or text not in refused.value.what


def test_two_places_are_refused(path: Path, tmp_path: Path) -> None:
    """Which of two keys would count must never be a matter of luck."""
    write(tmp_path / CREDENTIAL, os.urandom(32))
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    with pytest.raises(RootKeyFault, match="more than one"):
        load_root_key(path, dict(environ), owner=ME)
    with pytest.raises(RootKeyFault, match="more than one"):
        load_root_key(None, environ | {ENVIRONMENT: os.urandom(32).hex()}, owner=ME)


def test_no_place_says_what_to_do(tmp_path: Path) -> None:
    """Without a key there is no start, and init is named."""
    with pytest.raises(RootKeyFault, match="grantd init"):
        load_root_key(None, {"CREDENTIALS_DIRECTORY": str(tmp_path)}, owner=ME)


def test_the_wrong_root_key_is_named(path: Path) -> None:
    """What one root key wrapped names it: another one is refused by its id, not by trial."""
    first, second = (
        load_root_key(path, {}, owner=ME),
        load_root_key(None, {ENVIRONMENT: os.urandom(32).hex()}, owner=ME),
    )
    blob = first.seal(PLACE, b"key")
    assert first.id != second.id
    with pytest.raises(Fault, match="names another key"):
        second.open(PLACE, blob)


# ---- where it lies
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722, 0o1777])
def test_a_key_in_a_directory_that_others_write_is_refused(path: Path, mode: int) -> None:
    """Who may rename in it can put their own key in its place; a sticky bit stops that, and nobody needs it here."""
    path.parent.chmod(mode)
    with pytest.raises(RootKeyFault, match="may replace the root key"):
        load_root_key(path, {}, owner=ME)


@pytest.mark.skipif(ME != 0, reason="only root can give a directory away")
def test_a_key_in_somebody_elses_directory_is_refused(path: Path) -> None:
    """Its owner can open it for themselves at any moment."""
    os.chown(path.parent, 12_345, -1)
    with pytest.raises(RootKeyFault, match="may replace the root key"):
        load_root_key(path, {}, owner=ME)


@pytest.mark.parametrize("history", [".git", ".hg", ".svn"])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_key_among_versioned_files_is_refused(tmp_path: Path, history: str, depth: int) -> None:
    """Below a working tree of any kind, however deep, and a worktree's `.git` is a file: one `add` would publish it."""
    (tmp_path / history).write_text("gitdir: elsewhere") if history == ".git" else (tmp_path / history).mkdir()
    key = tmp_path.joinpath(*"abc"[:depth], "root.key")
    make_root_key(key)
    tmp_path.chmod(0o700)
    with pytest.raises(RootKeyFault, match="among versioned files"):
        load_root_key(key, {}, owner=ME)


def test_a_linked_directory_hides_no_working_tree(tmp_path: Path) -> None:
    """The real place counts, not the name that leads there."""
    (tmp_path / "tree" / ".git").mkdir(parents=True)
    make_root_key(tmp_path / "tree" / "keys" / "root.key")
    (tmp_path / "nice").symlink_to(tmp_path / "tree" / "keys")
    with pytest.raises(RootKeyFault, match="among versioned files"):
        load_root_key(tmp_path / "nice" / "root.key", {}, owner=ME)


def test_a_link_is_named_as_one(path: Path) -> None:
    """A link says where somebody else decided that the key is."""
    (path.parent / "link").symlink_to(path)
    with pytest.raises(RootKeyFault, match="symbolic link"):
        load_root_key(path.parent / "link", {}, owner=ME)


# ---- more than one
def test_the_neighbours_are_read_and_never_seal(path: Path) -> None:
    """`.next` is known before it counts, `.previous` still opens; the plain one alone is primary."""
    for name in ("next", "previous"):
        make_root_key(path.with_name(f"root.key.{name}"))
    roots = RootKeys(path, {}, owner=ME).read()
    assert is_of(roots.primary, path.read_bytes())
    for (key,), name in ((roots.coming, "next"), (roots.previous, "previous")):
        assert is_of(key, path.with_name(f"root.key.{name}").read_bytes())


@pytest.mark.parametrize("name", ["next", "previous"])
def test_a_weak_neighbour_stops_the_start_too(path: Path, name: str) -> None:
    """What opens must be as good as what seals, and as private."""
    beside = write(path.with_name(f"root.key.{name}"), bytes(32))
    with pytest.raises(WeakKey, match=f"root.key.{name}"):
        load_root_key(path, {}, owner=ME)
    write(beside, os.urandom(32), 0o444)
    with pytest.raises(RootKeyFault, match="others may read"):
        load_root_key(path, {}, owner=ME)


def test_credentials_have_neighbours_too(tmp_path: Path) -> None:
    """`grantd-root-previous` beside `grantd-root`, for a unit that is restarted with both."""
    keys = {name: os.urandom(32) for name in (CREDENTIAL, f"{CREDENTIAL}-previous", f"{CREDENTIAL}-next")}
    for name, key in keys.items():
        write(tmp_path / name, key, 0o440)
    roots = RootKeys(None, {"CREDENTIALS_DIRECTORY": str(tmp_path)}, owner=ME).read()
    assert is_of(roots.primary, keys[CREDENTIAL])
    assert is_of(roots.previous[0], keys[f"{CREDENTIAL}-previous"])
    assert is_of(roots.coming[0], keys[f"{CREDENTIAL}-next"])


def test_the_environment_has_a_former_key_too() -> None:
    """For development; both are gone from the environment, and both can be read again later."""
    key, former = os.urandom(32), os.urandom(32)
    environ = {ENVIRONMENT: key.hex(), ENVIRONMENT_PREVIOUS: former.hex()}
    keys = RootKeys(None, environ, owner=ME)
    assert environ == {}
    for _ in range(2):
        roots = keys.read()
        assert is_of(roots.primary, key)
        assert is_of(roots.previous[0], former)
