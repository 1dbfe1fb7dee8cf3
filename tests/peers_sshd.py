"""A real OpenSSH sshd on a loopback port, for tests and benchmarks: its own keys, configuration and log.

Never touches the machine's sshd or anybody's ~/.ssh. The only login is the user who runs it, by user certificate
alone; what it trusts is what it is told to trust.
"""

from __future__ import annotations

import functools
import os
import pwd
import shlex
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, Self

import asyncssh
import pytest

from tests import peers
from tests.processes import free_port, stop_tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

HOST: Final = "127.0.0.1"
_START_SECONDS: Final = 10
_BIND_TRIES: Final = 5
# As root sshd wants an empty /run/sshd and nothing else. A private /run keeps other programs on the machine from
# removing it under us; where mount namespaces are not allowed the folder is made, as Debian's package makes it.
_PRIVATE_RUN: Final = "mount -t tmpfs -o mode=0755 tmpfs /run && mkdir -m 0755 /run/sshd && "
# Its unprivileged half wants a user of this name, which the distribution's package would have made.
_SEPARATED: Final = "sshd"


@dataclass(frozen=True, slots=True, kw_only=True)
class SshdFiles:
    """Where one sshd keeps its things; all of them below one folder that belongs to the caller."""

    folder: Path
    shell: Path | None = None
    """The login's shell, where it is not its own."""
    more_users: tuple[str, ...] = ()
    """Lines of passwd(5) for logins that this sshd alone has."""

    @property
    def config(self) -> Path:
        return self.folder / "sshd_config"

    @property
    def host_key(self) -> Path:
        return self.folder / "host_key"

    @property
    def user_cas(self) -> Path:
        return self.folder / "user_ca.pub"

    @property
    def principals(self) -> Path:
        return self.folder / "principals"

    @property
    def log(self) -> Path:
        return self.folder / "sshd.log"


class Sshd:
    """A running sshd. Made by start, ended by stop."""

    def __init__(self, *, files: SshdFiles, port: int, process: subprocess.Popen[bytes]) -> None:
        self.files = files
        self.host = HOST
        self.port = port
        self.login = login()
        self._process = process

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        user_cas: Iterable[str],
        principals: Mapping[str, Iterable[str]],
        config: str = "",
        port: int | None = None,
        shell: Path | None = None,
        more_users: tuple[str, ...] = (),
    ) -> Self:
        """Start an sshd whose files live in folder (made if absent; an existing host key there is kept).

        Args:
            folder: Absolute path; holds configuration, host key, trust files and log.
            user_cas: OpenSSH public key lines whose user certificates are trusted.
            principals: For each login the certificate principals that may use it.
            config: Lines put before ours, so they win (sshd takes the first value it sees).
            port: Loopback port; None takes a free one. A taken port raises RuntimeError.
            shell: The login's shell instead of its own, for this sshd alone; only where `may_unshare`.
            more_users: Lines of passwd(5) for logins of this sshd alone; only where `may_unshare`.
        """
        files = SshdFiles(folder=folder, shell=shell, more_users=more_users)
        files.principals.mkdir(parents=True, exist_ok=True)
        if not files.host_key.exists():
            _write_host_key(files)
        _write_trust(files, user_cas)
        for name, allowed in principals.items():
            _write_principals(files, name, allowed)
        for _ in range(_BIND_TRIES if port is None else 1):
            chosen = free_port() if port is None else port
            files.config.write_text(config.rstrip() + "\n" + _configuration(files, chosen))
            process = _spawn(files)
            if _await_banner(process, chosen):
                return cls(files=files, port=chosen, process=process)
            stop_tree(process, signal.SIGTERM)
        raise RuntimeError(f"sshd did not start: {files.log.read_text(errors='replace')[-2000:]}")

    @property
    def host_key(self) -> str:
        """The host's public key as one OpenSSH line: type and base64, no comment."""
        return " ".join(self.files.host_key.with_suffix(".pub").read_text().split()[:2])

    @property
    def pid(self) -> int:
        """The listening process."""
        return self._process.pid

    def trust(self, user_cas: Iterable[str]) -> None:
        """Trust exactly these user CAs from the next login on."""
        _write_trust(self.files, user_cas)

    def allow(self, name: str, principals: Iterable[str]) -> None:
        """Let exactly these certificate principals use the login, from the next login on."""
        _write_principals(self.files, name, principals)

    def log(self) -> str:
        """Everything sshd said so far (LogLevel VERBOSE: key ids and serials of the certificates it saw)."""
        return self.files.log.read_text(errors="replace")

    def restart_with_new_host_key(self) -> None:
        """Come back on the same port as a host with another key: what a replaced or impersonated host looks like."""
        self.stop()
        _write_host_key(self.files)
        self.restart()

    def restart(self) -> None:
        """Come back on the same port, with the configuration as it lies there now."""
        self.stop()
        self._process = _spawn(self.files)
        if not _await_banner(self._process, self.port):
            raise RuntimeError(f"sshd did not come back: {self.log()[-2000:]}")

    def stop(self) -> None:
        """End the listener and every session below it. May be called twice."""
        if self._process.poll() is None:
            stop_tree(self._process, signal.SIGTERM)


def login() -> str:
    """The one login that a rootless sshd can serve: the user who runs it."""
    return pwd.getpwuid(os.geteuid()).pw_name


def _configuration(files: SshdFiles, port: int) -> str:
    lines = [
        f"ListenAddress {HOST}:{port}",
        f"HostKey {files.host_key}",
        f"TrustedUserCAKeys {files.user_cas}",
        f"AuthorizedPrincipalsFile {files.principals}/%u",
        "AuthorizedKeysFile none",
        "PermitRootLogin prohibit-password",  # the login may be root, in a container
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "UsePAM no",  # PAM needs root and the machine's configuration
        "StrictModes no",  # the folder lies below a world-writable /tmp
        "SetEnv SHLVL=3",  # else bash sources ~/.bashrc for each exec
        "UseDNS no",
        "PidFile none",
        "LogLevel VERBOSE",
        "MaxStartups 200",
        "Subsystem sftp internal-sftp",
    ]
    return "\n".join([*lines, *_newer_options()]) + "\n"


@functools.cache
def _newer_options() -> tuple[str, ...]:
    """Lines that only newer releases know: their unpacked companions, and no penalty for tests that are refused."""
    companions = {"SshdSessionPath": "sshd-session", "SshdAuthPath": "sshd-auth"}
    candidates = ["PerSourcePenalties no"]
    for option, program in companions.items():
        unpacked = peers.PRIVATE_ROOT / "usr/lib/openssh" / program
        if peers.get("sshd").is_relative_to(peers.PRIVATE_ROOT) and unpacked.exists():
            candidates.append(f"{option} {unpacked}")
    return tuple(line for line in candidates if _knows(line))


def _knows(line: str) -> bool:
    option, _, value = line.partition(" ")
    sshd = peers.get("sshd")
    # -t would want host keys; an unknown option is refused before that, with a sentence of its own
    command = [str(sshd), "-t", "-f", "/dev/null", "-o", f"{option}={value}"]
    said = subprocess.run(command, check=False, env=peers.environment(sshd), capture_output=True)
    return b"Bad configuration option" not in said.stderr


def _write_host_key(files: SshdFiles) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    files.host_key.unlink(missing_ok=True)
    files.host_key.touch(mode=0o600)
    files.host_key.write_bytes(key.export_private_key())
    files.host_key.with_suffix(".pub").write_bytes(key.export_public_key())


def _write_trust(files: SshdFiles, user_cas: Iterable[str]) -> None:
    _replace(files.user_cas, "".join(f"{line.strip()}\n" for line in user_cas))


def _write_principals(files: SshdFiles, name: str, principals: Iterable[str]) -> None:
    _replace(files.principals / name, "".join(f"{principal}\n" for principal in principals))


def _replace(path: Path, text: str) -> None:
    """A login under way reads all that was there before, or all that is there now."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.replace(path)


def _spawn(files: SshdFiles) -> subprocess.Popen[bytes]:
    sshd = peers.get("sshd")
    command = ["setpriv", "--pdeathsig=TERM", str(sshd), "-D", "-f", str(files.config), "-E", str(files.log)]
    if os.geteuid() == 0:
        if may_unshare():
            command = [
                "unshare",
                "--mount",
                "sh",
                "-c",
                f"{_PRIVATE_RUN}{_private_user(files)}{_private_programs(files)}exec {shlex.join(command)}",
            ]
        else:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with files.log.open("ab") as log:
        return subprocess.Popen(
            command,
            env=peers.environment(sshd),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the tests; they stop sshd themselves
        )


def _private_user(files: SshdFiles) -> str:
    """Shell text that gives an unpacked sshd its user, and the login another shell, in its own mount namespace alone.

    Empty where there is nothing to change.
    """
    users = Path("/etc/passwd").read_text()
    ours = users if files.shell is None else _with_shell(users, files.shell)
    ours += "".join(f"{line}\n" for line in files.more_users)
    if not any(user.pw_name == _SEPARATED for user in pwd.getpwall()):
        nobody = pwd.getpwnam("nobody")
        ours += f"{_SEPARATED}:x:{nobody.pw_uid}:{nobody.pw_gid}::/run/sshd:/usr/sbin/nologin\n"
    if ours == users:
        return ""
    passwd = files.folder / "passwd"
    passwd.write_text(ours)
    passwd.chmod(0o644)
    return f"mount --bind {shlex.quote(str(passwd))} /etc/passwd && "


def _with_shell(users: str, shell: Path) -> str:
    lines = (
        line.rsplit(":", 1)[0] + f":{shell}" if line.startswith(f"{login()}:") else line for line in users.split("\n")
    )
    return "\n".join(lines)


def _private_programs(files: SshdFiles) -> str:
    return _private_sftp() + _private_rsync(files)


def _private_sftp() -> str:
    """Shell text that puts an unpacked sftp-server where targets have it; empty where the machine has one."""
    found = peers.find("sftp-server")
    if found is None or not found.is_relative_to(peers.PRIVATE_ROOT):
        return ""
    return f"mount --bind {shlex.quote(str(found.parent))} /usr/libexec && "


def _private_rsync(files: SshdFiles) -> str:
    """Shell text that puts an unpacked rsync where a target's PATH leads; empty where the machine has one."""
    found = peers.find("rsync")
    if found is None or not found.is_relative_to(peers.PRIVATE_ROOT):
        return ""
    libraries = peers.environment(found)["LD_LIBRARY_PATH"]
    program = files.folder / "bin" / "rsync"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={shlex.quote(libraries)} exec {shlex.quote(str(found))} "$@"\n')
    program.chmod(0o755)
    return f"mount --bind {shlex.quote(str(program.parent))} /usr/local/sbin && "


@functools.cache
def may_unshare() -> bool:
    """Whether an sshd can have a mount namespace of its own here."""
    if os.geteuid() != 0:
        return False
    probe = ["unshare", "--mount", "sh", "-c", _PRIVATE_RUN + "true"]
    return subprocess.run(probe, check=False, capture_output=True).returncode == 0


def _await_banner(process: subprocess.Popen[bytes], port: int) -> bool:
    """True once the process itself greets on the port; False if it ended, as it does when the port is taken."""
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection((HOST, port), timeout=1) as connection:
                if connection.recv(4) == b"SSH-":
                    return process.poll() is None
        except OSError:
            time.sleep(0.02)
    return False


class StartSshd(Protocol):
    """Sshd.start with the folder chosen by the fixture."""

    def __call__(
        self,
        *,
        user_cas: Iterable[str],
        principals: Mapping[str, Iterable[str]],
        config: str = "",
        port: int | None = None,
    ) -> Sshd: ...


@pytest.fixture
def sshd_factory(tmp_path: Path) -> Iterator[StartSshd]:
    """Start as many sshd as a test needs; all are stopped after it."""
    for program in ("sshd", "ssh", "ssh-keygen"):
        peers.require(program)
    started: list[Sshd] = []

    def start(
        *,
        user_cas: Iterable[str],
        principals: Mapping[str, Iterable[str]],
        config: str = "",
        port: int | None = None,
    ) -> Sshd:
        folder = tmp_path / f"sshd{len(started)}"
        sshd = Sshd.start(folder, user_cas=user_cas, principals=principals, config=config, port=port)
        started.append(sshd)
        return sshd

    yield start
    for sshd in started:
        sshd.stop()
