"""How the SDK reaches a broker: TLS always, the client's certificate where there is one, hard message limits.

Never without TLS, never through a proxy from the environment: what carries commands goes to the address of the profile.
"""

from __future__ import annotations

from typing import Final

import grpc
import grpc.aio

from grantd.profile import Profile

MAX_MESSAGE_BYTES: Final = 1 << 20
VERSION: Final = "0.1.0"
_OPTIONS: Final[tuple[tuple[str, int | str], ...]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
    ("grpc.primary_user_agent", f"grantd-client/{VERSION}"),
    # notices a broker that vanished without a word; servers take offence at pings more often than every 300 s
    ("grpc.keepalive_time_ms", 330_000),
)


def open_channel(profile: Profile) -> grpc.Channel:
    """A channel by client certificate, as the profile's files are now. Connects at the first call."""
    return grpc.secure_channel(profile.description.address, _mutual(profile), _options(profile))


def open_freeze_channel(profile: Profile) -> grpc.Channel:
    """A channel to the kill switch's own listener."""
    return grpc.secure_channel(profile.description.freeze_address, _mutual(profile), _options(profile))


def open_aio_channel(profile: Profile) -> grpc.aio.Channel:
    """The same for asyncio; call it inside the running loop."""
    return grpc.aio.secure_channel(profile.description.address, _mutual(profile), _options(profile))


def open_join_channel(address: str, ca: bytes, server_name: str) -> grpc.Channel:
    """A channel to the join address: the broker is checked against `ca` (PEM), the caller shows nothing."""
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca), _named(server_name))


def _mutual(profile: Profile) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(profile.ca, profile.key, profile.certificate)


def _options(profile: Profile) -> tuple[tuple[str, int | str], ...]:
    return _named(profile.description.server_name)


def _named(server_name: str) -> tuple[tuple[str, int | str], ...]:
    return (*_OPTIONS, ("grpc.ssl_target_name_override", server_name)) if server_name else _OPTIONS
