"""Whether asyncssh is still what the quicker way was written against: the SHA-256 of each source that it relies on.

A changed source may be harmless. Nobody has looked yet, so asyncssh's own way is taken until somebody did.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from asyncssh.channel import SSHChannel
from asyncssh.connection import SSHConnection
from asyncssh.crypto.cipher import GCMCipher
from asyncssh.encryption import Encryption, GCMEncryption
from asyncssh.packet import SSHPacket, SSHPacketHandler

RELIED_ON: Final[tuple[Callable[..., Any], ...]] = (
    SSHConnection.connection_made,
    SSHConnection.data_received,
    SSHConnection._recv_data,  # noqa: SLF001
    SSHConnection._recv_pkthdr,  # noqa: SLF001
    SSHConnection._recv_packet,  # noqa: SLF001
    SSHConnection._finish_recv_packet,  # noqa: SLF001
    SSHConnection._process_newkeys,  # noqa: SLF001
    SSHConnection.send_packet,
    SSHConnection._send,  # noqa: SLF001
    SSHConnection._send_deferred_packets,  # noqa: SLF001
    SSHConnection._send_kexinit,  # noqa: SLF001
    SSHConnection.send_newkeys,
    SSHConnection._force_close,  # noqa: SLF001
    SSHConnection._cleanup,  # noqa: SLF001
    SSHChannel.write,
    SSHChannel.send_packet,
    SSHChannel._flush_send_buf,  # noqa: SLF001
    SSHChannel._process_window_adjust,  # noqa: SLF001
    SSHChannel._process_data,  # noqa: SLF001
    SSHChannel._process_extended_data,  # noqa: SLF001
    SSHPacketHandler.process_packet,
    SSHPacket,
    Encryption,
    GCMEncryption,
    GCMCipher,
)
"""What is overridden, what calls it, and what is called in asyncssh's place."""

PINS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "SSHConnection.connection_made": "e7b867af0f590a2cd3e2a45023f70a23b06ef8e98ec243275a7c8a32ad4905c2",
        "SSHConnection.data_received": "b2d14a83b2604db65c8775264dfbe38e5920ba749ec627134ddbe708cb43974a",
        "SSHConnection._recv_data": "fc4e0735191bb0fdd7fa8f91761067015989bfa47246ac1843c9abaeef7d243f",
        "SSHConnection._recv_pkthdr": "7adc4d88fe20593cef39c00322547733a2d81f0aed40924e6105d5f57aa2a820",
        "SSHConnection._recv_packet": "b3daa22e9763eee9f3ec710d1469c1b54c8df5066bae3e65b66bdf1db8063c8b",
        "SSHConnection._finish_recv_packet": "e12d96db58b3524e90032440bfd6f2705a53a3b74caaa121e14b7d164ad2e6de",
        "SSHConnection._process_newkeys": "a0331fe3cfd09d0b414800a9c59ffef089fa0ee67883957f597d3ccda58160b3",
        "SSHConnection.send_packet": "fb9da7bec6dd395a2f379f8a0f4dbfc5f194ff80e1ed8630d9a6dbf291359406",
        "SSHConnection._send": "c6698a37eb80f574e53595c650f493b6ef52576a411dabc1b2977ba2e3e7b5b3",
        "SSHConnection._send_deferred_packets": "c5ef8240853eb331be28da0b38f68354ea5f7168d63f06550e94d5b297aca75f",
        "SSHConnection._send_kexinit": "275ddc818b59f44b24a3b9d0ccc8cdd1d283a449f75c5d36e5a57cb70d9d90e3",
        "SSHConnection.send_newkeys": "0b41234420373618bb7bae4fd482422dd71740c756c6d2103f02e265c39794a7",
        "SSHConnection._force_close": "264b4367525f4f864cf63d560aab5e027527a95d5225ede1dba01161010e07dc",
        "SSHConnection._cleanup": "ea4cd2aed57194e571addabce7dd2136182ff7816bb0558622987a1057fc2d30",
        "SSHChannel.write": "1045e200084699330b3c75abe2e63e760dc8a12eb008c85ec5cefcafab372e38",
        "SSHChannel.send_packet": "00e81b763c8f3dd2f3012a14cb28f5824ab653940b03f548abad871db918c0ae",
        "SSHChannel._flush_send_buf": "3f11e9dc27c58b18847c12007b945cb36c7767def131c9b96b0c0a81a8b72dbc",
        "SSHChannel._process_window_adjust": "7a2e4c4998e0b496a3006855fb24693092ee4950dce3bc0969ca42092913dff2",
        "SSHChannel._process_data": "342490795c4b893cbff8868df9c32b79230f0fd881b7fa435afd267e3ce22586",
        "SSHChannel._process_extended_data": "e4e69e0e1f37e9779391ceff4a37dfcb8a9c6a3d36be83678e1688c2c4e51404",
        "SSHPacketHandler.process_packet": "490a59d971d0ce03dbdc81e9e9a582830041e9a69f3af76dd4323886e493f4ae",
        "SSHPacket": "e35ca8e222c90e44bce444707ad15d157dc4e7c1dd651f06d88581c515116797",
        "Encryption": "9c3073503ca53ca260c59b4ec9795fdb33221daaef559920bbd858c4772b988f",
        "GCMEncryption": "d255f9e6b1fa73eedbf7871797485481a3805e33561070d735bde66d9ac051ec",
        "GCMCipher": "e389d2b5bed8eb418d7c144f300892f7f37937f78883b753a840e010ffc3eef1",
    }
)
"""Made with `python -m broker.fastpath.pins`, after reading what changed."""


def digests() -> dict[str, str]:
    """The sources as they are installed; where one cannot be read, an empty text stands for it."""
    return {part.__qualname__: _digest(part) for part in RELIED_ON}


@cache
def changed() -> tuple[str, ...]:
    """The names whose source is not the one that was read; empty where the quicker way may be taken."""
    return tuple(name for name, digest in digests().items() if digest != PINS.get(name))


def _digest(part: Callable[..., Any]) -> str:
    try:
        return hashlib.sha256(inspect.getsource(part).encode()).hexdigest()
    except (OSError, TypeError):
        return ""


if __name__ == "__main__":
    for qualified, digest in digests().items():
        print(f'        "{qualified}": "{digest}",')  # noqa: T201  the lines of PINS
