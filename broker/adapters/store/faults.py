"""What a database error means, in fixed phrases. Never passes on the database's own text: it may hold rows."""

from __future__ import annotations

import sqlite3
from typing import Final

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from broker.core.errors import StoreFault

READ_ONLY: Final = "the database is read-only"
DISK_FULL: Final = "the database's disk is full"
LOCKED: Final = "the database is locked"
BUSY: Final = "the database has too much to do"
GONE: Final = "the database is gone"
BROKEN: Final = "the database's disk failed"
DAMAGED: Final = "the database file is damaged"
REFUSED: Final = "the database refused the row"
CONFLICT: Final = "the database kept finding conflicts"
FAILED: Final = "the database could not do it"
CLOSED: Final = "the store is closed"
UNKNOWN: Final = "the database was lost while committing: whether it is written is not known"
"""The one phrase after which a caller must look again; the others mean that nothing was written."""

_SQLITE: Final = {
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_FULL: DISK_FULL,
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_LOCKED: LOCKED,
    sqlite3.SQLITE_CANTOPEN: GONE,
    sqlite3.SQLITE_IOERR: BROKEN,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
    sqlite3.SQLITE_CONSTRAINT: REFUSED,
    sqlite3.SQLITE_MISMATCH: REFUSED,
    sqlite3.SQLITE_TOOBIG: REFUSED,
}
_POSTGRES: Final = {
    "25006": READ_ONLY,
    "42501": REFUSED,  # row security, or a right that the broker's role does not have
    "53100": DISK_FULL,
    "53300": BUSY,
    "55P03": LOCKED,
    "57014": LOCKED,
    "40001": CONFLICT,
    "40P01": CONFLICT,
}
_POSTGRES_CLASSES: Final = {"08": GONE, "57": GONE, "22": REFUSED, "23": REFUSED, "53": BUSY, "58": BROKEN}


def fault_of(error: BaseException) -> StoreFault:
    """The fault that callers get for what the database or its driver raised; `error` becomes its cause."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    fault = StoreFault(_phrase(cause))
    fault.__cause__ = error
    return fault


def sqlstate(error: BaseException) -> str:
    """PostgreSQL's five characters, or empty where it said none."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return (cause.sqlstate or "") if isinstance(cause, psycopg.Error) else ""


def _phrase(cause: BaseException) -> str:
    if isinstance(cause, sqlite3.Error):
        # the low byte is the primary code, the rest says more than a phrase needs
        return _SQLITE.get(getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF, FAILED)
    if isinstance(cause, PoolTimeout):
        return BUSY
    state = sqlstate(cause)
    if isinstance(cause, psycopg.OperationalError) and not state:
        return GONE  # no answer at all: refused, reset, or the server ended
    return _POSTGRES.get(state) or _POSTGRES_CLASSES.get(state[:2], FAILED)
