"""What the SSH door is handed: whom it asks, and what runs sessions. One where the broker runs, one in each worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from broker.service.control import Control
from broker.service.run import RunService
from broker.service.shell_run import ShellRun
from broker.service.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Both halves, as a door sees them."""

    control: Control
    run: RunService
    shells: ShellRun

    @classmethod
    def at(cls, site: Site) -> Self:
        """All of it over one site."""
        return cls(control=site.control, run=RunService(site), shells=ShellRun(site))
