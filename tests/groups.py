"""Which tests run on one worker, one after another: those of a module that says `xdist_group`, for what they share.

pytest-xdist puts the group into a test's id, and pytest since 9.2 does not let it: each worker then built the same
house, and ran half of the module in it. So the group is read from the module itself.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadGroupScheduling

_GROUP = re.compile(r'pytest\.mark\.xdist_group\("([^"]+)"\)')


@cache
def group_of(module: str) -> str | None:
    """The group that a module's source names; None where its tests may run anywhere."""
    found = _GROUP.search(Path(module).read_text(encoding="utf-8"))
    return found[1] if found else None


class ByModule(LoadGroupScheduling):  # type: ignore[misc]  # it ships no types
    """Hands out whole groups, and single tests of all others."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.partition("::")[0]) or nodeid
