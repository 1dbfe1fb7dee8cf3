"""What a certificate for the SSH door costs: against `ssh-keygen -s` alone, and against a call that does nothing."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import asyncssh
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.stage import BenchStage
from grantd.channel import open_aio_channel, open_channel
from grantd.v1 import access_pb2, access_pb2_grpc

AT_ONCE: Final = 64
_GRANTS: Final = 16
"""Leases that the 64 share: each may issue 100 certificates."""
_OF_ONE: Final = 90
"""Certificates after which the latencies go on under another lease."""


class Issue:
    """One lease for the latencies, and others for each round of the rate."""

    def __init__(self, stage: BenchStage, *, each: int, rounds: int) -> None:
        """`each`: certificates of one worker in one round."""
        self._stage, self._each, self._rounds = stage, each, rounds
        self._grant, self._issued = stage.grant(), 0
        self._folder = stage.new_folder()
        for name in ("ca", "user"):
            asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(self._folder / name))
            (self._folder / name).chmod(0o600)
        key = asyncssh.read_private_key(str(self._folder / "user"))
        key.write_public_key(str(self._folder / "user.pub"))
        self._public = key.public_data
        self._health = health_pb2_grpc.HealthStub(open_channel(stage.agent.profile))

    def certificate(self) -> Mapping[str, float]:
        """IssueCredential: decided, written with its audit entry, signed by the signer, checked."""
        self._issued += 1
        if self._issued % _OF_ONE == 0:
            self._grant = self._stage.grant()
        began = time.perf_counter()
        answer = self._stage.agent.issue_ssh(self._grant, self._public)
        took = time.perf_counter() - began
        if not answer.ssh_certificate:
            raise RuntimeError("no certificate came")
        return {"issue certificate": took}

    def keygen(self) -> Mapping[str, float]:
        """A process that signs the same key with a CA's file."""
        words = ["ssh-keygen", "-q", "-s", str(self._folder / "ca"), "-I", "bench", "-n", "deploy", "-V", "+1h"]
        began = time.perf_counter()
        subprocess.run([*words, str(self._folder / "user.pub")], check=True, stdin=subprocess.DEVNULL)
        took = time.perf_counter() - began
        Path(self._folder / "user-cert.pub").unlink()
        return {"ssh-keygen -s": took}

    def nothing(self) -> Mapping[str, float]:
        """The health check, which asks neither who calls nor the store, on a connection with the same TLS."""
        began = time.perf_counter()
        answer = self._health.Check(health_pb2.HealthCheckRequest())
        took = time.perf_counter() - began
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise RuntimeError("the broker does not serve")
        return {"noop call": took}

    def rate(self) -> dict[str, list[float]]:
        """Certificates a second, 64 at once, round by round after one warm-up."""
        return {"issue rate": [asyncio.run(self._rate()) for _ in range(self._rounds + 1)][1:]}

    async def _rate(self) -> float:
        grants = await asyncio.to_thread(lambda: [self._stage.grant() for _ in range(_GRANTS)])
        async with open_aio_channel(self._stage.agent.profile) as channel:
            access = access_pb2_grpc.AccessServiceStub(channel)
            for grant in grants:
                await self._one(access, grant)  # its first use, and the connection
            began = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for worker in range(AT_ONCE):
                    group.create_task(self._many(access, grants[worker % _GRANTS]))
            return AT_ONCE * self._each / (time.perf_counter() - began)

    async def _many(self, access: access_pb2_grpc.AccessServiceAsyncStub, grant: str) -> None:
        for _ in range(self._each):
            await self._one(access, grant)

    async def _one(self, access: access_pb2_grpc.AccessServiceAsyncStub, grant: str) -> None:
        kind = access_pb2.CREDENTIAL_KIND_SSH
        asked = access_pb2.IssueCredentialRequest(grant_id=grant, kind=kind, ssh_public_key=self._public)
        if not (await access.IssueCredential(asked)).ssh_certificate:
            raise RuntimeError("no certificate came")
