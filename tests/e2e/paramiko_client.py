"""Paramiko's own words, column by column: `python paramiko_client.py HOST PORT USER KEY CERTIFICATE FOLDER`.

Runs in .venv-clients, where Paramiko is and nothing of grantd. Prints one line of JSON: its version, and what worked.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import paramiko  # type: ignore[import-not-found,import-untyped,unused-ignore]  # not where the checks run


class Client:
    """One connection."""

    def __init__(self, host: str, port: str, user: str, key: str, certificate: str, folder: str) -> None:
        self._folder = Path(folder)
        own = paramiko.Ed25519Key.from_private_key_file(key)
        own.load_certificate(certificate)
        self._client = paramiko.SSHClient()
        # it reads no @cert-authority lines, so that the gateway's host key is a new one to it
        self._client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        self._client.connect(host, int(port), username=user, pkey=own, allow_agent=False, look_for_keys=False)

    def tried(self) -> dict[str, bool]:
        """Column by column."""
        return {
            "exec": self._ran("echo yes") == (b"yes\n", 0),
            "terminal": self._ran("tty >/dev/null && echo yes", terminal=True) == (b"yes\r\n", 0),
            "stdin": self._ran("cat", given=b"in") == (b"in", 0),
            "exit code": self._ran("exit 77") == (b"", 77),
            "upload": self._files("put"),
            "download": self._files("get"),
            "shell": self._shell(),
        }

    def _ran(self, line: str, *, given: bytes = b"", terminal: bool = False) -> tuple[bytes, int]:
        stdin, stdout, _ = self._client.exec_command(line, get_pty=terminal, timeout=60)
        if given:
            stdin.write(given)
            stdin.channel.shutdown_write()
        return stdout.read(), stdout.channel.recv_exit_status()

    def _files(self, how: str) -> bool:
        source, copy = self._folder / "here", self._folder / f"paramiko-{how}"
        with self._client.open_sftp() as sftp:
            (sftp.put if how == "put" else sftp.get)(str(source), str(copy))
        return copy.read_bytes() == source.read_bytes()

    def _shell(self) -> bool:
        """Without a terminal, as a script: in one, a line that comes with its Enter is a paste, which runs nothing."""
        channel = self._client.get_transport().open_session(timeout=60)
        channel.settimeout(60)
        channel.invoke_shell()
        channel.sendall(b"echo $((40 + 2))\n")
        channel.shutdown_write()
        said, status = channel.makefile("rb").read(), channel.recv_exit_status()
        return (said, status) == (b"42\n", 0)

    def close(self) -> None:
        """Ends it."""
        self._client.close()


if __name__ == "__main__":
    client = Client(*sys.argv[1:])
    print(json.dumps({"version": paramiko.__version__, "worked": client.tried()}))  # noqa: T201
    client.close()
