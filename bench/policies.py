"""What deciding costs: `python -m bench.policies`. The shipped policy, and a thousand beside it; new questions and old.

A question was never asked before (of that principal, target and command), was asked a second ago, or is the same
again. Of the thousand, each is a plain
permit of another team's for one of the five actions, which is what large sets are made of; forbids are never left out
by facts, so a thousand of those for one action are all asked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from policy.classes import CommandClass, Tier
from policy.decision import ActionQuery, Principal, Resource
from policy.engine import PolicySet, shipped_policy
from policy.reading import ACTIONS

ROUNDS: Final = 2_000
_MANY: Final = 1_000
_QUERY: Final = ActionQuery(
    principal=Principal(kind="agent", id="a", tenant="t", teams=frozenset({"ops"}), role="", owner=""),
    target=Resource(id="w", name="w", tenant="t", tier=Tier.TRUSTED, teams=frozenset({"ops"}), labels={"env": "prod"}),
    login="deploy", command_class=CommandClass.WRITE, opaque=False, egress=False, outlives=False,
    ceiling=CommandClass.EXECUTE, verified=False, flags=frozenset(), now=datetime(2026, 1, 5, tzinfo=UTC),
)  # fmt: skip


def sources() -> Mapping[str, Mapping[str, str]]:
    """Name of a set to its files."""
    permits = "\n".join(
        f'@id("p{n}") permit (principal, action == Action::"{ACTIONS[n % len(ACTIONS)]}", resource) '
        f'when {{ principal.teams.contains(Team::"t/team{n}") }};'
        for n in range(_MANY)
    )
    forbids = "\n".join(
        f'@id("f{n}") forbid (principal, action == Action::"run", resource) when {{ resource.name == "host{n}" }};'
        for n in range(_MANY)
    )
    shipped = dict(shipped_policy())
    return {
        "shipped": shipped,
        "1,000 permits more": shipped | {"p.cedar": permits},
        "1,000 forbids of run more": shipped | {"f.cedar": forbids},
    }


def microseconds(policies: PolicySet, *, first: bool, later: bool) -> tuple[float, float]:
    """Median and 99th percentile of one decision, in processor time: another program's load is not the engine's."""
    took = []
    for n in range(ROUNDS):
        query = replace(_QUERY, now=_QUERY.now + timedelta(seconds=n)) if later else _QUERY
        if first:
            policies.forget()
        began = time.thread_time_ns()
        policies.decide(query)
        took.append((time.thread_time_ns() - began) / 1e3)
    took.sort()
    return took[len(took) // 2], took[int(len(took) * 0.99)]


def main() -> None:
    """Print the table, in microseconds."""
    columns = {"first": (True, False), "later": (False, True), "again": (False, False)}
    print(f"{'policies':<28}{'load ms':>9}" + "".join(f"{f'{name} p50':>12}{'p99':>6}" for name in columns))
    for name, files in sources().items():
        began = time.perf_counter()
        policies = PolicySet.load(files)
        load = (time.perf_counter() - began) * 1e3
        policies.decide(_QUERY)
        took = [microseconds(policies, first=first, later=later) for first, later in columns.values()]
        print(f"{name:<28}{load:>9.0f}" + "".join(f"{p50:>12.0f}{p99:>6.0f}" for p50, p99 in took))


if __name__ == "__main__":
    main()
