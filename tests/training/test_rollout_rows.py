"""Rollouts for training: with the prompt that is rendered and the verdict on this answer, cut at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trims_core.errors import CorruptShardError, InputError
from trims_core.schema import ROLLOUT_GRADES, ROLLOUTS, TOKENS, write_table
from trims_core.token_digests import ids_digest
from trims_core.training.rollout_rows import RolloutRows, RowCounts
from trims_core.variants.base import Answers

PROMPTS = {"a": [1, 2], "b": [3], "c": [4, 5, 6]}
END, MASK = 8, 9
ANSWERS = {
    ("a", 0): ([20, 21, END, MASK], [1, 0, 2, -1], "right"),
    ("a", 1): ([22, 23, 24, 25], [3, 2, 1, 0], "right"),
    ("b", 0): ([26, END, 27, END], [0, 0, 0, 0], "wrong"),
    ("b", 1): ([28, 29, 30, END], [0, 1, 1, 2], "timeout"),
    ("c", 0): ([31, END, MASK, MASK], [0, 1, -1, -1], "right"),
    ("c", 1): ([32, 33, 34, END], [0, 1, 1, 2], "error"),
}


def write(
    root: Path,
    prompts: Mapping[str, Sequence[int]] = PROMPTS,
    digests: Mapping[tuple[str, int], str] | None = None,
    graded: Mapping[tuple[str, int], str] | None = None,
    only: Answers = "right",
) -> RolloutRows:
    """The rows of a small world: prompts in two shards, an answer's number per table.

    Args:
        prompts: as training renders them.
        digests: of prompts that were answered, where these are others.
        graded: digests of the answers that were graded, where these are others.
    """
    tokens, rollouts, grades = [], [], []
    for number, ids in enumerate((["a", "b"], ["c"])):
        here = [name for name in ids if name in prompts]
        columns: dict[str, Any] = {
            "id": here,
            "input_ids": [[*prompts[name], 50, 51] for name in here],
            "prompt_length": [len(prompts[name]) for name in here],
        }
        tokens.append(root / f"tokens-{number}.parquet")
        write_table(tokens[-1], TOKENS, columns)
    for rollout in (0, 1):
        keys = [(name, rollout) for name in PROMPTS]
        found = [ANSWERS[key] for key in keys]
        n_tokens = [ids.index(END) + 1 if END in ids else 4 for ids, _, _ in found]
        columns = {
            "id": [name for name, _ in keys],
            "rollout": [rollout] * 3,
            "prompt_digest": [(digests or {}).get(key, ids_digest(PROMPTS[key[0]])) for key in keys],
            "temperature": [0.0] * 3,
            "draw_seed": [None] * 3,
            "text": [""] * 3,
            "finished": [END in ids for ids, _, _ in found],
            "n_tokens": n_tokens,
            "n_forwards": [4] * 3,
            "token_ids": [ids for ids, _, _ in found],
            "reveal_step": [order for _, order, _ in found],
            "logprob": [[None] * 4] * 3,
        }
        rollouts.append(root / f"rollouts-{rollout}.parquet")
        write_table(rollouts[-1], ROLLOUTS, columns)
        columns = {
            "id": [name for name, _ in keys],
            "rollout": [rollout] * 3,
            "response_digest": [
                (graded or {}).get(key, ids_digest(ids)) for key, (ids, _, _) in zip(keys, found, strict=True)
            ],
            "grader": ["demo"] * 3,
            "verdict": [verdict for _, _, verdict in found],
            "reward": [None] * 3,
            "extracted": [None] * 3,
            "gold": [None] * 3,
        }
        grades.append(root / f"grades-{rollout}.parquet")
        write_table(grades[-1], ROLLOUT_GRADES, columns)
    return RolloutRows(tokens, rollouts, grades, only)


def test_right_answers_stand_behind_their_prompts_up_to_their_first_end(tmp_path: Path) -> None:
    rows = write(tmp_path)
    found = {row.id: row for row in rows}
    assert list(found) == ["a#0", "c#0", "a#1"]
    assert found["a#0"].input_ids.tolist() == [1, 2, 20, 21, END]
    assert (found["a#0"].prompt_length, found["a#0"].reveal_step.tolist()) == (2, [1, 0, 2])
    assert found["a#0"].reveal_step.dtype == "int16"
    assert found["c#0"].input_ids.tolist() == [4, 5, 6, 31, END]
    assert found["a#1"].input_ids.tolist() == [1, 2, 22, 23, 24, 25]
    assert (found["a#0"].finished, found["a#1"].finished) == (True, False)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    rows = write(tmp_path)
    assert len(list(rows)) == 3
    counts = rows.counts
    assert (counts.n_rollouts, counts.n_kept, counts.n_unfinished) == (6, 3, 1)
    assert (counts.n_wrong, counts.n_ungraded) == (1, 2)


def test_all_takes_wrong_and_ungraded_answers_too(tmp_path: Path) -> None:
    rows = write(tmp_path, only="all")
    found = {row.id: row for row in rows}
    assert len(found) == rows.counts.n_kept == 6
    assert found["b#0"].input_ids.tolist() == [3, 26, END]


def test_a_rollout_of_another_prompt_is_refused_by_name(tmp_path: Path) -> None:
    raw = ids_digest([7, 7])
    with pytest.raises(CorruptShardError) as error:
        list(write(tmp_path, digests={("c", 0): raw}))
    said = str(error.value)
    assert "rollout c#0" in said
    assert raw in said
    assert ids_digest(PROMPTS["c"]) in said
    assert "--refresh rollouts" in said


def test_a_prompt_that_training_renders_otherwise_refuses_its_rollouts(tmp_path: Path) -> None:
    with pytest.raises(CorruptShardError, match="rollout b#0"):
        list(write(tmp_path, prompts={**PROMPTS, "b": [3, 3]}))
    without = {name: ids for name, ids in PROMPTS.items() if name != "c"}
    with pytest.raises(CorruptShardError, match=r"rollout c#0 .* no such example"):
        list(write(tmp_path, prompts=without))


def test_a_wrong_answer_to_another_prompt_is_refused_as_well(tmp_path: Path) -> None:
    with pytest.raises(CorruptShardError, match="rollout b#0"):
        list(write(tmp_path, digests={("b", 0): "0"}))


def test_a_grade_of_another_answer_is_refused(tmp_path: Path) -> None:
    other = ids_digest([1])
    with pytest.raises(CorruptShardError, match=rf"rollout a#1 is of the answer {other}.*--refresh grades"):
        list(write(tmp_path, graded={("a", 1): other}))
    rows = write(tmp_path)
    with pytest.raises(CorruptShardError, match="2 tables of rollouts and 1 of their grades"):
        list(RolloutRows(rows.tokens, rows.rollouts, rows.grades[:1]))
    with pytest.raises(CorruptShardError, match="is of the answer None"):
        list(RolloutRows(rows.tokens, rows.rollouts, rows.grades[::-1]))


def test_other_prompts_are_read_in_place_of_those_that_were_answered(tmp_path: Path) -> None:
    rows = write(tmp_path)
    told = {}
    for name, first in (("references", 70), ("shown", 80)):
        ids = {"a": [first], "c": [first, first + 1]}
        columns = {
            "id": list(ids),
            "input_ids": [[*prompt, 50] for prompt in ids.values()],
            "prompt_length": [len(prompt) for prompt in ids.values()],
        }
        told[name] = [tmp_path / f"{name}.parquet"]
        write_table(told[name][0], TOKENS, columns)
    found = {row.id: row for row in replace(rows, **told)}
    assert found["a#0"].input_ids.tolist() == [80, 20, 21, END] and found["a#0"].prompt_length == 1
    assert found["c#0"].input_ids.tolist() == [80, 81, 31, END]
    references = {name: row.reference.tolist() for name, row in found.items() if row.reference is not None}
    assert references == {"a#0": [70], "a#1": [70], "c#0": [70, 71]}
    only = {row.id: row for row in replace(rows, references=told["references"])}
    assert only["a#0"].input_ids.tolist() == [1, 2, 20, 21, END] and only["a#0"].reference is not None
    assert all(row.reference is None for row in rows)


@pytest.mark.parametrize("role", ["references", "shown"])
def test_rollouts_without_such_a_prompt_are_left_out_and_counted(tmp_path: Path, role: str) -> None:
    path = tmp_path / "told.parquet"
    write_table(path, TOKENS, {"id": ["c"], "input_ids": [[70, 50]], "prompt_length": [1]})
    rows = replace(write(tmp_path), **{role: [path]})
    assert [row.id for row in rows] == ["c#0"]
    counts = rows.counts
    assert (counts.n_kept, counts.n_without_reference, counts.n_wrong, counts.n_unfinished) == (1, 2, 1, 0)
    write_table(path, TOKENS, {"id": [], "input_ids": [], "prompt_length": []})
    with pytest.raises(InputError, match="does not render the prompts of 3 with the right answer"):
        list(replace(rows, counts=RowCounts()))


def test_nothing_to_train_on_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, (ids, order, _) in ANSWERS.items():
        monkeypatch.setitem(ANSWERS, key, (ids, order, "wrong"))
    with pytest.raises(InputError, match="none of 6 rollouts is left to train on: 6 are wrong"):
        list(write(tmp_path))
