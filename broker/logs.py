"""Logs: one JSON object a line on standard output, for journald. Values only as keys.

Secrets cannot be rendered (Secret).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_MAX_VALUE = 2_000


def configure(level: str, *, stream: TextIO = sys.stdout) -> None:
    """Once, at the start of a process."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _bounded,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=logging.WARNING,
        stream=stream,
        format='{"level":"%(levelname)s","event":"library.said","logger":"%(name)s"}',
    )


def _bounded(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """No value floods the log; JSON escapes control characters by itself."""
    for key, value in event.items():
        if isinstance(value, str) and len(value) > _MAX_VALUE and key != "exception":
            event[key] = value[:_MAX_VALUE] + "..."
    return event
