"""`grantd policy`: reading, testing and trusting policies, before they are put and after.

`check`, `test` and `explain RULE` need files alone; `simulate` and `explain ACTION` read the broker's own database.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from broker.cli.plainly import escaped, plainly

if TYPE_CHECKING:
    from policy.ruleset import Ruleset

T = TypeVar("T")


@click.group()
def policy() -> None:
    """Check, test and understand policies."""


_DIRECTORY = click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))


@policy.command()
@_DIRECTORY
def check(directory: Path) -> None:
    """Load DIRECTORY as one set; say all that is wrong or suspicious, and where. Exit 1 if anything is wrong."""
    with plainly():
        from policy.engine import shipped_policy  # noqa: PLC0415
        from policy.lint import warnings  # noqa: PLC0415

        sources = sources_of(directory)
        rules = loaded(sources)
        if any(name.endswith(".cedar") for name in sources):
            for problem in warnings(tuple(rules.policies.rules.values()), shipped_policy()):
                click.echo(escaped(str(problem)), err=True)
        else:
            click.echo("no .cedar file in it: the shipped policy stays in force", err=True)
        click.echo(f"{len(sources)} file(s), {len(rules.policies.rules)} policies load; version {rules.version}")


@policy.command()
@_DIRECTORY
@click.option("-v", "--verbose", is_flag=True, help="tell the cases that hold, too")
def test(directory: Path, verbose: bool) -> None:  # noqa: FBT001  a flag of click
    """Try every case of DIRECTORY's *.test.toml files against its policies. Exit 1 if one does not hold."""
    with plainly():
        from policy.cases import SUFFIX, run_cases  # noqa: PLC0415

        files, sources = sorted(directory.glob(f"*{SUFFIX}")), sources_of(directory)
        if sources:
            loaded(sources)  # a set that does not load is told with all its problems
        outcomes = _refusing(
            lambda: [outcome for file in files for outcome in run_cases(file.name, text_of(file), sources)]
        )
        for outcome in outcomes:
            if outcome.differences:
                click.echo(escaped(f"{outcome.file}: {outcome.name}"))
                click.echo("".join(f"    {escaped(line)}\n" for line in outcome.differences), nl=False)
                click.echo(f"    the answer: {escaped(outcome.got)}")
            elif verbose:
                click.echo(escaped(f"{outcome.file}: {outcome.name}: {outcome.got}"))
        failed = sum(bool(outcome.differences) for outcome in outcomes)
        click.echo(f"{len(outcomes)} case(s) in {len(files)} file(s), {failed or 'none'} fail{'s' * (failed == 1)}")
    sys.exit(1 if failed or not outcomes else 0)


def loaded(sources: dict[str, str]) -> Ruleset:
    """The set, if the broker would take it; or every problem of it on standard error, and exit 1."""
    from broker.service.rules import must_fit  # noqa: PLC0415
    from policy.reading import read  # noqa: PLC0415
    from policy.ruleset import Ruleset  # noqa: PLC0415

    must_fit(sources)
    problems = read(cedar).problems if (cedar := {n: t for n, t in sources.items() if n.endswith(".cedar")}) else ()
    for problem in problems:
        click.echo(escaped(str(problem)), err=True)
    if problems:
        sys.exit(1)
    return _refusing(lambda: Ruleset.load(sources))


def _refusing(use: Callable[[], T]) -> T:
    """What `use` gives; what is wrong with an operator's file becomes a plain refusal."""
    from broker.core.errors import invalid  # noqa: PLC0415
    from policy.given import CaseError  # noqa: PLC0415
    from policy.ruleset import RulesetError  # noqa: PLC0415

    try:
        return use()
    except (RulesetError, CaseError) as error:
        raise invalid("bad_policy", str(error)) from error


def sources_of(directory: Path) -> dict[str, str]:
    """File name to text of every policy and program file in a directory; files of cases are neither.

    Raises:
        Refusal: a file is not text, or there is none.
    """
    from broker.core.errors import invalid  # noqa: PLC0415
    from policy.cases import SUFFIX  # noqa: PLC0415

    files = [path for path in sorted(directory.iterdir()) if path.suffix in (".cedar", ".toml")]
    sources = {path.name: text_of(path) for path in files if not path.name.endswith(SUFFIX)}
    if not files:
        raise invalid("bad_policy", f"{directory} holds no .cedar and no .toml file")
    return sources


def text_of(path: Path) -> str:
    """The text of a file. Raises Refusal where it is none."""
    from broker.core.errors import invalid  # noqa: PLC0415

    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise invalid("bad_policy", f"{path} is not UTF-8: {error.reason}") from error
