"""Every fault point of the source is struck by some test in tests/faults/."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from trims_core.config import STAGES

OWNERS = (*STAGES, "store")


def fault_sites(source: Path) -> Iterator[tuple[str, str]]:
    """(site, place) of each `fault_point(...)` call; the site is empty where it is not a plain text."""
    for path in sorted(source.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or not call.args:
                continue
            name = getattr(call.func, "id", getattr(call.func, "attr", None))
            if name == "fault_point":
                argument = call.args[0]
                literal = argument.value if isinstance(argument, ast.Constant) else ""
                yield str(literal), f"{path.relative_to(source.parent)}:{call.lineno}"


def test_each_site_is_a_plain_text_that_starts_with_its_owner(project_root: Path) -> None:
    sites = list(fault_sites(project_root / "trims_core"))
    assert len(sites) > 10
    wrong = [place for site, place in sites if site.partition(".")[0] not in OWNERS]
    assert wrong == [], "a fault point needs a literal name that starts with its stage or with `store`"


def is_struck(site: str, tests: str) -> bool:
    """Whether a fault test names the site, or takes all of its stage by `sites("scores", …)`."""
    return bool(re.search(rf"""["']{re.escape(site)}\b|\bsites\(["']{site.partition(".")[0]}["']""", tests))


def test_each_site_is_struck_by_a_fault_test(project_root: Path) -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (project_root / "tests/faults").glob("*.py"))
    sites = fault_sites(project_root / "trims_core")
    missing = {site: place for site, place in sites if not is_struck(site, tests)}
    assert missing == {}, "fault points without a test in tests/faults/"


def test_naming_a_longer_site_does_not_count() -> None:
    assert is_struck("store.before_rename", 'run("store.before_rename:kill")')
    assert is_struck("scores.x", 'sites("scores", "teacher")')
    assert not is_struck("store.before", 'run("store.before_rename")')
    assert not is_struck("scores.x", 'sites("corpus", "corpus")')


def test_a_site_without_a_test_would_be_noticed(tmp_path: Path) -> None:
    (tmp_path / "trims_core").mkdir()
    (tmp_path / "trims_core" / "a.py").write_text('fault_point("scores.x")\n_faults.fault_point(name)\n')
    assert list(fault_sites(tmp_path / "trims_core")) == [
        ("scores.x", "trims_core/a.py:1"),
        ("", "trims_core/a.py:2"),
    ]
