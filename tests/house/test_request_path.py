"""docs/request-path.md names files and what to read in them; both must be there, and be what a request really meets."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "request-path.md").read_text(encoding="utf-8")
PLACES = re.findall(r"`([\w/]+\.py)`\s+\(`([\w.]+)`\)", TEXT)


def names_in(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (item.name for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}.{method}" for method in methods}
        for target in node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]:
            found |= {target.id} if isinstance(target, ast.Name) else set()
    return found


@pytest.mark.parametrize(("file", "name"), PLACES)
def test_each_named_place_exists(file: str, name: str) -> None:
    assert name in names_in(ROOT / file)


def test_the_steps_are_numbered_without_a_gap_and_each_names_a_place() -> None:
    steps = re.split(r"^(\d+)\. ", TEXT, flags=re.MULTILINE)[1:]
    assert [int(number) for number in steps[::2]] == list(range(1, 13))
    assert all(re.search(r"`[\w/]+\.py`", body) for body in steps[1::2])


def test_the_ranker_walks_the_named_steps_in_this_order() -> None:
    """Calls inside `Ranker.rank`, read from its source, against the order in which the text names them."""
    tree = ast.parse((ROOT / "serving" / "ranker.py").read_text(encoding="utf-8"))
    (rank,) = (n for n in ast.walk(tree) if isinstance(n, ast.AsyncFunctionDef) and n.name == "rank")
    calls = sorted(
        (n for n in ast.walk(rank) if isinstance(n, ast.Call)), key=lambda call: (call.lineno, call.col_offset)
    )
    called = [call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func) for call in calls]
    expected = ["parse", "find", "at_door", "decode", "complete", "answer", "order", "encode", "enter"]
    assert [name for name in called if name in expected] == expected
    told = [name.rpartition(".")[2] for _, name in PLACES]
    assert [name for name in told if name in expected] == expected
