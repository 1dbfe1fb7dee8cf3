"""`grantd policy simulate` and `explain`: what the broker's own database says, read beside a running broker.

Nothing is written, and no key is opened: the commands need the settings and the rights of the broker's user.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from broker.cli.options import CONFIG, OUTPUT, TENANT
from broker.cli.plainly import escaped, plainly, quiet
from broker.cli.policy import loaded, sources_of

if TYPE_CHECKING:
    from broker.adapters.store.store import SqlStore
    from broker.core.ids import TenantId
    from broker.service.explain import Decided
    from broker.service.replay import Answer
    from broker.service.simulate import Simulation
    from policy.reading import Rule

T = TypeVar("T")
_DAYS, _AT_MOST = 7, 100_000
_MAX_DAYS = 366
_TODAY = "As of today, for they are not recorded: teams, role, owner of who asked; name, teams, labels of targets."


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--days", type=click.IntRange(1, _MAX_DAYS), default=_DAYS, show_default=True, help="how far back")
@click.option("--at-most", type=click.IntRange(1), default=_AT_MOST, show_default=True, help="actions to replay")
@CONFIG
@TENANT
@OUTPUT
def simulate(directory: Path, days: int, at_most: int, config: Path, tenant: str, output: str) -> None:
    """Replay the last days' actions against the policies of DIRECTORY and those in force; say what would change."""
    quiet()
    with plainly():
        from broker.service.policies import Policies  # noqa: PLC0415
        from broker.service.simulate import replay  # noqa: PLC0415

        rules = loaded(sources_of(directory))
        since = datetime.now(UTC) - timedelta(days=days)

        async def use(store: SqlStore, whose: TenantId) -> Simulation:
            return await replay(store, whose, rules, Policies().in_force, since=since, at_most=at_most)

        seen = _with_store(config, tenant, use)
        if output == "json":
            click.echo(json.dumps(_plain_simulation(seen)))
        else:
            click.echo("\n".join(_lines_of_simulation(seen)))


@click.command()
@click.argument("subject", metavar="ID")
@click.option("--directory", type=click.Path(path_type=Path, exists=True, file_okay=False), help="files to look in")
@CONFIG
@TENANT
@OUTPUT
def explain(subject: str, directory: Path | None, config: Path, tenant: str, output: str) -> None:
    """Explain ID: a policy of those in force (or of --directory) by its @id, or an action by its id (`ac_...`)."""
    quiet()
    with plainly():
        if directory is not None:
            from broker.core.errors import not_found  # noqa: PLC0415

            found: Rule | Decided | None = loaded(sources_of(directory)).policies.rules.get(subject)
            if found is None:
                raise not_found("policy")
        else:
            found = _with_store(config, tenant, lambda store, whose: _explained(store, whose, subject))
        plain = _plain_explanation(found)
        click.echo(json.dumps(plain) if output == "json" else "\n".join(_lines_of_explanation(plain)))


def _with_store(config: Path, tenant: str, use: Callable[[SqlStore, TenantId], Awaitable[T]]) -> T:
    """What `use` gives of the broker's database, which it only reads."""
    import asyncio  # noqa: PLC0415

    from sqlalchemy import Connection  # noqa: PLC0415

    from broker.adapters.store.store import SqlStore  # noqa: PLC0415
    from broker.adapters.store.tx import RowSource  # noqa: PLC0415
    from broker.config import Settings  # noqa: PLC0415
    from broker.core.errors import Fault, not_found  # noqa: PLC0415
    from broker.core.ids import TenantId  # noqa: PLC0415

    settings = Settings.load(config)
    whose = TenantId(tenant or settings.tenant)

    def nothing(_connection: Connection, _tenant: TenantId) -> Any:  # noqa: ANN401  it gives none
        raise Fault("this command opens no key and writes no audit entry")

    async def used() -> T:
        store = await SqlStore.open(settings.store_url, source=RowSource(keys=nothing, audit=nothing))
        try:
            if whose not in await store.tenants():
                raise not_found("tenant")
            return await use(store, whose)
        finally:
            await store.close()

    return asyncio.run(used())


async def _explained(store: SqlStore, whose: TenantId, subject: str) -> Rule | Decided:
    from broker.core.errors import not_found  # noqa: PLC0415
    from broker.core.ids import ActionId  # noqa: PLC0415
    from broker.service.explain import decided, is_action  # noqa: PLC0415
    from broker.service.policies import Policies  # noqa: PLC0415

    policies = Policies()
    if is_action(subject):
        return await decided(store, policies, whose, ActionId(subject), None)
    rules = await store.read(whose, policies.in_force)
    if subject not in rules.policies.rules:
        raise not_found("policy")
    return rules.policies.rules[subject]


# ---- as values, and as lines of them
def _plain_answer(answer: Answer) -> dict[str, object]:
    return {
        "decision": answer.decision,
        "quorum": answer.quorum,
        "roles": sorted(answer.roles),
        "rules": list(answer.rules),
        "class": answer.command_class.word if answer.command_class else "refused",
        "opaque": answer.opaque,
        "watchers": sorted(answer.watchers or ()),
    }


def _plain_simulation(seen: Simulation) -> dict[str, object]:
    return {
        "version": seen.version,
        "compared_with": seen.compared_with,
        "since": seen.since.isoformat(),
        "complete": seen.complete,
        "replayed": seen.replayed,
        "changed": seen.changed,
        "skipped": seen.skipped,
        "drifted": seen.drifted,
        "counts": [{"before": b, "after": a, "actions": n} for (b, a), n in sorted(seen.counts.items())],
        "changes": [
            {
                "action": changed.question.action.id,
                "proposed_at": changed.question.action.proposed_at.isoformat(),
                "identity": changed.question.identity_name,
                "target": changed.question.target.name,
                "command": changed.question.action.command.decode("utf-8", "backslashreplace"),
                "before": _plain_answer(changed.before),
                "after": _plain_answer(changed.after),
            }
            for changed in seen.changes
        ],
        "todays": _TODAY,
    }


def _lines_of_simulation(seen: Simulation) -> Iterator[str]:
    since = f"{seen.since:%Y-%m-%d %H:%M} UTC"
    yield f"{seen.replayed} action(s) since {since}, {seen.changed} would be answered differently"
    if not seen.complete:
        yield "older ones of the period are left over: --at-most"
    if seen.skipped:
        yield f"{seen.skipped} more are about somebody or something that is no more"
    if seen.drifted:
        yield f"{seen.drifted} of them the policy in force answers differently today than was decided then"
    for (before, after), number in sorted(seen.counts.items()):
        yield f"  {before:>14} -> {after:<14} {number}"
    for changed in seen.changes:
        action = changed.question.action
        who = f"{changed.question.identity_name} on {changed.question.target.name}"
        yield escaped(f"{action.id}  {action.proposed_at:%Y-%m-%d %H:%M:%S}  {who}")
        yield f"    {escaped(action.command.decode('utf-8', 'backslashreplace'))}"
        yield f"    {_words(_plain_answer(changed.before))} -> {_words(_plain_answer(changed.after))}"
    if seen.changed > len(seen.changes):
        yield f"and {seen.changed - len(seen.changes)} more"
    yield _TODAY


def _words(answer: Mapping[str, Any]) -> str:
    """`needs_approval by 2 of owner, as write [run.team]`."""
    asked = f" by {answer['quorum']} of {' or '.join(answer['roles'])}" if answer["quorum"] else ""
    seen = f", as {answer['class']}{' (not inspectable)' * answer['opaque']}"
    watched = f", watched by {' or '.join(answer['watchers'])}" if answer["watchers"] else ""
    rules = f" [{', '.join(answer['rules'])}]" if answer["rules"] else ""
    return escaped(f"{answer['decision']}{asked}{seen}{watched}{rules}")


def _plain_explanation(found: Rule | Decided) -> dict[str, Any]:
    from broker.service.explain import Decided  # noqa: PLC0415
    from policy.telling import told  # noqa: PLC0415

    if isinstance(found, Decided):
        action = found.action
        return {
            "action": action.id,
            "state": str(action.state),
            "proposed_at": action.proposed_at.isoformat(),
            "identity": found.identity_name,
            "target": found.target_name,
            "command": action.command.decode("utf-8", "backslashreplace"),
            "decided": _plain_answer(found.decided),
            "policy_version": action.policy_version,
            "replayed": None if found.replayed is None else _plain_answer(found.replayed),
            "note": action.note,
        }
    return {
        "policy": found.id,
        "position": str(found.where),
        "description": found.description,
        "says": list(told(found)),
        "text": found.text,
    }


def _lines_of_explanation(plain: Mapping[str, Any]) -> Iterator[str]:
    if "policy" in plain:
        yield escaped(f"{plain['policy']}  ({plain['position']})")
        yield from (escaped(line) for line in (plain["description"], *plain["says"]) if line)
        yield ""
        yield from (escaped(line) for line in plain["text"].split("\n"))
        return
    who = f"{plain['identity']} on {plain['target']}"
    yield escaped(f"{plain['action']}  {plain['state']}  {who}, {plain['proposed_at']}")
    yield f"    {escaped(plain['command'])}"
    yield f"decided then   {_words(plain['decided'])}"
    yield f"by policy      {plain['policy_version']}"
    if plain["replayed"] is None:
        yield "that policy, or somebody or something it is asked about, is no more: its rules cannot be told"
    else:
        yield f"it answers     {_words(plain['replayed'])}"
        yield _TODAY
    if plain["note"]:
        yield f"note           {escaped(plain['note'])}"
