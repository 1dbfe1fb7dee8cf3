"""grantd init: everything private, everything usable, nothing overwritten, and plain words where it cannot (I-54)."""

from __future__ import annotations

import os
import stat
import subprocess
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from broker.cli import grantd
from broker.config import Settings
from broker.core.ids import TenantId
from broker.init import config_text, make_approval_key
from grantd.profile import Profile
from tests import peers

pytestmark = pytest.mark.usefixtures("own_logs")
NAMESPACE: Final = "grantd-approval@v1"


def init(folder: Path, *words: str, config: str = "grantd.toml") -> Result:
    """grantd init with everything below one folder."""
    given = ["init", "--config", str(folder / config), "--data", str(folder / "data"), *words]
    return CliRunner().invoke(grantd, given, prog_name="grantd")


@pytest.fixture(scope="module")
def made(own_logs: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what init made; tests only read it."""
    folder = tmp_path_factory.mktemp("made")
    done = init(folder, "--tenant", "acme", "--owner", "first", "--base-port", "20100")
    assert (done.exit_code, done.stderr) == (0, "")
    return folder


def modes(folder: Path) -> dict[str, int]:
    """Mode bits of everything below a folder."""
    return {str(p.relative_to(folder)): stat.S_IMODE(p.lstat().st_mode) for p in sorted(folder.rglob("*"))}


def test_everything_is_private(made: Path) -> None:
    """0700 folders, 0600 files, 0400 keys; nobody else reads or writes anything."""
    found = modes(made)
    assert found.pop("grantd.toml") == 0o600
    keys = {
        "data/root.key",
        *(name for name in found if name.startswith("data/signer/") and name[-4:] in (".key", ".crt")),
    }
    assert len(keys) == 7
    for name, mode in found.items():
        expected = 0o700 if (made / name).is_dir() else 0o400 if name in keys else 0o600
        assert mode == expected, name
    assert {"data/owner/client.key", "data/owner/approval_key", "data/grantd.db"} <= set(found)


def test_the_settings_are_those_that_were_asked_for(made: Path) -> None:
    """And the file alone gives them back."""
    settings = Settings.load(made / "grantd.toml", {})
    assert (settings.tenant, settings.data) == ("acme", made / "data")
    assert [a.port for a in (settings.grpc, settings.join, settings.ssh, settings.metrics)] == [
        20100,
        20101,
        20102,
        20103,
    ]
    assert settings.metrics.host == "127.0.0.1"


def test_the_owners_certificate_is_the_brokers(made: Path) -> None:
    """openssl verifies it against the CA for a client; it names tenant and identity and lives no longer than a day."""
    owner = made / "data" / "owner"
    words = ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", str(owner / "ca.pem")]
    subprocess.run([*words, str(owner / "client.pem")], check=True, capture_output=True, timeout=20)
    read = x509.load_pem_x509_certificate((owner / "client.pem").read_bytes())
    assert read.not_valid_after_utc - datetime.now(UTC) <= timedelta(hours=24)
    (name,) = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    profile = Profile.load(str(owner))
    assert name.value.endswith(f"{TenantId('acme')}/{profile.description.identity_id}")


def test_the_sdk_takes_the_profile(made: Path) -> None:
    """Addresses, tenant and name are in it, and the approval key is found."""
    described = Profile.load(str(made / "data" / "owner")).description
    assert (described.tenant, described.name) == ("acme", "first")
    assert (described.address, described.join_address) == ("127.0.0.1:20100", "127.0.0.1:20101")
    assert Profile.load(str(made / "data" / "owner")).approval_key == made / "data" / "owner" / "approval_key"


@pytest.mark.sshd
def test_stock_ssh_keygen_signs_with_the_approval_key(made: Path, tmp_path: Path) -> None:
    """And verifies what it signed: nobody needs our tools to check an approval."""
    keygen, owner = str(peers.get("ssh-keygen")), made / "data" / "owner"
    signing = [keygen, "-Y", "sign", "-n", NAMESPACE, "-f", str(owner / "approval_key")]
    signature = subprocess.run(signing, input=b"record", capture_output=True, check=True, timeout=20).stdout
    (tmp_path / "sig").write_bytes(signature)
    (tmp_path / "allowed").write_text(f"owner {(owner / 'approval_key.pub').read_text()}")
    verifying = [keygen, "-Y", "verify", "-n", NAMESPACE, "-I", "owner", "-f", str(tmp_path / "allowed"), "-s"]
    for record, status in ((b"record", 0), (b"another", 255)):
        done = subprocess.run(
            [*verifying, str(tmp_path / "sig")], input=record, capture_output=True, check=False, timeout=20
        )
        assert done.returncode == status


@pytest.mark.parametrize("again", [("--data", "other"), ()], ids=["the file is there", "all of it is there"])
def test_nothing_is_overwritten(made: Path, again: tuple[str, ...]) -> None:
    """Not one byte changes, and no new file appears."""
    before = {name: (made / name).read_bytes() for name in modes(made) if (made / name).is_file()}
    words = [*again[:1], *(str(made / word) for word in again[1:])]
    done = init(made, *words)
    assert done.exit_code == 1
    assert "is already there" in done.stderr
    assert {name: (made / name).read_bytes() for name in modes(made) if (made / name).is_file()} == before


@pytest.mark.parametrize("what", ["data", "profile", "data is a file", "dangling link"])
def test_places_that_are_taken_are_refused(tmp_path: Path, what: str) -> None:
    """Before anything is made: the folder is as it was."""
    taken = tmp_path / ("profile" if what == "profile" else "data")
    if what == "dangling link":
        taken.symlink_to(tmp_path / "nowhere")
    elif what == "data is a file":
        taken.write_text("mine")
    else:
        taken.mkdir()
        (taken / "mine").write_text("mine")
    before = modes(tmp_path)
    done = init(tmp_path, "--profile", str(tmp_path / "profile"))
    assert done.exit_code == 1
    assert "is not empty" in done.stderr
    assert str(taken) in done.stderr
    assert modes(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--owner", "Bad Name"), "a person's name"), (("--host", ""), "grpc.host: "),
        (("--tenant", "_system"), "tenant: "), (("--tenant", "A"), "tenant: "),
        (("--base-port", "65535"), "join.port: "), (("--base-port", "-5"), "grpc.port: "),
        (("--profile", "below a file"), "init did not finish"), (("--data", "/nowhere/a\nb"), "cannot be shown"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_made(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """A name, a port, a path: one plain line, and another try finds an empty place."""
    if words[0] == "--profile":
        (tmp_path / "nowhere").write_text("a file")
        words = ("--profile", str(tmp_path / "nowhere" / "x"))
    done = init(tmp_path, *words)
    assert done.exit_code == 1
    assert done.stderr.startswith("grantd: ")
    assert said in done.stderr
    assert "Traceback" not in done.output
    assert not (tmp_path / "grantd.toml").exists()
    if words[0] != "--profile":
        assert modes(tmp_path) == {}
    else:
        assert f"remove {tmp_path / 'data'}" in done.stderr


def test_an_owner_brings_a_key_of_their_own(tmp_path: Path) -> None:
    """Then none is made, and theirs is the one that counts."""
    line = make_approval_key(tmp_path / "mine")
    (tmp_path / "mine.pub").write_text(f"{line} someone@somewhere\n")
    done = init(tmp_path, "--owner-key", str(tmp_path / "mine.pub"))
    assert done.exit_code == 0, done.stderr
    assert not list((tmp_path / "data" / "owner").glob("approval_key*"))
    assert Profile.load(str(tmp_path / "data" / "owner")).approval_key is None
    assert line.encode() in (tmp_path / "data" / "grantd.db").read_bytes() + _wal(tmp_path)


def _wal(folder: Path) -> bytes:
    wal = folder / "data" / "grantd.db-wal"
    return wal.read_bytes() if wal.exists() else b""


@pytest.mark.parametrize("content", [b"", b"ssh-rsa AAAA x", b"\xff\xfe", b"-----BEGIN OPENSSH PRIVATE KEY-----\n"])
def test_a_key_that_is_none_is_refused_first(tmp_path: Path, content: bytes) -> None:
    """Nothing is made with it."""
    (tmp_path / "key").write_bytes(content)
    done = init(tmp_path, "--owner-key", str(tmp_path / "key"))
    assert done.exit_code == 1
    assert "public key" in done.stderr
    assert not (tmp_path / "data").exists()


def test_an_open_empty_directory_is_closed(tmp_path: Path) -> None:
    """A package made it, or a mount: what goes in is private."""
    (tmp_path / "data").mkdir(mode=0o755)
    assert init(tmp_path).exit_code == 0
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_a_failure_half_way_says_what_to_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration points at half a broker."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("broker.init.make_keys", full)
    done = init(tmp_path)
    assert done.exit_code == 1
    assert done.stderr == (
        "grantd: init did not finish: No space left on device\n"
        f"  remove {tmp_path / 'data'}, then try again\n"
    )  # fmt: skip
    assert not (tmp_path / "grantd.toml").exists()


@pytest.mark.parametrize("name", ['qu"ote', "back\\slash", "sp ace", "ünïcode", "a#b", "a=b"])
def test_any_path_comes_back_from_the_file(name: str) -> None:
    """What a path may hold is no TOML of its own."""
    settings = Settings.made(data=f"/srv/{name}")
    assert tomllib.loads(config_text(settings))["data"] == f"/srv/{name}"


def test_the_umask_opens_nothing(tmp_path: Path) -> None:
    """Modes are set, not hoped for."""
    before = os.umask(0)
    try:
        assert init(tmp_path).exit_code == 0
    finally:
        os.umask(before)
    assert [name for name, mode in modes(tmp_path).items() if mode & 0o077] == []
