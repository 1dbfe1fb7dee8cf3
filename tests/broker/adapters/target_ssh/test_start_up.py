"""What the target would obey in a login's home is found by looking at its files; the script runs in a real bash."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from broker.adapters.target_ssh.start_up import findings
from broker.core.looks import SETTINGS

LISTENER = "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"
PAM = "session required pam_env.so user_readenv=1 envfile=/etc/default/locale\n"
NO_PAM = PAM.replace("user_readenv=1 ", "") + "#" + PAM


def _looked(etc: Path, *, above: str = LISTENER) -> list[str]:
    """The script's words, with `etc` for /etc, below a process of that name."""
    script = SETTINGS.replace("/etc/", f"{etc}/")
    (etc / "look").write_text(script)
    words = ["bash", "-c", 'exec -a "$1" bash -c \'bash "$1"; :\' x "$2"', "x", above, str(etc / "look")]
    home = etc / "home"
    home.mkdir(exist_ok=True)
    ran = subprocess.run(words, capture_output=True, check=True, timeout=10, env={**os.environ, "HOME": str(home)})
    return ran.stdout.decode().splitlines()


def _etc(folder: Path, *, config: str = "UsePAM yes\n", more: str = "", pam: str = PAM) -> Path:
    for name, text in {
        "ssh/sshd_config": config, "ssh/sshd_config.d/x.conf": more, "pam.d/sshd": pam, "grantd/.curlrc": "",
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("config", "more", "pam", "words"),
    [
        ("UsePAM yes\n", "", PAM, {"pam_environment"}),
        ("usepam=yes\n", "", PAM, {"pam_environment"}),
        ("", "UsePAM yes\n", PAM, {"pam_environment"}),
        ("#UsePAM yes\n", "", PAM, set()),
        ("UsePAM yes\n", "", NO_PAM, set()),
        ("PermitUserEnvironment no\n", "", PAM, set()),
        ("  PermitUserEnvironment yes\n", "", "", {"user_environment"}),
        ("", 'permituserenvironment "LANG,LC_*"\n', "", {"user_environment"}),
        ("", "", "", set()),
    ],
)
def test_settings_that_read_the_home_are_found(
    tmp_path: Path, config: str, more: str, pam: str, words: set[str]
) -> None:
    """An approved write to ~/.pam_environment or ~/.ssh/environment would run inside every later read."""
    told = _looked(_etc(tmp_path, config=config, more=more, pam=pam))
    assert set(told[1:]) - {"home", "curl"} == words


@pytest.mark.parametrize("above", ["sshd: /usr/sbin/sshd -D -f /srv/other [listener]", "init"])
def test_settings_of_another_server_are_not_taken_for_its_own(tmp_path: Path, above: str) -> None:
    """Where the sshd above has a settings file of its own, or is none, the system's files say nothing."""
    assert set(_looked(_etc(tmp_path), above=above)[1:]) <= {"home", "curl"}


def test_a_home_that_can_be_written_and_a_missing_curlrc_are_notes(tmp_path: Path) -> None:
    """Nothing is wrong, and the way out is said."""
    etc = _etc(tmp_path)
    assert "curl" not in _looked(etc)
    found = {finding.what: finding for finding in findings(b"bash 5.2\nhome\ncurl\n")}
    assert all(finding.ok for finding in found.values())
    assert "read_login" in found["programs may obey files in this login's home, which it can write"].advice
    assert "/etc/grantd/.curlrc" in found["curl reads ~/.curlrc"].advice
    assert len(list(findings(b"bash 5.2\n"))) == len(list(findings(b"bash 5.2\ncurl\n")))


@pytest.mark.parametrize(
    ("answer", "fine"),
    [
        (b"bash 5.2\n", True), (b"bash 4.4\n", True), (b"bash 10.0\n", True), (b"bash 4.3\n", False), (b"", False),
        (b"bash 5.2\nbash 4.0\n", False), (b"\xff\x00", False), (b"bash 5.2x\n", False), (b"zsh 5.9\n", False),
    ],
)  # fmt: skip
def test_an_old_bash_is_found(answer: bytes, *, fine: bool) -> None:
    """The wrapper and the classifier hold for bash 4.4 and later; what does not say is too old."""
    assert next(iter(findings(answer))).ok is fine


def test_what_reads_the_home_fails_the_check() -> None:
    """Each has its own line with the way out."""
    found = [finding for finding in findings(b"bash 5.2\nuser_environment\npam_environment\nhome\n") if not finding.ok]
    assert [finding.advice.split(":")[0] for finding in found] == [
        "set PermitUserEnvironment no in sshd_config",
        "remove user_readenv=1 from pam_env.so in /etc/pam.d/sshd",
    ]
