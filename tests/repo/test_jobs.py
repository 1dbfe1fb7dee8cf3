"""A loop that nobody starts is a promise that nobody keeps."""

from __future__ import annotations

import ast
from pathlib import Path

BROKER = Path(__file__).parents[2] / "broker"


def _loops() -> list[str]:
    """The classes of broker/jobs that can run."""
    files = sorted((BROKER / "jobs").glob("[a-z]*.py"))
    nodes = (node for file in files for node in ast.parse(file.read_text()).body)
    return [node.name for node in nodes if isinstance(node, ast.ClassDef) and _runs(node)]


def _runs(node: ast.ClassDef) -> bool:
    return any(isinstance(each, ast.AsyncFunctionDef) and each.name == "run" for each in node.body)


def _started(file: Path) -> set[str]:
    """What `jobs` makes, or takes from where it was made: a method of its own, a field, a name."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    jobs = next(node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == "jobs")
    told = {each.attr for each in ast.walk(jobs) if isinstance(each, ast.Attribute)}
    makers = [node for node in nodes if isinstance(node, ast.FunctionDef) and node.name in told]
    assigned = [node for node in nodes if isinstance(node, ast.Assign)]
    fields = [node for node in assigned if told & {_field(each) for each in ast.walk(node)}]
    calls = (each.func for node in (jobs, *makers, *fields) for each in ast.walk(node) if isinstance(each, ast.Call))
    return {each.id for each in calls if isinstance(each, ast.Name)}


def _field(target: ast.AST) -> str:
    return target.attr if isinstance(target, ast.Attribute) else ""


def test_every_loop_is_started() -> None:
    """Each class of broker/jobs with a `run` is among what the daemon's `jobs` gives."""
    made = _started(BROKER / "app.py")
    loops = _loops()
    assert len(loops) > 10
    assert [name for name in loops if name not in made] == []
