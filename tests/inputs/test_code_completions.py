"""Code keeps its indentation: a completion begins where the prompt ends."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from trims_core.config import CorpusConfig
from trims_core.corpus.examples import normalise, to_example
from trims_core.raw_rows import Row


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("    return 1\n", "    return 1"),
        ("\n  \n\t return 1\n    \n", "\t return 1"),
        ("\r\n  x\r\n", "  x"),
        (" 18", " 18"),
        ("18 ", "18"),
        (" \n ", ""),
        ("\u00a0x", "\u00a0x"),
        ("  e\u0301", "  é"),
    ],
)
def test_outer_blank_lines_and_trailing_space_go_and_indentation_stays(text: str, kept: str) -> None:
    assert normalise(text) == kept
    assert normalise(kept) == kept


def test_every_program_of_humaneval_compiles_after_the_corpus(shared_data: Path) -> None:
    config = CorpusConfig(
        path="HumanEval.jsonl", prompt_column="prompt", completion_column="canonical_solution"
    )
    with gzip.open(shared_data / "data/humaneval/HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [Row("", "", json.loads(line)) for line in file]
    assert len(rows) == 164
    for row in rows:
        found = to_example(row, config)
        assert found is not None
        compile(found.messages[0]["content"] + found.completion, row.values["task_id"], "exec")
