"""What deciding costs: `python -m bench.policies`. The shipped policy, and a thousand beside it; new questions and old.

A new question differs in its second, as one question of a session does from the next. Of the thousand, each is a plain
permit of another team's for one of the five actions, which is what large sets are made of; forbids are never left out
by facts, so a thousand of those for one action are all asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
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


def questions(*, new: bool) -> Iterator[ActionQuery]:
    """As many as are measured."""
    for n in range(ROUNDS):
        yield replace(_QUERY, now=_QUERY.now + timedelta(seconds=n)) if new else _QUERY


def microseconds(decide: Callable[[ActionQuery], object], *, new: bool) -> tuple[float, float]:
    """Median and 99th percentile of one decision, in processor time: another program's load is not the engine's."""
    took = []
    for query in questions(new=new):
        began = time.thread_time_ns()
        decide(query)
        took.append((time.thread_time_ns() - began) / 1e3)
    took.sort()
    return took[len(took) // 2], took[int(len(took) * 0.99)]


def main() -> None:
    """Print the table."""
    print(f"{'policies':<28}{'load ms':>9}  {'new p50':>8}{'p99 us':>8}  {'old p50':>8}{'p99 us':>8}")
    for name, files in sources().items():
        began = time.perf_counter()
        policies = PolicySet.load(files)
        load = (time.perf_counter() - began) * 1e3
        policies.decide(_QUERY)
        new, old = (microseconds(policies.decide, new=each) for each in (True, False))
        print(f"{name:<28}{load:>9.0f}  {new[0]:>8.0f}{new[1]:>8.0f}  {old[0]:>8.0f}{old[1]:>8.0f}")


if __name__ == "__main__":
    main()
