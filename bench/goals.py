"""The goals that this harness measures, with their ids and limits. A limit moves only with a decision record."""

from __future__ import annotations

from typing import Final

from bench.figures import Goal

LATENCY: Final = (
    Goal(
        id="P1", says="brokered read / ssh, cold", figure="brokered read", baseline="ssh cold",
        limit=0.08, at_most=True,
    ),
    Goal(
        id="P1.curve25519", says="brokered read / ssh, cold, curve25519", figure="brokered read",
        baseline="ssh cold curve25519", limit=0.12, at_most=True,
    ),
    Goal(
        id="P2", says="brokered read / ssh process over ControlMaster", figure="brokered read", baseline="ssh mux",
        limit=1.0, at_most=True,
    ),
    Goal(
        id="P3", says="brokered read / persistent asyncssh", figure="brokered read", baseline="asyncssh",
        limit=2.2, at_most=True,
    ),
    Goal(
        id="P6", says="grantctl run by the helper / ssh, cold, curve25519", figure="thin run",
        baseline="ssh cold curve25519", limit=0.4, at_most=True,
    ),
)  # fmt: skip
RATE: Final = (
    Goal(
        id="P3.rate", says="brokered reads a second / asyncssh, 64 at once", figure="brokered rate",
        baseline="asyncssh rate", limit=0.6, at_most=False,
    ),
)  # fmt: skip
APPEND: Final = (
    Goal(
        id="P15", says="an audit entry made durable / bare SQLite commit", figure="append", baseline="raw commit",
        limit=1.5, at_most=True,
    ),
    Goal(
        id="P15.rate", says="entries put in their place a second / bare commits", figure="sequenced rate",
        baseline="raw commits rate", limit=15, at_most=False,
    ),
    Goal(
        id="P15.units", says="units of work a second, 64 at once / bare commits", figure="append units rate",
        baseline="raw commits rate", limit=3, at_most=False,
    ),
)  # fmt: skip
