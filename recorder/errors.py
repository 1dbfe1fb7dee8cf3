"""The two ways in which this package says no. Never raised for anything that a caller may ignore.

`Invalid` blames bytes that somebody gave us (a recording, a proof, a note, an entry). `RecorderFailed` blames our own
recorder (disk full, fsync too late, thread gone): whoever sees it must end the session, there is no other answer.
"""

from __future__ import annotations


class Invalid(Exception):
    """Bytes that are not what they claim to be. The message names the row or frame that is wrong."""


class ProofError(Invalid):
    """A Merkle proof, leaf, or stored frontier that does not hold."""


class NoteError(Invalid):
    """A signed note, checkpoint or verifier key that is malformed or not signed by a known key."""


class EntryError(Invalid):
    """An audit entry or disclosure that breaks the schema or is not in canonical form."""


class RecordingInvalid(Invalid):
    """A recording whose bytes break the GREC v1 format, its key commitment, or an audited root."""


class RecorderFailed(Exception):
    """The recorder can no longer promise that accepted bytes are kept (I-30): cut the session, refuse new ones."""


class ExportTooLong(Exception):
    """A recording that this form of export cannot hold; another form can."""
