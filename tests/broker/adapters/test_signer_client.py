"""The broker's side: a real signer process, and signers that lie, hang or go away (I-06, I-07, I-36, I-53)."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.adapters import signer_client
from broker.adapters.signer_client import SignerClient, SignerProcess, start_signer
from broker.core.cert import SKEW, Ca, CertSpec
from broker.core.clock import EPOCH
from broker.core.errors import SignerFault
from broker.core.generation import Generation, Stage, Step
from broker.core.signing import Answer, Ask, AskGenerations, AskTrust, Signed, SignSsh, Told
from broker.core.signwire import HEADER_BYTES, body_bytes, encode_answer, frame
from broker.core.sshcert import parse
from broker.core.sshwire import ed25519_blob
from broker.service.ports import Proof, Signer
from broker.signer.journal import NAME
from broker.signer.keys import make_keys
from broker.signer.sign import sign_ssh
from tests.broker.core.test_cert import client as x509_spec
from tests.broker.core.test_x509_match import CSR
from tests.broker.signer.journals import verify
from tests.broker.signer.test_server import ME, serving
from tests.broker.signer.world import INSTALL, MANAGER, OWNER, READ, Asker, furnish, machine, rotation, signed
from tests.broker.ssh_keys import egress, ingress, new_public_key
from tests.pace import Since

NO_PROOF = Proof(record=b"", signatures=())
CANARY = "canary-91e2"


def now() -> datetime:
    """The wall clock: a real signer judges validity by it."""
    return datetime.now(tz=UTC)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One set of keys for the module."""
    directory = tmp_path_factory.mktemp("signer") / "keys"
    furnish(directory, machine("web1"), at=now())
    return directory


@pytest.fixture
async def signer(keys: Path, tmp_path: Path) -> AsyncIterator[SignerProcess]:
    """A signer of this process."""
    started = await start_signer(directory=keys, path=tmp_path / "s")
    yield started
    await started.stop()


async def test_certificates_come_checked(signer: SignerProcess, keys: Path) -> None:
    """Both sides agree on every field, and each signature is on disk when it arrives (I-07, I-31)."""
    port: Signer = signer.client
    key, asker = new_public_key(), Asker(now())
    ask = asker.ask(asker.record(INSTALL), MANAGER)
    for spec, proof in ((ask.spec, Proof(record=ask.record, signatures=ask.signatures)), (ingress(now()), NO_PROOF)):
        made = parse(await port.sign_ssh(spec, key, proof))
        assert (made.serial, made.principals, made.public_key) == (spec.serial, spec.principals, key)
        assert made.ca_key == await port.ssh_ca(spec.ca)
        line = json.loads((keys / NAME).read_bytes().splitlines()[-1])
        assert line["serial"] == str(spec.serial)
    assert len({await port.ssh_ca(name) for name in ("ingress", "egress", "host")}) == 3
    verify(keys / NAME)


async def test_many_at_once_get_each_their_own(signer: SignerProcess) -> None:
    """Questions of many tasks share one connection; nobody gets another's certificate."""
    specs = [ingress(now()) for _ in range(40)]
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(signer.client.sign_ssh(s, new_public_key(), NO_PROOF)) for s in specs]
    assert [parse(task.result()).serial for task in asked] == [spec.serial for spec in specs]


def test_questions_wait_together_under_the_brokers_own_loop(tmp_path: Path) -> None:
    """uvloop, as in the broker: forty under way at once over one line, some given up, and no answer is another's."""
    batches: list[int] = []
    reached, held = threading.Event(), threading.Event()

    def answer(ask: Ask) -> Answer:
        reached.set()
        held.wait(20)
        assert isinstance(ask, AskTrust)
        return Signed(blob=ask.subject.encode())

    async def ask_all() -> None:
        client = SignerClient(tmp_path / "s", signer_uid=os.geteuid())
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(client.believed("t1", f"s{number}")) for number in range(40)]
            await asyncio.to_thread(reached.wait, 20)
            for number in range(0, 40, 7):
                asked[number].cancel()
            held.set()
        for number, task in enumerate(asked):
            assert task.cancelled() if number % 7 == 0 else task.result() == f"s{number}".encode()
        await client.close()

    with serving(tmp_path / "s", ME, answer, batches), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask_all())
    assert sum(batches) in range(34, 41)  # what is given up before it left is never asked
    assert len(batches) < 10


async def test_a_line_that_breaks_is_asked_anew_once(tmp_path: Path) -> None:
    """Everybody who was waiting on it gets an answer over one new line."""
    lines = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal lines
        lines += 1
        for _ in range(1 if lines == 1 else 12):  # hangs up behind its first question
            size = body_bytes(await reader.readexactly(HEADER_BYTES))
            await reader.readexactly(size)
            writer.write(frame(encode_answer(Signed(blob=b"line %d" % lines))))
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(talk, str(tmp_path / "s")):
        client = SignerClient(tmp_path / "s", signer_uid=os.geteuid())
        assert await client.believed("t1", "first") == b"line 1"
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(client.believed("t1", str(number))) for number in range(12)]
        assert {task.result() for task in asked} == {b"line 2"}
        assert lines == 2
        await client.close()


async def test_a_refusal_names_the_rule(signer: SignerProcess) -> None:
    """What the signer will not sign comes out as a fault of ours, with its own phrase."""
    with pytest.raises(SignerFault, match="exactly one principal"):
        await signer.client.sign_ssh(replace(ingress(now()), principals=()), new_public_key(), NO_PROOF)
    with pytest.raises(SignerFault, match="no such SSH CA"):
        await signer.client.ssh_ca("x509")
    with pytest.raises(SignerFault, match="too long"):
        await signer.client.sign_ssh(ingress(now()), bytes(200_000), NO_PROOF)
    await signer.client.sign_ssh(ingress(now()), new_public_key(), NO_PROOF)


async def test_a_cancelled_question_does_not_shift_the_answers(signer: SignerProcess) -> None:
    """After a caller gave up half-way, the next one gets the answer to its own question."""
    await signer.client.x509_ca()
    for delay in (0, 0.0002, 0.0005, 0.001):
        task = asyncio.get_running_loop().create_task(
            signer.client.sign_ssh(ingress(now()), new_public_key(), NO_PROOF)
        )
        await asyncio.sleep(delay)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        spec = ingress(now())
        assert parse(await signer.client.sign_ssh(spec, new_public_key(), NO_PROOF)).serial == spec.serial


async def test_a_new_signer_is_found_again(signer: SignerProcess, keys: Path, tmp_path: Path) -> None:
    """kill -9 of the signer costs one reconnect once another one runs, and a clear fault while none does."""
    client = signer.client
    await client.sign_ssh(ingress(now()), new_public_key(), NO_PROOF)
    os.kill(signer.pid, signal.SIGKILL)
    assert await signer.ended() == -signal.SIGKILL
    with pytest.raises(SignerFault, match="cannot be reached"):
        await client.sign_ssh(ingress(now()), new_public_key(), NO_PROOF)
    second = await start_signer(directory=keys, path=tmp_path / "s")
    await client.sign_ssh(ingress(now()), new_public_key(), NO_PROOF)
    await second.stop()


async def test_a_signer_with_other_keys_is_not_believed(signer: SignerProcess, tmp_path: Path) -> None:
    """CA keys are remembered: a signer that comes back with others is a fault."""
    client = signer.client
    await client.sign_ssh(ingress(now()), new_public_key(), NO_PROOF)
    await signer.stop()
    make_keys(tmp_path / "other", now())
    second = await start_signer(directory=tmp_path / "other", path=tmp_path / "s")
    with pytest.raises(SignerFault, match="another key"):
        await client.sign_ssh(ingress(now()), new_public_key(), NO_PROOF)
    await second.stop()


def a_read() -> tuple[CertSpec, Proof]:
    """What may be signed for a target without a person, and why."""
    asker = Asker(now())
    ask = asker.ask(asker.record(READ))
    return ask.spec, Proof(record=ask.record, signatures=())


@pytest.fixture
async def rotating(tmp_path: Path) -> AsyncIterator[SignerProcess]:
    """A signer over keys of its own."""
    furnish(tmp_path / "own", machine("web1"), at=now())
    started = await start_signer(directory=tmp_path / "own", path=tmp_path / "r")
    yield started
    await started.stop()


async def test_a_rotation_is_believed_step_by_step(rotating: SignerProcess, tmp_path: Path) -> None:
    """Certificates go on through all three steps; then the old key's file is gone and the new one signs (I-06)."""
    client, key, keys = rotating.client, new_public_key(), tmp_path / "own"
    first, before = await client.ssh_ca("egress"), None
    for step, wanted in ((Step.START, [Stage.SIGNING, Stage.NEXT]), (Step.SWITCH, [Stage.OLD, Stage.SIGNING]),
                         (Step.FINISH, [Stage.SIGNING])):  # fmt: skip
        said = rotation(Ca.EGRESS, step, 1 if step is Step.FINISH else 2, forced=True, before=before, at=now())
        told, before = await client.rotate(Ca.EGRESS, said.encoded(), signed(said, OWNER)), said
        assert [each.stage for each in told] == wanted
        assert told == await client.generations(Ca.EGRESS)
        spec, proof = a_read()
        made = parse(await client.sign_ssh(spec, key, proof))
        assert (made.ca_key == first) is (step is Step.START)
        with pytest.raises(SignerFault, match="next revision"):
            await client.rotate(Ca.EGRESS, said.encoded(), signed(said, OWNER))
    assert not (keys / "egress.key").exists()
    assert (keys / "egress.2.key").exists()


async def test_a_rotation_by_another_broker_is_noticed(rotating: SignerProcess, tmp_path: Path) -> None:
    """A client that did not rotate believes the new key at its first certificate."""
    client, other = rotating.client, SignerClient(tmp_path / "r", signer_uid=os.geteuid())
    for ca in Ca:
        await client.generations(ca)
        before = None
        for step in (Step.START, Step.SWITCH):
            before = rotation(ca, step, 2, forced=True, before=before, at=now())
            await other.rotate(ca, before.encoded(), signed(before, OWNER))
    for spec, proof in (a_read(), (ingress(now()), NO_PROOF)):
        assert parse(await client.sign_ssh(spec, new_public_key(), proof)).ca_key == await other.ssh_ca(spec.ca)
    asked = replace(x509_spec(), not_before=now() - SKEW, not_after=now() + timedelta(hours=1))
    await client.sign_x509(asked, CSR)
    assert await client.x509_ca() == await other.x509_ca()
    await other.close()


# ---- the process
async def test_it_stops_on_sigterm_and_leaves_no_socket(signer: SignerProcess, tmp_path: Path) -> None:
    """A stop is clean: status 0, socket gone, and stopping again does nothing."""
    await signer.client.x509_ca()
    await signer.stop()
    assert await signer.ended() == 0
    assert not (tmp_path / "s").exists()
    await signer.stop()


async def test_another_process_of_this_user_is_not_heard(signer: SignerProcess, tmp_path: Path) -> None:
    """A real signer hangs up on everybody but its parent."""
    script = (
        "import asyncio, os, sys; from pathlib import Path\n"
        "from broker.adapters.signer_client import SignerClient\n"
        "from broker.core.errors import SignerFault\n"
        "async def main():\n"
        "    try: await SignerClient(Path(sys.argv[1]), signer_uid=os.geteuid()).x509_ca()\n"
        "    except SignerFault as fault: print(fault.what)\n"
        "asyncio.run(main())\n"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script, str(tmp_path / "s")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "the signer cannot be reached"
    await signer.client.x509_ca()


async def test_nothing_of_it_can_be_dumped(signer: SignerProcess) -> None:
    """No core file, private new files, no descriptor of it in this process (I-36)."""
    limits = Path(f"/proc/{signer.pid}/limits").read_text()
    (core,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    status = Path(f"/proc/{signer.pid}/status").read_text()
    assert "Umask:\t0077" in status


def test_it_is_not_dumpable() -> None:
    """PR_GET_DUMPABLE is 0 after the hardening: no ptrace, no /proc/PID/mem for others of the same user (I-36)."""
    script = (
        "import ctypes; from broker.signer.harden import no_dumps; no_dumps();"
        " print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 1, "this test would prove nothing in an undumpable process"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout.strip() == b"0"


async def test_the_brokers_secrets_stay_with_the_broker(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child gets none of our environment and none of our files, and we have none of its (I-36, I-53)."""
    monkeypatch.setenv("GRANTD_ROOT_KEY", CANARY)
    secret_file = tmp_path / "open"
    with secret_file.open("wb"):
        started = await start_signer(directory=keys, path=tmp_path / "s")
        await started.client.x509_ca()
        with contextlib.suppress(PermissionError):  # undumpable: only root may even look
            assert CANARY.encode() not in Path(f"/proc/{started.pid}/environ").read_bytes()
            theirs = [str(link.readlink()) for link in Path(f"/proc/{started.pid}/fd").iterdir()]
            assert str(secret_file) not in theirs
        ours = {os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}
        assert not {place for place in ours if place.startswith(str(keys))}
        command_line = Path(f"/proc/{started.pid}/cmdline").read_bytes()
        assert CANARY.encode() not in command_line
        await started.stop()


_PARENT = """
import asyncio, os, sys
from pathlib import Path
from broker.adapters.signer_client import start_signer
async def main():
    started = await start_signer(directory=Path(sys.argv[1]), path=Path(sys.argv[2]))
    print(started.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_it_ends_with_its_parent(keys: Path, tmp_path: Path) -> None:
    """kill -9 of the broker ends the signer at once: no orphan with keys stays behind."""
    command = [sys.executable, "-c", _PARENT, str(keys), str(tmp_path / "s")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 5
        while _runs(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert not _runs(pid)
    assert not (tmp_path / "s").exists()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_it_does_not_start_for_a_parent_that_is_gone(keys: Path, tmp_path: Path) -> None:
    """Another parent than named, or weak keys: status 1, one line that says why, no socket."""
    command = [sys.executable, "-m", "broker.signer", f"--directory={keys}", f"--socket={tmp_path / 's'}"]
    done = await asyncio.to_thread(
        subprocess.run, [*command, "--allowed-uid=0", "--parent-pid=1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert json.loads(done.stderr)["why"] == "the process that started the signer is gone"
    assert not (tmp_path / "s").exists()


def test_a_second_signal_does_not_break_the_way_out(keys: Path, tmp_path: Path) -> None:
    """A dying parent is told once for each of its threads: the first ends the signer in order, the rest end nothing."""
    command = [sys.executable, "-m", "broker.signer", f"--directory={keys}", f"--socket={tmp_path / 's'}"]
    with subprocess.Popen(
        [*command, f"--allowed-uid={os.geteuid()}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.0005)
        assert process.stderr is not None
        # which walls stand is said at the start, and is not this test's
        said = [line for line in process.stderr.read().splitlines() if b'"signer.' not in line]
        assert (process.returncode, said) == (0, [])
    assert not (tmp_path / "s").exists()


async def test_a_signer_that_does_not_start_is_a_fault(tmp_path: Path) -> None:
    """No keys: the broker does not start without its signer."""
    with pytest.raises(SignerFault, match="did not start"):
        await start_signer(directory=tmp_path / "nothing", path=tmp_path / "s")


# ---- signers that lie, hang or are somebody else
LIAR_CA = Ed25519PrivateKey.generate()


def _liar(twist: Callable[[CertSpec], CertSpec]) -> Callable[[Ask], Answer]:
    def answer(ask: Ask) -> Answer:
        match ask:
            case SignSsh(spec=spec, public_key=key):
                return Signed(blob=sign_ssh(twist(spec), key, LIAR_CA))
            case AskGenerations(ca=ca) if ca is not Ca.X509:
                public = ed25519_blob(LIAR_CA.public_key().public_bytes_raw())
                one = Generation(number=1, public=public, stage=Stage.SIGNING, since=EPOCH, voucher=b"")
                return Told(generations=(one,))
            case _:
                return Signed(blob=b"not a certificate")

    return answer


@pytest.mark.parametrize(
    "twist",
    [
        {"permit_pty": True},
        {"source_address": ""},
        {"force_command": ""},
        {"principals": ("root",)},
        {"serial": 7},
    ],
    ids=str,
)
async def test_a_lying_signer_is_not_believed(tmp_path: Path, twist: dict[str, Any]) -> None:
    """A certificate that says anything else than asked for never reaches the caller (I-07)."""
    with serving(tmp_path / "s", ME, _liar(lambda spec: spec)):
        client = SignerClient(tmp_path / "s", signer_uid=os.geteuid())
        await client.sign_ssh(egress(), new_public_key(), NO_PROOF)
        await client.close()
    with serving(tmp_path / "t", ME, _liar(lambda spec: replace(spec, **twist))):
        client = SignerClient(tmp_path / "t", signer_uid=os.geteuid())
        with pytest.raises(SignerFault, match="something else"):
            await client.sign_ssh(egress(), new_public_key(), NO_PROOF)
        await client.close()


async def test_a_strangers_socket_is_not_asked(tmp_path: Path) -> None:
    """Another user's process at the signer's path hears no question."""
    heard: list[Ask] = []

    def answer(ask: Ask) -> Answer:
        heard.append(ask)
        return Signed(blob=b"")

    with serving(tmp_path / "s", ME, answer):
        client = SignerClient(tmp_path / "s", signer_uid=os.geteuid() + 1)
        with pytest.raises(SignerFault, match="cannot be reached"):
            await client.x509_ca()
    assert heard == []


async def test_a_hanging_signer_is_a_fault_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every caller is answered within the limit, those waiting for their turn as well."""
    monkeypatch.setattr(signer_client, "ANSWER_SECONDS", 0.2)
    silent = socket.socket(socket.AF_UNIX)
    silent.bind(str(tmp_path / "s"))
    silent.listen()
    client = SignerClient(tmp_path / "s", signer_uid=os.geteuid())
    since = Since()

    async def ask() -> None:
        with pytest.raises(SignerFault, match="in time"):
            await client.x509_ca()

    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(ask())
    assert since.s() < 1.5
    silent.close()
    await client.close()


@pytest.mark.parametrize("said", [b"", b"\x02", b"\x01\xff\xff\xff\xff", b"\x01\0\0\0\x04junk"])
async def test_garbage_for_an_answer_is_a_fault(tmp_path: Path, said: bytes) -> None:
    """Whatever comes back, the caller sees SignerFault and nothing else."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(said)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_unix_server(talk, str(tmp_path / "s")):
        client = SignerClient(tmp_path / "s", signer_uid=os.geteuid())
        with pytest.raises(SignerFault, match="cannot be reached"):
            await client.x509_ca()
