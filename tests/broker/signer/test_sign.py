"""What stock programs read in a certificate is exactly its specification (I-07)."""

from __future__ import annotations

import base64
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.core.cert import SKEW, Ca, CertMismatch, CertSpec, X509Spec
from broker.core.sshwire import ed25519_blob, fingerprint_of, string
from broker.signer.sign import sign_ssh, sign_x509
from tests.broker import ssh_keys
from tests.broker.core.test_cert import client, host, server
from tests.broker.core.test_x509_match import CA, CA_KEY, KEY
from tests.broker.ssh_keys import GRANT, NOW, PRINCIPAL, egress, ingress, new_public_key

SSH_CA = Ed25519PrivateKey.generate()


def keygen_reads(directory: Path, certificate: bytes) -> dict[str, str]:
    """`ssh-keygen -L` over the certificate in UTC: label -> text, list items joined by ` | `."""
    file = directory / "c-cert.pub"
    file.write_text(f"ssh-ed25519-cert-v01@openssh.com {base64.b64encode(certificate).decode()}\n")
    found: dict[str, str] = {}
    label = ""
    for line in ssh_keys.run("-L", "-f", str(file)).splitlines()[1:]:
        if name := re.match(r" {8}(\w[\w ]*): ?(.*)", line):
            label, found[name[1]] = name[1], name[2]
        else:
            found[label] = " | ".join(filter(None, [found[label].strip(), line.strip()]))
    return found


@pytest.mark.parametrize(
    ("spec", "options", "extensions"),
    [
        (egress(), "force-command uname -a | source-address 192.0.2.7", "(none)"),
        (egress(force_command="", permit_pty=True), "source-address 192.0.2.7", "permit-pty"),
        (ingress(), "(none)", "permit-pty"),
        (host(), "(none)", "(none)"),
    ],
)
def test_ssh_keygen_shows_the_specification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: CertSpec, options: str, extensions: str
) -> None:
    """`ssh-keygen -L` shows every field as asked for, and no field more."""
    monkeypatch.setenv("TZ", "UTC")
    key = new_public_key()
    kind = "host" if spec.ca is Ca.HOST else "user"
    ca_blob = ed25519_blob(SSH_CA.public_key().public_bytes_raw())
    assert keygen_reads(tmp_path, sign_ssh(spec, key, SSH_CA)) == {
        "Type": f"ssh-ed25519-cert-v01@openssh.com {kind} certificate",
        "Public key": f"ED25519-CERT {fingerprint_of(key)}",
        "Signing CA": f"ED25519 {fingerprint_of(ca_blob)} (using ssh-ed25519)",
        "Key ID": f'"{spec.key_id}"',
        "Serial": str(spec.serial),
        "Valid": f"from {spec.valid_after:%Y-%m-%dT%H:%M:%S} to {spec.valid_before:%Y-%m-%dT%H:%M:%S}",
        "Principals": spec.principals[0],
        "Critical Options": options,
        "Extensions": extensions,
    }


def test_the_exact_command_is_forced(tmp_path: Path) -> None:
    """Newlines, quotes and letters of other scripts reach the certificate as they are."""
    from broker.core.sshcert import parse  # noqa: PLC0415  beside its one use

    command = "exec bash -c 'printf \"%s\\n\" $'\\''a\\nb'\\'' \u00e9\u4e2d'\n# two lines"
    certificate = sign_ssh(egress(force_command=command), new_public_key(), SSH_CA)
    assert parse(certificate).critical["force-command"] == command
    assert keygen_reads(tmp_path, certificate)["Key ID"] == f'"{GRANT}"'
    assert keygen_reads(tmp_path, certificate)["Principals"] == PRINCIPAL


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        string(b"ssh-rsa") + string(b"\3") + string(bytes(256)),
        string(b"ecdsa-sha2-nistp256") + string(b"nistp256") + string(bytes(65)),
        sign_ssh(egress(), new_public_key(), SSH_CA),
    ],
)
def test_only_plain_ed25519_keys_are_certified(blob: bytes) -> None:
    """Other kinds, and a certificate in the place of a key, are refused (F01)."""
    with pytest.raises(CertMismatch):
        sign_ssh(egress(), blob, SSH_CA)


def test_signing_is_quick() -> None:
    """One SSH signature costs well under a millisecond, so a sealed command does not wait for it."""
    spec, key = egress(), new_public_key()
    took = []
    for _ in range(100):
        start = time.thread_time()
        sign_ssh(spec, key, SSH_CA)
        took.append(time.thread_time() - start)
    assert sorted(took)[50] < 0.003, "ten times the 300 us it may cost on an idle machine"


# ---- X.509, through a real TLS handshake
def _pem(directory: Path, name: str, spec: X509Spec, key: ec.EllipticCurvePrivateKey) -> Path:
    path = directory / name
    der = sign_x509(spec, key.public_key(), CA_KEY, CA)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + ssl.DER_cert_to_PEM_cert(der).encode())
    return path


def _now(spec: X509Spec) -> X509Spec:
    now = datetime.now(tz=UTC)
    return replace(spec, not_before=now - SKEW, not_after=now + timedelta(hours=1))


def test_openssl_takes_the_certificates(tmp_path: Path) -> None:
    """`openssl verify -x509_strict` takes each for its purpose and refuses it for the other."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not on this machine")
    (tmp_path / "ca.pem").write_bytes(CA.public_bytes(Encoding.PEM))
    for name, spec, purpose, other in (
        ("c.pem", client(), "sslclient", "sslserver"),
        ("s.pem", server(), "sslserver", "sslclient"),
    ):
        file = _pem(tmp_path, name, spec, KEY)
        at = str(int(NOW.timestamp()))
        command = [openssl, "verify", "-attime", at, "-CAfile", str(tmp_path / "ca.pem"), "-purpose"]
        good = subprocess.run([*command, purpose, str(file)], capture_output=True, text=True, check=False)
        bad = subprocess.run([*command, other, str(file)], capture_output=True, text=True, check=False)
        assert good.returncode == 0, good.stderr
        assert bad.returncode != 0


def test_both_sides_of_mutual_tls_take_them(tmp_path: Path) -> None:
    """Python's TLS checks the host name and the client's certificate, and shows the identity as URI."""
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(CA.public_bytes(Encoding.PEM))
    listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listening.load_cert_chain(_pem(tmp_path, "s.pem", _now(server()), KEY))
    listening.load_verify_locations(ca_file)
    listening.verify_mode = ssl.CERT_REQUIRED
    asking = ssl.create_default_context(cafile=str(ca_file))
    asking.load_cert_chain(_pem(tmp_path, "c.pem", _now(client()), ec.generate_private_key(ec.SECP256R1())))
    near, far = socket.socketpair()
    seen: list[object] = []

    def serve() -> None:
        with listening.wrap_socket(far, server_side=True) as tls:
            seen.append(tls.getpeercert())
            tls.sendall(b"ok")

    thread = threading.Thread(target=serve)
    thread.start()
    with asking.wrap_socket(near, server_hostname="localhost") as tls:
        assert tls.recv(2) == b"ok"
    thread.join(5)
    (peer,) = seen
    assert isinstance(peer, dict)
    assert peer["subjectAltName"] == (("URI", client().uri),)
    assert peer["subject"] == ()
