"""What a target's SSH server says of itself before anybody logs in: its algorithms, and a certificate of its host key.

Reads the greeting, the list of algorithms and at most one answer to a key exchange, all in the clear; then hangs up.
Only names that stand here are ever repeated.
"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from broker.adapters.target_ssh.connection import dial
from broker.core.errors import Refusal, TargetFault
from broker.core.sshcert import CERT_KIND, HOST, SshCertificate, parse
from broker.core.sshwire import Reader, WireError, string
from broker.service.ports import Finding

_WITHIN: Final = 10.0
_MAX_GREETING: Final = 8 * 1024
"""Bytes of lines before the server's own; as many as OpenSSH's client reads of them."""
_MAX_PACKET: Final = 256 * 1024
_BLOCK, _LEAST_PADDING = 8, 4
_OURS: Final = b"SSH-2.0-grantd_doctor"
_KEXINIT, _ECDH_INIT, _ECDH_REPLY = 20, 30, 31
_KEX: Final = (b"curve25519-sha256", b"curve25519-sha256@libssh.org")
_STRICT: Final = "kex-strict-s-v00@openssh.com"

WEAK: Final = frozenset(
    {
        # key exchange and signatures over SHA-1, groups that are too small
        "diffie-hellman-group1-sha1", "diffie-hellman-group14-sha1", "diffie-hellman-group-exchange-sha1",
        "gss-group1-sha1-toWM5Slw5Ew8Mqkay+al2g==", "gss-gex-sha1-toWM5Slw5Ew8Mqkay+al2g==",
        "gss-group14-sha1-toWM5Slw5Ew8Mqkay+al2g==", "rsa1024-sha1", "ssh-rsa", "ssh-dss",
        "ssh-rsa-cert-v01@openssh.com", "ssh-dss-cert-v01@openssh.com",
        # CBC under encrypt-and-MAC, small blocks, RC4, nothing at all
        "3des-cbc", "blowfish-cbc", "cast128-cbc", "aes128-cbc", "aes192-cbc", "aes256-cbc", "des-cbc",
        "rijndael-cbc@lysator.liu.se", "arcfour", "arcfour128", "arcfour256", "none",
        # MD5, RIPEMD, MACs cut to 96 bits
        "hmac-md5", "hmac-md5-96", "hmac-md5-etm@openssh.com", "hmac-md5-96-etm@openssh.com", "hmac-sha1-96",
        "hmac-sha1-96-etm@openssh.com", "hmac-ripemd160", "hmac-ripemd160@openssh.com",
        "hmac-ripemd160-etm@openssh.com",
    }
)  # fmt: skip
"""Broken, or given up by OpenSSH's own lists. HMAC-SHA1 and 64-bit UMAC are in those lists, and not here."""


class NoGreeting(Exception):
    """It does not speak as an SSH server does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What it offers, and the certificate of its host key where it has one."""

    kex: tuple[str, ...]
    host_keys: tuple[str, ...]
    ciphers: tuple[str, ...]
    macs: tuple[str, ...]
    certificate: SshCertificate | None


async def greeted(host: str, port: int) -> Greeting:
    """Asks an address. Raises NoGreeting, TargetFault `unreachable`."""
    sock = await dial(host, port)
    try:
        async with asyncio.timeout(_WITHIN):
            return await _Talk(sock).greeting()
    except (OSError, TimeoutError, WireError, EOFError) as error:
        raise NoGreeting from error
    finally:
        sock.close()


async def look_at(host: str, port: int, pinned: bytes, host_ca: bytes, now: datetime) -> list[Finding]:
    """As findings: its algorithms, and whose certificate it shows. `pinned`, `host_ca`: SSH wire blobs."""
    try:
        told = await greeted(host, port)
    except (NoGreeting, TargetFault):
        return [Finding(ok=False, what="its algorithms could not be asked for", advice="run the check again")]
    return [_algorithms(told), _strict(told), _certificate(told, pinned, host_ca, now)]


def _algorithms(told: Greeting) -> Finding:
    weak = [name for name in (*told.kex, *told.host_keys, *told.ciphers, *told.macs) if name in WEAK]
    if not weak:
        return Finding(ok=True, what="it offers no weak key exchange, cipher, MAC or kind of host key", advice="")
    names = ", ".join(dict.fromkeys(weak))
    advice = "take them out of KexAlgorithms, Ciphers, MACs and HostKeyAlgorithms; grantd itself never uses them"
    return Finding(ok=True, what=f"it offers others weak algorithms: {names}", advice=advice)


def _strict(told: Greeting) -> Finding:
    if _STRICT in told.kex:
        return Finding(ok=True, what="its key exchange is strict (CVE-2023-48795)", advice="")
    advice = "take a server of 2024 or later; grantd's own connections use AES-GCM, which it does not concern"
    return Finding(ok=True, what="its key exchange is not strict (CVE-2023-48795)", advice=advice)


def _certificate(told: Greeting, pinned: bytes, host_ca: bytes, now: datetime) -> Finding:
    found = told.certificate
    if found is None:
        if any("-cert-v0" in name for name in told.host_keys):
            what = "it shows a certificate of its host key that grantd does not read"
            return Finding(ok=True, what=what, advice="nothing rests on it: grantd goes by the pinned key")
        what = "it shows no certificate of its host key; the pinned key is what counts"
        return Finding(ok=True, what=what, advice="")
    if found.ca_key == host_ca:
        what = "it shows a host certificate of grantd's host CA, which is the gateway's alone"
        advice = "with it this target can pass for the gateway: find out who signed it, and rotate the host CA"
        return Finding(ok=False, what=what, advice=advice)
    if found.public_key != pinned or found.kind != HOST:
        what = "its host certificate is of another key than the pinned one"
        advice = "set HostCertificate to a certificate of that HostKey, or leave it out"
        return Finding(ok=False, what=what, advice=advice)
    if not found.valid_after <= now.timestamp() < found.valid_before:
        what = "its host certificate, of another CA, is not valid now"
        return Finding(ok=True, what=what, advice="renew it; nothing of grantd rests on it")
    what = "it shows a host certificate of another CA; the pinned key is what counts"
    return Finding(ok=True, what=what, advice="")


class _Talk:
    """One unencrypted conversation."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._loop, self._unread = sock, asyncio.get_running_loop(), bytearray()

    async def greeting(self) -> Greeting:
        await self._loop.sock_sendall(self._sock, _OURS + b"\r\n")
        await self._banner()
        reader = Reader(await self._packet(_KEXINIT))
        reader.take(16)
        kex, host_keys, _, ciphers, _, macs = (_names(reader.string()) for _ in range(6))
        certified = CERT_KIND.decode() in host_keys
        return Greeting(
            kex=kex, host_keys=host_keys, ciphers=ciphers, macs=macs,
            certificate=await self._certificate(kex, ciphers[0], macs[0]) if certified else None,
        )  # fmt: skip

    async def _certificate(self, kex: tuple[str, ...], cipher: str, mac: str) -> SshCertificate | None:
        """The first half of an exchange: the server shows its host key, certified, before anything is encrypted."""
        ours = next((name for name in _KEX if name.decode() in kex), None)
        if ours is None:
            return None
        # what the server named first is what it takes; nothing gets as far as being encrypted
        lists = [ours, CERT_KIND, *2 * [cipher.encode()], *2 * [mac.encode()], b"none", b"none", b"", b""]
        await self._send(bytes([_KEXINIT]) + os.urandom(16) + b"".join(map(string, lists)) + bytes(5))
        point = X25519PrivateKey.generate().public_key().public_bytes_raw()
        await self._send(bytes([_ECDH_INIT]) + string(point))
        try:
            return parse(Reader(await self._packet(_ECDH_REPLY)).string())
        except Refusal:
            return None

    async def _banner(self) -> None:
        read = 0
        while True:
            line = await self._line()
            read += len(line)
            if line.startswith(b"SSH-2.0-"):
                return
            if read > _MAX_GREETING:
                raise NoGreeting

    async def _line(self) -> bytes:
        while b"\n" not in self._unread:
            if len(self._unread) > _MAX_GREETING:
                raise NoGreeting
            await self._more()
        line, _, rest = bytes(self._unread).partition(b"\n")
        self._unread = bytearray(rest)
        return line

    async def _packet(self, kind: int) -> bytes:
        """The payload of the next packet of this kind, without its first byte."""
        size = int.from_bytes(await self._take(4), "big")
        if not 1 < size <= _MAX_PACKET:
            raise NoGreeting
        body = await self._take(size)
        payload = body[1 : len(body) - body[0]]
        if payload[:1] != bytes([kind]):
            raise NoGreeting
        return payload[1:]

    async def _take(self, size: int) -> bytes:
        while len(self._unread) < size:
            await self._more()
        taken = bytes(self._unread[:size])
        del self._unread[:size]
        return taken

    async def _more(self) -> None:
        data = await self._loop.sock_recv(self._sock, 64 * 1024)
        if not data:
            raise EOFError
        self._unread += data

    async def _send(self, payload: bytes) -> None:
        padding = _BLOCK - (5 + len(payload)) % _BLOCK
        padding += _BLOCK if padding < _LEAST_PADDING else 0
        packet = (1 + len(payload) + padding).to_bytes(4, "big") + bytes([padding]) + payload + bytes(padding)
        await self._loop.sock_sendall(self._sock, packet)


def _names(packed: bytes) -> tuple[str, ...]:
    return tuple(packed.decode("ascii", "replace").split(","))
