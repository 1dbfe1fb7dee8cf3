"""`grantd policy`: reading, testing and trusting policies, before they are put and after.

`check`, `test` and `explain RULE` need files alone; `simulate` and `explain ACTION` read the broker's own database.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from broker.cli.plainly import escaped, plainly


@click.group()
def policy() -> None:
    """Check, test and understand policies."""


@policy.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
def check(directory: Path) -> None:
    """Load DIRECTORY as one set; say all that is wrong or suspicious, and where. Exit 1 if anything is wrong."""
    with plainly():
        from policy.engine import PolicyError, PolicySet, shipped_policy  # noqa: PLC0415
        from policy.lint import warnings  # noqa: PLC0415

        sources = sources_of(directory)
        try:
            loaded = PolicySet.load(sources)
        except PolicyError as error:
            for problem in error.problems:
                click.echo(escaped(str(problem)), err=True)
            sys.exit(1)
        for problem in warnings(tuple(loaded.rules.values()), shipped_policy()):
            click.echo(escaped(str(problem)), err=True)
        click.echo(f"{len(sources)} file(s), {len(loaded.rules)} policies load; version {loaded.version}")


def sources_of(directory: Path) -> dict[str, str]:
    """File name to text of every policy file in a directory.

    Raises:
        Refusal: a file is not text.
    """
    from broker.core.errors import invalid  # noqa: PLC0415

    try:
        return {path.name: path.read_text(encoding="utf-8") for path in sorted(directory.glob("*.cedar"))}
    except UnicodeDecodeError as error:
        raise invalid("bad_policy", f"a policy of {directory} is not UTF-8: {error.reason}") from error
