"""Logs: one JSON object a line, whatever is in the values, and no secret in any (I-27, I-36)."""

from __future__ import annotations

import errno
import io
import json
import logging
import math
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from broker.core.secret import Secret
from broker.logs import configure

CANARY = "canary-51ce"
ESC = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\u202egnp.exe\x9b31m\r\n\x7f\u2028"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What a process says at level info; the process's own configuration comes back afterwards."""
    before, handlers = structlog.get_config(), logging.root.handlers[:]
    logging.root.handlers.clear()
    try:
        written = io.StringIO()
        configure("info", stream=written)
        yield written
    finally:
        structlog.configure(**before)
        logging.root.handlers[:] = handlers


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Every line, parsed strictly: NaN is no JSON."""
    return [json.loads(line, parse_constant=pytest.fail) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_object_with_what_was_said(stream: io.StringIO) -> None:
    """Event, level, UTC time, values as keys."""
    structlog.get_logger().info("grant.issued", grant_id="gr_1", ttl_s=900)
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "grant.issued", "level": "info", "grant_id": "gr_1", "ttl_s": 900}


def test_control_characters_never_come_out_raw(stream: io.StringIO) -> None:
    """A target that names a file with escapes owns no operator's terminal, and no line of its own in the log."""
    structlog.get_logger().warning("x", **{ESC: ESC}, nested=[{"k": ESC}], raw=ESC.encode())
    text = stream.getvalue()
    assert len(text.splitlines()) == text.count("\n") == 1
    assert text.rstrip("\n").isascii()
    assert text.rstrip("\n").isprintable()
    assert lines(stream)[0][ESC] == ESC


@given(st.dictionaries(st.text(max_size=10), st.text(max_size=30) | st.binary(max_size=9) | st.floats(), max_size=4))
def test_any_value_is_one_line(values: dict[str, Any]) -> None:
    """Lone surrogates, NaN and bytes too: a log line never raises."""
    written = io.StringIO()
    before = structlog.get_config()
    try:
        configure("debug", stream=written)
        structlog.get_logger().debug("x", **{f"v_{key}": value for key, value in values.items()})
    finally:
        structlog.configure(**before)
    assert len(lines(written)) == 1
    assert written.getvalue().rstrip("\n").isprintable()


def test_a_secret_shows_as_stars(stream: io.StringIO) -> None:
    """As a value, inside others, and in an exception's text."""
    secret = Secret(CANARY)
    log = structlog.get_logger()
    log.info("x", secret=secret, inside=[secret, {"k": secret}])
    try:
        raise ValueError(f"could not use {secret}")
    except ValueError:
        log.exception("x")
    assert CANARY not in stream.getvalue()
    assert stream.getvalue().count("***") >= 4


def test_long_values_are_cut(stream: io.StringIO) -> None:
    """No value floods the log, wherever it stands; what is cut says so."""
    structlog.get_logger().info("e" * 10_000, text="x" * 100_000, raw=b"x" * 100_000, many=["y" * 100_000] * 50)
    assert len(stream.getvalue()) < 60_000
    (line,) = lines(stream)
    assert line["many"][19:] == ["y" * 2_000 + "...", "..."]
    assert line["text"] == "x" * 2_000 + "..."


class Word(StrEnum):
    """A text that is more than one."""

    LONG = "w" * 3_000


TEXTS = st.builds(lambda text, times: text * times, st.text(max_size=3), st.sampled_from([1, 1_000, 2_000, 30_000]))
VALUES = TEXTS | st.integers() | st.booleans() | st.none() | st.floats() | st.sampled_from(Word)
KEYS = st.sampled_from(["exception", "method", "k" * 3_000, "\x1b"])


@given(st.dictionaries(KEYS, VALUES))
def test_short_texts_take_the_same_way_as_all_others(values: dict[str, Any]) -> None:
    """What is written is, byte for byte, JSON of the bounded values, then of event, level and time."""
    written = io.StringIO()
    before = structlog.get_config()
    try:
        configure("info", stream=written)
        structlog.get_logger().info("rpc.served", **values)
    finally:
        structlog.configure(**before)
    said = {_cut(key): _bounded(key, value) for key, value in values.items()}
    said |= {"event": "rpc.served", "level": "info", "timestamp": lines(written)[0]["timestamp"]}
    assert written.getvalue() == json.dumps(said) + "\n"


def _bounded(key: str, value: object) -> object:
    if key == "exception" and isinstance(value, str):
        return value if len(value) <= 20_000 else f"{value[:10_000]}\n...\n{value[-10_000:]}"
    if isinstance(value, str):
        return _cut(value)
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _cut(text: str) -> str:
    return text if len(text) <= 2_000 else text[:2_000] + "..."


def test_a_traceback_is_inside_its_line(stream: io.StringIO) -> None:
    """Readable, in one line, and bounded: a recursion does not flood the log either."""
    try:
        _deep(200)
    except RuntimeError:
        structlog.get_logger().exception("x.failed", tenant="t1")
    (line,) = lines(stream)
    assert line["level"] == "error"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("RuntimeError: at the bottom of it")
    assert len(line["exception"]) < 25_000


def _deep(levels: int) -> None:
    if not levels:
        raise RuntimeError("at the bottom of it")
    _alternate(levels - 1)


def _alternate(levels: int) -> None:
    _deep(levels)


def test_libraries_speak_json_too(stream: io.StringIO) -> None:
    """asyncio and gRPC log in their own ways; their warnings become lines (asyncssh is silent: it quotes its peers)."""
    logging.getLogger("grpc").warning('said "%s"\n%s', ESC, "x" * 10_000)
    try:
        raise OSError("disk")
    except OSError:
        logging.getLogger("asyncio").exception("Task exception was never retrieved")
    logging.getLogger("grpc").info("not this")
    one, two = lines(stream)
    assert (one["event"], one["logger"], one["level"]) == ("library.said", "grpc", "warning")
    assert one["message"].startswith(f'said "{ESC}"')
    assert len(one["message"]) < 2_010
    assert two["exception"].endswith("OSError: disk")
    assert stream.getvalue().isascii()


class Full(io.StringIO):
    """A file on a disk that is full, as long as it says so."""

    full = False

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_a_line_that_cannot_be_written_ends_nothing() -> None:
    """I-61: a cut goes on whatever becomes of its line. How many were lost is said as soon as one can be written."""
    written, before, handlers = Full(), structlog.get_config(), logging.root.handlers[:]
    logging.root.handlers.clear()
    try:
        configure("info", stream=written)
        written.full = True
        structlog.get_logger().error("session.cut_late")
        logging.getLogger("grpc").warning("odd")
        written.full = False
        structlog.get_logger().info("grant.issued")
        structlog.get_logger().info("grant.ended")
    finally:
        structlog.configure(**before)
        logging.root.handlers[:] = handlers
    said = [json.loads(line) for line in written.getvalue().splitlines() if line]
    assert [line["event"] for line in said] == ["log.lines_lost", "grant.issued", "grant.ended"]
    assert (said[0]["at_most"], said[0]["level"]) == (2, "error")


def test_a_closed_stream_ends_nothing_either() -> None:
    """Whoever read the lines is gone for good."""
    before, written = structlog.get_config(), io.StringIO()
    try:
        configure("info", stream=written)
        written.close()
        structlog.get_logger().info("x")
    finally:
        structlog.configure(**before)
    assert written.closed


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_kept(level: str, count: int) -> None:
    """What is below it is not written."""
    written = io.StringIO()
    before = structlog.get_config()
    try:
        configure(level, stream=written)
        log = structlog.get_logger()
        for say in (log.debug, log.info, log.warning, log.error):
            say("x")
    finally:
        structlog.configure(**before)
    assert len(lines(written)) == count
