"""Ceilings of the SSH door that no peer can raise (I-22, I-23, I-26). Sources: the measured shapes M4 to M7."""

from __future__ import annotations

# ---- until somebody is known -----------------------------------------------------------------------------------------
LOGIN_S = 20.0
"""From the connection to the end of authentication."""
LOGIN_BYTES = 256 * 1024
"""Bytes that a client may send before it is known; a stock client with twenty keys sends about 30 kB."""
UNAUTHENTICATED_PER_SOURCE = 10
"""A source is an IPv4 address, or the first 64 bits of an IPv6 address: one host has all the rest."""
UNAUTHENTICATED = 100
MAX_FAILURES = 3
"""Certificates of ours that did not hold."""
MAX_OFFERS = 20
"""Attempts of any other kind: plain keys offered before the certificate, other methods; none of them ever works."""
MAX_USER_NAMES = 3

# ---- a connection ----------------------------------------------------------------------------------------------------
CONNECTIONS_PER_GRANT = 64
REKEY_S = 30.0
"""A key exchange that was begun must end within this."""
DEFERRED = 512
"""Answers that may wait for the end of a key exchange."""
KEEPALIVE_S = 15.0
KEEPALIVES = 3
IDLE_S = 60.0
"""An authenticated connection that runs no command."""
LOOK_EVERY_S = 1.0
"""How late an idle connection, or one whose grant is over, is seen."""
SESSIONS = 1_000
"""Over the life of a connection; how many at once is the grant's to say."""
FORWARDS_AT_ONCE = 16
FORWARDS = 10_000
"""Forwarded connections over the life of a connection."""
REFUSALS = 50
"""Features asked for and refused, over the life of a connection; the next one ends it."""

# ---- a channel -------------------------------------------------------------------------------------------------------
ENVIRONMENT = 16
"""Variables a channel may set."""
ENVIRONMENT_ASKED = 64
"""Variables a channel may ask for; stock clients ask for some that are not allowed, in good faith."""
WAITING_WINDOW = 32 * 1024
"""Bytes of stdin that a client may send before its command runs (I-23)."""
WINDOW = 2 * 1024 * 1024
"""Bytes of stdin that a client may send ahead of a command that runs."""
PIECE = 64 * 1024
"""Bytes of stdin that are handed on at once."""
PACKET = 32 * 1024
SMALLEST_PACKET = 1024
"""A client that takes less at a time than this costs more in packets than its output is worth."""
SEND_HIGH = 256 * 1024
"""Bytes that wait in one channel, or in the socket, before the target is no longer read."""
SEND_PIECES = 64
"""Writes that may wait in one channel: a byte costs a hundred when it comes alone."""
SHELL_IDLE_S = 900.0
"""A gated shell at whose prompt nothing is typed."""
WRITE_WITHIN_S = 60.0
"""A client that takes none of its output for so long is gone."""
