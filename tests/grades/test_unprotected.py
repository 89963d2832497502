"""Programs without a sandbox: asked for by name alone, in keys of their own, said beside every number."""

from __future__ import annotations

from pathlib import Path

import pytest

from trims_core.config import TrimsConfig
from trims_core.fingerprint import Digests
from trims_core.grades import of_sweeps
from trims_core.settings import parse_config


def config_of(path: Path, *, unsafe: bool) -> TrimsConfig:
    """A run with a task of programs and one of words."""
    tasks = {
        "code": {"profile": "humaneval@instruct", "path": str(path)},
        "words": {"benchmark": "demo", "path": str(path)},
    }
    return parse_config(
        {
            "name": "x",
            "corpus": {"path": str(path)},
            "student": {"model": "m"},
            "train": {"variants": {"standard": {"method": "standard"}}},
            "sweep": {"tasks": tasks, **({"unsafe_no_sandbox": True} if unsafe else {})},
        }
    )


@pytest.mark.parametrize("unsafe", [False, True])
def test_the_key_of_grades_says_whether_programs_were_contained(tmp_path: Path, unsafe: bool) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n")
    config = config_of(path, unsafe=unsafe)
    chosen = of_sweeps.settings(config)
    found = of_sweeps.inputs(chosen, Digests(None))
    mark = " without a sandbox" if unsafe else ""
    assert found["grader.code"] == f"humaneval 1{mark}, humaneval_raw 1{mark}"
    assert "sandbox" not in found["grader.words"]
    assert chosen.result_fields() == of_sweeps.settings(config_of(path, unsafe=not unsafe)).result_fields()
