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
AT_ONCE: Final = (
    Goal(
        id="P5", says="brokered reads a second / ssh processes over ControlMasters, 64 at once", figure="brokered rate",
        baseline="ssh mux rate", limit=1.7, at_most=False, stretch=2.2,
    ),
)  # fmt: skip
APPEND: Final = (
    Goal(
        id="P15", says="an audit entry made durable / bare SQLite commit", figure="append", baseline="raw commit",
        limit=1.5, at_most=True,
    ),
    Goal(
        id="P15.row", says="a finished row through the store's thread / bare SQLite commit", figure="finished row",
        baseline="raw commit", limit=1.5, at_most=True, stretch=1.15,
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
DISTANT: Final = (
    Goal(
        id="P4", says="brokered read / ssh over ControlMaster, target 20 ms away", figure="far brokered read",
        baseline="far ssh mux", limit=0.70, at_most=True, stretch=0.55,
    ),
)  # fmt: skip
BULK: Final = (
    Goal(
        id="P8", says="recorded output / ssh -J, same cipher", figure="bulk recorded rate", baseline="bulk jump rate",
        limit=1.0, at_most=False, stretch=1.2,
    ),
    Goal(
        id="P8.defaults", says="recorded output / ssh -J as it comes", figure="bulk recorded rate",
        baseline="bulk jump defaults rate", limit=1.3, at_most=False, stretch=1.7,
    ),
    Goal(
        id="P18.recorded", says="broker's processor, s/GB, recorded", figure="bulk recorded cpu s/GB", baseline="",
        limit=4.5, at_most=True, stretch=3.4,
    ),
)  # fmt: skip
LEGS: Final = (
    Goal(
        id="P7", says="both SSH legs alone / ssh -J, same cipher", figure="bulk legs rate", baseline="bulk jump rate",
        limit=1.15, at_most=False, stretch=1.4,
    ),
    Goal(
        id="P7.direct", says="both SSH legs alone / ssh", figure="bulk legs rate", baseline="bulk direct rate",
        limit=0.5, at_most=False, stretch=0.6,
    ),
    Goal(
        id="P18", says="processor of both legs, s/GB", figure="bulk legs cpu s/GB", baseline="",
        limit=1.7, at_most=True, stretch=1.24,
    ),
)  # fmt: skip
TERMINALS: Final = (
    Goal(
        id="P9", says="recorded output on a terminal / ssh -tt", figure="pty door rate", baseline="pty direct rate",
        limit=0.9, at_most=False, stretch=1.1,
    ),
)  # fmt: skip
TLOG: Final = (
    Goal(
        id="P9.tlog", says="recorded output on a terminal / recorded by tlog-rec", figure="pty door rate",
        baseline="pty tlog rate", limit=2.3, at_most=False, stretch=3.0,
    ),
)  # fmt: skip
"""Only where there is a tlog-rec."""
TRANSFERS: Final = (
    Goal(
        id="P10.get", says="sftp get / over ssh -J, same cipher", figure="sftp get door rate",
        baseline="sftp get jump rate", limit=1.0, at_most=False, stretch=1.2,
    ),
    Goal(
        id="P10.put", says="sftp put / over ssh -J, same cipher", figure="sftp put door rate",
        baseline="sftp put jump rate", limit=1.0, at_most=False, stretch=1.2,
    ),
)  # fmt: skip
KEYS: Final = (
    Goal(
        id="P11", says="a keystroke / over ssh -J", figure="key door us", baseline="key jump us", limit=1.6,
        at_most=True, stretch=1.3,
    ),
    Goal(
        id="P11.added", says="us that the broker adds to a keystroke", figure="key added us", baseline="",
        limit=400, at_most=True, stretch=200,
    ),
)  # fmt: skip
BUSY: Final = (
    Goal(
        id="P12", says="p99 of a keystroke beside a stream / over ssh -J", figure="busy key door p99 us",
        baseline="busy key jump p99 us", limit=2.0, at_most=True, stretch=1.2,
    ),
    Goal(
        id="P12.p50", says="us of a keystroke beside a stream", figure="busy key door us", baseline="",
        limit=2_500, at_most=True, stretch=1_200,
    ),
)  # fmt: skip
COLD: Final = (
    Goal(
        id="P13", says="cold ssh through the broker / over ssh -J, curve25519", figure="cold door",
        baseline="cold jump", limit=0.5, at_most=True, stretch=0.35,
    ),
)  # fmt: skip
MEMORY: Final = (
    Goal(
        id="P17", says="KiB of an idle session, grant's connection", figure="memory pooled KiB", baseline="",
        limit=80, at_most=True,
    ),
    Goal(
        id="P17.own", says="KiB of an idle session, own connection", figure="memory own KiB", baseline="",
        limit=140, at_most=True,
    ),
    Goal(
        id="P17.grant", says="KiB of a live grant", figure="memory grant KiB", baseline="", limit=1.5, at_most=True,
    ),
)  # fmt: skip
ISSUE: Final = (
    Goal(
        id="P14", says="a certificate for the door / ssh-keygen -s", figure="issue certificate",
        baseline="ssh-keygen -s", limit=0.6, at_most=True, stretch=0.4,
    ),
    Goal(
        id="P14.noop", says="a certificate for the door / a call that does nothing", figure="issue certificate",
        baseline="noop call", limit=2.5, at_most=True, stretch=2.0,
    ),
)  # fmt: skip
ISSUE_RATE: Final = (
    Goal(
        id="P14.rate", says="certificates a second, 64 at once", figure="issue rate", baseline="", limit=1_000,
        at_most=False, stretch=2_000,
    ),
)  # fmt: skip
HEAP: Final = (
    Goal(
        id="P16", says="ms late, p99, 100,000 live grants", figure="heap late p99 ms", baseline="", limit=10,
        at_most=True, stretch=5,
    ),
    Goal(
        id="P16.burst", says="ms until the last of 100,000 in one ms is cut", figure="heap burst ms", baseline="",
        limit=1_500, at_most=True, stretch=600,
    ),
)  # fmt: skip
LATE: Final = (
    Goal(
        id="P16.client", says="ms late at the client, p99, many sessions", figure="client late p99 ms", baseline="",
        limit=25, at_most=True, stretch=10,
    ),
    Goal(
        id="P16.written", says="ms until 1,000 ends of one second are written, p99", figure="written late p99 ms",
        baseline="", limit=1_000, at_most=True,
    ),
    Goal(
        id="P16.start", says="s that so many live grants add to a start", figure="start s", baseline="", limit=5,
        at_most=True,
    ),
    Goal(
        id="P17.live", says="KiB of a live grant, so many of them", figure="live grant KiB", baseline="", limit=1.5,
        at_most=True,
    ),
)  # fmt: skip
FREEZE: Final = (
    Goal(
        id="I61.told", says="s until the last of 200 busy clients knows of a freeze, database paused",
        figure="freeze told last s", baseline="", limit=2, at_most=True,
    ),
    Goal(
        id="I61.target", says="s until the last of their processes is gone", figure="freeze process last s",
        baseline="", limit=2, at_most=True,
    ),
)  # fmt: skip
LEASES: Final = (*ISSUE, *ISSUE_RATE, *HEAP, *LATE, *FREEZE)
ALL: Final = (
    *LATENCY, *RATE, *AT_ONCE, *APPEND, *LEASES, *DISTANT, *COLD, *KEYS, *BUSY, *BULK, *LEGS, *TERMINALS, *TRANSFERS,
    *MEMORY,
)  # fmt: skip
