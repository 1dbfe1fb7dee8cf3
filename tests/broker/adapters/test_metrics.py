"""Metrics (I-45): every name that the code records is declared with exactly its labels, and scraping hurts nobody."""

from __future__ import annotations

import ast
import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain_text
from structlog.testing import capture_logs

import broker
from broker.adapters import metrics
from broker.adapters.metrics import COUNTERS, GAUGES, HISTOGRAMS, PrometheusMeter, serve_metrics
from tests.pace import Since

SOURCES: Final = Path(broker.__file__).parent
LABELS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "count": {name: labels for name, (_, labels) in COUNTERS.items()},
    "observe": {name: labels for name, (_, labels, _) in HISTOGRAMS.items()},
    "gauge": {name: labels for name, (_, labels) in GAUGES.items()},
}
DECLARED: Final = [(how, name) for how, names in LABELS.items() for name in names]
BOUNDED: Final = {
    "decision", "verdict", "command_class", "state", "reason", "feature", "step", "method", "code", "version",
    "permission", "kind", "purpose", "stuck", "scope",
}  # fmt: skip
"""Every one is a word of ours out of a fixed set: none names a tenant, an identity, a target or an id."""


def recorded() -> Iterator[tuple[str, str, str | None, set[str | None]]]:
    """(place, count | observe | gauge, name or None where it is no literal, labels) of each call on a meter."""
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LABELS):
                continue
            if "meter" not in ast.unparse(node.func.value):
                continue
            first = node.args[0]
            name = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
            place = f"{path.relative_to(SOURCES)}:{node.lineno}"
            yield place, node.func.attr, name, {keyword.arg for keyword in node.keywords}


def test_everything_recorded_is_declared_with_its_labels() -> None:
    """A misspelt name would be a log line and a series that is never there."""
    calls = list(recorded())
    assert len(calls) > 20
    for place, how, name, labels in calls:
        if name is None:
            assert place.startswith("jobs/gauges.py"), f"{place}: say the name where it is recorded"
            continue
        assert name in LABELS[how], place
        assert labels == set(LABELS[how][name]), place


def test_everything_declared_is_recorded() -> None:
    """No dashboard waits for a series that nobody writes; the loop of gauges.py names its three by a tuple."""
    named: set[tuple[str, object]] = {(how, name) for _, how, name, _ in recorded()}
    in_gauges = ast.walk(ast.parse((SOURCES / "jobs/gauges.py").read_text()))
    named |= {("gauge", node.value) for node in in_gauges if isinstance(node, ast.Constant)}
    assert set(DECLARED) <= named


def test_labels_are_words_of_a_fixed_set() -> None:
    """I-45: no label is called after something that has no bound, and none has more than two."""
    for how, name in DECLARED:
        assert set(LABELS[how][name]) <= BOUNDED
        assert len(LABELS[how][name]) <= 2


def test_names_say_what_they_are() -> None:
    """Style rule 22: words of the domain, a unit where there is one."""
    for how, name in DECLARED:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name)
        assert not name.endswith("_total")
        if how == "observe":
            assert name.endswith(("_seconds", "_entries"))


@pytest.mark.parametrize(("how", "name"), DECLARED)
def test_what_is_recorded_is_scraped(how: str, name: str) -> None:
    """Under its name on the wire, with `grantd_` in front."""
    meter = PrometheusMeter()
    labels = dict.fromkeys(LABELS[how][name], "word")
    if how == "count":
        meter.count(name, **labels)
    elif how == "observe":
        meter.observe(name, 0.25, **labels)
    else:
        meter.gauge(name, 0.25, **labels)
    suffix = {"count": "_total", "observe": "_count", "gauge": ""}[how]
    found = meter.registry.get_sample_value(f"grantd_{name}{suffix}", labels)
    assert found == {"count": 1.0, "observe": 1.0, "gauge": 0.25}[how]


@given(
    st.text(max_size=20) | st.sampled_from([name for _, name in DECLARED]),
    st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
)
def test_nothing_recorded_wrongly_fails_a_request(name: str, labels: dict[str, str]) -> None:
    """A mistake is a log line, never an error of what it measures."""
    labels = {key: value for key, value in labels.items() if key not in ("self", "name", "value")}
    with capture_logs():
        METER.count(name, **labels)
        METER.observe(name, 1.0, **labels)
        METER.gauge(name, 1.0, **labels)


METER: Final = PrometheusMeter()


def test_a_mistake_is_said_in_the_log() -> None:
    """So that it is found."""
    with capture_logs() as logs:
        METER.count("no_such_metric")
        METER.count("requests", wrong="label")
        METER.count("requests")
    assert [entry["event"] for entry in logs] == ["metric.failed"] * 3


# ---- the endpoint
@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Where a meter with one counter is served."""
    meter = PrometheusMeter()
    meter.count("requests", decision="approved")
    server = await serve_metrics(meter, host="127.0.0.1", port=0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def ask(port: int, raw: bytes, *, eof: bool = False) -> tuple[str, dict[str, str], str]:
    """Status line, fields and body of the answer to these very bytes; all empty where the connection was only cut."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        if eof:
            writer.write_eof()
        async with asyncio.timeout(20):
            answer = (await reader.read()).decode()
    except ConnectionError:
        answer = ""
    finally:
        writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    status, *fields = head.split("\r\n")
    return status, dict(field.split(": ", 1) for field in fields if field), body


def get(accept: str = "", path: str = "/metrics") -> bytes:
    """A scraper's request."""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{f'Accept: {accept}' if accept else 'X: y'}\r\n\r\n".encode()


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text; version=1.0.0; q=0.9, */*;q=0.1", "application/openmetrics-text"]
)
async def test_a_scraper_that_asks_for_openmetrics_gets_it(port: int, accept: str) -> None:
    """Complete, parseable, with its end marked."""
    status, fields, body = await ask(port, get(accept))
    assert status == "HTTP/1.1 200 OK"
    assert fields["Content-Type"].startswith("application/openmetrics-text; version=")
    assert int(fields["Content-Length"]) == len(body.encode())
    assert body.endswith("# EOF\n")
    families = {family.name: family for family in openmetrics(body)}  # type: ignore[no-untyped-call]  # as it is
    assert {f"grantd_{name}" for _, name in DECLARED} <= set(families)
    assert families["grantd_requests"].samples[0].labels == {"decision": "approved"}
    assert "_created" not in body


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain", "text/html"])
async def test_others_get_the_text_format(port: int, accept: str) -> None:
    """A browser, or curl."""
    status, fields, body = await ask(port, get(accept))
    assert status == "HTTP/1.1 200 OK"
    assert fields["Content-Type"].startswith("text/plain")
    assert 'grantd_requests_total{decision="approved"} 1.0' in body
    families = plain_text(body)
    assert {family.name for family in families} >= {"grantd_requests", "grantd_sessions_active"}


@pytest.mark.parametrize(
    "request_line",
    [
        "GET / HTTP/1.1", "GET /metrics/ HTTP/1.1", "GET /metrics?x=1 HTTP/1.1", "GET /../metrics HTTP/1.1",
        "POST /metrics HTTP/1.1", "HEAD /metrics HTTP/1.1", "get /metrics HTTP/1.1", "GET http://x/metrics HTTP/1.1",
        "CONNECT x:22 HTTP/1.1", "PRI * HTTP/2.0", "",
    ],
)  # fmt: skip
async def test_everything_else_is_not_found(port: int, request_line: str) -> None:
    """One path, one method; nothing of the request comes back."""
    assert await ask(port, f"{request_line}\r\nHost: x\r\n\r\n".encode()) == (
        "HTTP/1.1 404 Not Found", {"Content-Length": "0", "Connection": "close"}, "",
    )  # fmt: skip


@pytest.mark.parametrize("raw", [b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 9_000, b"x" * 100_000, b"\0\xff" * 3, b""])
async def test_garbage_and_long_heads_are_cut(port: int, raw: bytes) -> None:
    """No answer, no memory, and the next scraper is served (I-60)."""
    status, _, _ = await ask(port, raw, eof=True)
    assert status in ("", "HTTP/1.1 404 Not Found")
    assert (await ask(port, get()))[0] == "HTTP/1.1 200 OK"


async def test_a_slow_client_is_cut(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that never ends its request, and one that never reads its answer, hold a connection for a moment only."""
    monkeypatch.setattr(metrics, "SCRAPE_SECONDS", 0.2)
    since = Since()
    assert (await ask(port, b"GET /metrics HTTP/1.1\r\n"))[0] == ""
    assert since.wall_s() > 0.15
    assert since.s() < 5.0


async def test_many_connections_at_once_are_bounded(port: int) -> None:
    """Whoever holds connections open takes no more than a fixed number of them (I-60); after they go, it serves."""
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(metrics.MAX_SCRAPERS + 5)]
    await asyncio.sleep(0.05)
    assert sum(reader.at_eof() for reader, _ in held) == 5
    for _, writer in held:
        writer.close()
    await asyncio.sleep(0.05)
    assert (await ask(port, get()))[0] == "HTTP/1.1 200 OK"


async def test_a_broken_scrape_is_no_ones_traceback(port: int, caplog: pytest.LogCaptureFixture) -> None:
    """asyncio's own log stays silent, whatever clients do."""
    with caplog.at_level(logging.WARNING):
        for raw in (b"", b"GET", b"x" * 50_000):
            await ask(port, raw, eof=True)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get())
        writer.transport.abort()
        await asyncio.sleep(0.05)
    assert [record for record in caplog.records if record.name == "asyncio" and record.levelno > logging.WARNING] == []
