"""The host of the demonstration: this machine's own sshd program on a loopback port, else one made of asyncssh.

Runs as whoever runs the demonstration; touches nothing outside its folder (and the empty /run/sshd that sshd asks of
root).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile none
TrustedUserCAKeys {folder}/grantd_egress_ca.pub
AuthorizedPrincipalsFile {folder}/principals/%u
DisableForwarding yes
PermitUserRC no
SetEnv SHLVL=3
LogLevel VERBOSE
"""


WITHOUT_SSHD = "GRANTD_DEMO_WITHOUT_SSHD"
"""Set it to see the demonstration as on a machine that has no sshd program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A target that listens on loopback."""

    kind: str
    """What it is, in words for the reader."""
    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def host_key(self) -> Path:
        """Its public host key: what the administrator of a real host would read on its console."""
        return self.folder / "host_key.pub"

    def trust(self, sshd_lines: str, login: str) -> None:
        """Does what the lines that grantd printed say: the CA into one file, the login's principal into another."""
        lines = sshd_lines.splitlines()
        ca = next(line for line in lines if line.startswith("ssh-ed25519 "))
        principal = next(line for line in lines if line.startswith("grantd:"))
        (self.folder / "grantd_egress_ca.pub").write_text(ca + "\n")
        (self.folder / "principals" / login).write_text(principal + "\n")

    def stop(self) -> None:
        """Ends it."""
        self.process.terminate()
        self.process.wait(10)


def start(folder: Path, port: int) -> Host:
    """A target under `folder`, listening on 127.0.0.1:`port` before this returns."""
    (folder / "principals").mkdir(parents=True)
    (folder / "grantd_egress_ca.pub").touch()
    _make_host_key(folder / "host_key")
    places = f"{os.environ.get('PATH', '')}:/usr/sbin"
    sshd = None if os.environ.get(WITHOUT_SSHD) else shutil.which("sshd", path=places)
    process = _openssh(Path(sshd), folder, port) if sshd else _asyncssh(folder, port)
    host = Host(
        kind=f"OpenSSH ({sshd})" if sshd else "an SSH server made with asyncssh: this machine has no sshd program",
        folder=folder,
        port=port,
        process=process,
    )
    _wait_for(host)
    return host


def _openssh(sshd: Path, folder: Path, port: int) -> subprocess.Popen[bytes]:
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    (folder / "sshd_config").write_text(_CONFIG.format(port=port, folder=folder))
    return subprocess.Popen(  # noqa: S603  fixed words and our own paths
        [sshd, "-D", "-f", folder / "sshd_config", "-E", folder / "sshd.log"], stdin=subprocess.DEVNULL
    )


def _asyncssh(folder: Path, port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  fixed words and our own paths
        [sys.executable, "-m", "deploy.demo.asyncssh_target", str(folder), str(port)],
        stdin=subprocess.DEVNULL,
        stdout=(folder / "target.log").open("wb"),
        stderr=subprocess.STDOUT,
    )


def _make_host_key(path: Path) -> None:
    import asyncssh  # noqa: PLC0415  only here

    key = asyncssh.generate_private_key("ssh-ed25519")
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key("openssh"))
    path.with_suffix(".pub").write_bytes(key.export_public_key("openssh"))


def _wait_for(host: Host) -> None:
    import socket  # noqa: PLC0415  only here

    for _ in range(100):
        if host.process.poll() is not None:
            raise RuntimeError(f"the target did not start: see {host.folder}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", host.port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("the target does not listen")
