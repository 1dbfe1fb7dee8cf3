"""A key and a certificate for one connection. Never writes either anywhere, never uses them twice (I-06)."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable

import asyncssh

from broker.adapters.target_ssh.connection import Connection, dial, log_in
from broker.core.cert import CertSpec
from broker.core.identity import Target

Sign = Callable[[CertSpec, bytes], Awaitable[bytes]]
"""Specification and public key blob -> the certificate."""


async def connect(
    *,
    sign: Sign,
    target: Target,
    login: str,
    spec: Callable[[str], CertSpec],
    announce: Callable[[int], Awaitable[None]],
    fast_path: bool = True,
) -> Connection:
    """A connection logged in with a certificate made for it: TCP, announce, sign, SSH, in this order.

    `spec` says what to sign, given the address that the target will see us come from.

    Raises:
        TargetFault: see Targets.
        SignerFault: and whatever `announce` raises; the target has then seen no more than a TCP connection.
    """
    sock = await dial(target.host, target.port)
    try:
        key = asyncssh.generate_private_key("ssh-ed25519")
        wanted = spec(target.source_address or str(sock.getsockname()[0]).partition("%")[0])
        await announce(wanted.serial)
        certificate = await sign(wanted, key.public_data)
        keypair = _keypair(key, certificate)
    except BaseException:
        sock.close()
        raise
    return await log_in(
        sock,
        host=target.host,
        port=target.port,
        login=login,
        host_key=target.host_key,
        keypair=keypair,
        fast_path=fast_path,
    )


def _keypair(key: asyncssh.SSHKey, certificate: bytes) -> asyncssh.SSHKeyPair:
    line = b"ssh-ed25519-cert-v01@openssh.com " + base64.b64encode(certificate)
    # asyncssh lists the certificate first and the bare key after it, which no target knows
    return asyncssh.load_keypairs([(key, asyncssh.import_certificate(line))])[0]
