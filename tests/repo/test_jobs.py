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


def _calls(file: Path) -> set[str]:
    calls = (node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))
    return {each.id for each in calls if isinstance(each, ast.Name)}


def test_every_loop_is_started() -> None:
    """Each class of broker/jobs with a `run` is made where the daemon is put together."""
    made = set[str]().union(*(_calls(BROKER / name) for name in ("app.py", "gatehouse.py")))
    loops = _loops()
    assert len(loops) > 10
    assert [name for name in loops if name not in made] == []
