"""A script that is called a read changes no file and starts no program that was not seen; bash itself is the judge."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from policy.classes import CommandClass
from policy.shell import Classified, classify
from tests.policy.fuzz import hunt, oracle
from tests.policy.fuzz.arena import Arena, Did, arena

CASES = 2000
COMPARED = 1000
SEEDS = (b"touch m", b"zz-mark", b"(touch m) &", b"cat <<E\n$(touch m)\nE", b"eval zz-mark", b"x=$(>m)")

# Each was called a read once, while bash ran what is in it.
HOLES = (
    b"echo $'a\\\\'; zz-mark # '",
    b"echo $'\\\\'\nzz-mark # '",
    b"echo $(zz-mark >m)",
    b"x=$ zz-mark",
    b'echo "$ $(zz-mark)"',
    b"[[ $x<(zz-mark) -nt y ]]",
    b"[[ a>(zz-mark) ]]",
    b"( echo =~>m )",
    b"( echo =~>m&zz-mark )",
    b"echo \"${x-'$(zz-mark)'}\"",
    b"echo \"${*:-a'$(zz-mark)'}\"",
    b"echo $((printf '$(zz-mark)'))",
    b"echo $((printf '$(zz-mark)'\"\"))",
    b"x=$\nzz-mark",
    b'echo ${x%%"a"b"}; echo "}; zz-mark # "',
    b'echo ${x/"a"b"}; echo "}; zz-mark # "',
    b"echo $(>m)",
    b"echo >&'`zz-mark`'",
    b"x='$(zz-mark)'; echo >&\"$x.m\"",
    b"cat <<E\n`zz-mark`\nE",
    b"cat <<E\n$(zz-mark)\nE",
    b"cat <<A&\na\nA\nzz-mark\nA&",
    b"[ x || zz-mark ]",
    b"mapfile i <<< 'a[$(zz-mark)]'; ((i))",
    b"x='a[$(zz-mark)]'; [[ x -eq 1 ]]",
    b"echo x \n\\zz-mark",
    b"ls >f \n\\touch m",
    b"x=1 \n\\touch m",
    b"ls ${x:-(a }\nzz-mark\n)}",
)


@pytest.fixture(scope="module")
def place() -> Iterator[Arena]:
    """An arena for all tests of this file."""
    with arena() as made:
        yield made


@pytest.mark.parametrize("script", SEEDS)
def test_the_arena_sees_what_a_script_does(script: bytes, place: Arena) -> None:
    """The judge can say yes: work in the background and in substitutions is seen."""
    assert place.alone(script) != Did()


def test_the_arena_sees_nothing_where_nothing_is_done(place: Arena) -> None:
    """The judge can say no, and keeps scripts apart."""
    assert place.run([b"touch m", b"echo a", b"ls; cat /dev/null", b"zz-mark", b"true"]) == [
        Did(changed=True), Did(), Did(), Did(ran=True), Did(),
    ]  # fmt: skip


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [1, 2])
def test_bash_does_no_more_than_was_said(seed: int, place: Arena) -> None:
    """I-16: over thousands of scripts, made and mutated, no claim is less than what bash then does."""
    found = hunt.hunt(place, seed=seed, cases=CASES // 2, until=time.monotonic() + 120)
    assert (found.holes, found.faults) == ([], [])
    assert found.executed > 0


@pytest.mark.timeout(180)
def test_shfmt_sees_no_command_that_was_passed_over() -> None:
    """I-16: the commands that a second parser finds are parts of the verdict, and what it refuses bash takes."""
    found = hunt.compare(seed=3, cases=COMPARED, until=time.monotonic() + 120)
    assert found.apart == []
    assert found.compared == COMPARED


@pytest.mark.parametrize("script", HOLES)
def test_what_was_a_hole_once_is_none(script: bytes, place: Arena) -> None:
    """I-16: each script that ever did more than was said stays here."""
    did = place.alone(script)
    assert did != Did()
    assert not hunt.is_hole(classify(script), did)


_READ = Classified(command_class=CommandClass.READ, opaque=False, egress=False, outlives=False, parts=())


def test_the_hunt_finds_the_holes_of_a_classifier_that_has_some(place: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    """The property can fail: were everything a read, both hunts would say so, and shorten what they found."""
    scripts = (b"echo a", b"echo a; touch m; echo b", b"true")
    monkeypatch.setattr(hunt, "fresh", lambda _seed: ((script, _READ) for script in scripts))
    monkeypatch.setattr(hunt, "classify", lambda _script: _READ)
    by_bash = hunt.hunt(place, seed=0, cases=len(scripts), until=time.monotonic() + 60)
    assert [b"touch" in hole and len(hole) < len(scripts[1]) for hole in by_bash.holes] == [True]
    by_shfmt = hunt.compare(seed=0, cases=len(scripts), until=time.monotonic() + 60)
    assert by_shfmt.apart == list(scripts)


def test_shfmt_is_asked_about_many_scripts_at_once() -> None:
    """One that does not parse, or would swallow the next, changes nothing for the others."""
    assert oracle.commands([b"ls a; r'm' x", b"ls |", b"cat <<E", b"echo $(touch m) # zz"]) == [
        {"ls", "rm"}, None, None, {"echo", "touch"},
    ]  # fmt: skip
