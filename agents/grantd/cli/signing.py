"""A person's approval key: SSHSIG (what `ssh-keygen -Y sign` makes) from a key file or from ssh-agent.

The key never leaves its file or agent; nothing here decides what is signed. FIDO2 keys work through the agent.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import asyncssh
from asyncssh.agent import SSHAgentKeyPair

from grantd.cli.unlock import unlock
from grantd.errors import Invalid
from grantd.profile import Profile

_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_HASH: Final = b"sha512"
_WAY_OUT: Final = "name the key: --key FILE, or the .pub file of a key in ssh-agent"
_AGENT_SECONDS: Final = 60  # a FIDO2 key waits for a touch


class Signer(Protocol):
    """Something that signs as one person."""

    @property
    def fingerprint(self) -> str:
        """`SHA256:...` of the public key."""
        ...

    def sign(self, namespace: str, message: bytes) -> bytes:
        """An SSHSIG blob in binary form, hash sha512."""
        ...


@dataclass(frozen=True, slots=True)
class FileSigner:
    """A private key that was read (and unlocked) from its file."""

    key: asyncssh.SSHKey

    @property
    def fingerprint(self) -> str:
        return self.key.get_fingerprint()

    def sign(self, namespace: str, message: bytes) -> bytes:
        return asyncssh.create_sshsig(self.key, message, hash_name="sha512", namespace=namespace, raw=True)


@dataclass(frozen=True, slots=True)
class AgentSigner:
    """A key that ssh-agent holds; the agent is asked anew for each signature."""

    public: bytes
    """SSH wire form."""
    socket: str | None = None
    """Which agent; None is the one of the environment."""

    @property
    def fingerprint(self) -> str:
        return _fingerprint(self.public)

    def sign(self, namespace: str, message: bytes) -> bytes:
        return asyncio.run(self._sign(namespace.encode(), message))

    async def _sign(self, namespace: bytes, message: bytes) -> bytes:
        hashed = hashlib.sha512(message).digest()
        signed_data = _MAGIC + b"".join(map(_string, (namespace, b"", _HASH, hashed)))
        async with asyncio.timeout(_AGENT_SECONDS), asyncssh.connect_agent(self.socket) as agent:
            for pair in await agent.get_keys():
                if pair.public_data == self.public and isinstance(pair, SSHAgentKeyPair):
                    signature = await pair.sign_async(signed_data)
                    parts = (self.public, namespace, b"", _HASH, signature)
                    return _MAGIC + _VERSION.to_bytes(4, "big") + b"".join(map(_string, parts))
        raise Invalid("key_left_agent", "ssh-agent no longer holds the approval key", "ssh-add it again")


def find(profile: Profile, key: Path | None) -> Signer:
    """The signer of a person: the key named on the command line, else the profile's, else the agent's only one.

    An encrypted key file is unlocked here, by a passphrase from the terminal, before anything is shown to be signed.
    Raises Invalid.
    """
    path = key.expanduser() if key else profile.approval_key
    return _only_agent_key() if path is None else signer_of(path)


def signer_of(path: Path) -> Signer:
    """The signer of one key: its private file, or for a `.pub` file the agent. Raises Invalid."""
    if path.suffix == ".pub":
        return _agent_key(_public(path))
    if not path.exists() and path.with_name(path.name + ".pub").exists():
        return _agent_key(_public(path.with_name(path.name + ".pub")))
    return _file(path)


def _file(path: Path) -> Signer:
    try:
        return FileSigner(asyncssh.read_private_key(str(path)))
    except asyncssh.KeyImportError as wrong:
        if "passphrase" not in str(wrong).lower():
            raise Invalid("bad_key", f"{path} is not a private key", _WAY_OUT) from wrong
    except asyncssh.KeyEncryptionError:
        pass  # locked in a way that asyncssh cannot open; ssh-add may
    except OSError as missing:
        raise Invalid("no_key", f"{path} cannot be read: {missing.strerror}", _WAY_OUT) from missing
    return _only_agent_key(str(unlock(path)))


def _public(path: Path) -> bytes:
    try:
        return asyncssh.read_public_key(str(path)).public_data
    except (OSError, asyncssh.KeyImportError) as wrong:
        raise Invalid("no_key", f"{path} is not a public key file", _WAY_OUT) from wrong


def _agent_key(public: bytes) -> AgentSigner:
    if public not in asyncio.run(_agent_keys()):
        raise Invalid("key_not_in_agent", f"ssh-agent does not hold {_fingerprint(public)}", "ssh-add it")
    return AgentSigner(public)


def _only_agent_key(socket: str | None = None) -> AgentSigner:
    held = asyncio.run(_agent_keys(socket))
    if len(held) != 1:
        raise Invalid("which_key", f"ssh-agent holds {len(held)} keys: which one approves?", _WAY_OUT)
    return AgentSigner(held[0], socket)


async def _agent_keys(socket: str | None = None) -> list[bytes]:
    try:
        async with asyncio.timeout(_AGENT_SECONDS), asyncssh.connect_agent(socket) as agent:
            return [pair.public_data for pair in await agent.get_keys()]
    except (OSError, TimeoutError, asyncssh.Error) as absent:
        raise Invalid("no_agent", "there is no ssh-agent to ask", _WAY_OUT) from absent


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _fingerprint(public: bytes) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(public).digest()).decode().rstrip("=")
