"""Ceilings of the SSH door that no peer can raise (I-22, I-26). Sources: the measured shapes M4 to M7."""

from __future__ import annotations

LOGIN_S = 20.0
"""From the connection to the end of authentication."""
UNAUTHENTICATED_PER_SOURCE = 10
UNAUTHENTICATED = 100
MAX_FAILURES = 3
"""Signatures and certificates that did not hold."""
MAX_OFFERS = 20
"""Plain keys that a client offers before its certificate; none of them ever works."""
MAX_USER_NAMES = 3
REKEY_S = 30.0
"""A key exchange that was begun must end within this."""
KEEPALIVE_S = 15.0
KEEPALIVES = 3
IDLE_S = 60.0
"""An authenticated connection without a session."""
SESSIONS_AT_ONCE = 1
SESSIONS = 1_000
"""Over the life of a connection."""
REFUSALS = 50
"""Features asked for and refused, over the life of a connection; the next one ends it."""
WINDOW = 2 * 1024 * 1024
"""Bytes of stdin that a client may send ahead; reading is paused far below."""
PACKET = 32 * 1024
SEND_HIGH = 256 * 1024
"""Bytes that wait in one channel, or in the socket, before the target is no longer read."""
STDIN_HIGH = 256 * 1024
WRITE_WITHIN_S = 60.0
"""A client that takes none of its output for so long is gone."""
ENVIRONMENT = 16
"""Variables a channel may set."""
COMMAND_BYTES = 16 * 1024
"""More is refused before it is looked at."""
