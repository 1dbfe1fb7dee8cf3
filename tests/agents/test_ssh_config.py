"""The file for ~/.ssh/config, the names that ssh may pass on, and what is answered before anything is imported."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grantd.cli import quick
from grantd.cli.ssh import kept, place
from grantd.cli.ssh.config import Choices, include, render
from grantd.cli.ssh.place import BadPlace, Place
from grantd.errors import Invalid
from tests import peers
from tests.agents.conftest import Person
from tests.agents.console import GRANTCTL
from tests.agents.fake_broker import FakeBroker

PROFILE = Path("/somewhere/profile")
PROGRAM = Path("/somewhere/bin/grantctl")


def choices(**changed: object) -> Choices:
    """What somebody who chooses nothing gets, but for that."""
    said: dict[str, object] = {
        "suffix": "grantd", "hosts": (), "login": "", "ceiling": "write", "flags": (), "ttl": timedelta(minutes=15),
    }  # fmt: skip
    return Choices(**{**said, **changed})  # type: ignore[arg-type]


def rendered(**changed: object) -> str:
    """The file for these choices."""
    return render(choices(**changed), profile=PROFILE, program=PROGRAM)


@pytest.mark.parametrize(
    ("host", "user", "suffix", "found"),
    [
        ("web1.grantd", "deploy", "grantd", Place("deploy", "web1")),
        ("WEB1.grantd", "deploy", "grantd", Place("deploy", "web1")),
        ("db.eu-1.grantd", "_x", "grantd", Place("_x", "db.eu-1")),
        ("web1.grantd", "deploy+web1", "grantd", Place("deploy", "web1")),
        ("grantd", "deploy+web1", "grantd", Place("deploy", "web1")),
        ("web1", "deploy", "", Place("deploy", "web1")),
        ("web1", "deploy", "grantd", Place("deploy", "web1")),
    ],
)
def test_what_ssh_says_names_a_place(host: str, user: str, suffix: str, found: Place) -> None:
    """A login and a target, whichever way they are written."""
    assert place.parse(host, user, suffix=suffix) == found


@pytest.mark.parametrize(
    ("host", "user"),
    [
        ("web1.grantd", "deploy+web2"), ("grantd", "deploy"), ("", "deploy"), ("web1.grantd", ""),
        ("web1.grantd", "a b"),
        ("web1.grantd", "../x"), ("../x", "deploy"), ("web1.grantd", "$(x)"), ("web1\n", "deploy"), ("-web1", "deploy"),
        ("web1", "-oProxyCommand=x"), ("web1", "root\n"), ("w" * 64, "deploy"), ("web1", "d" * 33),
    ],
)  # fmt: skip
def test_other_words_name_none(host: str, user: str) -> None:
    """Nothing that the broker could not know goes any further: not into a path, not to the broker."""
    with pytest.raises(BadPlace):
        place.parse(host, user, suffix="grantd")


PATTERNS = re.search(r'Match host "([^"]+)" user "([^"]+)" exec "([^"]+)"', rendered())
assert PATTERNS is not None
HOSTS, USERS, EXEC = PATTERNS.groups()
PROXY = next(line for line in rendered().splitlines() if "ssh-proxy" in line).split(None, 1)[1]


def lets_through(patterns: str, text: str) -> bool:
    """ssh_config's pattern lists: an exclusion that fits wins."""
    split = patterns.split(",")
    excluded = [p[1:] for p in split if p.startswith("!")]
    # no pattern of ours has a bracket, the one thing that fnmatch knows and ssh does not
    fits = [fnmatch.fnmatchcase(text, p) for p in split if not p.startswith("!")]
    return any(fits) and not any(fnmatch.fnmatchcase(text, p) for p in excluded)


HOSTILE = st.text(st.sampled_from("ab'\"\\!$`;&|<>(){}[]*?~#% \n\t-+@./") | st.characters(), max_size=20)


@given(HOSTILE, HOSTILE)
def test_no_name_leaves_its_quotes(host: str, user: str) -> None:
    """Whatever passes the patterns stays one word for the shell, of `Match exec` as of ProxyCommand."""
    host = f"{host}.grantd"
    if not lets_through(HOSTS, host) or not lets_through(USERS, user) or "\0" in host + user:
        return
    for line, last in ((EXEC, [host, user]), (PROXY, [host, "22", user])):
        put = line.replace("%h", "\0h").replace("%r", "\0r").replace("%p", "22")
        words = shlex.split(put.replace("\0h", host).replace("\0r", user))
        assert words[words.index("--") + 1 :] == last


@pytest.mark.parametrize("name", ["x'y", "x\\y", "x!y"])
def test_names_that_could_end_quotes_do_not_match(name: str) -> None:
    """The exclusions of both lists."""
    assert not lets_through(HOSTS, f"{name}.grantd")
    assert not lets_through(USERS, name)
    assert lets_through(USERS, "xy")


@pytest.mark.parametrize(
    "changed",
    [
        {"suffix": "grantd\n    ProxyCommand x"}, {"suffix": "*"}, {"suffix": "a b"}, {"suffix": ".x"}, {"suffix": "X"},
        {"hosts": ("*",)}, {"hosts": ("web1,*",)}, {"hosts": ("web1\nHost *",)}, {"hosts": ('web1" exec "x',)},
        {"login": "x\n"}, {"login": "%u"}, {"login": "$(x)"}, {"suffix": "", "hosts": ()},
    ],
)  # fmt: skip
def test_nothing_but_names_gets_into_the_file(changed: dict[str, object]) -> None:
    """Also what the broker lists is checked here: a target's name is never a line of configuration."""
    with pytest.raises(Invalid):
        rendered(**changed)


@pytest.mark.parametrize("path", ["/a'b", '/a"b', "/a%b", "/a$b", "/a\nb", "/a*b", "relative", "/a\\b", "/a`b"])
def test_no_path_gets_into_the_file_that_a_shell_or_ssh_would_read(path: str) -> None:
    """They stand between quotes in lines that a shell runs."""
    with pytest.raises(Invalid):
        render(choices(), profile=Path(path), program=PROGRAM)
    with pytest.raises(Invalid):
        render(choices(), profile=PROFILE, program=Path(path))


def test_stock_ssh_reads_the_file(tmp_path: Path) -> None:
    """Its own parser's word on what a connection would do; a given user wins over the chosen login."""
    file = tmp_path / "config"
    file.write_text(render(choices(login="deploy", hosts=("db1",)), profile=tmp_path, program=Path("/bin/true")))
    for host, user in (("web1.grantd", "deploy"), ("db1", "deploy"), ("root@db1", "root")):
        done = subprocess.run(
            [peers.require("ssh"), "-G", "-F", str(file), host], capture_output=True, text=True, check=True
        )
        told = dict(line.split(" ", 1) for line in done.stdout.splitlines())
        assert (told["user"], told["identitiesonly"], told["forwardagent"]) == (user, "yes", "no")
        assert told["certificatefile"] == f"{tmp_path}/ssh/at/%r@%h/id_ed25519-cert.pub"
        assert told["stricthostkeychecking"] == "true"
        assert told["userknownhostsfile"] == f"{tmp_path}/ssh/known_hosts"
        assert "ssh-proxy" in told["proxycommand"]
    refused = render(choices(), profile=tmp_path, program=Path("/bin/false"))
    file.write_text(refused)
    done = subprocess.run(
        [peers.require("ssh"), "-G", "-F", str(file), "web1.grantd"], capture_output=True, text=True, check=True
    )
    assert "ssh-proxy" in done.stdout, "without a certificate it still goes nowhere else"
    assert "certificatefile" not in done.stdout


def test_the_include_line_comes_first_and_once(tmp_path: Path) -> None:
    """What stood there stays as it was, with its mode; a link is followed, not replaced."""
    real, config = tmp_path / "dotfiles", tmp_path / "ssh" / "config"
    real.write_text("Host *\n    User me\n")
    real.chmod(0o644)
    config.parent.mkdir()
    config.symlink_to(real)
    assert include(config, tmp_path / "ours")
    assert not include(config, tmp_path / "ours")
    assert real.read_text() == f'Include "{tmp_path}/ours"\n\nHost *\n    User me\n'
    assert (config.is_symlink(), real.stat().st_mode & 0o777) == (True, 0o644)
    assert include(tmp_path / "new" / "config", tmp_path / "ours")


def test_writing_it(person: Person, tmp_path: Path) -> None:
    """`--write`: the file lies beside the profile, for its owner alone."""
    into = tmp_path / "config"
    done = subprocess.run(
        [GRANTCTL, "--profile", str(person.profile.directory), "ssh-config", "--write", "--into", str(into)],
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    path = person.profile.directory / "ssh" / "config"
    assert path.stat().st_mode & 0o777 == 0o600
    assert into.read_text().startswith(f'Include "{path}"\n')


def test_what_the_broker_lists_captures_no_other_host(broker: FakeBroker, person: Person) -> None:
    """Names of targets become names in ssh only where they cannot be a real host's, nor more than a name."""
    broker.targets = ["web1", "db.example", "localhost", "x\nHost *\x1b", "*", "Web2"]
    done = subprocess.run(
        [GRANTCTL, "--profile", str(person.profile.directory), "ssh-config", "--listed"],
        capture_output=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b'Match host "*.grantd,grantd,web1,!' in done.stdout
    assert done.stderr.count(b"left out") == 5
    assert b"\x1b" not in done.stderr


# ---- what is answered at once


def kept_certificate(
    profile: Path, *, seconds: float = 600, ceiling: str = "write", flags: tuple[str, ...] = ()
) -> Path:
    """As `ssh-cert` leaves it for deploy on web1."""
    directory = kept.directory_of(profile, Place("deploy", "web1"))
    directory.mkdir(parents=True)
    state = {"grant": "gr_1", "ceiling": ceiling, "flags": list(flags), "renew_at": time.time() + seconds}
    (directory / "state.json").write_text(json.dumps(state))
    kept.link(profile, Place("deploy", "web1"), "deploy", "web1.grantd")
    return directory


def words(profile: Path, *options: str, host: str = "web1.grantd", user: str = "deploy") -> list[str]:
    """What the file has ssh run."""
    return ["--profile", str(profile), "ssh-cert", "--quiet", "--suffix", "grantd", *options, "--", host, user]


def test_a_fresh_certificate_needs_no_broker(tmp_path: Path) -> None:
    """The words of the file itself are the ones that are answered, without gRPC, click or cryptography."""
    kept_certificate(tmp_path)
    line = render(choices(), profile=tmp_path, program=Path(GRANTCTL))
    run = re.search(r'exec "([^"]+)"', line)
    assert run is not None
    asked = shlex.split(run.group(1).replace("%h", "web1.grantd").replace("%r", "deploy"))[1:]
    assert quick.attempt(asked) == 0
    heavy = """if True:
        import sys
        from grantd.cli import quick
        status = quick.attempt(sys.argv[1:])
        assert not {"grpc", "click", "cryptography", "google.protobuf"} & set(sys.modules)
        sys.exit(status)
    """
    assert subprocess.run([sys.executable, "-c", heavy, *asked], check=False).returncode == 0


@pytest.mark.parametrize(
    ("made", "options", "said"),
    [
        ({}, (), {}),
        ({"seconds": -1}, (), None),
        ({"ceiling": "read"}, ("--ceiling", "write"), None),
        ({}, ("--flag", "sftp"), None),
        ({}, ("--unknown", "x"), None),
        ({}, (), {"host": "web2.grantd"}),
        ({}, (), {"user": "root"}),
        ({}, (), {"user": "$(x)"}),
    ],
)
def test_what_is_not_certain_is_left_to_the_broker(
    tmp_path: Path, made: dict[str, object], options: tuple[str, ...], said: dict[str, str] | None
) -> None:
    """Ended, too little, not there, not understood: the whole grantctl decides."""
    kept_certificate(tmp_path, **made)  # type: ignore[arg-type]
    expected = 0 if said == {} else None
    assert quick.attempt(words(tmp_path, *options, **(said or {}))) == expected


def test_files_that_ssh_would_not_find_are_not_enough(tmp_path: Path) -> None:
    """The link for this spelling of user and host has to be there, and lead there."""
    kept_certificate(tmp_path)
    link = kept.link_of(tmp_path, "deploy", "web1.grantd")
    for target in ("deploy+web2", None):
        link.unlink()
        if target is not None:
            link.symlink_to(target)
        assert quick.attempt(words(tmp_path)) is None


def test_after_a_minute_the_broker_is_asked(tmp_path: Path) -> None:
    """A revoked grant is noticed; a clock that went back is not trusted either."""
    state = kept_certificate(tmp_path) / "state.json"
    for shift in (-61.0, 5.0):
        os.utime(state, (time.time() + shift, time.time() + shift))
        assert quick.attempt(words(tmp_path)) is None


def test_the_proxy_needs_a_certificate_and_a_gateway(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """255 and a sentence; nothing of a name reaches the terminal unescaped."""
    proxy = ["--profile", str(tmp_path), "ssh-proxy", "--fdpass", "--", "web1.grantd", "22"]
    assert quick.attempt([*proxy, "de\x1bploy"]) == 255
    assert capfd.readouterr().err == "grantctl: there is no certificate for de?ploy@web1.grantd\n"
    kept_certificate(tmp_path)
    assert quick.attempt([*proxy, "deploy"]) == 255
    assert "no gateway is known" in capfd.readouterr().err
    (tmp_path / "ssh" / "gateway.json").write_text('{"host": "127.0.0.1", "port": 1}')
    assert quick.attempt([*proxy, "deploy"]) == 255
    assert "cannot be reached" in capfd.readouterr().err


def test_a_certificate_for_another_place_is_not_kept(broker: FakeBroker, person: Person) -> None:
    """The broker's own name for it has to be the directory's: else ssh would arrive somewhere else."""
    home = person.profile.directory
    done = subprocess.run(
        [GRANTCTL, "--profile", str(home), "ssh-cert", "root@web1"], capture_output=True, check=False, timeout=30
    )
    assert done.returncode == 2, done.stderr
    assert b"another login or target" in done.stderr
    assert kept.state_in(kept.directory_of(home, Place("root", "web1"))) is None
    done = subprocess.run(
        [GRANTCTL, "--profile", str(home), "ssh-cert", "deploy@web1"], capture_output=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == b"deploy+web1@127.0.0.1"
