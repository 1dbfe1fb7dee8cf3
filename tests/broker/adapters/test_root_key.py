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
    RootKeyFault,
    load_root_key,
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
