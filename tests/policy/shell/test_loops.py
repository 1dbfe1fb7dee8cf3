"""Loops over literals, and numbers out of commands: known only where nothing else can set them. bash is the judge."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from policy.classes import CommandClass
from policy.shell import Classified, classify

READS = [
    'for s in nginx php8.3-fpm; do systemctl is-active "$s"; done',
    "for s in nginx php8.3-fpm; do systemctl is-active $s; done",
    'for h in a b; do dig +short "$h" | sed "s/^/$h /"; done',
    'for s in a b; do for t in c d; do stat "$s/${t}"; done; done',
    'for s in a b; do cat "$s"; done; for s in c; do wc "$s"; done',
    "[[ $(df --output=pcent / | tail -1 | tr -dc '0-9') -gt 90 ]]",
    '[[ "$(wc -l < /etc/passwd)" -gt 3 ]]',
    "[ $(ls | grep -c x) -gt 3 ]",
    "n=$(nproc); [ $n -gt 2 ] && echo many",
    "seq 1 $(( $(nproc) * 2 + 1 ))",
    "docker inspect $(docker ps -aq)",
    'docker logs "$(docker ps -lq)"',
    "sudo crictl logs --tail=50 $(sudo crictl ps -aq --name coredns | head -1)",
    "(( $(date +%s) > 1700000000 )) && [[ $(id -u) -eq 0 ]]",
]

NOT_READS = [
    ('for s in a -oy; do sort "$s" x; done', "sort -o"),
    ('for f in /proc/sysrq-trigger; do echo b | tee "$f"; done', "file.reboot"),
    ('for f in /proc/sysrq-trigger; do echo b > "$f"; done', "file.reboot"),
    ("for c in ls reboot; do sudo $c; done", "reboot"),
    ("for c in ls; do $c; done", "name.open"),
    ("for s in 'a -oy'; do sort $s x; done", "sort.unknown"),
    ('select s in a b; do sort "$s" x; done', "sort.unknown"),
    ('for s in a b; do s=-oy; sort "$s" x; done', "loop.value"),
    ('for s in a b; do s+=y; sort "$s" x; done', "loop.value"),
    ('for s in a b; do read s; sort "$s" x; done', "loop.value"),
    ('for s in a b; do printf -v s %s -oy; sort "$s" x; done', "loop.value"),
    ('for s in 1 2; do ((s-=5)); sort "$s" x; done', "loop.value"),
    ('for s in 1 2; do echo $((s-=5)); sort "$s" x; done', "loop.value"),
    ("for s in a b; do unset s; sort $s x; done", "loop.value"),
    ('for s in a b; do for s in -oy; do :; done; sort "$s" x; done', "loop.value"),
    ('for s in a b; do eval "s=-oy"; sort "$s" x; done', "loop.value"),
    ('for s in a b; do eval "for s in -oy; do :; done"; sort "$s" x; done', "loop.value"),
    ('g() { for s in -oy; do :; done; }; for s in a b; do g; sort "$s" x; done', "loop.value"),
    ('g() { sort "$s" x; }; for s in a b; do g; done', "sort.unknown"),
    ("for s in a b; do bash -c 'sort \"$s\" x'; done", "sort.unknown"),
    ("for s in a b; do [ -n $s ]; done", "arithmetic.name"),
    ("wc() { echo 'a[$(id)]'; }; [[ $(ls | wc -l) -gt 2 ]]", "function.name"),
    ("[[ $(wc -l a b) -gt 2 ]]", "test.number"),
    ("[[ $(wc -l 2>&1) -gt 2 ]]", "test.number"),
    ("[[ $(wc -l < 'a b') -gt 2 ]]", "test.number"),
    ("[[ $(wc -l; cat f) -gt 2 ]]", "test.number"),
    ("[[ $(wc -l || cat f) -gt 2 ]]", "test.number"),
    ("[[ $(cat f |& wc -l) -gt 2$(cat f) ]]", "test.number"),
    ("[[ $(grep -c x a b) -gt 2 ]]", "test.number"),
    ("[[ $(grep -rc x a) -gt 2 ]]", "test.number"),
    ("[[ $(tr -d 0-9) -gt 2 ]]", "test.number"),
    ("[[ $(date -u +%F) -gt 2 ]]", "test.number"),
    ("docker inspect $(docker ps)", "docker inspect.unknown"),
    ("docker inspect $(docker ps --filter -q)", "docker inspect.unknown"),
    ("docker inspect $(docker ps -q --format '{{.Names}}')", "docker inspect.unknown"),
    ("docker inspect $(docker ps -q | cat)", "docker inspect.unknown"),
    ("sh $(docker ps -q)", "sh.unknown"),
    ("hostname $(nproc)", "hostname"),
    ("find $(nproc) -delete", "find"),
    ("date $(date +%s)", "date"),
    ("n=$(nproc); n=$(cat f); (( n > 2 ))", "arithmetic.name"),
    ("for s in -k; do unset -v s; sort $s -om f; done", "loop.value"),
    ("g() { for s in -k; do local s; sort $s -om f; done; }; g", "loop.value"),
    ("g() { for s in -k; do declare -r s; sort $s -om f; done; }; g", "loop.value"),
    ("for LINENO in -k; do sort $LINENO -om 1; done", "variable.name"),
    ("for EPOCHSECONDS in -k; do sort $EPOCHSECONDS -om 1; done", "variable.name"),
    ("for COLUMNS in -k; do ls; sort $COLUMNS -om 80; done", "sort.unknown"),
    ("for s in -k; do : {s}<f; sort $s -om 10; done", "guard.descriptor"),
    ("command_not_found_handle() { echo -om; }; sort $(crictl ps -q) f", "function.name"),
    ("docker inspect $(docker ps -q --help)", "docker inspect.unknown"),
    ("tar $(tr -dc 0-9 < /dev/null) cf m f", "tar.unknown"),
    ("printf $(tr -dc 0-9 < /dev/null) -v PATH ./10; ls", "printf.unknown"),
    ("service $(tr -dc 0-9 < /dev/null) status restart", "service"),
]


@pytest.mark.parametrize("line", READS)
def test_what_is_known_of_a_value_is_used(line: str) -> None:
    """A loop over words that stand there, and a count of lines, ask nobody."""
    found = classify(line.encode())
    assert isinstance(found, Classified)
    assert (found.command_class, found.opaque) == (CommandClass.READ, False)


@pytest.mark.parametrize(("line", "rule"), NOT_READS)
def test_a_value_that_may_be_another_is_not_known(line: str, rule: str) -> None:
    """I-16: each value counts, and anything else that could set the name makes the line opaque."""
    found = classify(line.encode())
    assert isinstance(found, Classified)
    assert found.command_class > CommandClass.READ
    assert any(part.rule.startswith(rule) for part in found.parts if part.command_class > CommandClass.READ)


def test_a_loop_keeps_one_part_for_what_is_the_same() -> None:
    """A person reads what happens, not how often."""
    found = classify(b'for s in a b c; do cat "$s"; done')
    assert isinstance(found, Classified)
    assert [part.argv for part in found.parts if part.rule == "cat"] == [("cat", "a")]


def test_long_loops_are_read_once_with_nothing_known() -> None:
    """The work is bounded by MAX_TURN_BYTES, whatever is nested in what."""
    values = " ".join(f"h{number}" for number in range(1_000))
    body = 'systemctl is-active "$s"; '
    found = classify(f"for s in {values}; do {body * 4}done".encode())
    assert isinstance(found, Classified)
    assert found.opaque
    evals = "for s in 1 2 3 4; do " + "eval 'ls';" * 120 + "done"
    found = classify(evals.encode())
    assert isinstance(found, Classified)
    assert any(part.rule == "script.depth" for part in found.parts)
    deep = "".join(f"for v{n} in 1 2 3 4 5 6 7 8; do " for n in range(20)) + "ls" + "; done" * 20
    assert isinstance(classify(deep.encode()), Classified)


def test_a_long_value_is_not_written_out_a_thousand_times() -> None:
    """What is kept of a line stays near its own size: MAX_FILLED_BYTES, not the product of value and uses."""
    found = classify(f"for s in {'x' * 8_000}; do echo {'$s' * 1_200}; done".encode())
    assert isinstance(found, Classified)
    assert sum(len(word) for part in found.parts for word in part.argv) < 64_000


_VALUES = ["a", "b", "-k", "-om", "'-o m'", "-o", "m", "1", "f", "''", "-"]
_USES = [
    'sort "$s" f',
    "sort $s f",
    "sort ${s} f",
    'cat "$s"',
    'sort -k1 "$t" f',
    "sort -- $s",
    "sort $s -om f",
    'sort f "$s" "$t"',
    'sort f "$s$t"',
]
_CHANGES = [
    "s=-om", "s+=m", "t=$s", "s=", "unset s", "read s < f", "for s in -om; do :; done", "for t in -om -o; do :; done",
    "g", "eval s=-om", "printf -v s %s -om", "export s=-om", "declare s=-om", "((s=1))", "{ s=-om; }", "( s=-om )",
    "unset -v s", "local s", "declare t", ": {s}<f", "command_not_found_handle() { s=-om; }", "sort $(no-such ps -q) f",
    '[ -n "$s" ] && s=-om', ": ${s:=-om}", "local s=-om", "echo | read s", "mapfile s < f", "trap 's=-om' DEBUG",
    "while read -r s; do :; done < f", "case x in x) s=-om ;; esac", "if true; then t=-om; fi", "IFS=o", "true",
]  # fmt: skip


def _script(chance: random.Random) -> str:
    def statement(depth: int) -> str:
        kind = chance.choice(["use", "use", "use", "change", "loop", "loop"] if depth < 3 else ["use", "change"])
        if kind == "loop":
            values = " ".join(chance.choices(_VALUES, k=chance.randint(1, 3)))
            body = "; ".join(statement(depth + 1) for _ in range(chance.randint(1, 3)))
            return f"for {chance.choice('sst')} in {values}; do {body}; done"
        return chance.choice(_USES if kind == "use" else _CHANGES)

    lines = [statement(0) for _ in range(chance.randint(1, 3))]
    if chance.random() < 0.3:
        lines.insert(0, f"g() {{ {statement(2)}; }}")
    return "\n".join(lines)


def test_bash_writes_nothing_in_a_loop_that_reads(tmp_path: Path) -> None:
    """I-16: scripts of loops and of whatever may change their variables; those called reads write no file."""
    chance, ran = random.Random(20), 0
    for _ in range(12_000):
        script = _script(chance)
        found = classify(script.encode())
        if not isinstance(found, Classified) or found.command_class is not CommandClass.READ or "for" not in script:
            continue
        ran += 1
        folder = tmp_path / str(ran)
        folder.mkdir()
        (folder / "f").write_text("-om\n")
        subprocess.run(["bash", "--norc", "-c", script], cwd=folder, capture_output=True, check=False, timeout=20)
        assert [path.name for path in folder.iterdir()] == ["f"], script
        if ran == 60:
            return
    raise AssertionError(f"only {ran} of them are reads: the test looks at too little")
