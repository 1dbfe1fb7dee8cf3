"""The loops: expiry, effects, audit sequencing. Each calls one service; none serves a caller."""
