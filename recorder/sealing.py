"""How the frames of a GREC v1 part (grec.py) are sealed and opened. Opens no file, makes no salt and no data key.

AES-256-GCM with counter nonces; the last frame carries the final bit in its nonce (STREAM), so a cut recording never
decrypts as a finished one. Key, base nonce and key commitment come from one HKDF-Expand: with the wrong key nothing
is decrypted at all. Everything in a frame header and in the part header is bound to each frame as associated data.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from backports.zstd import CompressionParameter, DecompressionParameter, ZstdCompressor, ZstdDecompressor, ZstdError
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from recorder.errors import RecordingInvalid
from recorder.grec import (
    COMMIT_SIZE,
    HEADER_AT,
    TAG_SIZE,
    Flag,
    Frame,
    FrameHeader,
    FrameType,
    Header,
    decode_frame_header,
    preamble,
)

DEK_SIZE = 32
_NONCE_SIZE = 12
_LABEL = b"grantd/rec/v1/AEAD_AES_256_GCM\0"
_WINDOW_LOG = 20  # the reader's zstd window is at most 1 MiB; our level 1 writer uses 512 KiB
# level 3: 0.7 MB more per session for 0-6 % smaller files. A table of 32 KiB stays in the processor's nearest cache:
# 8 % less work for files 1.5 % larger
_ZSTD: dict[int, int] = {CompressionParameter.compression_level: 1, CompressionParameter.hash_log: 13}


@dataclass(frozen=True, slots=True, kw_only=True)
class PartKeys:
    """What one part is sealed with. Fresh for each part because each part has a fresh salt."""

    key: bytes = field(repr=False)
    base_nonce: bytes = field(repr=False)
    commit: bytes

    def nonce(self, seq: int, *, final: bool) -> bytes:
        """The base nonce XOR (00 00 00 | u64 seq | u8 final)."""
        counter = (seq << 8 | final).to_bytes(_NONCE_SIZE, "big")
        return bytes(a ^ b for a, b in zip(self.base_nonce, counter, strict=True))


def derive_keys(dek: bytes | bytearray, header_json: bytes, salt: bytes) -> PartKeys:
    """key[32] || base nonce[12] || commit[32] = HKDF-Expand(SHA-512). Source: C2SP chunked-encryption."""
    if len(dek) != DEK_SIZE:
        raise RecordingInvalid("a recording key has 32 bytes")
    info = _LABEL + salt + hashlib.sha256(header_json).digest()
    out = HKDFExpand(algorithm=SHA512(), length=DEK_SIZE + _NONCE_SIZE + COMMIT_SIZE, info=info).derive(bytes(dek))
    return PartKeys(key=out[:32], base_nonce=out[32:44], commit=out[44:])


class Sealer:
    """Encrypts the frames of one part, in order. Each number is used once: a failed write is never sealed again."""

    __slots__ = ("_aad", "_aead", "_keys", "_seq", "_zstd", "preamble")

    def __init__(self, header: Header, dek: bytes | bytearray) -> None:
        header_json = header.encode()
        self._keys = derive_keys(dek, header_json, header.salt)
        self.preamble = preamble(header_json, self._keys.commit)
        self._aad = hashlib.sha256(self.preamble).digest()
        self._aead = AESGCM(self._keys.key)
        self._seq = 0
        self._zstd: ZstdCompressor | None = None

    def data(self, plaintext: bytes | bytearray, t_us: int, *, segment: bool) -> bytes:
        """A compressed DATA frame; `segment` starts a fresh zstd context (the first frame always does)."""
        flags = Flag.ZSTD
        if segment or self._zstd is None:
            flags |= Flag.SEGMENT
            self._zstd = ZstdCompressor(options=_ZSTD)
        packed = self._zstd.compress(plaintext, mode=ZstdCompressor.FLUSH_BLOCK)
        return self.seal(FrameType.DATA, flags, t_us, plaintext=packed, plen=len(plaintext))

    def end(self, plaintext: bytes, t_us: int, *, instead_of_last: bool = False) -> bytes:
        """The final frame. After it this sealer is spent.

        `instead_of_last`: the last sealed frame could not be written, so the end takes its number. No nonce repeats,
        because the final bit is part of the nonce.
        """
        self._seq -= instead_of_last
        return self.seal(FrameType.END, Flag.FINAL, t_us, plaintext=plaintext, plen=len(plaintext))

    def seal(self, type_: FrameType, flags: Flag, t_us: int, *, plaintext: bytes, plen: int) -> bytes:
        """One frame around `plaintext` as it is stored (compressed or not); `plen` is its length before compression."""
        header = FrameHeader(
            type=type_, flags=flags, seq=self._seq, t_us=t_us, plen=plen, clen=len(plaintext) + TAG_SIZE
        )
        encoded = header.encode()
        decode_frame_header(encoded, seq=self._seq)  # what no reader would take is never written
        nonce = self._keys.nonce(self._seq, final=header.final)
        self._seq += 1
        return encoded + self._aead.encrypt(nonce, plaintext, self._aad + encoded)


class Opener:
    """Decrypts frames of one part, from its first frame or from any segment start. Releases nothing unauthenticated."""

    __slots__ = ("_aad", "_aead", "_keys", "_zstd")

    def __init__(self, header: Header, preamble_bytes: bytes, dek: bytes | bytearray) -> None:
        header_json = preamble_bytes[HEADER_AT:-COMMIT_SIZE]
        self._keys = derive_keys(dek, header_json, header.salt)
        if not hmac.compare_digest(self._keys.commit, preamble_bytes[-COMMIT_SIZE:]):
            raise RecordingInvalid("this key is not the one the recording was made with")
        self._aad = hashlib.sha256(preamble_bytes).digest()
        self._aead = AESGCM(self._keys.key)
        self._zstd: ZstdDecompressor | None = None

    def open(self, frame: Frame) -> bytes:
        """The plaintext of a frame, at most 1 MiB.

        Raises:
            RecordingInvalid: naming the frame that does not authenticate or does not inflate to its stated length.
        """
        header = frame.header
        nonce = self._keys.nonce(header.seq, final=header.final)
        try:
            packed = self._aead.decrypt(nonce, frame.ciphertext(), self._aad + header.encode())
        except InvalidTag as error:
            raise RecordingInvalid(f"frame {header.seq}: not authentic") from error
        if Flag.ZSTD not in header.flags:
            return packed
        return self._inflate(packed, header)

    def _inflate(self, packed: bytes, header: FrameHeader) -> bytes:
        if Flag.SEGMENT in header.flags:
            self._zstd = ZstdDecompressor(options={DecompressionParameter.window_log_max: _WINDOW_LOG})
        if self._zstd is None:
            raise RecordingInvalid(f"frame {header.seq}: compressed, but no segment has started")
        try:
            # One byte more than stated: a bomb shows itself after plen + 1 bytes, not after filling memory.
            plain = self._zstd.decompress(packed, max_length=header.plen + 1)
        except (ZstdError, EOFError) as error:
            raise RecordingInvalid(f"frame {header.seq}: does not inflate") from error
        if len(plain) != header.plen or self._zstd.eof:
            raise RecordingInvalid(f"frame {header.seq}: does not inflate to its stated length")
        return plain
