"""What the broker and the signer say to one another: questions and answers. Their bytes are signwire.py's.

Shared by both processes because neither may import the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from broker.core.cert import Ca, CertSpec, X509Spec
from broker.core.generation import Generation


@dataclass(frozen=True, slots=True, kw_only=True)
class SignSsh:
    """Sign an OpenSSH certificate for `public_key` (wire blob), and why: the record and its SSHSIG blobs.

    `access` is the record of the access request that people granted, where the action rests on what it says;
    less proves less.
    """

    spec: CertSpec
    public_key: bytes
    record: bytes
    signatures: tuple[bytes, ...]
    access: bytes = b""
    access_signatures: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignX509:
    """Sign an X.509 certificate for the key of the CSR (DER)."""

    spec: X509Spec
    csr_der: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AskCa:
    """Hand out the public half of a CA: a wire blob, for X509 the certificate (DER)."""

    ca: Ca


@dataclass(frozen=True, slots=True, kw_only=True)
class SignProbe:
    """Sign an egress certificate for the check of a target, by the generation of that number.

    It runs one of the fixed commands of broker.core.looks and no other; its key id is the target's own id.
    """

    spec: CertSpec
    public_key: bytes
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignKrl:
    """Sign an egress certificate that writes a target's revocation list, and does nothing else.

    `spec` is without a command: the signer derives it (broker.core.revoking) from these grants and its own CA keys.
    """

    spec: CertSpec
    public_key: bytes
    grants: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskGenerations:
    """Tell which keys of a CA are believed, and which one signs."""

    ca: Ca


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateCa:
    """Take the step of a CA's rotation that a statement says, because of these SSHSIG blobs.

    Answered as AskGenerations, after it.
    """

    statement: bytes
    signatures: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Learn:
    """Believe a statement (core/statement.py) from now on, because of these SSHSIG blobs."""

    statement: bytes
    signatures: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenGlass:
    """Spend a sealed credential (broker.core.glass) on the word that opens it, before anything is done under it.

    Answered with Signed over the word's SHA-256; again for the same word.
    """

    use: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AskTrust:
    """Hand out the newest statement about a subject; nothing where there is none."""

    tenant: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AskHead:
    """Sign the head of the signer's journal, and prove that the first `since` rows are still where they were.

    Answered with Signed over PAE of the note, its verifier key and PAE of the proof's hashes (none for no such row).
    """

    since: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """The certificate, public key or statement asked for."""

    blob: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """It was not done. `why` is a fixed phrase of the signer, printable ASCII."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The generations of a CA, ascending."""

    generations: tuple[Generation, ...]


Ask: TypeAlias = (
    SignSsh
    | SignX509
    | SignProbe
    | SignKrl
    | AskCa
    | AskGenerations
    | RotateCa
    | Learn
    | OpenGlass
    | AskTrust
    | AskHead
)
Answer: TypeAlias = Signed | Refused | Told
