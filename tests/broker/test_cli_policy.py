"""`grantd policy`: what an operator is told about files before anything is put."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import policy
from broker import cli
from broker.init import config_text, single_node
from broker.service.rules import MAX_SOURCES_BYTES
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.world import WRITE, House, opened

pytestmark = pytest.mark.usefixtures("own_logs")
ALL = '@id("all") permit (principal, action, resource);'
RUN = 'action in [Action::"run", Action::"run_unattended"]'
SHIPPED = Path(policy.__file__).parent


def run(*words: str) -> Result:
    """grantd within this process."""
    return CliRunner().invoke(cli.grantd, ["policy", *words], prog_name="grantd")


# ---- check
def test_check_of_the_shipped_policy_is_silent() -> None:
    """It loads, without a warning; the version is told."""
    good = run("check", str(SHIPPED))
    assert (good.exit_code, good.stderr) == (0, "")
    assert "policies load; version " in good.stdout


def test_check_tells_every_problem_of_every_file(tmp_path: Path) -> None:
    """Exit 1, a line a problem with `file:line:column`, nothing on standard output."""
    (tmp_path / "a.cedar").write_text("\n\npermit (\n")
    (tmp_path / "b.cedar").write_text('@id("b") permit (principal, action == Action::"rum", resource);\npermit (x);')
    bad = run("check", str(tmp_path))
    assert (bad.exit_code, bad.stdout) == (1, "")
    assert [line.split(": ")[0] for line in bad.stderr.splitlines()] == ["a.cedar:3:1", "b.cedar:1:47", "b.cedar:2:9"]
    assert "did you mean `run`?" in bad.stderr


def test_check_warns_and_still_passes(tmp_path: Path) -> None:
    """A suspicious set is said to be so; exit 0, for it may be meant."""
    shutil.copy(SHIPPED / "tiers.cedar", tmp_path)
    (tmp_path / "site.cedar").write_text(
        '@id("x") forbid (principal, action, resource) when { resource.tier == "tru" };'
    )
    seen = run("check", str(tmp_path))
    assert seen.exit_code == 0
    assert "site.cedar:1:71: warning: x: resource.tier is never" in seen.stderr


@pytest.mark.parametrize(
    "content", [b"permit (", b"\xff", b"", b'@id("\x1b[2J") permit (principal, action, resource);']
)
def test_check_of_anything_else_is_a_plain_no(tmp_path: Path, content: bytes) -> None:
    """I-11: exit 1, no traceback, no escape on the terminal."""
    (tmp_path / "mine.cedar").write_bytes(content)
    bad = run("check", str(tmp_path))
    assert bad.exit_code == 1
    assert bad.stderr
    assert "\x1b" not in bad.stderr
    assert "Traceback" not in bad.stderr


def test_check_refuses_what_the_broker_would(tmp_path: Path) -> None:
    """I-60: a set that is too long to be put is not said to load."""
    (tmp_path / "a.cedar").write_text(ALL + "//" + "x" * MAX_SOURCES_BYTES)
    bad = run("check", str(tmp_path))
    assert (bad.exit_code, bad.stdout) == (1, "")
    assert "longer than 256 KiB" in bad.stderr


# ---- test
CASE = '[[case]]\nname = "it\x1b[2J"\ngiven = {{ class = "{}" }}\nexpect = {{ decision = "deny" }}\n'


def test_test_tells_what_does_not_hold(tmp_path: Path) -> None:
    """Exit 1 with what was expected and got; exit 0 when all hold; I-11: no escape from a name."""
    (tmp_path / "a.cedar").write_text(
        f'{ALL}\n@id("x") forbid (principal, {RUN}, resource) when {{ context.level > 1 }};'
    )
    (tmp_path / "a.test.toml").write_text(CASE.replace("\x1b", "\\u001b").format("write"))
    good = run("test", str(tmp_path))
    assert (good.exit_code, good.stdout) == (0, "1 case(s) in 1 file(s), none fail\n")
    (tmp_path / "b.test.toml").write_text(CASE.replace("\x1b", "\\u001b").format("read"))
    bad = run("test", str(tmp_path))
    assert bad.exit_code == 1
    assert "decision: expected deny, got permit" in bad.stdout
    assert "the answer: decision permit; rules all" in bad.stdout
    assert bad.stdout.endswith("2 case(s) in 2 file(s), 1 fails\n")
    assert "\x1b" not in bad.stdout
    assert "b.test.toml: it" in run("test", "-v", str(tmp_path)).stdout


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.cedar": ALL}, "0 case(s) in 0 file(s)"),
        ({"a.cedar": "permit (", "a.test.toml": CASE}, "a.cedar:1:1"),
        ({"a.cedar": ALL, "a.test.toml": "[[cas]]"}, "did you mean `case`?"),
        ({"readme.md": ""}, "holds no .cedar and no .toml file"),
    ],
    ids=["no-case", "no-policy", "no-key", "nothing"],
)
def test_a_test_of_nothing_fails(tmp_path: Path, files: dict[str, str], said: str) -> None:
    """What tries nothing must not look like a success."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = run("test", str(tmp_path))
    assert done.exit_code == 1
    assert said in done.output


# ---- simulate, explain
@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A house with the team `ops` and the target `web1`."""
    async with opened(tmp_path) as made:
        yield made


@pytest.fixture
async def config(house: House, tmp_path: Path) -> Path:
    """The settings of a broker whose database is the house's."""
    house.clock.wall = datetime.now(UTC)
    (database,) = set(house.folder.rglob("*.db"))
    settings = single_node(
        data=tmp_path, tenant=TENANT, host="127.0.0.1", base_port=20_900, database=f"sqlite:///{database.absolute()}"
    )
    file = tmp_path / "grantd.toml"
    file.write_text(config_text(settings))
    return file


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    """The shipped policy, and one more: whatever writes takes two people."""
    folder = tmp_path / "policies"
    folder.mkdir()
    shutil.copy(SHIPPED / "tiers.cedar", folder)
    head = '@id("two") @description("Two.") @approvers("2") permit (principal, action == Action::"run", resource)'
    (folder / "site.cedar").write_text(f"{head} when {{ context.level == 2 }};")
    return folder


async def test_simulate_reads_the_brokers_database(house: House, config: Path, policies: Path) -> None:
    """Counts and changes, as text and as JSON; the command is shown, never sent to the terminal (I-11)."""
    agent = await house.add("deployer")
    action = (await house.propose(agent, await house.granted(agent), b"touch '/srv/\\x1b[2J'")).action
    words = ("simulate", str(policies), "--days", "1", "--config", str(config))
    told = await asyncio.to_thread(run, *words)
    assert (told.exit_code, told.stderr) == (0, "")
    assert "1 action(s) since " in told.stdout
    assert f"{action.id}  " in told.stdout
    assert "-> needs_approval by 2 of admin or manager or owner, as write [run.team, two]" in told.stdout
    assert "As of today" in told.stdout
    assert "\x1b" not in told.stdout
    plain = json.loads((await asyncio.to_thread(run, *words, "-o", "json")).stdout)
    assert (plain["replayed"], plain["changed"], plain["drifted"], plain["complete"]) == (1, 1, 0, True)
    assert plain["counts"] == [{"before": "needs_approval", "after": "needs_approval", "actions": 1}]
    assert plain["changes"][0]["after"]["quorum"] == 2
    stranger = await asyncio.to_thread(run, *words, "--tenant", "nobody")
    assert (stranger.exit_code, stranger.stderr.startswith("grantd: ")) == (1, True)


async def test_explain_names_the_rules_of_an_action(house: House, config: Path) -> None:
    """What was decided then, by which version, and the rules behind it; an id that is none is a plain no."""
    agent = await house.add("deployer")
    action = (await house.propose(agent, await house.granted(agent), WRITE)).action
    told = await asyncio.to_thread(run, "explain", action.id, "--config", str(config))
    assert (told.exit_code, told.stderr) == (0, "")
    assert "decided then   needs_approval by 1 of admin or manager or owner, as write" in told.stdout
    assert "it answers     needs_approval by 1 of admin or manager or owner, as write [run.team]" in told.stdout
    assert action.policy_version in told.stdout
    plain = json.loads(
        (await asyncio.to_thread(run, "explain", action.id, "--config", str(config), "-o", "json")).stdout
    )
    assert (plain["state"], plain["replayed"]["rules"]) == ("awaiting", ["run.team"])
    in_force = await asyncio.to_thread(run, "explain", "tier.read", "--config", str(config))
    assert "tier.read  (tiers.cedar:" in in_force.stdout
    for nothing in ("ac_" + "a" * 26, "no.such"):
        assert (await asyncio.to_thread(run, "explain", nothing, "--config", str(config))).exit_code == 1


def test_explain_of_a_file_needs_no_broker(policies: Path) -> None:
    """In words, with what it asks of an approval, and as it is written."""
    told = run("explain", "two", "--directory", str(policies))
    assert told.stdout.splitlines()[:6] == [
        "two  (site.cedar:1:1)",
        "Two.",
        "Permits running a command that a person approved.",
        "To: every agent and every person, as far as its head says.",
        "If: context.level == 2",
        "Asks for 2 different people.",
    ]
    assert run("explain", "nothing", "--directory", str(policies)).exit_code == 1
