"""The signer's own file: three keys, nothing of the broker's, nobody else may write it (I-54)."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from broker.core.errors import Refusal
from broker.signer.settings import signer_config

GOOD = 'directory = "/var/lib/x"\nsocket = "/run/x/s"\nbroker = "root"\n'


def written(folder: Path, text: str, mode: int = 0o644) -> Path:
    """The file with this text."""
    path = folder / "signer.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("broker", ['"root"', "0"])
def test_it_says_where_and_for_whom(tmp_path: Path, broker: str) -> None:
    """The broker is a user by name or by number; no process is named, since it is no parent."""
    config = signer_config(written(tmp_path, GOOD.replace('"root"', broker)))
    assert (config.directory, config.socket) == (Path("/var/lib/x"), Path("/run/x/s"))
    assert config.allowed_uid == pwd.getpwnam("root").pw_uid
    assert config.parent_pid is None


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (GOOD, 0o666, "others may write"),
        (GOOD, 0o664, "others may write"),
        (GOOD + "log = 1\n", 0o600, "exactly"),
        (GOOD.replace('broker = "root"\n', ""), 0o600, "exactly"),
        (GOOD.replace("/var", "var"), 0o600, "directory: not an absolute"),
        (GOOD.replace('"/run/x/s"', "7"), 0o600, "socket: not an absolute"),
        (GOOD.replace('"root"', '"nobody-at-all"'), 0o600, "no user"),
        (GOOD.replace('"root"', "true"), 0o600, "neither"),
        (GOOD.replace('"root"', "-1"), 0o600, "neither"),
        ("directory = ", 0o600, "not TOML"),
    ],
)
def test_anything_else_does_not_start(tmp_path: Path, text: str, mode: int, said: str) -> None:
    """A refusal that names the file and what is wrong."""
    with pytest.raises(Refusal, match=said) as refused:
        signer_config(written(tmp_path, text, mode))
    assert refused.value.code == "bad_config"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Said so."""
    with pytest.raises(Refusal, match="cannot read"):
        signer_config(tmp_path / "absent")
