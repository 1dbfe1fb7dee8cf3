"""Stock ssh towards the same target by four ways: straight, over a jump host, through the broker, or far away.

One configuration file, so that a jump host's own connection has the same cipher and key exchange as the one inside it.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from bench.stage import BenchStage
from grantd.cli.sshfiles import SshFiles, write
from tests import peers
from tests.peers_sshd import Sshd

LIKE_FOR_LIKE: Final = "KexAlgorithms curve25519-sha256\nCiphers aes128-gcm@openssh.com\n"
"""What the broker's two legs speak at their oldest; the same for everybody that is compared with them."""
DIRECT, JUMP, DOOR, FAR, LEGS = "direct", "jump", "door", "far", "legs"
PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Way:
    """A host of the configuration file, with the broker's choice of algorithms or the client's own."""

    name: str
    own: bool = False
    """With the client's defaults."""

    @property
    def host(self) -> str:
        return f"{self.name}-own" if self.own else self.name


class Ways:
    """The configuration and what it takes: a second sshd as the jump host, and a grant's certificate."""

    def __init__(self, stage: BenchStage, *, grant: str, jump: Sshd, far_port: int, legs_port: int) -> None:
        self._stage = stage
        self._ssh, self._sftp = peers.get("ssh"), peers.get("sftp")
        self.environment = peers.environment(self._ssh)
        self._config = stage.folder / "ssh_config"
        files = write(stage.folder / "pass", lambda public: stage.agent.issue_ssh(grant, public))
        known = stage.folder / "known_hosts"
        known.write_text(
            known.read_text()
            + f"[{jump.host}]:{jump.port} {jump.host_key}\n"
            + "".join(f"[{stage.sshd.host}]:{port} {stage.sshd.host_key}\n" for port in (far_port, legs_port))
        )
        text = "".join(
            _hosts(stage, suffix, algorithms, files=files, jump=jump, ports={FAR: far_port, LEGS: legs_port})
            for suffix, algorithms in (("", LIKE_FOR_LIKE), ("-own", ""))
        )
        self._config.write_text(text + _for_all())

    def words(self, way: Way, *command: str, options: tuple[str, ...] = ()) -> list[str]:
        """A command line of ssh."""
        return [str(self._ssh), "-F", str(self._config), *options, way.host, *command]

    def sftp_words(self, way: Way, batch: Path) -> list[str]:
        """A command line of sftp that does what a file says."""
        return [str(self._sftp), "-q", "-F", str(self._config), "-S", str(self._ssh), "-b", str(batch), way.host]

    def run(self, way: Way, command: str, *, options: tuple[str, ...] = ()) -> None:
        """Runs a command that must succeed, and throws its output away."""
        self.finish(self.words(way, command, options=options))

    def finish(self, words: list[str], *, stdout: int | IO[bytes] = subprocess.DEVNULL) -> None:
        """Runs a client to its end, which must be a good one.

        Its errors go to a file: a helper that it leaves behind would keep a pipe open for ever.
        """
        with tempfile.TemporaryFile() as errors:
            done = subprocess.run(
                words, check=False, stdin=subprocess.DEVNULL, stdout=stdout, stderr=errors, env=self.environment,
                timeout=PATIENCE_S,
            )  # fmt: skip
            if done.returncode:
                errors.seek(0)
                raise RuntimeError(f"{' '.join(words)}: exit status {done.returncode}: {errors.read()[-500:]!r}")

    @contextmanager
    def open(self, way: Way, command: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command with pipes for its streams; ended with the context."""
        with subprocess.Popen(
            self.words(way, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            bufsize=0, env=self.environment,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                process.kill()


def _hosts(
    stage: BenchStage, suffix: str, algorithms: str, *, files: SshFiles, jump: Sshd, ports: Mapping[str, int]
) -> str:  # fmt: skip
    sshd = stage.sshd
    peer = f"User {sshd.login}\nIdentityFile {stage.peer_key}\nUserKnownHostsFile {stage.folder / 'known_hosts'}\n"
    door = (
        f"User {files.user}\nIdentityFile {files.key}\nCertificateFile {files.certificate}\n"
        f"UserKnownHostsFile {files.known_hosts}\n"
    )
    places = {
        DIRECT: f"HostName {sshd.host}\nPort {sshd.port}\n{peer}",
        "bastion": f"HostName {jump.host}\nPort {jump.port}\n{peer}",
        JUMP: f"HostName {sshd.host}\nPort {sshd.port}\nProxyJump bastion{suffix}\n{peer}",
        **{name: f"HostName {sshd.host}\nPort {port}\n{peer}" for name, port in ports.items()},
        DOOR: f"HostName {files.host}\nPort {files.port}\n{door}",
    }
    return "".join(f"Host {name}{suffix}\n{lines}{algorithms}\n" for name, lines in places.items())


def _for_all() -> str:
    return (
        "Host *\nIdentitiesOnly yes\nBatchMode yes\nStrictHostKeyChecking yes\nGlobalKnownHostsFile /dev/null\n"
        "IdentityAgent none\nLogLevel ERROR\nControlMaster no\nControlPath none\n"
    )
