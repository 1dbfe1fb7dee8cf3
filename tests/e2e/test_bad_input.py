"""What nobody should send, through real doors: each gets a sentence and an exit status, and the broker goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.duration_pb2 import Duration

from broker.core.cert import SKEW, X509Spec, client_uri
from broker.core.x509_match import key_of_csr
from broker.signer.keys import load_keys
from broker.signer.sign import sign_x509
from grantd import Client, GrantdError, asking, keys
from grantd.channel import open_channel, open_join_channel
from grantd.errors import from_rpc
from grantd.profile import Profile
from grantd.v1 import access_pb2, action_pb2, identity_pb2, options_pb2, session_pb2
from grantd.v1.access_pb2_grpc import AccessServiceStub
from grantd.v1.action_pb2_grpc import ActionServiceStub
from grantd.v1.identity_pb2_grpc import IdentityServiceStub
from tests.e2e.programs import Spoken, finish
from tests.e2e.stage import ASKS, BIN, FREE, House

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-bad-input")]

TEN_MB = 10_000_000


@pytest.fixture(scope="module")
def grant(house: House) -> str:
    """One lease for every command here, in use already."""
    grant = house.grant()
    house.run(grant, "uname -s").finished()
    return grant


@pytest.fixture(autouse=True)
def _nothing_lost(house: House, grant: str) -> Iterator[None]:
    """After each: the same broker serves and runs, and no session stays open."""
    pid = house.pid
    yield
    assert house.pid == pid
    assert house.run(grant, "uname -s").finished().exit_status == 0
    assert {session.state for session in _sessions(house)} <= {"closed", "cut"}


# command line as the person typed it -> what stands on their screen
COMMANDS: dict[str, tuple[bytes, str]] = {
    "unterminated quote": (b"echo 'never ends", "not a complete shell command"),
    "unterminated here-document": (b"cat <<E\nbody", "not a command that can be decided"),
    "lone parenthesis": (b"echo )(", "not a command that can be decided"),
    "invalid UTF-8": (b"echo \xff\xfe", "not UTF-8 at byte 5"),
    "escape": (b"echo \x1b[2J", "not a command that can be decided"),
    "blanks": (b"   ", "the command is empty"),
    "over 16 KiB": (b"echo " + b"a" * 16_384, "at most 16384 can be shown to an approver"),
}


@pytest.mark.parametrize("what", list(COMMANDS))
def test_a_command_that_cannot_be_decided_is_refused_in_words(house: House, grant: str, what: str) -> None:
    """Exit status 2, a sentence, and nothing reached the target (I-11)."""
    line, words = COMMANDS[what]
    newest = _sessions(house)[0].id
    ran = house.ctl("builder", "run", grant, "--", line.decode(errors="surrogateescape"))
    assert (ran.status, ran.out) == (2, "")
    assert words in ran.err, ran.err
    assert ran.err.startswith("grantctl: ")
    assert "\x1b" not in ran.err
    assert _sessions(house)[0].id == newest, "nothing ran"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"a\0b", "command_refused"),
        (b"echo \xff", "command_refused"),
        (b"", "empty_command"),
        (b"echo " + b"a" * 16_384, "command_too_long"),
    ],
)
def test_the_broker_itself_refuses_them_too(house: House, grant: str, line: bytes, code: str) -> None:
    """A client that does not look first gets the broker's own word (I-10)."""
    assert _raw(house, grant, line).code == code


def test_ten_megabytes_end_at_the_sdk_and_at_the_transport(house: House, grant: str, tmp_path: Path) -> None:
    """The SDK refuses at 16 KiB before it sends; over the wire it is RESOURCE_EXHAUSTED (I-60)."""
    with pytest.raises(GrantdError) as early:
        house.client("builder").run(grant, b"a" * TEN_MB)
    assert (early.value.code, early.value.message) == (
        "command_too_long", f"the command has {TEN_MB} bytes; at most 16384 can be shown to an approver",
    )  # fmt: skip
    start = action_pb2.ExecuteStart(
        idempotency_key=asking.new_key(), grant_id=grant, command=action_pb2.Command(line=b"a" * TEN_MB)
    )
    # the SDK's own channel would stop it too: this one has no limit
    profile = Profile.load(house.profile("builder"))
    credentials = grpc.ssl_channel_credentials(profile.ca, profile.key, profile.certificate)
    options = [("grpc.max_send_message_length", -1)]
    with grpc.secure_channel(profile.description.address, credentials, options) as wide:
        call = ActionServiceStub(wide).Execute(iter([action_pb2.ExecuteRequest(start=start)]))
        with pytest.raises(grpc.RpcError) as late:
            list(call)
    assert late.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    big = tmp_path / "stdin"
    big.write_bytes(b"a" * TEN_MB)
    ran = house.ctl("builder", "run", grant, "--stdin-file", str(big), "--", "cat")
    assert ran.status == 2
    assert "at most 65536 can be declared" in ran.err


@pytest.mark.parametrize(
    ("ttl", "words"),
    [
        ("0s", "the TTL must be at least one second"),
        ("-1s", "is not a duration"),
        ("-1", "is not a duration"),
        ("87600h", "the TTL is longer than 24 hours"),
        ("10y", "is not a duration"),
        ("900000000000h", "more than ten years"),
    ],
)
def test_a_ttl_that_cannot_be_is_refused_in_words(house: House, ttl: str, words: str) -> None:
    """Exit status 2 and a sentence, before anything is asked of the broker or by its refusal (I-01)."""
    asked = house.ctl("builder", "request", ASKS, house.sshd.login, "--reason", "x", "--ttl", ttl)
    assert (asked.status, asked.out) == (2, "")
    assert words in asked.err, asked.err


@pytest.mark.parametrize(
    ("ttl", "code"),
    [
        ((0, 0), "ttl_too_short"),
        ((-1, 0), "ttl_too_short"),
        ((315_360_000, 0), "ttl_too_long"),
        ((5, 1), "ttl_fraction"),
        ((2**62, 0), "bad_field"),
    ],
    ids=str,
)
def test_the_broker_itself_refuses_such_a_ttl(house: House, ttl: tuple[int, int], code: str) -> None:
    """The same through the wire, without the client's own check (I-01)."""
    message = access_pb2.RequestAccessRequest(
        idempotency_key=asking.new_key(),
        target=ASKS,
        login=house.sshd.login,
        ceiling=options_pb2.COMMAND_CLASS_READ,
        ttl=Duration(seconds=ttl[0], nanos=ttl[1]),
        reason="x",
    )
    client = house.client("builder")
    with pytest.raises(GrantdError) as refused:
        client.call(client.access.RequestAccess, message)
    assert refused.value.code == code


@pytest.mark.parametrize(("target", "login"), [("nowhere", ""), (FREE, "nobody"), ("x" * 300, ""), ("a b\x1b[2J", "")])
def test_an_unknown_target_or_login_is_one_answer(house: House, target: str, login: str) -> None:
    """Not there, not yours and not a name are told apart by nobody (I-40)."""
    asked = house.ctl("builder", "request", target, login or house.sshd.login, "--reason", "x")
    assert asked.status in (1, 2)
    assert asked.out == ""
    assert asked.err.startswith("grantctl: ")
    assert "no such target" in asked.err or "target is longer than 64 bytes" in asked.err, asked.err
    assert "\x1b" not in asked.err


def test_no_certificate_is_no_call(house: House) -> None:
    """The main address hangs up in the handshake; the join address says what is missing; health needs none (I-41)."""
    profile = Profile.load(house.profile("builder"))
    anybody = grpc.ssl_channel_credentials(profile.ca)
    with grpc.secure_channel(profile.description.address, anybody) as channel, pytest.raises(grpc.RpcError) as refused:
        IdentityServiceStub(channel).WhoAmI(identity_pb2.WhoAmIRequest(), timeout=30)
    assert refused.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED)
    with open_join_channel(profile.description.join_address, profile.ca, "") as join:
        with pytest.raises(grpc.RpcError) as there:
            AccessServiceStub(join).ListGrants(access_pb2.ListGrantsRequest(), timeout=30)
        assert there.value.code() is grpc.StatusCode.UNIMPLEMENTED
        health: grpc.UnaryUnaryMultiCallable[bytes, bytes] = join.unary_unary("/grpc.health.v1.Health/Check")
        assert health(b"", timeout=30) == b"\x08\x01"  # SERVING


def test_an_expired_client_certificate_is_told_so(house: House, tmp_path: Path) -> None:
    """By grantctl before it calls (77); whoever calls all the same does not get through the handshake (I-41)."""
    stale = tmp_path / "stale"
    shutil.copytree(house.profile("builder"), stale, ignore=shutil.ignore_patterns("ssh", "lock"))
    stale.chmod(0o700)
    profile = Profile.load(stale)
    ended = datetime.now(UTC) - timedelta(minutes=1)
    (stale / "client.pem").write_bytes(_certificate(house, profile, ended))

    ran = _as(stale, "whoami")
    assert (ran.status, ran.out) == (77, "")
    assert "certificate ended" in ran.err, ran.err

    with open_channel(profile) as channel, pytest.raises(grpc.RpcError) as refused:
        IdentityServiceStub(channel).WhoAmI(identity_pb2.WhoAmIRequest(), timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE, "the TLS handshake ends it"


def test_a_certificate_of_another_ca_is_no_caller(house: House, tmp_path: Path) -> None:
    """A perfect client certificate that somebody else signed does not get through the handshake (I-41)."""
    profile = Profile.load(house.profile("builder"))
    key = keys.new_key()
    own = _self_signed(key, profile)
    credentials = grpc.ssl_channel_credentials(profile.ca, key, own)
    with (
        grpc.secure_channel(profile.description.address, credentials) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        IdentityServiceStub(channel).WhoAmI(identity_pb2.WhoAmIRequest(), timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_broker_that_is_not_there_is_exit_69(house: House, tmp_path: Path) -> None:
    """Unreachable is its own exit status, with a way out."""
    lost = tmp_path / "lost"
    shutil.copytree(house.profile("builder"), lost, ignore=shutil.ignore_patterns("ssh", "lock"))
    lost.chmod(0o700)
    text = (lost / "profile.toml").read_text()
    (lost / "profile.toml").write_text(text.replace(f":{house.ports[0]}", ":1"))
    ran = _as(lost, "whoami")
    assert (ran.status, ran.out) == (69, "")
    assert "no answer from the broker" in ran.err


def _sessions(house: House) -> Sequence[session_pb2.Session]:
    """The latest ones, newest first."""
    owner = house.client("owner")
    return owner.call(owner.sessions.ListSessions, session_pb2.ListSessionsRequest(page_size=20)).sessions


def _as(profile: Path, *words: str) -> Spoken:
    return finish([str(BIN / "grantctl"), "--profile", str(profile), *words])


def _raw(house: House, grant: str, line: bytes) -> GrantdError:
    """What the broker answers to a command that the SDK would not have sent."""
    start = action_pb2.ExecuteStart(
        idempotency_key=asking.new_key(),
        grant_id=grant,
        command=action_pb2.Command(line=line, stdin_mode=action_pb2.STDIN_MODE_NONE),
    )
    client: Client = house.client("builder")
    with pytest.raises(grpc.RpcError) as refused:
        list(client.actions.Execute(iter([action_pb2.ExecuteRequest(start=start)])))
    return from_rpc(refused.value)


def _certificate(house: House, profile: Profile, ended: datetime) -> bytes:
    """A client certificate of the house's own CA that ended a while ago."""
    ca = load_keys(house.data / "signer", owner=os.geteuid())
    spec = X509Spec(
        uri=client_uri("main", profile.description.identity_id),  # type: ignore[arg-type]
        hosts=(),
        not_before=ended - timedelta(hours=1) - SKEW,
        not_after=ended,
        server=False,
        serial=99,
    )
    der = sign_x509(spec, key_of_csr(keys.csr_of(profile.key)), ca.x509_key, ca.x509_certificate)
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def _self_signed(key: bytes, profile: Profile) -> bytes:
    private = serialization.load_pem_private_key(key, None)
    like = x509.load_pem_x509_certificate(profile.certificate)
    builder = x509.CertificateBuilder().subject_name(like.subject).issuer_name(like.issuer).serial_number(7)
    builder = builder.public_key(private.public_key()).not_valid_before(like.not_valid_before_utc)  # type: ignore[arg-type]
    builder = builder.not_valid_after(like.not_valid_after_utc)
    for extension in like.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(private, hashes.SHA256()).public_bytes(Encoding.PEM)  # type: ignore[arg-type]
