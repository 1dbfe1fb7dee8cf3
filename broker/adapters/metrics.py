"""What an operator sees: every metric of the product, declared once with its labels and unit.

Served as OpenMetrics (I-45).

No label ever carries a tenant, a name or an id. Recording a metric never fails a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from broker.core.errors import Fault

log = structlog.get_logger()
M = TypeVar("M", Counter, Histogram, Gauge)
SCRAPE_SECONDS = 5.0
MAX_SCRAPERS = 8
_MAX_REQUEST_BYTES = 8_192
_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SLOW = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)

COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "requests": ("Access requests by what policy said.", ("decision",)),
        "approvals": ("Decisions of people.", ("verdict",)),
        "actions": ("Proposed commands by class and what became of the proposal.", ("command_class", "state")),
        "executions": ("Commands that ran, by class and how they ended.", ("command_class", "state")),
        "grants_ended": ("Grants that ended, by reason.", ("reason",)),
        "revocations": ("Revocations of many grants at once, by what they named.", ("scope",)),
        "break_glass_used": ("Sealed credentials that were opened.", ()),
        "freezes": ("Pulls of the kill switch.", ()),
        "revocation_failures": ("Tries to take access away that failed, by whether the grant is stuck.", ("stuck",)),
        "credential_leftovers": ("Credentials found on targets that nothing said should be there.", ("kind",)),
        "credential_takebacks_failed": ("Half-made credentials that could not be taken back at once.", ("kind",)),
        "revocation_list_failures": ("Revocation lists that could not be brought to their target.", ()),
        "watches": ("Live sessions that somebody watched, by how the watching ended.", ("reason",)),
        "features_refused": ("SSH features that were asked for and refused.", ("feature",)),
        "connections_refused": ("SSH connections that were not admitted.", ("reason",)),
        "permissions_refused": ("Calls without the permission they need.", ("permission",)),
        "signer_restarts": ("Times the embedded signer ended by itself and another one was started.", ()),
        "worker_restarts": ("Times a data worker ended by itself, or was ended, and another one was started.", ()),
        "audit_failures": ("Steps of the audit log that failed and are tried again.", ("step",)),
        "audit_batches": ("Batches of entries that were given their places.", ()),
        "rpc_requests": ("gRPC calls.", ("method", "code")),
        "vault_rows_moved": ("Sealed rows that were moved to a newer tenant key.", ("purpose",)),
    }
)
HISTOGRAMS: Mapping[str, tuple[str, tuple[str, ...], tuple[float, ...]]] = MappingProxyType(
    {
        "approval_wait_seconds": ("How long a decision by people took.", (), _SLOW),
        "execution_duration_seconds": ("How long commands ran.", ("command_class",), (*_FAST, 60.0, 600.0)),
        "rpc_duration_seconds": ("How long gRPC calls took.", ("method",), _FAST),
        "audit_batch_entries": ("Entries in one batch.", (), (1, 4, 16, 64, 256, 1024, 4096)),
        "revocation_duration_seconds": ("From the decision to end something to its sessions being closed.", (), _FAST),
        "revocation_lateness_seconds": ("How late a grant was ended after its end.", (), _FAST),
    }
)
GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "grants_active": ("Grants in use or waiting for their first use.", ()),
        "grants_stuck": ("Grants whose access could not be taken away yet.", ()),
        "sessions_active": ("Sessions that run now.", ()),
        "sessions_watched": ("Sessions that run now and that somebody watches.", ()),
        "sessions_held": ("Sessions that run now and whose input is held: paused, or not watched as they must be.", ()),
        "break_glass_unreviewed": ("Uses of sealed credentials that no owner looked at yet.", ()),
        "approvals_pending": ("Requests and actions that wait for a person.", ()),
        "audit_lag_seconds": ("Age of the oldest audit entry that is not sequenced yet.", ()),
        "audit_unsigned_seconds": ("Age of the oldest entry that no signed head covers yet.", ()),
        "audit_broken_logs": ("Logs that do not continue their last signed head: they refuse grants.", ()),
        "recorder_lag_seconds": ("Age of the oldest recorded event that is not durable yet.", ()),
        "vault_keys_behind": ("Purposes of tenants whose older keys still seal something.", ()),
        "signer_journal_broken": ("1 where the signer's journal does not continue the head kept of it, else 0.", ()),
        "build_info": ("Version of the broker.", ("version",)),
        "memory_locked": (
            "1 where all of the broker's memory is kept out of swap, 0 where the limit does not allow it.",
            (),
        ),
        "ssh_fast_path": ("1 where SSH packets go the quick way, 0 where asyncssh's own.", ()),
    }
)


class CannotServe(Fault):
    """The metrics have no address: the daemon does not start unseen."""


class PrometheusMeter:
    """One registry of its own. Names are those of the tables above; `grantd_` stands before each on the wire."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client types all but this
        self.registry = made = CollectorRegistry()
        self._counters = {n: Counter(f"grantd_{n}", t, ls, registry=made) for n, (t, ls) in COUNTERS.items()}
        self._histograms = {
            n: Histogram(f"grantd_{n}", t, ls, registry=made, buckets=bs) for n, (t, ls, bs) in HISTOGRAMS.items()
        }
        self._gauges = {n: Gauge(f"grantd_{n}", t, ls, registry=made) for n, (t, ls) in GAUGES.items()}

    # A metric never fails what it measures: a mistake in its name or labels is a log line.
    def count(self, name: str, **labels: str) -> None:
        try:
            _of(self._counters[name], labels).inc()
        except (KeyError, ValueError) as error:
            _failed(name, error)

    def observe(self, name: str, value: float, **labels: str) -> None:
        try:
            _of(self._histograms[name], labels).observe(value)
        except (KeyError, ValueError) as error:
            _failed(name, error)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        try:
            _of(self._gauges[name], labels).set(value)
        except (KeyError, ValueError) as error:
            _failed(name, error)


def _of(metric: M, labels: Mapping[str, str]) -> M:
    """The series of these labels."""
    return metric.labels(**labels) if labels else metric


def _failed(name: str, error: Exception) -> None:
    log.warning("metric.failed", metric=name, cause=repr(error))


async def serve_metrics(meter: PrometheusMeter, *, host: str, port: int) -> asyncio.Server:
    """GET /metrics for a scraper on its own address; everything else is 404.

    No other path, no keep-alive, no body read; at most MAX_SCRAPERS at a time, each for SCRAPE_SECONDS.

    Raises:
        CannotServe: the address is taken or cannot be bound.
    """
    slots = asyncio.Semaphore(MAX_SCRAPERS)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if slots.locked():
            writer.close()
            return
        async with slots:
            await _answer(meter, reader, writer)

    try:
        return await asyncio.start_server(answer, host, port, limit=_MAX_REQUEST_BYTES)
    except OSError as error:
        raise CannotServe(f"cannot listen on {host}:{port} for metrics: {error.strerror or error}") from error


async def _answer(meter: PrometheusMeter, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(SCRAPE_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(_response(meter, head))
            await writer.drain()
            writer.write_eof()
            await reader.read(1)  # the scraper's end: it has taken what was still on its way
    except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        log.debug("metrics.scrape_failed")
        writer.transport.abort()
    finally:
        writer.close()


def _response(meter: PrometheusMeter, head: bytes) -> bytes:
    lines = head.decode("latin-1").split("\r\n")
    if lines[0].split(" ")[:2] != ["GET", "/metrics"]:
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    accept = next((line.partition(":")[2].strip() for line in lines if line.lower().startswith("accept:")), "")
    encoder, content_type = choose_encoder(accept)
    body = encoder(meter.registry)
    fields = f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close"
    return f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n".encode() + body
