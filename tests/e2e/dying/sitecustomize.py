"""Python imports this by itself at its start, where this folder is on PYTHONPATH: nothing of it is in the product.

DIE_AT names the point. There the process kills itself as SIGKILL does: no handler, no flush, no farewell to anybody.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

POINT = os.environ.get("DIE_AT", "")


def die() -> None:
    """At once."""
    os.kill(os.getpid(), signal.SIGKILL)


def before(real: Callable[..., Any]) -> Callable[..., Any]:
    """Dies where the real one would begin."""

    async def dead(*_: object, **__: object) -> None:
        die()

    return dead


def after(real: Callable[..., Any]) -> Callable[..., Any]:
    """Dies where the real one has ended, and nobody heard of it yet."""

    async def dead(*args: object, **given: object) -> None:
        await real(*args, **given)
        die()

    return dead


def in_the_transaction(real: Callable[..., Any]) -> Callable[..., Any]:
    """Dies with everything written and nothing committed."""

    def dead(*args: object, **given: object) -> None:
        real(*args, **given)
        die()

    return dead


def arm() -> None:
    """Called once `broker.app` is there, and with it everything that it is made of."""
    from broker.adapters.issuers import postgres, postgres_ending  # noqa: PLC0415
    from broker.service.issue_outside import OutsideIssueService  # noqa: PLC0415

    places: dict[str, tuple[Any, str, Callable[..., Any]]] = {
        "intent": (OutsideIssueService, "_planned", in_the_transaction),
        "create": (postgres.PostgresIssuer, "create", before),
        "commit": (postgres, "prove", after),
        "issued": (postgres.PostgresIssuer, "create", after),
        "ending": (postgres_ending, "_clear", before),
    }
    owner, name, how = places[POINT]
    setattr(owner, name, how(getattr(owner, name)))


class _Arming(importlib.abc.MetaPathFinder):
    """Lets `broker.app` be imported as ever, and arms behind it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "broker.app":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        real = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            real(module)
            arm()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if POINT:
    sys.meta_path.insert(0, _Arming())
