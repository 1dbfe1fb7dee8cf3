"""A quicker way for packets of AES-GCM through asyncssh, for both of grantd's SSH legs (docs/adr/0027).

Knows asyncssh and nothing of the broker. Packets are the same bytes on the wire and the same calls above it; what
costs is left out: copies of the input buffer, a new cipher object and a decoy for each packet, log lines nobody reads.
"""

from broker.fastpath.channel import FastChannel
from broker.fastpath.connection import FastConnection
from broker.fastpath.pins import changed

__all__ = ["FastChannel", "FastConnection", "changed"]
