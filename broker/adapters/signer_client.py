"""The signer, seen from the broker: ports.Signer over its socket, and the child process of the embedded default.

Believes nothing it gets back: every certificate is compared with its specification again. Never sees a private key.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from broker.adapters.signer_line import SignerLine
from broker.core.cert import Ca, CertMismatch, CertSpec, X509Spec, must_match
from broker.core.children import CHILD_ENVIRON
from broker.core.errors import Fault, SignerFault, SignerRefused
from broker.core.generation import Generation, UnknownGeneration, must_follow, signing
from broker.core.revoking import pushing
from broker.core.signing import (
    Answer,
    Ask,
    AskGenerations,
    AskHead,
    AskTrust,
    Learn,
    OpenGlass,
    Refused,
    RotateCa,
    Signed,
    SignKrl,
    SignProbe,
    SignSsh,
    SignX509,
    Told,
)
from broker.core.signwire import FrameError, encode_ask, frame
from broker.core.x509_match import must_match_x509
from broker.service.ports import Proof

ANSWER_SECONDS = 2.0
"""For one question with everything: connecting, those before it, signing, the journal's fsync."""
START_SECONDS = 15.0
STOP_SECONDS = 3.0
_READY = b"ready\n"


class SignerClient:
    """Asks the signer at `path` over one connection, whoever else is asking; connects on first use.

    Args:
        path: the signer's socket.
        signer_uid: whose process must be listening there, by SO_PEERCRED.
    """

    def __init__(self, path: Path, *, signer_uid: int) -> None:
        self._path = path
        self._signer_uid = signer_uid
        self._connecting = asyncio.Lock()
        self._line: SignerLine | None = None
        self._known: dict[Ca, dict[int, bytes]] = {ca: {} for ca in Ca}
        """Every public half that was ever believed: a signer that comes back with others is a fault, no surprise."""
        self._signing: dict[Ca, bytes] = {}

    async def sign_ssh(self, spec: CertSpec, public_key: bytes, proof: Proof) -> bytes:
        """As ports.Signer. Raises SignerFault; the signer's own phrase is in it."""
        ask = SignSsh(
            spec=spec,
            public_key=public_key,
            record=proof.record,
            signatures=proof.signatures,
            access=proof.access,
            access_signatures=proof.access_signatures,
        )
        certificate = await self._signed(ask)
        await self._must_be(spec.ca, lambda ca_key: must_match(spec, certificate, public_key=public_key, ca_key=ca_key))
        return certificate

    async def sign_x509(self, spec: X509Spec, csr_der: bytes) -> bytes:
        """As ports.Signer. Raises SignerFault."""
        certificate = await self._signed(SignX509(spec=spec, csr_der=csr_der))
        await self._must_be(Ca.X509, lambda ca: must_match_x509(spec, certificate, csr_der=csr_der, ca_der=ca))
        return certificate

    async def sign_probe(self, spec: CertSpec, public_key: bytes, generation: int) -> bytes:
        """As ports.Signer. Raises SignerFault."""
        ca_key = self._known[Ca.EGRESS].get(generation)
        if ca_key is None:
            raise SignerFault("there is no such generation of the egress CA")
        certificate = await self._signed(SignProbe(spec=spec, public_key=public_key, generation=generation))
        try:
            must_match(spec, certificate, public_key=public_key, ca_key=ca_key)
        except CertMismatch as error:
            raise SignerFault("the signer signed something else") from error
        return certificate

    async def sign_krl(self, spec: CertSpec, public_key: bytes, grants: tuple[str, ...]) -> bytes:
        """As ports.ListSigner. Raises SignerFault."""
        told = await self.generations(Ca.EGRESS)
        certificate = await self._signed(SignKrl(spec=spec, public_key=public_key, grants=grants))
        try:
            wanted = pushing(spec, grants, [each.public for each in told])
            must_match(wanted, certificate, public_key=public_key, ca_key=signing(told).public)
        except CertMismatch as error:
            raise SignerFault("the signer signed something else") from error
        return certificate

    async def generations(self, ca: Ca) -> tuple[Generation, ...]:
        """As ports.Signer: asked anew each time, believed only where they follow from what was known."""
        return self._believed(ca, await self._ask(AskGenerations(ca=ca)))

    async def rotate(self, ca: Ca, statement: bytes, signatures: tuple[bytes, ...]) -> tuple[Generation, ...]:
        """As ports.Signer. Raises SignerFault; the signer's own phrase is in it."""
        return self._believed(ca, await self._ask(RotateCa(statement=statement, signatures=signatures)))

    async def learn(self, statement: bytes, signatures: tuple[bytes, ...]) -> None:
        """As ports.Signer."""
        await self._signed(Learn(statement=statement, signatures=signatures))

    async def open_glass(self, use: bytes, signature: bytes) -> None:
        """As ports.Signer."""
        if await self._signed(OpenGlass(use=use, signature=signature)) != hashlib.sha256(use).digest():
            raise SignerFault("the signer answered something else")

    async def believed(self, tenant: str, subject: str) -> bytes:
        """As ports.Signer."""
        return await self._signed(AskTrust(tenant=tenant, subject=subject))

    async def head(self, since: int) -> bytes:
        """The signed head of its journal, its key and the proof of growth, as signing.AskHead says. SignerFault."""
        return await self._signed(AskHead(since=since))

    async def ssh_ca(self, name: str) -> bytes:
        """As ports.Signer: `ingress`, `egress` or `host`."""
        if name not in {Ca.INGRESS, Ca.EGRESS, Ca.HOST}:
            raise SignerFault("there is no such SSH CA")
        return await self._ca(Ca(name))

    async def x509_ca(self) -> bytes:
        """As ports.Signer."""
        return await self._ca(Ca.X509)

    async def close(self) -> None:
        """Drops the connection; a later question makes a new one."""
        line, self._line = self._line, None
        if line is not None:
            line.abort()

    async def _ca(self, ca: Ca) -> bytes:
        if ca not in self._signing:
            await self.generations(ca)
        return self._signing[ca]

    async def _must_be(self, ca: Ca, compare: Callable[[bytes], None]) -> None:
        """Compares with what signs now; once more after a look at the generations, since another may have switched."""
        try:
            compare(await self._ca(ca))
        except CertMismatch:
            await self.generations(ca)
        else:
            return
        try:
            compare(self._signing[ca])
        except CertMismatch as error:
            raise SignerFault("the signer signed something else") from error

    def _believed(self, ca: Ca, answer: Answer) -> tuple[Generation, ...]:
        if not isinstance(answer, Told):
            raise SignerFault("the signer did not answer the question")
        try:
            must_follow(ca, self._known[ca], answer.generations)
        except UnknownGeneration as error:
            raise SignerFault(error.what) from error
        self._known[ca] |= {each.number: each.public for each in answer.generations}
        self._signing[ca] = signing(answer.generations).public
        return answer.generations

    async def _signed(self, ask: Ask) -> bytes:
        answer = await self._ask(ask)
        if not isinstance(answer, Signed):
            raise SignerFault("the signer did not answer the question")
        return answer.blob

    async def _ask(self, ask: Ask) -> Answer:
        try:
            question = frame(encode_ask(ask))
        except (Fault, UnicodeEncodeError) as error:
            raise SignerFault("the question to the signer is too long or not text") from error
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._exchange(question)
        except TimeoutError as error:
            self._hang_up_if_silent()
            raise _late() from error
        except (OSError, FrameError) as error:
            raise SignerFault("the signer cannot be reached") from error
        if isinstance(answer, Refused):
            raise SignerRefused(f"the signer refused: {answer.why}")
        return answer

    async def _exchange(self, question: bytes) -> Answer:
        """One question, one answer; over a new connection if the old one turns out to be gone, once."""
        if self._line is not None:
            with contextlib.suppress(OSError):
                return await self._line.ask(question)
        return await (await self._connected()).ask(question)

    async def _connected(self) -> SignerLine:
        """The open line; a new one where there is none, the same for all who find that out together."""
        async with self._connecting:
            if self._line is None or not self._line.is_open:
                self._line = await SignerLine.connect(self._path, uid=self._signer_uid)
            return self._line

    def _hang_up_if_silent(self) -> None:
        """Nobody waits any longer for a signer that says nothing at all, and nothing piles up before it."""
        if self._line is not None and self._line.silent_for() >= ANSWER_SECONDS:
            self._line.abort(_late)


def _late() -> SignerFault:
    return SignerFault("the signer did not answer in time")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerProcess:
    """The signer as the broker's child. Whether and when to start another one is the app's decision."""

    process: asyncio.subprocess.Process
    client: SignerClient

    @property
    def pid(self) -> int:
        return self.process.pid

    async def ended(self) -> int:
        """Waits until it ends, for whatever reason; its exit status."""
        return await self.process.wait()

    async def stop(self) -> None:
        """Ends it: SIGTERM, after STOP_SECONDS SIGKILL; returns when it is gone. Idempotent."""
        await self.client.close()
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
        await _gone(self.process)


async def start_signer(*, directory: Path, path: Path) -> SignerProcess:
    """Starts the signer over the keys in `directory`, listening at `path`, and waits until it answers.

    The child serves this process alone and ends with the thread that calls this: call it on the main thread's loop.

    Raises:
        SignerFault: it did not start; its own line on standard error says why.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-m",
        "broker.signer",
        f"--directory={directory}",
        f"--socket={path}",
        f"--allowed-uid={os.geteuid()}",
        f"--parent-pid={os.getpid()}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=CHILD_ENVIRON,  # nothing of the broker's own
    )
    started = SignerProcess(process=process, client=SignerClient(path, signer_uid=os.geteuid()))
    try:
        await _ready(process)
    except BaseException:
        await started.stop()
        raise
    return started


async def _ready(process: asyncio.subprocess.Process) -> None:
    output = process.stdout
    if output is None:
        raise SignerFault("the signer has no output to say that it is ready")
    try:
        async with asyncio.timeout(START_SECONDS):
            said = await output.readline()
    except TimeoutError as error:
        raise SignerFault("the signer did not start in time") from error
    if said != _READY:
        raise SignerFault("the signer did not start")


async def _gone(process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
