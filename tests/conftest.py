"""What holds for every test: the peers that markers ask for, and how hard properties are tried.

Fixtures that start real programs live beside what they start (peers_postgres, peers_sshd) and are only named here.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import Scheduling

from tests import peers
from tests.groups import ByModule
from tests.peers_postgres import postgres_cluster, postgres_database
from tests.peers_shop import shop
from tests.peers_sshd import sshd_factory

__all__ = ["postgres_cluster", "postgres_database", "shop", "sshd_factory"]

# whoever runs the tests may have a helper of their own: grantctl must not find it
os.environ["GRANTCTL_AGENTD"] = "off"

# Whoever started the tests in the background has SIGINT ignored, and every program that they start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# marker -> the programs that a test with it cannot do without
MARKED: Final = {
    "postgres": ("postgres", "initdb"),
    "sshd": ("sshd", "ssh", "ssh-keygen"),
    "terminal": ("tmux",),
    "browser": ("chromium-headless-shell",),
}

REAL_S: Final = 180
"""Seconds that a test with real programs may take, its set-up included."""

COUNTED: Final = tuple(
    Path(__file__).parent / name
    for name in ("policy", "recorder", "broker/core", "broker/service", "broker/signer", "broker/adapters/audit_log")
)
"""Whose tests are counted for the coverage floors: the pure packages' own, and their nearest callers'."""

# No deadline: the machine is shared, and a slow example is not a wrong one.
settings.register_profile("quick", max_examples=60, deadline=None)
settings.register_profile(
    "fuzz", max_examples=2000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("quick")


def pytest_configure() -> None:
    """Refuse a misspelt GRANTD_REQUIRE before a test runs."""
    try:
        peers.required()
    except ValueError as wrong:
        raise pytest.UsageError(str(wrong)) from wrong


def pytest_report_header() -> str:
    """Say in each run's head what it had to talk to."""
    return peers.describe()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    """With --dist loadgroup: see tests/groups.py."""
    return ByModule(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever talks to real programs may take longer than the rest: a busy machine starts them slowly."""
    for item in items:
        real = any(item.get_closest_marker(marker) for marker in ("e2e", *MARKED))
        if real and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(REAL_S))


def pytest_collection_finish() -> None:
    """Thousands of collected tests live to the end: the garbage collector need not look at them again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Counting makes everything half as slow again, so it rests while a test runs that is not COUNTED."""
    counting = item.config.pluginmanager.getplugin("_cov")
    counter = counting.cov_controller if counting is not None else None
    if counter is None or any(item.path.is_relative_to(folder) for folder in COUNTED):
        return (yield)
    counter.pause()
    try:
        return (yield)
    finally:
        counter.resume()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A marker asks for its programs before any fixture starts one."""
    for marker, programs in MARKED.items():
        if item.get_closest_marker(marker) is not None:
            for program in programs:
                peers.require(program)
